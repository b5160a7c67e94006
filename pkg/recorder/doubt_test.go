package recorder

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// TestARestartDoesNotMakeAWrongClockBelieved: what an agent does while it doubts
// the clock, its ledger and its keys are of that time.
func TestARestartDoesNotMakeAWrongClockBelieved(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	r.look()
	kept := r.days()
	r.shut()
	r.table.clock.Synchronised = false
	r.clock.jump(300 * oneDay)
	for start := range 4 {
		r.open()
		if got := r.days(); !strings.HasPrefix(got, kept) || r.expiry.status.Due != 1 || !strings.Contains(r.expiry.status.Text, "--clock-is-right") {
			t.Fatalf("start %d: %q of %q is left; %+v", start, got, kept, r.expiry.status)
		}
		r.noteStart() // as Run does
		r.keep(2)     // under a key of that time
		r.clock.add(lookExpired)
		r.look()
		if got := r.days(); !strings.HasPrefix(got, kept) {
			t.Fatalf("a minute after start %d: %q of %q is left", start, got, kept)
		}
		r.shut()
		r.clock.add(10 * time.Second)
	}
	r.table.clock.Synchronised = true
	r.open()
	if got := r.days(); strings.HasPrefix(got, kept) {
		t.Errorf("synchronised, and %q is left", got)
	}
	r.shut()
	r.table.clock.Synchronised = false // what was believed then is on the disk
	r.clock.add(oneDay)
	r.open()
	if s := r.expiry.status; s.Text != "" {
		t.Errorf("a day later: %+v", s)
	}
}

func TestWhatWasBelievedIsWrittenDownOnceAnHour(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	read := func() time.Time {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(r.destroyedDir(), clockFile))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := read(); !at.Equal(evening) {
		t.Errorf("at the start: %v", at)
	}
	for range 59 {
		r.clock.add(time.Minute)
		r.look()
	}
	if at := read(); !at.Equal(evening) {
		t.Errorf("after 59 minutes: %v", at)
	}
	r.clock.add(time.Minute)
	r.look()
	if at := read(); !at.Equal(evening.Add(time.Hour)) {
		t.Errorf("after an hour: %v", at)
	}
}

// setBy is what time.Now would give if the clock had been set by d: the monotonic
// reading does not move. A time.Time begins with its wall clock, the seconds above
// 30 bits of nanoseconds.
func setBy(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(d/time.Second) << 30
	return t
}

// TestAClockThatIsSetIsDoubtedAlthoughItHasAMonotonicReading takes the clock that
// an agent has, not that of the other tests.
func TestAClockThatIsSetIsDoubtedAlthoughItHasAMonotonicReading(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	kept := r.days()
	begin := time.Now()
	by := evening.Sub(begin).Truncate(time.Second)
	if x := setBy(begin, by); x.Sub(begin) != 0 || x.Round(0).Sub(begin.Round(0)) != by {
		t.Fatal("times look otherwise in this version of Go")
	}
	r.o.Now = func() time.Time { return setBy(time.Now(), by) }
	r.expiry.elapsed = func() time.Duration { return time.Since(begin) }
	r.expiry.believed, r.expiry.passed = r.o.Now(), r.expiry.elapsed()
	r.table.clock.Synchronised = false
	r.expiry.step(mostJump)
	if s := r.expiry.status; s.Text != "" || s.Due != 0 {
		t.Fatalf("at first: %+v", s)
	}
	by += 300 * oneDay
	r.expiry.step(mostJump)
	if got := r.days(); got != kept || r.expiry.status.Due != 1 {
		t.Errorf("%q of %q is left; %+v", got, kept, r.expiry.status)
	}
}

// sayItIsRight vouches for the clock over the socket.
func (r *room) sayItIsRight(known bool) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, PathExpiry+"?clock_is_right=1", nil)
	if known {
		req = req.WithContext(context.WithValue(req.Context(), peerKey{}, Peer{UID: 7, GID: 8}))
	}
	req = req.WithContext(context.WithValue(req.Context(), callerKey{}, config.Caller{UID: 7, GID: 8, Roles: config.Custodian}))
	w := httptest.NewRecorder()
	r.expiryHandler(w, req)
	return w
}

