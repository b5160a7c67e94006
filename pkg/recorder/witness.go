package recorder

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"log/syslog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
)

// WitnessStatus says how a witness of the ledger fares. It names nobody.
type WitnessStatus struct {
	To   string    `json:"to"`
	OK   bool      `json:"ok"`             // the newest checkpoint that was due is there
	Last time.Time `json:"last,omitzero"`  // when one was sent by this agent
	Size int64     `json:"size"`           // entries under that one
	Text string    `json:"text,omitempty"` // what is wrong
}

// witnessAgain is how long after a failure a witness is tried again, at most.
const witnessAgain = 5 * time.Minute

// witnesses are those outside to whom checkpoints are sent.
type witnesses struct {
	r     *Recorder
	log   *slog.Logger
	every time.Duration
	next  []time.Duration // of each, by the time that passed
	read  []bool          // what an earlier agent sent was compared

	mu   sync.Mutex
	list []WitnessStatus
	busy time.Time // since when one has not answered; zero: none is asked
}

func (r *Recorder) openWitnesses() {
	c := &r.o.Config.Ledger
	w := &r.witness
	w.r, w.log, w.every = r, r.log, c.Every
	w.next, w.read = make([]time.Duration, len(c.Witness)), make([]bool, len(c.Witness))
	for _, to := range c.Witness {
		w.list = append(w.list, WitnessStatus{To: to, OK: true})
	}
	if len(w.list) > 0 {
		r.With("witness of the ledger", w.run)
	}
}

// run sends checkpoints until ctx ends. A witness on a file system that hangs must
// keep nobody: it is left behind with its goroutine.
func (w *witnesses) run(ctx context.Context) error {
	for {
		done := make(chan struct{})
		go func() { // ends when the witness has answered, at the latest with the process
			defer close(done)
			w.step()
		}()
		select {
		case <-done:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(min(w.every, time.Minute)):
		case <-ctx.Done():
			return nil
		}
	}
}

// step sends the present checkpoint to each witness whose time has come.
func (w *witnesses) step() {
	for i := range w.list {
		at := w.r.o.Elapsed()
		if at < w.next[i] {
			continue
		}
		w.setBusy(w.r.o.Now())
		err := w.one(i)
		w.setBusy(time.Time{})
		w.next[i] = at + w.every
		if err != nil {
			w.next[i] = at + min(w.every, witnessAgain)
		}
	}
}

func (w *witnesses) setBusy(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = at
}

// one compares what a witness has with the ledger, and sends the present
// checkpoint.
func (w *witnesses) one(i int) error {
	to := w.list[i].To
	c := w.r.ledger.Checkpoint()
	err := w.compare(i, to)
	if err == nil {
		if err = w.r.evidence.doubted(); err == nil {
			err = SendCheckpoint(to, c)
		}
	}
	kind, _, _ := strings.Cut(to, ":")
	w.mu.Lock()
	was := w.list[i]
	now := WitnessStatus{To: to, OK: err == nil, Last: was.Last, Size: was.Size}
	if err != nil {
		now.Text = err.Error()
	} else {
		now.Last, now.Size = w.r.o.Now().UTC(), c.Size
	}
	w.list[i] = now
	w.mu.Unlock()
	switch {
	case err == nil:
		w.r.evidence.note(ledger.Witnessed, witnessFields(kind, c, "sent"))
	case was.OK:
		w.log.Error("a checkpoint of the ledger could not be sent to its witness", "to", to, "error", err)
		w.r.note(fmt.Errorf("send a checkpoint to %q: %w", to, err))
		w.r.evidence.note(ledger.Witnessed, witnessFields(kind, c, "could not be sent"))
	}
	return err
}

func witnessFields(to string, c ledger.Checkpoint, state string) map[string]string {
	return map[string]string{"to": to, "state": state, "size": strconv.FormatInt(c.Size, 10), "root": base64.StdEncoding.EncodeToString(c.Root[:])}
}

// Limits of what is read again of a file that a witness keeps.
const (
	witnessBytes = 64 << 20
	witnessNotes = 1000 // the last ones
)

// compare holds the ledger against the checkpoints that a witness's file has, once
// after each start. One that the ledger does not go on from has it distrusted: it is
// signed with the ledger's own key.
func (w *witnesses) compare(i int, to string) error {
	path, isFile := strings.CutPrefix(to, config.WitnessFile)
	if !isFile || w.read[i] {
		return nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		w.read[i] = true
		return nil
	}
	var text []byte
	if err == nil && info.Size() <= witnessBytes {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return fmt.Errorf("read what was sent before: %w", err)
	}
	notes, _ := ledger.FindCheckpoints(text, w.r.ledger.Checkpoint().Origin)
	notes = notes[max(0, len(notes)-witnessNotes):]
	var foreign error
	for _, note := range notes {
		var history *ledger.HistoryError
		switch err := w.r.ledger.Consistent(note); {
		case errors.As(err, &history):
			w.r.evidence.distrust(fmt.Errorf("%w, as the witness %q says; %s", err, to, putBack))
			return err
		case err != nil:
			foreign = cmp.Or(foreign, fmt.Errorf("it holds a checkpoint that is not good: %w", err))
		}
	}
	w.read[i] = true
	if foreign != nil {
		w.log.Warn("the file of a witness was changed by somebody", "to", to, "error", foreign)
	}
	return nil
}

// status returns how each witness fares.
func (w *witnesses) status() []WitnessStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := append([]WitnessStatus(nil), w.list...)
	for i := range out {
		if !w.busy.IsZero() && w.r.o.Now().Sub(w.busy) > stalledAfter && out[i].OK {
			out[i].OK, out[i].Text = false, "a witness has not answered since "+w.busy.UTC().Format(time.RFC3339)
		}
	}
	return out
}

// SendCheckpoint appends a checkpoint to a file ("file:PATH"), durably, or logs it
// ("syslog").
func SendCheckpoint(to string, c ledger.Checkpoint) error {
	if path, ok := strings.CutPrefix(to, config.WitnessFile); ok {
		return appendTo(path, append(append([]byte{}, c.Note...), '\n'))
	}
	if to != "syslog" {
		return fmt.Errorf("a checkpoint cannot be sent to %q: use file:PATH or syslog", to)
	}
	s, err := syslog.New(syslog.LOG_NOTICE|syslog.LOG_AUTH, "edgelog")
	if err != nil {
		return fmt.Errorf("reach syslog: %w; is a syslog daemon listening on /dev/log?", err)
	}
	return errors.Join(s.Notice(c.Line()), s.Close())
}

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && regular(f) {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// regular reports whether f can be synced: a pipe or a terminal cannot.
func regular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}
