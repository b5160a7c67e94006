package identity

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgelog/edgelog/pkg/session"
)

// pool is a world in which one address after the other way is part of a prefix
// of several lengths, given away by two sources whose clocks differ: what one
// holds no other holds a part of.
type pool struct {
	now    float64
	said   []said
	holds  []poolHold
	clocks map[session.Source]float64 // ahead of the truth, seconds
}

type poolHold struct {
	id, user string
	source   session.Source
	p        netip.Prefix
	from, to float64
	until    float64 // of a lease; 0: none
}

var poolPrefixes = []netip.Prefix{
	netip.MustParsePrefix("2001:db8::/56"), netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("2001:db8:0:1::/64"),
	netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.0/29"),
}

func (w *pool) tell(kind Kind, h *poolHold, when float64) {
	l := lease(h.p.String())
	if h.p.IsSingleIP() {
		l = lease(h.p.Addr().String())
	}
	off := w.clocks[h.source]
	e := from(holding(ev(kind, h.id, h.user, when+off), l), h.source, h.source.String())
	if h.until > 0 && kind != Stop {
		e.Until = sec(h.until + off)
	}
	w.said = append(w.said, said{e: e})
}

func (w *pool) step(t *rapid.T) {
	w.now += rapid.SampledFrom([]float64{0.25, 0.75, 40, 140}).Draw(t, "pause")
	for i := range w.holds {
		if h := &w.holds[i]; h.to == worldEnd && h.until > 0 && h.until <= w.now {
			h.to = h.until
			w.tell(Stop, h, h.until)
		}
	}
	p := rapid.SampledFrom(poolPrefixes).Draw(t, "prefix")
	i := slices.IndexFunc(w.holds, func(h poolHold) bool { return h.to == worldEnd && h.p.Overlaps(p) })
	if i < 0 {
		h := poolHold{id: fmt.Sprint(len(w.holds)), user: rapid.SampledFrom([]string{"anna", "bo", "carl"}).Draw(t, "user"), p: p, from: w.now, to: worldEnd,
			source: rapid.SampledFrom([]session.Source{session.SourceRADIUS, session.SourceDHCP}).Draw(t, "source")}
		if h.source == session.SourceDHCP {
			h.until = w.now + leaseTime
		}
		w.holds = append(w.holds, h)
		w.tell(Start, &h, w.now)
		return
	}
	h := &w.holds[i]
	if rapid.Bool().Draw(t, "goes on") {
		if h.until > 0 {
			h.until = w.now + leaseTime
		}
		w.tell(Interim, h, w.now)
		return
	}
	h.to = w.now
	w.tell(Stop, h, w.now)
}

func (w *pool) holder(a netip.Addr, at float64) string {
	for _, h := range w.holds {
		if h.p.Contains(a) && at >= h.from && at < h.to {
			return h.user
		}
	}
	return ""
}

// TestTimeTortureOfPrefixesAndSources: a prefix that was given away as a whole
// is given away in parts and the other way round, by two sources with clocks of
// their own; whatever is lost, late or out of order, and however often the
// program is restarted: who certainly had an address, had it, and who had one is
// among those that Trace names if nothing was lost.
func TestTimeTortureOfPrefixesAndSources(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clocks := rapid.SampledFrom([]float64{0, 0, -1, 1, 0.6})
		w := &pool{clocks: map[session.Source]float64{session.SourceRADIUS: clocks.Draw(t, "clock"), session.SourceDHCP: clocks.Draw(t, "clock")}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.step(t)
		}
		loss := rapid.SampledFrom([]int{0, 0, 5, 30, 60}).Draw(t, "percent lost")
		restarts := rapid.Bool().Draw(t, "restarts")
		b, sink, done := w.live(t, loss, restarts)
		defer done()
		reader := NewReader(append(sink.got(), b.InForce()...), ReaderOptions{})
		for range 100 {
			a := rapid.SampledFrom([]string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"}).Draw(t, "address")
			at := rapid.Float64Range(0, w.now+10).Draw(t, "at")
			w.judge(t, "book", b, netip.MustParseAddr(a), at, loss == 0 && !restarts) // what is over it may forget
			w.judge(t, "reader", reader, netip.MustParseAddr(a), at, loss == 0)
		}
	})
}

// live gives a book what was said, with restarts in between.
func (w *pool) live(t *rapid.T, loss int, restarts bool) (*Book, *testSink, func()) {
	dir, err := os.MkdirTemp("", "book")
	if err != nil {
		t.Fatal(err)
	}
	clock, sink := &testClock{}, &testSink{}
	opts := Options{Clock: clock.Now, Sink: sink}
	b, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range (&world{said: w.said}).deliver(t, loss, false) {
		clock.set(s.arrives)
		t.Logf("arrives %.2f: %.2f %s %s until %.2f", s.arrives, float64(s.e.At-t0)/1e9, s.e.Session, s.e.Kind, float64(s.e.Until-t0)/1e9)
		if err := b.Apply(context.Background(), []Event{s.e}); err != nil {
			t.Fatal(err)
		}
		switch rapid.IntRange(0, 9).Draw(t, "then") {
		case 0, 1, 2:
			err = b.Flush(context.Background())
		case 3:
			if restarts {
				t.Logf("restart")
				if err = b.Close(); err == nil {
					b, err = Open(dir, opts)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	return b, sink, func() {
		b.Close()
		os.RemoveAll(dir)
	}
}

func (w *pool) judge(t *rapid.T, who string, x Bindings, a netip.Addr, at float64, complete bool) {
	from, to, truth := sec(at-1), sec(at+1), w.holder(a, at) // no clock is wrong by more
	chains := Trace(x, session.AddrFrom(a), 0, 0, from, to)
	all := Holds(chains)
	if Certain(all, from, to) && all[0].Subscriber != truth {
		t.Fatalf("%s: %s at %.2f is certainly %q, in truth %q\n%s\nsaid:\n%s", who, a, at, all[0].Subscriber, truth, showChains(chains), (&world{said: w.said}).script())
	}
	if complete && truth != "" && !slices.ContainsFunc(all, func(h session.Binding) bool { return h.Subscriber == truth }) {
		if r, ok := x.(*Reader); ok {
			t.Logf("read:\n%s", show(r.everything()))
		}
		t.Fatalf("%s: nothing was lost, but %s at %.2f is not %q's\n%s\nsaid:\n%s", who, a, at, truth, showChains(chains), (&world{said: w.said}).script())
	}
}
