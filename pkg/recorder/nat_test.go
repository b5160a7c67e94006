package recorder

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity/nat"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// oneSubscriber says that everything is translated from one inside end.
type oneSubscriber struct {
	inside session.Addr
	answer nat.Answer
}

func (o oneSubscriber) Find(*session.Session) (session.Addr, uint16, nat.Answer) {
	if o.answer != nat.Found {
		return session.Addr{}, 0, o.answer
	}
	return o.inside, 4711, o.answer
}

func TestSessionsAreNamedByTheirInsideEnd(t *testing.T) {
	inside := session.AddrFrom(netip.MustParseAddr("100.64.0.7"))
	for answer, want := range map[nat.Answer]string{nat.Found: "anna", nat.Ambiguous: "", nat.Unknown: ""} {
		r := newRoom(t, "")
		r.logOn("anna", "100.64.0.7", evening.Add(-time.Hour))
		r.sessions.inside = oneSubscriber{inside, answer}
		r.table.add(seen(10, evening)...)
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
		got, _, _ := r.read()
		for i := range got {
			if got[i].Subscriber != want || (got[i].Inside == inside) != (answer == nat.Found) {
				t.Fatalf("%v: %+v", answer, got[i])
			}
		}
		if s := r.Status(); answer == nat.Found && s.Sessions.Inside != 10 {
			t.Errorf("%+v", s.Sessions)
		}
	}
}

func TestSessionsWaitForTranslationsThatAreLateButNotForEver(t *testing.T) {
	r := newRoom(t, "")
	r.sessions.behind = func() bool { return true }
	r.table.add(seen(3, evening)...)
	for range 9 {
		r.clock.add(time.Second)
		if _, err := r.sessions.step(false); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.table.stored) != 0 {
		t.Error("stored although translations are late")
	}
	r.clock.add(3 * time.Second)
	if _, err := r.sessions.step(false); err != nil {
		t.Fatal(err)
	}
	if err := r.sessions.settle(); err != nil || len(r.table.stored) != 3 {
		t.Errorf("%d stored after ten seconds, %v", len(r.table.stored), err)
	}
}

func TestRecordsOfTranslationsWaitForADiskThatFailsAndAreWrittenOnce(t *testing.T) {
	r := newRoom(t, "")
	f := &faulty{Store: r.store, err: store.ErrNoSpace}
	r.access.shelf.store = f
	calls := 0
	r.access.more = func(bool, time.Time) []session.Binding {
		if calls++; calls > 1 { // the queue is empty then
			return nil
		}
		p := nat.Piece{From: evening.UnixNano(), To: evening.Add(time.Second).UnixNano(), PublicPort: 4000, Proto: session.TCP,
			Public: session.AddrFrom(netip.MustParseAddr("192.0.2.1")), Inside: session.AddrFrom(netip.MustParseAddr("100.64.0.7"))}
		return []session.Binding{p.Binding("gw1")}
	}
	if _, err := r.access.step(t.Context(), true); !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	f.err = nil
	r.clock.add(time.Minute)
	for range 2 {
		if _, err := r.access.step(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	_, bindings, _ := r.read()
	if len(bindings) != 1 || bindings[0].Via.String() != "100.64.0.7" || r.access.count.translations != 1 {
		t.Errorf("%+v, %+v", bindings, r.access.count)
	}
}
