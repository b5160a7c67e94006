package recorder

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/records"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// Where the provider's own records of calls and of mail are taken (POST): the body is a file
// as records.Writer writes it. The query has sha256=HEX of the file that the operator
// named, lines=N that the body has, rejected=N that were left out of it, and again=true for a
// file that was imported before. The answer is a CommunicationsAnswer, when all of it is durable.
const (
	PathCalls = "/v1/import/calls"
	PathMail  = "/v1/import/mail"
)

// CommunicationsAnswer says what became of a file.
type CommunicationsAnswer struct {
	Lines   uint64 `json:"lines"`             // sealed
	Expired uint64 `json:"expired,omitempty"` // left out: the time of their days is over
	Blocks  int    `json:"blocks"`
	Bytes   int64  `json:"bytes"` // sealed

	// Known is when the same file was imported before; then nothing was read.
	Known time.Time `json:"known,omitzero"`
}

// ImportStatus counts what was imported since the start of the agent.
type ImportStatus struct {
	Calls   uint64    `json:"calls"`
	Mail    uint64    `json:"mail"`
	Expired uint64    `json:"expired"`       // lines left out: the time of their days was over
	Last    time.Time `json:"last,omitzero"` // of the last file; zero: there was none
}

// Of an import: rows of a block, and rows that are in memory at a time, at some 400 bytes
// each. Files are mostly in the order of time, and then few days are open.
const (
	importRows   = 1 << 14
	importMemory = 1 << 16
)

// importer takes in files of communications, one at a time.
type importer struct {
	mu     sync.Mutex
	status ImportStatus // driven by the goroutine that stores
}

// noDay is later than any day, and -noDay earlier.
const noDay = session.Day(math.MaxInt32)

// errImport is wrapped by errors about what was sent.
var errImport = errors.New("the file cannot be taken")

// openImports has the socket take files of communications.
func (r *Recorder) openImports() error {
	r.Handle("POST "+PathCalls, mayTend, r.importsHandler(session.Call, store.KindCalls, "calls"))
	r.Handle("POST "+PathMail, mayTend, r.importsHandler(session.Mail, store.KindMail, "mail"))
	return nil
}

// importsHandler answers PathCalls and PathMail. It reads nothing that is kept, and the
// ledger says who imported what file.
func (r *Recorder) importsHandler(of session.CommunicationKind, kind store.Kind, word string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if !r.imports.mu.TryLock() {
			http.Error(w, "another file is being imported; wait for it", http.StatusConflict)
			return
		}
		defer r.imports.mu.Unlock()
		i, err := r.newCommunications(req, kind, word)
		if err == nil && i.answer.Known.IsZero() {
			err = i.run(req.Context(), req.Body, records.Options{Kind: of, Now: r.o.Now()})
			i.note(req.Context(), i.result(err))
		}
		switch {
		case errors.Is(err, errImport):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			r.log.Error("a file of "+word+" was not imported to its end", "error", err)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(&i.answer) // the importer may be gone
		}
	}
}

// communications is one file on its way. It is sealed as it comes, and none of it is kept
// before all of it has come and is good.
type communications struct {
	r        *Recorder
	kind     store.Kind
	word     string
	file     string // SHA-256, hexadecimal
	lines    uint64 // announced
	rejected uint64
	answer   CommunicationsAnswer

	load    *load // with an epoch of its own
	spool   *spool
	days    map[session.Day][]session.Communication
	waiting int                     // rows in days
	spare   []session.Communication // memory of a day that was sealed
	over    map[session.Day]bool
	first   session.Day // of what is sealed; from begin on of what is kept
	last    session.Day
	begun   string // when begin was called
}

func (r *Recorder) newCommunications(req *http.Request, kind store.Kind, word string) (*communications, error) {
	q := req.URL.Query()
	i := &communications{
		r: r, kind: kind, word: word, file: q.Get("sha256"),
		days: map[session.Day][]session.Communication{}, over: map[session.Day]bool{}, first: noDay, last: -noDay,
	}
	sum, err := hex.DecodeString(i.file)
	if err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("%w: sha256 must be that of the file", errImport)
	}
	i.file = hex.EncodeToString(sum)
	if i.lines, err = strconv.ParseUint(q.Get("lines"), 10, 64); err != nil {
		return nil, fmt.Errorf("%w: lines must say how many there are", errImport)
	}
	if s := q.Get("rejected"); s != "" {
		if i.rejected, err = strconv.ParseUint(s, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: rejected must be a number", errImport)
		}
	}
	if q.Get("again") != "true" {
		i.answer.Known, err = i.known(req.Context())
	}
	return i, err
}

