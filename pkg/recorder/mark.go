package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// wholeLedger is all that is needed of a ledger; ledger.Ledger is one.
type wholeLedger interface {
	Ledger
	Verify(ctx context.Context) error
	Consistent(old []byte) error
	Close() error
}

// lostLedger stands in for a ledger that cannot be opened: recording goes on.
type lostLedger struct{ err error }

func (l lostLedger) Append(context.Context, ledger.Entry) (int64, error) { return 0, l.err }
func (l lostLedger) Checkpoint() ledger.Checkpoint                       { return ledger.Checkpoint{} }
func (l lostLedger) Size() int64                                         { return 0 }
func (l lostLedger) Entries(context.Context, int64, int64) ([]ledger.Record, error) {
	return nil, l.err
}
func (l lostLedger) Verify(context.Context) error             { return l.err }
func (l lostLedger) Consistent([]byte) error                  { return l.err }
func (l lostLedger) VerifierKey() string                      { return "" }
func (l lostLedger) Statement(string, string) ([]byte, error) { return nil, l.err }
func (l lostLedger) Prove(int64) (*ledger.Proof, error)       { return nil, l.err }
func (l lostLedger) Close() error                             { return nil }

// ledgerDir is where the ledger lies.
func (r *Recorder) ledgerDir() string { return filepath.Join(r.o.Config.DataDir, "ledger") }

// takeLedger opens the ledger. One that is damaged, or not the one that was there,
// stops whoever wants to read, not the recording. Only what was set up wrong does.
func (r *Recorder) takeLedger(opt ledger.Options) error {
	r.mark.path = filepath.Join(r.o.Config.DataDir, markFile)
	if err := r.mark.read(); err != nil {
		return err
	}
	r.evidence = &evidence{now: r.o.Now, log: r.log, kept: r.keepMark}
	l, err := r.openOrMakeLedger(opt)
	switch {
	case errors.Is(err, ledger.ErrOrigin):
		return fmt.Errorf("%w; a renamed gateway needs a data_dir of its own: the evidence in this one is signed under the old name", err)
	case errors.Is(err, ledger.ErrLocked), errors.Is(err, errNoLedger):
		return err
	case err != nil:
		lost := lostLedger{fmt.Errorf("%w; %s", err, putBack)}
		r.ledger, r.evidence.ledger = lost, lost
		r.evidence.distrust(lost.err)
		return nil
	}
	r.ledger, r.evidence.ledger = l, l
	if n := len(l.Repaired()); n > 0 {
		r.log.Warn("an unfinished ledger entry of an earlier run was removed", "files", n)
	}
	r.compareMark(l)
	return nil
}

// errNoLedger wraps what keeps a first ledger from being made.
var errNoLedger = errors.New("make a ledger")

// openOrMakeLedger makes one only where none was ever seen.
func (r *Recorder) openOrMakeLedger(opt ledger.Options) (*ledger.Ledger, error) {
	list, err := os.ReadDir(r.ledgerDir())
	none := err != nil || len(list) == 0
	if none && r.mark.note != nil {
		return nil, fmt.Errorf("%q is gone, and %q says that there was a ledger", r.ledgerDir(), r.mark.path)
	}
	l, err := ledger.Open(r.ledgerDir(), opt)
	if err != nil && none {
		return nil, fmt.Errorf("%w: %w", errNoLedger, err)
	}
	return l, err
}

const (
	// markFile has the newest checkpoint that was seen, beside the ledger and not in
	// it: an older copy of the ledger that is put in its place does not know it.
	markFile = "ledger.seen"

	putBack = "put the newest copy of the ledger back, and start the agent again; if there is none, keep what lies there for whoever looks into it, " +
		"move it and \"" + markFile + "\" away, and a new ledger says that it has no past"
)

// mark is the newest checkpoint that was seen.
type mark struct {
	path  string
	found string // what a start found, for its entry: number of entries, "none" or "missing"
	note  []byte // as it was found; nil: there was none

	mu      sync.Mutex
	size    int64
	failing bool
}

func (m *mark) read() error {
	b, err := os.ReadFile(m.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		m.found, m.size = "none", -1
		return nil
	case err != nil:
		return fmt.Errorf("read the newest checkpoint that was seen: %w", err)
	}
	m.note = b
	return nil
}

// compareMark finds out whether the ledger is the one that was there when the agent
// ran last.
func (r *Recorder) compareMark(l *ledger.Ledger) {
	m := &r.mark
	if m.note == nil {
		if l.Size() > 0 {
			m.found = "missing"
			r.log.Warn("it is not known which entry of the ledger was seen last; the start of the agent says so in it", "file", m.path)
		}
		return
	}
	var broken *ledger.BrokenError
	m.found = "not understood"
	switch err := l.Consistent(m.note); {
	case errors.As(err, &broken) && broken.File == ledger.CheckpointName:
		r.evidence.distrust(fmt.Errorf("%q, the newest checkpoint that was seen, is damaged or of another ledger: %w; %s", m.path, err, putBack))
	case err != nil:
		r.evidence.distrust(fmt.Errorf("%w, as %q says; %s", err, m.path, putBack))
	}
	if c, err := ledger.ParseCheckpoint(m.note, l.VerifierKey()); err == nil {
		m.size, m.found = c.Size, strconv.FormatInt(c.Size, 10)
	}
}

// keepMark writes down which checkpoint is the newest, when it is another. What
// fails is tried again: it keeps nobody from reading, since the ledger itself was
// written.
func (r *Recorder) keepMark() {
	m := &r.mark
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.evidence.doubted() != nil {
		return
	}
	c := r.ledger.Checkpoint()
	if c.Size == m.size || len(c.Note) == 0 {
		return
	}
	if err := writeDurably(m.path, c.Note); err != nil {
		if !m.failing {
			r.log.Error("the newest checkpoint could not be written down; an older copy of the ledger might not be noticed", "file", m.path, "error", err)
		}
		m.failing = true
		return
	}
	m.size, m.failing = c.Size, false
}
