package identity

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

var mac = [6]byte{2, 0, 0, 0, 0, 1}

// from has an event come from another source.
func from(e Event, s session.Source, nas string) Event {
	e.Source, e.NAS = s, nas
	return e
}

// holding has an event name a lease.
func holding(e Event, l Lease) Event {
	e.Leases = append(e.Leases, l)
	return e
}

func until(e Event, at float64) Event {
	e.Until = sec(at)
	return e
}

func ports(prefix string, first, last uint16, via string) Lease {
	l := Lease{Kind: PortBlock, Prefix: netip.MustParsePrefix(prefix), FirstPort: first, LastPort: last}
	if via != "" {
		l.Via = netip.MustParseAddr(via)
	}
	return l
}

func equipment() Lease {
	return Lease{Kind: Equipment, Prefix: netip.PrefixFrom(session.EquipmentAddr(mac), 128)}
}

func leased(a string) Lease {
	return Lease{Kind: IPv4Address, Prefix: netip.PrefixFrom(netip.MustParseAddr(a), 32), Via: session.EquipmentAddr(mac)}
}

// everyone asks the book, and a reader of all that is in it.
func everyone(b *Book) map[string]interface {
	Bindings
	Name(a session.Addr, port uint16, ns int64) (string, bool)
	Holder(a session.Addr, port uint16, ns int64) (session.Binding, bool)
} {
	return map[string]interface {
		Bindings
		Name(a session.Addr, port uint16, ns int64) (string, bool)
		Holder(a session.Addr, port uint16, ns int64) (session.Binding, bool)
	}{"book": b, "reader": NewReader(b.everything(), ReaderOptions{})}
}

func showChains(list []Chain) string {
	var out []string
	for i := range list {
		c := &list[i]
		var links []string
		for _, l := range c.Links {
			links = append(links, l.Prefix.String())
		}
		to := "-"
		if c.To != session.Forever {
			to = fmt.Sprint(float64(c.To-t0) / 1e9)
		}
		out = append(out, fmt.Sprintf("%s by %s %v..%s", c.Subscriber(), strings.Join(links, " > "), float64(c.From-t0)/1e9, to))
	}
	return strings.Join(out, "\n")
}

func TestAChainLeadsFromASharedAddressToWhoeverIsLoggedOn(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	apply(t, b,
		holding(ev(Start, "r", "anna", 10), equipment()), holding(ev(Stop, "r", "anna", 60), equipment()),
		from(holding(ev(Start, "d", "line-7", 20), leased("100.64.0.9")), session.SourceDHCP, "kea"),
		from(holding(ev(Start, "n", "", 30), ports("203.0.113.7/32", 2048, 3071, "100.64.0.9")), session.SourceNAT, "cgnat"),
		from(holding(ev(Stop, "n", "", 90), ports("203.0.113.7/32", 2048, 3071, "100.64.0.9")), session.SourceNAT, "cgnat"))
	public := addr("203.0.113.7")
	for name, x := range everyone(b) {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				port uint16
				at   float64
				want string
			}{{2048, 35, "anna"}, {3071, 59, "anna"}, {2047, 35, ""}, {2048, 65, "line-7"}, {2048, 90, ""}, {2048, 29, ""}} {
				if who, ok := x.Name(public, c.port, sec(c.at)); who != c.want || ok != (c.want != "") {
					t.Errorf("port %d at %v: %q, %v", c.port, c.at, who, ok)
				}
			}
			h, ok := x.Holder(public, 2050, sec(40))
			if !ok || h.Subscriber != "anna" || h.From != sec(30) || h.To != sec(60) || h.Prefix != netip.MustParsePrefix("203.0.113.7/32") {
				t.Errorf("the holder is %+v, %v", h, ok)
			}
			got := showChains(Trace(x, public, 2050, 2050, sec(50), sec(70)))
			if want := "anna by 203.0.113.7/32 > 100.64.0.9/32 > 100::200:0:1/128 50..60\nline-7 by 203.0.113.7/32 > 100.64.0.9/32 50..70.000000001"; got != want {
				t.Errorf("chains:\n%s\nwant:\n%s", got, want)
			}
			if list := Trace(x, public, 0, math.MaxUint16, sec(40), sec(41)); len(list) != 1 {
				t.Errorf("without a port: %s", showChains(list))
			}
		})
	}
}

