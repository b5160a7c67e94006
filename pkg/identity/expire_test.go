package identity

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// A renewal that is heard of when its lease had ended by itself, and that end is
// sealed, is as good as any other: from the book, from what is sealed, and
// after a restart.
func TestALeaseWhoseRenewalIsHeardOfLateGoesOn(t *testing.T) {
	lease := func(kind Kind, at, to float64) Event {
		return until(from(ev(kind, "d", "dora", at, "192.0.2.1"), session.SourceDHCP, "kea"), to)
	}
	for name, c := range map[string]struct {
		first, late Event
		book        []string
	}{
		"it goes on":   {lease(Start, 10, 110), lease(Interim, 60, 1e6), []string{"dora 192.0.2.1/32 10..110~", "dora 192.0.2.1/32 110~..-"}},
		"it has ended": {lease(Start, 10, 110), lease(Interim, 60, 160), []string{"dora 192.0.2.1/32 10..110~", "dora 192.0.2.1/32 110~..160~"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock, sink := t.TempDir(), &testClock{}, &testSink{}
			clock.set(500)
			opts := Options{Clock: clock.Now, Sink: sink}
			b := openTest(t, dir, opts)
			for _, e := range []Event{c.first, c.late, c.late} {
				apply(t, b, e)
				if err := b.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			want(t, "the book", b.everything(), c.book...)
			want(t, "what is sealed", NewReader(sink.got(), ReaderOptions{}).everything(), c.book...)
			for range 2 { // from the log, then from a snapshot
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = openTest(t, dir, opts)
				if slices.ContainsFunc(b.everything(), func(x session.Binding) bool { return x.To == session.Forever }) {
					want(t, "after a restart", b.everything(), c.book...)
				}
			}
			want(t, "what is sealed at last", NewReader(sink.got(), ReaderOptions{}).everything(), c.book...)
		})
	}
}

func TestAStopBeforeTheRenewalItBelongsTo(t *testing.T) {
	clock, sink := &testClock{}, &testSink{}
	clock.set(500)
	b := openTest(t, t.TempDir(), Options{Clock: clock.Now, Sink: sink})
	for _, e := range []Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), ev(Stop, "d", "dora", 170, "192.0.2.1"), until(ev(Interim, "d", "dora", 100, "192.0.2.1"), 200)} {
		apply(t, b, e)
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "what is sealed", NewReader(sink.got(), ReaderOptions{}).everything(), "dora 192.0.2.1/32 10..110~", "dora 192.0.2.1/32 110~..170")
}

// A lease to other equipment is another holder, though neither names a
// subscriber.
func TestReaderEndsALeaseWhenOtherEquipmentHasTheAddress(t *testing.T) {
	hold := func(key, equipment string, at float64) session.Binding {
		return session.Binding{SourceKey: key, Prefix: lease("192.0.2.1").Prefix, LastPort: 65535, From: sec(at), To: session.Forever,
			Via: addr(equipment).Netip(), Source: session.SourceDHCP}
	}
	r := NewReader([]session.Binding{hold("a", "100::1", 10), hold("b", "100::2", 20)}, ReaderOptions{})
	want(t, "read", r.everything(), " 192.0.2.1/32 10..20~", " 192.0.2.1/32 20..-")
}

// testdata/state-1 was written before bindings had an end of their own, an
// identity, or followed translations: a snapshot, and a log with what the sink
// did not take.
func TestAStateOfAnEarlierVersionOpens(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "state-1"))); err != nil {
		t.Fatal(err)
	}
	sink := &testSink{}
	opts := Options{Clock: openClock(1000), Sink: sink}
	for range 2 { // as it was, and as it is written now
		b := openTest(t, dir, opts)
		want(t, "in the book", b.InForce(), "anna 192.0.2.1/32 10..-", "anna 2001:db8::/56 10..-", "dora 192.0.2.4/32 80~..-", "eva 203.0.113.7/32 90..-")
		x, ok := bindingAt(b, addr("203.0.113.7"), 2000, sec(100))
		if _, other := b.At(addr("203.0.113.7"), 2048, sec(100)); !ok || other || x.Line != "line 5" || x.Equipment != "02:00:00:00:00:05" || x.Place != "hall" {
			t.Errorf("the block of ports is %+v, %v, %v", x, ok, other)
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "handed over", NewReader(sink.got(), ReaderOptions{}).everything(),
		"carl 192.0.2.3/32 60..70", "dora 192.0.2.4/32 80~..-", "eva 203.0.113.7/32 90..-")
}

// After a restart the book has forgotten a lease that was over; what is heard of
// it then is put beside what is sealed.
func TestARenewalOfALeaseThatIsForgotten(t *testing.T) {
	dir, clock, sink := t.TempDir(), &testClock{}, &testSink{}
	opts := Options{Clock: clock.Now, Sink: sink}
	b := openTest(t, dir, opts)
	for _, e := range []Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), until(ev(Interim, "d", "dora", 60, "192.0.2.1"), 160), until(ev(Interim, "d", "dora", 100, "192.0.2.1"), 200)} {
		clock.set(500)
		apply(t, b, e)
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openTest(t, dir, opts)
		}
	}
	want(t, "what is sealed", NewReader(sink.got(), ReaderOptions{}).everything(), "dora 192.0.2.1/32 10..200~")
}
