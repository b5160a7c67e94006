package recorder

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

func TestSessionsAreStoredNamedAndOnlyThenFreed(t *testing.T) {
	r := newRoom(t, "")
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	want := seen(2500, evening)
	r.table.add(want...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, _, heads := r.read()
	once(t, want, got)
	for i := range got {
		if got[i].Subscriber != "anna" {
			t.Fatalf("session %d has subscriber %q", i, got[i].Subscriber)
		}
	}
	if len(heads) != 3 {
		t.Errorf("%d blocks for 2500 sessions of at most 1000", len(heads))
	}
	h := heads[0]
	if h.Profile != session.ProfileSession || h.Gateway != "gw1" || h.Provider != "Net" || !h.Clock.Synchronised || h.Clock.MaxErrorMicros != 700 {
		t.Errorf("header %+v", h)
	}
	once(t, want, r.table.stored)
	s := r.Status()
	if s.Sessions.Stored != 2500 || s.Sessions.Named != 2500 || s.Sessions.Blocks != 3 || !s.Store.OK || !s.Sums[0].Holds() {
		t.Errorf("status %+v", s)
	}
}

func TestAFewSessionsWaitForOthersNoLongerThanFlush(t *testing.T) {
	r := newRoom(t, "")
	r.table.add(seen(3, evening)...)
	if wait, err := r.sessions.step(false); err != nil || wait <= 0 {
		t.Fatal(wait, err)
	}
	if len(r.table.stored) != 0 {
		t.Fatal("stored at once")
	}
	r.clock.add(time.Second)
	if _, err := r.sessions.step(false); err != nil {
		t.Fatal(err)
	}
	if len(r.table.stored) != 3 {
		t.Errorf("%d stored after a second", len(r.table.stored))
	}
}

// faulty fails as long as it is told to.
type faulty struct {
	*store.Store
	err   error
	tries int
}

func (f *faulty) Put(b ...store.Sealed) error {
	f.tries++
	if f.err != nil {
		return f.err
	}
	return f.Store.Put(b...)
}

func TestWhatCannotBeStoredStaysInTheTableAndIsStoredOnceLater(t *testing.T) {
	r := newRoom(t, "")
	f := &faulty{Store: r.store, err: store.ErrNoSpace}
	r.sessions.shelf.store = f
	want := seen(50, evening)
	r.table.add(want...)
	r.clock.add(time.Second)
	for range 20 { // a step is due again and again; only some may try
		r.table.add(seen(0, evening)...)
		if _, err := r.sessions.step(false); err != nil && !errors.Is(err, store.ErrNoSpace) {
			t.Fatal(err)
		}
		r.clock.add(500 * time.Millisecond)
	}
	r.publish()
	if len(r.table.stored) != 0 || len(r.table.out) != 0 || len(r.table.due) != 50 {
		t.Fatalf("stored %d, out %d, due %d", len(r.table.stored), len(r.table.out), len(r.table.due))
	}
	if f.tries < 2 || f.tries > 6 {
		t.Errorf("%d tries in ten seconds: they should become rarer", f.tries)
	}
	if s := r.Status(); s.Store.OK || s.Store.Text == "" || s.LastError == nil || s.Sessions.Returned == 0 {
		t.Errorf("status shows nothing: %+v", s.Store)
	}
	f.err = nil
	for len(r.table.stored) == 0 {
		r.clock.add(time.Second)
		if _, err := r.sessions.step(false); err != nil {
			t.Fatal(err)
		}
	}
	got, _, _ := r.read()
	once(t, want, got)
	if len(got) != 50 {
		t.Errorf("%d records on the disk for 50 sessions", len(got))
	}
	r.publish()
	if s := r.Status(); !s.Store.OK {
		t.Errorf("the alarm stays: %+v", s.Store)
	}
	var gaps []string
	for _, e := range r.entries() {
		if e.Kind == ledger.Gap {
			gaps = append(gaps, e.Fields["state"])
		}
	}
	if len(gaps) != 2 || gaps[0] != "cannot be stored" || gaps[1] != "stored again" {
		t.Errorf("ledger has the gaps %q", gaps)
	}
}

func TestAFullDiskIsAnAlarmAndNoEnd(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	var st unix.Statfs_t
	if err := unix.Statfs(r.dir, &st); err != nil {
		t.Fatal(err)
	}
	// Half of what others occupy must be free too, and never is.
	never := (st.Bavail + (st.Blocks-st.Bavail)/2) * uint64(st.Frsize)
	r.text = replaceOnce(t, r.text, `"256MiB"`, strconv.FormatUint(never, 10))
	r.open()
	r.table.add(seen(5, evening)...)
	if err := r.step(); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("want no space, got %v", err)
	}
	if len(r.table.due) != 5 || len(r.table.stored) != 0 {
		t.Error("sessions left the table")
	}
}

func TestSessionsAreFiledUnderTheDayTheyEnded(t *testing.T) {
	r := newRoom(t, "")
	before := seen(10, evening.Add(59*time.Second))
	after := seen(10, evening.Add(61*time.Second))
	for i := range after {
		after[i].InitiatorPort += 100
	}
	r.clock.add(2 * time.Minute)
	r.table.add(before...)
	r.table.add(after...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, _, heads := r.read() // read compares each session with its day
	once(t, append(before, after...), got)
	if len(heads) != 2 {
		t.Errorf("%d blocks for two days", len(heads))
	}
	keys := 0
	_ = r.Shelf().Keys(t.Context(), 0, 1<<20, func([]byte) error { keys++; return nil })
	if keys < 2 {
		t.Errorf("%d data keys for two days", keys)
	}
}

func TestIdentityThatCameInTimeAndIdentityThatDidNot(t *testing.T) {
	r := newRoom(t, "")
	late, early := seen(1, evening), seen(1, evening.Add(-30*time.Minute))
	r.table.add(early...) // before anybody logged on
	r.table.add(late...)
	r.logOn("anna", "10.0.0.1", evening.Add(-10*time.Minute))
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, bindings, _ := r.read()
	named := map[int64]string{}
	for i := range got {
		named[got[i].End] = got[i].Subscriber
	}
	if named[late[0].End] != "anna" || named[early[0].End] != "" {
		t.Errorf("%v", named)
	}
	if len(bindings) == 0 || bindings[0].Subscriber != "anna" {
		t.Errorf("the access record is not stored: %+v", bindings)
	}
}

func TestKeysOfDaysThatAreOverAreGivenUpAndLateSessionsGetAnother(t *testing.T) {
	r := newRoom(t, "")
	want := seen(1, evening)
	r.table.add(want...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	held := func() int { r.look(); return len(r.vault.Days()) }
	if n := held(); n != 1 {
		t.Fatalf("%d keys on the day itself", n)
	}
	r.clock.add(24 * time.Hour)
	if n := held(); n != 1 {
		t.Errorf("%d keys the day after", n)
	}
	r.clock.add(24 * time.Hour)
	if n := held(); n != 0 {
		t.Errorf("%d keys two days after", n)
	}
	late := seen(2, evening)[1:]
	r.table.add(late...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, _, _ := r.read()
	once(t, append(want, late...), got)
}