// TestWhoSaysThatTheClockIsRightIsInTheLedger, and nobody else is believed.
func TestWhoSaysThatTheClockIsRightIsInTheLedger(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	kept := r.days()
	r.table.clock.Synchronised = false
	r.clock.jump(300 * oneDay)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.record(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	steps := func() (list []ledger.Record) {
		for _, e := range r.entries() {
			if e.Kind == ledger.ClockStep {
				list = append(list, e)
			}
		}
		return list
	}
	if w := r.sayItIsRight(false); w.Code == http.StatusOK || len(steps()) > 0 {
		t.Errorf("nobody knows who: %d %s", w.Code, w.Body)
	}
	if err := r.do(t.Context(), func() error { r.evidence.ledger = deafLedger{r.ledger}; return nil }); err != nil {
		t.Fatal(err)
	}
	if w := r.sayItIsRight(true); w.Code == http.StatusOK {
		t.Errorf("without a ledger: %d %s", w.Code, w.Body)
	}
	err := r.do(t.Context(), func() error {
		r.evidence.ledger = r.ledger
		if got := r.days(); got != kept {
			return errors.New("left: " + got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.sayItIsRight(true); w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"day": "`+kept) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	list := steps()
	if len(list) != 1 || list[0].Fields["state"] != "said to be right" {
		t.Fatalf("ledger: %+v", list)
	}
	for k, v := range list[0].Fields {
		if strings.Contains(v, "uid") {
			t.Errorf("it says in the clear who: %s=%s", k, v)
		}
	}
	if text, err := vault.OpenSealed(list[0].Sealed, r.ids); err != nil || !strings.Contains(string(text), "uid 7 gid 8") {
		t.Errorf("%s %v", text, err)
	}
}

// TestADayThatAWrongClockDestroyedIsWrittenToAgain: nobody could know that the clock
// was wrong, and what comes when it is right is kept.
func TestADayThatAWrongClockDestroyedIsWrittenToAgain(t *testing.T) {
	for what, merged := range map[string]bool{"merged": true, "fresh": false} {
		t.Run(what, func(t *testing.T) {
			r := newRoom(t, "retention_days = 30\n")
			r.keep(5)
			if merged {
				if err := r.merger.finish(); err != nil {
					t.Fatal(err)
				}
			}
			r.clock.jump(300 * oneDay) // and it says that it is synchronised
			r.clock.add(lookExpired)
			r.look()
			if got := r.destructions(); len(got) != 1 {
				t.Fatalf("destroyed: %v", got)
			}
			r.clock.jump(-300 * oneDay)
			r.table.add(seen(3, r.clock.Now().Add(-2*lookExpired))...) // of the day that was destroyed
			_ = r.step()                                               // they wait in the table
			for range 2 {
				r.clock.add(lookExpired)
				r.look()
				if err := r.merger.step(); err != nil {
					t.Fatal(err)
				}
				if r.merger.under != nil {
					<-r.merger.under
				}
			}
			if err := r.step(); err != nil {
				t.Fatal(err)
			}
			s := r.Status()
			if n := s.Sessions; n.Expired != 0 || n.Stored != 8 {
				t.Errorf("%+v", n)
			}
			if err := s.Balance(); err != nil {
				t.Error(err)
			}
			if got, _, _ := r.read(); len(got) != 3 || r.days() == "" {
				t.Errorf("%d sessions are kept, %q", len(got), r.days())
			}
			if bad, _ := r.verified(); len(bad) > 0 {
				t.Errorf("%q", bad)
			}
		})
	}
}

// TestADayIsNotWrittenToAgainBeforeItsDestructionHasEnded: what is written to it
// would be destroyed too.
func TestADayIsNotWrittenToAgainBeforeItsDestructionHasEnded(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(r.destroyedDir(), "2025-03-01.note.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	r.clock.jump(300 * oneDay)
	r.clock.add(lookExpired)
	r.look()
	r.clock.jump(-300 * oneDay)
	r.table.add(seen(3, r.clock.Now().Add(-2*lookExpired))...)
	look := func() {
		r.clock.add(lookExpired)
		r.look()
		_ = r.step() // they may have to wait in the table
	}
	look()
	if n := r.Status().Sessions; n.Stored != 5 {
		t.Errorf("stored before it has ended: %+v", n)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	if got, _, _ := r.read(); len(got) != 3 || r.Status().Sessions.Stored != 8 {
		t.Errorf("%d sessions are kept, %+v", len(got), r.Status().Sessions)
	}
	if got := r.destructions()["2025-03-01"]; strings.Join(got, " ") != "begun destroyed" {
		t.Errorf("ledger: %q", got)
	}
}
