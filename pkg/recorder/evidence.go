package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// Ledger takes evidence; ledger.Ledger is one.
type Ledger interface {
	Append(ctx context.Context, e ledger.Entry) (int64, error)
	Checkpoint() ledger.Checkpoint
	Size() int64
	Entries(ctx context.Context, from, to int64) ([]ledger.Record, error)
	Prove(index int64) (*ledger.Proof, error)
	Statement(what, text string) ([]byte, error)
	VerifierKey() string
}

// Evidence is the ledger for others than the recorder: what they append is counted
// with its own, and what fails for good is noticed.
type Evidence struct {
	Ledger
	e *evidence
}

// Append puts an entry into the ledger, now or not at all.
func (v *Evidence) Append(ctx context.Context, entry ledger.Entry) (int64, error) {
	return v.e.Append(ctx, entry)
}

// maxOwed bounds the entries that wait for a ledger that cannot be written.
const maxOwed = 1000

// evidence writes what happened to the recording itself into the ledger. What
// the ledger does not take is owed to it and tried again: a recording goes on
// even when it cannot be testified, but not in silence.
type evidence struct {
	ledger Ledger
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	owed    []ledger.Entry
	noted   uint64 // entries of this agent's own
	written uint64 // of them
	lost    uint64 // of them: beyond maxOwed
	told    uint64 // of the lost ones, in the log
	failing bool
	next    time.Time // of the next try
	final   error     // the ledger takes nothing until it is opened again
	doubt   error     // the ledger cannot be trusted: nothing is put into it, and nothing is read

	kept func() // called after an entry of somebody who reads; nil: nothing is

	seenMu sync.Mutex // guards seen
	seen   LedgerStatus
}

// Append puts an entry of somebody else's into the ledger, now or not at all.
func (e *evidence) Append(ctx context.Context, entry ledger.Entry) (int64, error) {
	if err := e.doubted(); err != nil {
		return 0, err
	}
	index, err := e.ledger.Append(ctx, entry)
	if err == nil && e.kept != nil {
		e.kept()
	}
	if final(err) {
		e.mu.Lock()
		e.final = err
		e.mu.Unlock()
	}
	if errors.Is(err, ledger.ErrNotWritten) {
		e.refusedOne()
	}
	return index, err
}

// refusedOne notes, once as long as the ledger cannot be written, that somebody was
// turned away for it: that is owed to it, and so the alarm is raised until it is paid.
func (e *evidence) refusedOne() {
	e.mu.Lock()
	failing := e.failing
	e.mu.Unlock()
	if !failing {
		e.note(ledger.Refused, map[string]string{"why": "the ledger could not be written"})
	}
}

// broken returns why the ledger must be opened again, nil if it need not.
func (e *evidence) broken() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.final
}

// ErrDoubted: the ledger is not what it was, or is damaged. Recording goes on, and
// nothing is read until it is put right and the agent started again.
var ErrDoubted = errors.New("the ledger cannot be trusted, so nothing is read and nothing put into it")

// distrust has nothing put into the ledger any more, and so nothing read.
func (e *evidence) distrust(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.doubt != nil {
		return
	}
	e.doubt = fmt.Errorf("%w: %w", ErrDoubted, err)
	e.log.Error("the ledger cannot be trusted; recording goes on, reading does not", "error", err)
}

// doubted returns why the ledger cannot be trusted, nil if it can.
func (e *evidence) doubted() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.doubt
}

// note appends an entry. Its fields get the time of the event, for the case
// that the ledger takes it later.
func (e *evidence) note(kind ledger.Kind, fields map[string]string) { e.noteSealed(kind, fields, nil) }

// noteSealed is note for an entry with a payload, which waits in the clear, in
// memory, for a ledger that cannot be written.
func (e *evidence) noteSealed(kind ledger.Kind, fields map[string]string, payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if fields == nil {
		fields = map[string]string{}
	}
	fields["at"] = session.FormatTime(e.now().UnixNano())
	e.noted++
	if len(e.owed) >= maxOwed {
		e.lost++
		return
	}
	e.owed = append(e.owed, ledger.Entry{Kind: kind, Fields: fields, Payload: payload})
	e.pay()
}

// step tries again what is owed.
func (e *evidence) step() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.owed) > 0 && !e.now().Before(e.next) {
		e.pay()
	}
}

// pay appends what is owed, in order. e.mu is held.
func (e *evidence) pay() {
	for len(e.owed) > 0 && e.doubt == nil {
		if _, err := e.ledger.Append(context.Background(), e.owed[0]); err != nil {
			e.next = e.now().Add(lastRetry)
			if final(err) {
				e.final = fmt.Errorf("write ledger: %w", err)
			}
			if !e.failing {
				e.failing = true
				e.log.Error("the ledger cannot be written; recording goes on, reading does not", "error", err)
			}
			return
		}
		e.owed = e.owed[1:]
		e.written++
	}
	if e.failing {
		e.failing = false
		e.log.Info("the ledger is written again", "entries_lost", e.lost-e.told)
		e.told = e.lost
	}
}

// status returns how the ledger fares. While the disk keeps an entry waiting it
// does not wait with it, but returns what was so before.
func (e *evidence) status() LedgerStatus {
	locked := e.mu.TryLock()
	e.seenMu.Lock()
	defer e.seenMu.Unlock()
	if !locked {
		return e.seen
	}
	defer e.mu.Unlock()
	e.seen = LedgerStatus{
		Entries: e.ledger.Size(), OK: !e.failing && e.doubt == nil, Noted: e.noted, Written: e.written, Waiting: uint64(len(e.owed)), Lost: e.lost,
	}
	if e.doubt != nil {
		e.seen.Doubt = e.doubt.Error()
	}
	return e.seen
}

// probeEvent turns news of the probe into evidence.
func (e *evidence) probeEvent(ev probe.Event) {
	kind := ledger.Gap
	if ev.Kind == "clock-step" {
		kind = ledger.ClockStep
	}
	fields := map[string]string{"cause": ev.Kind, "event_at": session.FormatTime(ev.At.UnixNano())}
	if ev.Uplink != "" {
		fields["uplink"] = ev.Uplink
	}
	if ev.Text != "" {
		fields["text"] = ev.Text
	}
	e.note(kind, fields)
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