// known looks in the ledger for an import of the same file, and returns when that was. One that
// is older than anything is kept does not count.
func (i *communications) known(ctx context.Context) (time.Time, error) {
	l := i.r.ledger
	oldest := i.r.o.Now().AddDate(0, 0, -i.r.Config().Store.RetentionDays-1)
	const some = 4096
	for to := l.Size(); to > 0; to -= some {
		list, err := l.Entries(ctx, max(to-some, 0), to)
		if err != nil {
			return time.Time{}, fmt.Errorf("look for an earlier import: %w", err)
		}
		for k := len(list) - 1; k >= 0; k-- {
			e := &list[k]
			if e.Time.Before(oldest) {
				return time.Time{}, nil
			}
			if f := e.Fields; e.Kind == ledger.Import && f["of"] == i.word && f["file_sha256"] == i.file && f["result"] == importDone {
				return e.Time, nil
			}
		}
	}
	return time.Time{}, nil
}

// Results of an import in the ledger, which are stored and never change their meaning. One that
// begun alone tells of was broken off with the agent.
const (
	importBegun   = "begun" // from now on something of it may be kept
	importDone    = "done"
	importRefused = "refused" // nothing of it is kept
	importBroken  = "not to its end"
)

func (i *communications) result(err error) string {
	switch {
	case err == nil:
		return importDone
	case i.answer.Blocks > 0:
		return importBroken
	}
	return importRefused
}

// note puts into the ledger what was imported, by whom, and nothing of what is in it. Of a file
// that was taken to its end, lines are entries and expired; of another the rest was lost.
func (i *communications) note(ctx context.Context, result string) {
	i.r.evidence.note(ledger.Import, i.fields(ctx, result))
}

func (i *communications) fields(ctx context.Context, result string) map[string]string {
	fields := map[string]string{
		"of": i.word, "result": result, "file_sha256": i.file, "lines": itoa(i.lines), "entries": itoa(i.answer.Lines), "expired": itoa(i.answer.Expired),
		"rejected": itoa(i.rejected), "blocks": strconv.Itoa(i.answer.Blocks), "bytes": strconv.FormatInt(i.answer.Bytes, 10),
	}
	if i.begun != "" {
		fields["begun"] = i.begun
	}
	if i.first <= i.last {
		fields["first_day"], fields["last_day"] = i.first.String(), i.last.String()
	}
	if p, ok := PeerOf(ctx); ok {
		fields["uid"] = itoa(uint64(p.UID))
	}
	return fields
}

// run takes all lines, and keeps them when all are good.
func (i *communications) run(ctx context.Context, body io.Reader, o records.Options) (err error) {
	in, err := records.NewReader(body, o)
	if errors.Is(err, records.ErrFile) {
		return fmt.Errorf("%w: %w", errImport, err)
	}
	if err != nil {
		return fmt.Errorf("%w: it was cut off; import it again", errImport)
	}
	if i.spool, err = newSpool(i.r.Config().DataDir); err != nil {
		return err
	}
	defer i.spool.close()
	i.load = newFiler(i.r.sessions.shelf.gateway, i.r.vault, i.r.store).load(nil)
	n := uint64(0)
	var c session.Communication
	for {
		var bad *records.LineError
		switch err := in.Next(&c); {
		case errors.Is(err, io.EOF) && n == i.lines && n > 0:
			return i.finish(ctx)
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %d lines came, %d were announced", errImport, n, i.lines)
		case errors.As(err, &bad):
			return fmt.Errorf("%w: %w", errImport, bad)
		case err != nil:
			return fmt.Errorf("%w: it was cut off after %d lines; import it again", errImport, n)
		}
		n++
		if err := i.add(&c); err != nil {
			return err
		}
	}
}

// add collects one communication with the others of its day.
func (i *communications) add(c *session.Communication) error {
	day := session.DayOf(c.End)
	if i.isOver(day) {
		i.answer.Expired++
		return nil
	}
	if i.days[day] == nil {
		i.days[day], i.spare = i.spare, nil
	}
	i.days[day] = append(i.days[day], *c)
	i.waiting++
	if len(i.days[day]) >= importRows {
		return i.seal(day)
	}
	if i.waiting < importMemory {
		return nil
	}
	fullest := day
	for d, list := range i.days {
		if len(list) > len(i.days[fullest]) {
			fullest = d
		}
	}
	return i.seal(fullest)
}

