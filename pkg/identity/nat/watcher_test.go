package nat

import (
	"context"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// until runs the watcher on this thread until ok.
func until(t *testing.T, w *Watcher, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		step, stop := context.WithTimeout(ctx, 150*time.Millisecond)
		next := w.nextList
		err := w.Run(step)
		if w.count.Listings > 0 && !next.IsZero() && w.listing == nil && next.After(w.o.Clock()) {
			w.nextList = next // Run begins with a listing: once is enough
		}
		stop()
		if err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s never came; %+v, %+v", what, w.Stats(), w.o.Table.Stats())
		}
	}
}

func find(w *Watcher, x Translation, at time.Time) Answer {
	inside, port, a := w.o.Table.Find(&session.Session{
		Start: at.UnixNano(), End: at.UnixNano(), Proto: x.Proto, Local: session.SideInitiator,
		Initiator: x.Public, InitiatorPort: x.PublicPort, Responder: x.Far, ResponderPort: x.FarPort,
	})
	if a == Found && (inside != x.Inside || port != x.InsidePort) {
		return 99
	}
	return a
}

func TestTheKernelTellsOfTranslations(t *testing.T) {
	inNamespace(t, func() {
		m := newMaker(t)
		defer m.s.close()
		m.add(udp(1), false) // before anybody listens
		m.send(t)
		var gaps []string
		w, err := Watch(WatchOptions{Table: NewTable(TableOptions{}), Gap: func(cause string, _, _ time.Time) { gaps = append(gaps, cause) }})
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		m.add(udp(2), false)
		m.add(udp(3), false)
		m.add(udp(3), true)
		m.send(t)
		made := time.Now()
		until(t, w, "three translations", func() bool { s := w.o.Table.Stats(); return s.Begun == 3 && s.Kept == 1 && w.Stats().Listings == 1 })
		for i := 1; i <= 3; i++ {
			at := time.Now()
			if i == 3 {
				at = made
			}
			if a := find(w, udp(i), at); a != Found {
				t.Errorf("translation %d: %v", i, a)
			}
		}
		m.add(udp(2), true)
		m.send(t)
		until(t, w, "the end of the second", func() bool { return w.o.Table.Stats().Kept == 2 })
		if len(gaps) != 1 {
			t.Errorf("gaps %q", gaps)
		}
		balanced(t, w.o.Table)
	})
}

func TestLostEventsAreSeenMadeGoodAndTold(t *testing.T) {
	inNamespace(t, func() {
		m := newMaker(t)
		defer m.s.close()
		var gaps []string
		w, err := Watch(WatchOptions{
			Table: NewTable(TableOptions{}), Receive: 8 << 10,
			Gap: func(cause string, _, _ time.Time) { gaps = append(gaps, cause) },
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		until(t, w, "the first listing", func() bool { return len(gaps) == 1 })
		const n = 2000
		for i := 1; i <= n; i++ {
			m.add(udp(i), false)
			m.send(t)
		}
		for i := 1; i <= n/2; i++ {
			m.add(udp(i), true)
			m.send(t)
		}
		until(t, w, "all that goes on", func() bool { return w.o.Table.Stats().Open == n/2 && len(gaps) >= 2 })
		if s := w.Stats(); s.Overruns == 0 || s.Gaps < 2 || gaps[1] != "conntrack events lost" {
			t.Errorf("%+v, %q", s, gaps)
		}
		named := 0
		for i := n/2 + 1; i <= n; i++ {
			switch find(w, udp(i), time.Now()) {
			case Found:
				named++
			case 99:
				t.Fatalf("translation %d has another's inside end", i)
			}
		}
		if named != n/2 {
			t.Errorf("%d of %d that go on are named", named, n/2)
		}
		balanced(t, w.o.Table)
	})
}
