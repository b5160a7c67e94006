package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

func TestAStoreThatTakesNothingAnyMoreEndsTheRunAndTheNextOneStores(t *testing.T) {
	for _, reason := range []error{store.ErrFailed, store.ErrClosed} {
		t.Run(reason.Error(), func(t *testing.T) {
			r := newRoom(t, "[agent]\non_stop = \"drain\"\n")
			r.sessions.shelf.store = &faulty{Store: r.store, err: reason}
			want := seen(1000, evening) // a whole block: it does not wait
			r.table.add(want...)
			if err := r.Run(t.Context()); !errors.Is(err, reason) {
				t.Fatalf("the run ended with %v", err)
			}
			if len(r.table.due) != 1000 || r.table.detached {
				t.Errorf("%d of 1000 sessions are in the table, removed: %v", len(r.table.due), r.table.detached)
			}
			if s := r.Status(); s.Store.OK || strings.Contains(s.LastError.Text, "space") {
				t.Errorf("%+v, %+v", s.Store, s.LastError)
			}
			r.shut()
			r.open()
			if err := r.step(); err != nil {
				t.Fatal(err)
			}
			got, _, _ := r.read()
			once(t, want, got)
		})
	}
}

func TestALedgerThatMustBeOpenedAgainEndsTheRun(t *testing.T) {
	r := newRoom(t, "")
	r.evidence.ledger = &failedLedger{Ledger: r.ledger}
	if err := r.Run(t.Context()); !errors.Is(err, ledger.ErrFailed) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestAReaderToWhomTheLedgerFailsEndsTheRun(t *testing.T) {
	r := newRoom(t, "")
	good := r.evidence.ledger
	r.evidence.ledger = &failedLedger{Ledger: r.ledger}
	if _, err := r.Evidence().Append(t.Context(), ledger.Entry{Kind: ledger.Intent}); !errors.Is(err, ledger.ErrFailed) {
		t.Fatal(err)
	}
	r.evidence.ledger = good
	if err := r.Run(t.Context()); !errors.Is(err, ledger.ErrFailed) {
		t.Errorf("the run ended with %v", err)
	}
}

type failedLedger struct{ Ledger }

func (*failedLedger) Append(context.Context, ledger.Entry) (int64, error) {
	return 0, fmt.Errorf("append: %w", ledger.ErrFailed)
}

func TestAKeyThatIsOnTheDiskUnknownIsFollowedByAnother(t *testing.T) {
	r := newRoom(t, "")
	taken := fmt.Sprintf("%s-%d.age", session.DayOf(evening.UnixNano()), r.sessions.shelf.epoch)
	if err := os.WriteFile(filepath.Join(r.dir, "data", "store", "keys", taken), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.table.add(seen(5, evening)...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if len(r.table.stored) != 5 {
		t.Errorf("%d of 5 sessions are stored", len(r.table.stored))
	}
}

func TestAnAlarmOfATableThatCanBeReadAgainIsOver(t *testing.T) {
	r := newRoom(t, "")
	r.sessions.src = &unreadable{Source: r.table, times: 1}
	if _, err := r.sessions.step(false); err == nil || r.sessions.alarm.err == nil {
		t.Fatal("no alarm")
	}
	r.clock.add(time.Minute)
	if _, err := r.sessions.step(false); err != nil || r.sessions.alarm.err != nil {
		t.Errorf("%v; the alarm says %v", err, r.sessions.alarm.err)
	}
}

type unreadable struct {
	Source
	times int
}

func (u *unreadable) Collect(b *probe.Batch, most int) error {
	if u.times--; u.times >= 0 {
		return errors.New("the table cannot be read")
	}
	return u.Source.Collect(b, most)
}

func TestAFlushEndsAlthoughSessionsNeverDo(t *testing.T) {
	r := newRoom(t, "")
	c := *r.Config()
	c.Table.Slots = 4000
	r.conf.Store(&c)
	never := &endless{Source: r.table}
	r.sessions.src = never
	if err := r.flushNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if never.given < 4000 {
		t.Errorf("%d sessions stored, fewer than the table holds", never.given)
	}
}

// endless has always another batch.
type endless struct {
	Source
	given int
}

func (e *endless) Collect(b *probe.Batch, most int) error {
	b.Sessions = append(b.Sessions, seen(most, evening.Add(time.Duration(e.given)*time.Millisecond))...)
	e.given += most
	return nil
}

func (e *endless) Stored(b *probe.Batch) { b.Reset() }

func TestALeftOverReadyFileIsGoneWhileTheAgentStarts(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	ready := filepath.Join(r.dir, "ready")
	if err := os.WriteFile(ready, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := r.options()
	o.ReadyFile = ready
	next, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close() //nolint:errcheck // nothing was recorded
	if _, err := os.Stat(ready); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there before anything is attached: %v", err)
	}
}