func TestAddressesThatLeadInACircleEnd(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	apply(t, b, from(holding(holding(ev(Start, "n", "", 30), ports("203.0.113.7/32", 0, 0, "203.0.113.8")), ports("203.0.113.8/32", 0, 0, "203.0.113.7")), session.SourceNAT, "cgnat"))
	for name, x := range everyone(b) {
		if who, ok := x.Name(addr("203.0.113.7"), 5, sec(40)); ok {
			t.Errorf("%s: %q", name, who)
		}
		if list := Trace(x, addr("203.0.113.7"), 5, 5, sec(40), sec(41)); len(list) != 1 || len(list[0].Links) != maxLinks {
			t.Errorf("%s: %s", name, showChains(list))
		}
	}
}

func TestARuleNamesTheHolderOfTheInsideAddress(t *testing.T) {
	r, err := ParseRule(ruleText)
	if err != nil {
		t.Fatal(err)
	}
	in := netip.MustParseAddr("100.64.1.77")
	out, first, _, _ := r.Outside(in)
	b := openTest(t, t.TempDir(), Options{})
	apply(t, b, ev(Start, "a", "anna", 10, in.String()),
		from(holding(ev(Start, "rule", "", 5), Lease{Kind: Translation, Prefix: r.OutsidePrefix, Rule: r.String()}), session.SourceNAT, "rules"))
	for name, x := range everyone(b) {
		if who, ok := x.Name(session.AddrFrom(out), first+3, sec(20)); !ok || who != "anna" {
			t.Errorf("%s: %q, %v", name, who, ok)
		}
		list := Trace(x, session.AddrFrom(out), 0, math.MaxUint16, sec(20), sec(20))
		named := 0
		for i := range list {
			if list[i].Subscriber() == "anna" {
				named++
			}
		}
		if len(list) != 64 || named != 1 {
			t.Errorf("%s: %d share the address, anna is %d of them", name, len(list), named)
		}
	}
	at := sec(20)
	if n := testing.AllocsPerRun(100, func() { b.Name(session.AddrFrom(out), first, at) }); n != 0 {
		t.Errorf("a name takes %v allocations", n)
	}
}

func TestSourcesThatContradictAreKeptAndTheTrustedOneIsBelieved(t *testing.T) {
	events := []Event{
		from(ev(Start, "s", "house", 1, "192.0.2.1"), session.SourceStatic, "static"),
		from(ev(Start, "d", "dora", 20, "192.0.2.1"), session.SourceDHCP, "kea"),
		ev(Start, "r", "anna", 10, "192.0.2.1"), // its stop is lost
	}
	for _, c := range []struct {
		trust []session.Source
		want  string
	}{{nil, "anna"}, {[]session.Source{session.SourceDHCP}, "dora"}, {[]session.Source{session.SourceStatic, session.SourceRADIUS}, "house"}} {
		b := openTest(t, t.TempDir(), Options{Trust: c.trust})
		apply(t, b, events...)
		if x, _ := bindingAt(b, addr("192.0.2.1"), 0, sec(30)); x.Subscriber != c.want {
			t.Errorf("trust %v: %s", c.trust, x.Subscriber)
		}
		r := NewReader(b.everything(), ReaderOptions{Trust: c.trust})
		list := Trace(r, addr("192.0.2.1"), 0, 0, sec(30), sec(30))
		if len(list) != 3 || list[0].Subscriber() != c.want {
			t.Errorf("trust %v: %s", c.trust, showChains(list))
		}
		if b.Stats().Contradictions == 0 {
			t.Error("the contradictions are not counted")
		}
	}
}