// isOver reports whether nothing may be kept of a day any more.
func (i *communications) isOver(day session.Day) bool {
	over, known := i.over[day]
	if !known {
		over = day < 0 || len(store.Due([]session.Day{day}, i.r.o.Now(), i.r.Config().Store.RetentionDays)) > 0 || i.r.expiry.certified(day)
		i.over[day] = over
	}
	return over
}

// seal seals what has been collected of a day, into the spool.
func (i *communications) seal(day session.Day) error {
	list := i.days[day]
	delete(i.days, day)
	i.waiting -= len(list)
	defer func() {
		clear(list)
		i.spare = list[:0]
	}()
	err := i.load.communications(i.r.header(), i.kind, day, list)
	if errors.Is(err, store.ErrExpired) { // it was destroyed meanwhile
		i.over[day] = true
		i.answer.Expired += uint64(len(list))
		i.load.blocks, i.load.rows = i.load.blocks[:0], i.load.rows[:0] // of its first half
		return nil
	}
	if err != nil {
		return fmt.Errorf("seal %s: %w", i.word, err)
	}
	if h := i.r.store.Health(); h.State == store.StateStopped || h.State == store.StateFailed {
		return fmt.Errorf("seal %s: %w: %d MiB free; make room and import the file again", i.word, store.ErrNoSpace, h.Free>>20)
	}
	i.first, i.last = min(i.first, day), max(i.last, day)
	for k, b := range i.load.blocks {
		if err := i.spool.add(b, i.load.rows[k]); err != nil {
			return err
		}
	}
	i.load.blocks, i.load.rows = i.load.blocks[:0], i.load.rows[:0]
	return nil
}

// finish seals the rest, and makes all of it durable. Broken off here, a part of
// it is kept; imported again, it is read once.
func (i *communications) finish(ctx context.Context) error {
	for day := range i.days {
		if err := i.seal(day); err != nil {
			return err
		}
	}
	if err := i.begin(ctx); err != nil {
		return err
	}
	if err := i.spool.each(func(blocks []store.Sealed, rows uint64) error { return i.put(ctx, blocks, rows) }); err != nil {
		return fmt.Errorf("keep %s: %w; %d lines of the file are kept, import it again", i.word, err, i.answer.Lines)
	}
	return i.r.do(context.WithoutCancel(ctx), func() error {
		s := &i.r.imports.status
		s.Expired, s.Last = s.Expired+i.answer.Expired, i.r.o.Now().UTC()
		return nil
	})
}

// begin tells the ledger what may be kept from now on, whatever becomes of the agent.
// If it cannot be told, nothing is kept.
func (i *communications) begin(ctx context.Context) error {
	if i.first > i.last {
		return nil // nothing will be
	}
	i.begun = session.FormatTime(i.r.o.Now().UnixNano())
	if _, err := i.r.evidence.Append(ctx, ledger.Entry{Kind: ledger.Import, Fields: i.fields(ctx, importBegun)}); err != nil {
		return fmt.Errorf("the ledger cannot be written, so no %s are kept: %w", i.word, err)
	}
	i.first, i.last = noDay, -noDay
	return nil
}

// put has the goroutine that stores keep blocks, when those before are merged: each
// fresh database that waits takes tens of MiB of memory, and an import has time.
func (i *communications) put(ctx context.Context, blocks []store.Sealed, rows uint64) error {
	for {
		busy := false
		err := i.r.do(ctx, func() error {
			if busy = i.r.store.Waiting() > 0; busy {
				return nil
			}
			return i.keep(blocks, rows)
		})
		if err != nil || !busy {
			return err
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keep stores blocks, and counts them. The goroutine that stores calls it.
func (i *communications) keep(blocks []store.Sealed, rows uint64) error {
	if err := i.r.store.Put(blocks...); err != nil {
		return err
	}
	i.answer.Lines += rows
	i.answer.Blocks += len(blocks)
	for _, b := range blocks {
		i.answer.Bytes += int64(len(b))
		if p, err := b.Place(); err == nil { // the store has read it
			i.first, i.last = min(i.first, session.Day(p.Day)), max(i.last, session.Day(p.Day))
		}
	}
	if s := &i.r.imports.status; i.kind == store.KindCalls {
		s.Calls += rows
	} else {
		s.Mail += rows
	}
	return nil
}