func TestALeaseEndsByItselfUnlessItIsRenewed(t *testing.T) {
	dir, clock, sink := t.TempDir(), &testClock{}, &testSink{}
	clock.set(10)
	opts := Options{Clock: clock.Now, Sink: sink}
	b := openTest(t, dir, opts)
	lease := func(kind Kind, at, to float64) Event {
		return until(from(ev(kind, "d", "dora", at, "192.0.2.1"), session.SourceDHCP, "kea"), to)
	}
	flush := func() {
		t.Helper()
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, b, lease(Start, 10, 110))
	flush()
	for at := 60.0; at < 1000; at += 50 {
		clock.set(at)
		apply(t, b, lease(Interim, at, at+100))
		flush()
	}
	if n := len(sink.got()); n != 1 {
		t.Errorf("a lease that was renewed 19 times is recorded %d times", n)
	}
	if n := len(b.source(session.SourceDHCP, "kea").sessions.find("d").look().facts); n > 3 {
		t.Errorf("%d facts are remembered", n)
	}
	want(t, "while it goes on", b.everything(), "dora 192.0.2.1/32 10..-")
	// The renewals are known after a restart too.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	clock.set(1049)
	b = openTest(t, dir, opts)
	want(t, "after a restart", b.everything(), "dora 192.0.2.1/32 10..-")
	clock.set(1061)
	flush()
	want(t, "when it has run out", b.everything(), "dora 192.0.2.1/32 10..1060~")
}

func TestALeaseThatRanOutWhileNobodyLookedHasItsEnd(t *testing.T) {
	dir, clock, sink := t.TempDir(), &testClock{}, &testSink{}
	clock.set(10)
	opts := Options{Clock: clock.Now, Sink: sink}
	b := openTest(t, dir, opts)
	apply(t, b, until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110))
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	clock.set(500)
	b = openTest(t, dir, opts)
	want(t, "after the restart", b.everything(), "dora 192.0.2.1/32 10..110~")
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "the sealed record", NewReader(sink.got(), ReaderOptions{}).everything(), "dora 192.0.2.1/32 10..110~")
}

func TestWhatIsHeardOfALeaseInAnyOrderComesToTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		events []Event
		want   []string
	}{
		"the server says that it has expired": {[]Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), until(ev(Interim, "d", "dora", 60, "192.0.2.1"), 160),
			ev(Stop, "d", "dora", 163, "192.0.2.1")}, []string{"dora 192.0.2.1/32 10..160"}},
		"it is given back": {[]Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), until(ev(Interim, "d", "dora", 60, "192.0.2.1"), 160),
			ev(Stop, "d", "dora", 70, "192.0.2.1")}, []string{"dora 192.0.2.1/32 10..70"}},
		"a renewal came after the end": {[]Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), until(ev(Interim, "d", "dora", 200, "192.0.2.1"), 300)},
			[]string{"dora 192.0.2.1/32 10..110~", "dora 192.0.2.1/32 200~..300~"}},
		"another client has the address": {[]Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 910), until(ev(Start, "e", "emil", 200, "192.0.2.1"), 950)},
			[]string{"dora 192.0.2.1/32 10..200~", "emil 192.0.2.1/32 200..950~"}},
		"renewals, one of them lost": {[]Event{until(ev(Start, "d", "dora", 10, "192.0.2.1"), 110), until(ev(Interim, "d", "dora", 60, "192.0.2.1"), 160),
			until(ev(Interim, "d", "dora", 110, "192.0.2.1"), 210), until(ev(Interim, "d", "dora", 205, "192.0.2.1"), 305)}, []string{"dora 192.0.2.1/32 10..305~"}},
	} {
		t.Run(name, func(t *testing.T) {
			permutations(len(c.events), func(order []int) {
				b := newBook("", Options{Clock: openClock(1000)}, osFiles{})
				for _, i := range append(order, order...) { // and again
					b.mu.Lock()
					b.take(c.events[i : i+1])
					b.mu.Unlock()
				}
				want(t, fmt.Sprint(order), b.everything(), c.want...)
			})
		})
	}
}
