package identity

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Each case is tried in every order of its events, and with every event twice:
// the bindings must be the same.
const ip, ip2, v6, fp, dp = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:1::/64", "2001:db8:100::/56"

// inAnyOrder are events of few sessions, and what must come out whatever their
// order.
var inAnyOrder = []struct {
	name   string
	events []Event
	want   []string
}{
	{"start, interim and stop give a binding known at both ends",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "a", "anna", 20, ip), ev(Stop, "a", "anna", 30, ip)},
		[]string{"anna 192.0.2.1/32 10..30"}},
	{"a session without stop is in force",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "a", "anna", 20, ip)},
		[]string{"anna 192.0.2.1/32 10..-"}},
	{"an interim without start opens a binding whose start is inferred",
		[]Event{ev(Interim, "a", "anna", 20, ip), ev(Interim, "a", "anna", 25, ip)},
		[]string{"anna 192.0.2.1/32 20~..-"}},
	{"an interim without start that tells its session time",
		[]Event{held(ev(Interim, "a", "anna", 20, ip), 15)},
		[]string{"anna 192.0.2.1/32 5~..-"}},
	{"a stop without start infers the start from the session time",
		[]Event{held(ev(Stop, "a", "anna", 30, ip), 20)},
		[]string{"anna 192.0.2.1/32 10~..30"}},
	{"a stop alone without session time tells of one moment",
		[]Event{ev(Stop, "a", "anna", 30, ip)},
		[]string{"anna 192.0.2.1/32 30~..30"}},
	{"a stop that does not name the address leaves its end inferred",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Stop, "a", "anna", 30)},
		[]string{"anna 192.0.2.1/32 10..30~"}},
	{"a new session on the address ends the one that never stopped",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Start, "b", "bo", 50, ip), ev(Stop, "b", "bo", 60, ip)},
		[]string{"anna 192.0.2.1/32 10..50~", "bo 192.0.2.1/32 50..60"}},
	{"a lost start of the next session still ends the one before",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "b", "bo", 50, ip)},
		[]string{"anna 192.0.2.1/32 10..50~", "bo 192.0.2.1/32 50~..-"}},
	{"an estimated start does not reach into another's reported time",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Stop, "a", "anna", 40, ip), held(ev(Stop, "b", "bo", 60, ip), 55)},
		[]string{"anna 192.0.2.1/32 10..40", "bo 192.0.2.1/32 40~..60"}},
	{"accounting-on ends all sessions from before and none from after",
		[]Event{ev(Start, "a", "anna", 10, ip), on(40), ev(Start, "b", "bo", 45, ip2)},
		[]string{"anna 192.0.2.1/32 10..40~", "bo 192.0.2.2/32 45..-"}},
	{"a session id used again after a restart is another session",
		[]Event{ev(Start, "1", "anna", 10, ip), on(40), ev(Start, "1", "bo", 50, ip), ev(Stop, "1", "bo", 90, ip)},
		[]string{"anna 192.0.2.1/32 10..40~", "bo 192.0.2.1/32 50..90"}},
	{"a session id used again after a restart by the same subscriber, its start lost",
		[]Event{ev(Start, "1", "anna", 10, ip), on(40), ev(Interim, "1", "anna", 50, ip), ev(Stop, "1", "anna", 90, ip)},
		[]string{"anna 192.0.2.1/32 10..40~", "anna 192.0.2.1/32 50~..90"}},
	{"a stop at the moment of the restart is of before, what follows is not",
		[]Event{ev(Start, "1", "anna", 10, ip), ev(Stop, "1", "anna", 40, ip), on(40), ev(Interim, "1", "anna", 42, ip)},
		[]string{"anna 192.0.2.1/32 10..40", "anna 192.0.2.1/32 42~..-"}},
	{"an estimated start does not reach back over a restart",
		[]Event{on(40), held(ev(Stop, "1", "anna", 60, ip), 50)},
		[]string{"anna 192.0.2.1/32 40~..60"}},
	{"a stale session does not hide one that tells its session time",
		[]Event{ev(Start, "a", "anna", 10, ip), held(ev(Stop, "b", "bo", 60, ip), 20)},
		[]string{"anna 192.0.2.1/32 10..40~", "bo 192.0.2.1/32 40~..60"}},
	{"a session time that another session proves wrong",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "a", "anna", 50, ip), held(ev(Stop, "b", "bo", 60, ip), 40)},
		[]string{"anna 192.0.2.1/32 10..60~", "bo 192.0.2.1/32 60~..60"}},
	{"a session id used again without a word of restart",
		[]Event{ev(Start, "1", "anna", 10, ip), ev(Start, "1", "anna", 50, ip), ev(Stop, "1", "anna", 90, ip)},
		[]string{"anna 192.0.2.1/32 10..50~", "anna 192.0.2.1/32 50..90"}},
	{"a session id used again, only the session time tells",
		[]Event{ev(Start, "1", "anna", 10, ip), held(ev(Stop, "1", "anna", 90, ip), 30)},
		[]string{"anna 192.0.2.1/32 10..60~", "anna 192.0.2.1/32 60~..90"}},
	{"a session id that goes to another subscriber",
		[]Event{ev(Start, "1", "anna", 10, ip), ev(Interim, "1", "bo", 50, ip)},
		[]string{"anna 192.0.2.1/32 10..50~", "bo 192.0.2.1/32 50~..-"}},
	{"an address change in an interim closes the old and opens the new",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "a", "anna", 20, ip2), ev(Stop, "a", "anna", 30, ip2)},
		[]string{"anna 192.0.2.1/32 10..20~", "anna 192.0.2.2/32 20~..30"}},
	{"an address change that only the stop tells of",
		[]Event{ev(Start, "a", "anna", 10, ip), held(ev(Stop, "a", "anna", 30, ip2), 20)},
		[]string{"anna 192.0.2.1/32 10..30~", "anna 192.0.2.2/32 30~..30"}},
	{"an address, a framed and a delegated prefix side by side",
		[]Event{ev(Start, "a", "anna", 10, ip, v6, fp, dp), ev(Interim, "a", "anna", 15, ip), ev(Stop, "a", "anna", 30, ip, v6, fp, dp)},
		[]string{"anna 192.0.2.1/32 10..30", "anna 2001:db8::1/128 10..30", "anna 2001:db8:1::/64 10..30", "anna 2001:db8:100::/56 10..30"}},
	{"a start without address and an interim that brings it",
		[]Event{ev(Start, "a", "anna", 10), held(ev(Interim, "a", "anna", 13, ip), 3), ev(Stop, "a", "anna", 30, ip)},
		[]string{"anna 192.0.2.1/32 13~..30"}},
	{"a session that comes back to its first address",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Interim, "a", "anna", 20, ip2), ev(Interim, "a", "anna", 40, ip), ev(Stop, "a", "anna", 50, ip)},
		[]string{"anna 192.0.2.1/32 10..20~", "anna 192.0.2.2/32 20~..40~", "anna 192.0.2.1/32 40~..50"}},
	{"contradicting reports are kept",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Stop, "a", "anna", 60, ip), ev(Start, "b", "bo", 50, ip), ev(Stop, "b", "bo", 90, ip)},
		[]string{"anna 192.0.2.1/32 10..60", "bo 192.0.2.1/32 50..90"}},
	{"retransmissions dated a little later are the same report",
		[]Event{ev(Start, "a", "anna", 10, ip), ev(Start, "a", "anna", 12, ip), ev(Stop, "a", "anna", 30, ip), ev(Stop, "a", "anna", 33, ip)},
		[]string{"anna 192.0.2.1/32 10..30"}},
	{"a doubtful time makes its end inferred",
		[]Event{doubtful(ev(Start, "a", "anna", 10, ip)), doubtful(ev(Stop, "a", "anna", 30, ip))},
		[]string{"anna 192.0.2.1/32 10~..30~"}},
	{"several links of one subscriber hold the address together",
		[]Event{grouped(ev(Start, "a", "anna", 10, ip)), grouped(ev(Start, "b", "anna", 20, ip)), grouped(ev(Stop, "b", "anna", 30, ip))},
		[]string{"anna 192.0.2.1/32 10..-", "anna 192.0.2.1/32 20..30"}},
	{"the name comes with a later message",
		[]Event{ev(Start, "a", "", 10, ip), ev(Interim, "a", "anna", 20, ip)},
		[]string{"anna 192.0.2.1/32 10..-"}},
}

func TestEventsInAnyOrderAnyNumberOfTimes(t *testing.T) {
	for _, c := range inAnyOrder {
		t.Run(c.name, func(t *testing.T) {
			permutations(len(c.events), func(order []int) {
				b := openTest(t, t.TempDir(), Options{})
				for _, i := range order {
					apply(t, b, c.events[i])
				}
				got := b.everything()
				want(t, "in some order", got, c.want...)
				apply(t, b, c.events...)
				want(t, "with each event twice", b.everything(), c.want...)
				want(t, "read back", NewReader(got, ReaderOptions{}).everything(), c.want...)
				if t.Failed() {
					t.Fatalf("order %v", order)
				}
				b.Close()
			})
		})
	}
}

func doubtful(e Event) Event { e.Doubtful = true; return e }

func grouped(e Event) Event { e.Group = "bundle"; return e }

func (r *Reader) everything() []session.Binding {
	var out []session.Binding
	for list := range r.idx.all() {
		for i := range list {
			out = append(out, list[i].binding())
		}
	}
	return out
}

func TestAtChooses(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	static := ev(Start, "s", "house", 0, "198.51.100.0/24")
	block := ev(Start, "p", "bo", 0)
	block.Leases = []Lease{{Kind: IPv4Address, Prefix: netip.MustParsePrefix("198.51.100.7/32"), FirstPort: 1000, LastPort: 1999}}
	apply(t, b, static, block,
		ev(Start, "a", "anna", 10, "198.51.100.1"), ev(Stop, "a", "anna", 20, "198.51.100.1"),
		ev(Start, "x", "xenia", 10, "2001:db8:0:100::/56"), ev(Start, "y", "yrsa", 10, "2001:db8:0:101::/64"))
	for _, c := range []struct {
		name, addr string
		port       uint16
		at         float64
		want       string
	}{
		{"the longest prefix", "198.51.100.1", 0, 15, "anna"},
		{"the shorter one when the longest does not hold at that time", "198.51.100.1", 0, 25, "house"},
		{"just before the end", "198.51.100.1", 0, 19.999999, "anna"},
		{"the end is not included", "198.51.100.1", 0, 20, "house"},
		{"the start is included", "198.51.100.1", 0, 10, "anna"},
		{"inside the range of ports", "198.51.100.7", 1999, 15, "bo"},
		{"outside the range of ports", "198.51.100.7", 2000, 15, "house"},
		{"a framed prefix inside a delegated one", "2001:db8:0:101::9", 53, 15, "yrsa"},
		{"a delegated prefix", "2001:db8:0:1ff::9", 53, 15, "xenia"},
		{"an address nobody has", "203.0.113.1", 0, 15, ""},
		{"a time before all", "198.51.100.1", 0, -5, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if x, ok := b.At(addr(c.addr), c.port, sec(c.at)); ok {
				got = x.Subscriber()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			rgot := ""
			if x, ok := NewReader(b.everything(), ReaderOptions{}).At(addr(c.addr), c.port, sec(c.at)); ok {
				rgot = x.Subscriber()
			}
			if rgot != c.want {
				t.Errorf("reader: got %q, want %q", rgot, c.want)
			}
		})
	}
}

func TestAllAtShowsEveryCandidateAndCertainJudgesThem(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	const ip = "192.0.2.1"
	apply(t, b,
		ev(Start, "a", "anna", 10, ip), ev(Stop, "a", "anna", 20, ip),
		ev(Start, "b", "bo", 21, ip), ev(Stop, "b", "bo", 40, ip),
		ev(Start, "c", "carl", 35, ip), ev(Stop, "c", "carl", 50, ip),
		ev(Start, "d", "dora", 60, ip))
	for _, c := range []struct {
		name     string
		from, to float64
		n        int
		certain  bool
	}{
		{"one holder", 12, 14, 1, true},
		{"the time error reaches the next holder", 19, 21, 2, false},
		{"the time error reaches a gap", 19, 20.5, 1, false},
		{"two at once", 36, 36, 2, false},
		{"still in force", 70, 70, 1, false},
		{"nobody", 55, 56, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, all := range [][]session.Binding{
				b.AllOn(addr(ip), 0, 0, sec(c.from), sec(c.to)),
				NewReader(b.everything(), ReaderOptions{}).AllOn(addr(ip), 0, 0, sec(c.from), sec(c.to)),
			} {
				if len(all) != c.n || Certain(all, sec(c.from), sec(c.to)) != c.certain {
					t.Errorf("%d candidates, certain %v:\n%s", len(all), Certain(all, sec(c.from), sec(c.to)), show(all))
				}
			}
		})
	}
	if s := b.Stats(); s.Contradictions != 1 || s.InForce != 1 || s.Remembered != 4 {
		t.Errorf("stats: %+v", s)
	}
}

func TestInvalidEventsAreRefusedWholeAndWithoutTheirData(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	good := ev(Start, "a", "anna", 10, "192.0.2.1")
	for name, change := range map[string]func(*Event){
		"no kind":         func(e *Event) { e.Kind = 0 },
		"internal kind":   func(e *Event) { e.Kind = kindCut },
		"no source":       func(e *Event) { e.NAS = "" },
		"no session":      func(e *Event) { e.Session = "" },
		"no time":         func(e *Event) { e.At = 0 },
		"time too great":  func(e *Event) { e.At = math.MaxInt64 },
		"negative length": func(e *Event) { e.Held = -1 },
		"text too long":   func(e *Event) { e.Subscriber = strings.Repeat("anna", 300) },
		"invalid prefix":  func(e *Event) { e.Leases = []Lease{{Kind: IPv4Address}} },
		"ports reversed":  func(e *Event) { e.Leases[0].FirstPort, e.Leases[0].LastPort = 2, 1 },
		"too many leases": func(e *Event) { e.Leases = make([]Lease, maxLeases+1) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := ev(Start, "b", "secret-name", 10, "192.0.2.99")
			change(&bad)
			err := b.Apply(context.Background(), []Event{good, bad})
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			if s := err.Error(); strings.Contains(s, "secret") || strings.Contains(s, "192.0.2") || strings.Contains(s, "anna") {
				t.Errorf("the error tells data: %s", s)
			}
		})
	}
	if got := b.everything(); len(got) != 0 {
		t.Errorf("something was taken: %s", show(got))
	}
}

func TestSourceKeysOfTwoSourcesDiffer(t *testing.T) {
	a := Event{Source: session.SourceRADIUS, NAS: "x/y", Session: "z"}
	b := Event{Source: session.SourceRADIUS, NAS: "x", Session: "y/z"}
	c := Event{Source: session.SourceRADIUS, NAS: "x%2Fy", Session: "z"}
	d := Event{Source: session.SourceDHCP, NAS: "x/y", Session: "z"}
	keys := map[string]bool{a.SourceKey(): true, b.SourceKey(): true, c.SourceKey(): true, d.SourceKey(): true}
	if len(keys) != 4 {
		t.Errorf("keys: %v", keys)
	}
}

func TestEndedBindingsLeaveMemoryAndLateEventsDoNotReviveThem(t *testing.T) {
	clock, sink := &testClock{}, &testSink{}
	clock.set(100)
	b := openTest(t, t.TempDir(), Options{Clock: clock.Now, Sink: sink, Retain: time.Hour})
	const ip, p = "192.0.2.1", "2001:db8::/56"
	start := ev(Start, "a", "anna", 10, ip)
	// Bo's IPv4 address goes to anna, his prefix stays: that he lost the
	// address must outlive the memory of anna.
	apply(t, b, ev(Start, "b", "bo", 5, ip, p), start, ev(Stop, "a", "anna", 20, ip))
	flush := func(at float64) {
		clock.set(at)
		if err := b.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	flush(101)
	flush(3000)
	if _, ok := b.At(addr(ip), 0, sec(15)); !ok {
		t.Error("forgotten too early")
	}
	flush(4000)
	want(t, "an hour later", b.everything(), "bo 192.0.2.1/32 5..10~", "bo 2001:db8::/56 5..-")
	apply(t, b, ev(Interim, "b", "bo", 3999, p, "192.0.2.9"))
	want(t, "a report of bo, with anna forgotten", b.everything(),
		"bo 192.0.2.1/32 5..10~", "bo 2001:db8::/56 5..-", "bo 192.0.2.9/32 3999~..-")
	apply(t, b, ev(Stop, "b", "bo", 3999.5, "192.0.2.9"), ev(Start, "b2", "bo", 3999.6, p))
	apply(t, b, start)
	want(t, "after a late repetition", b.InForce(), "bo 2001:db8::/56 3999.6..-")
	flush(4001)
	want(t, "the sealed record", NewReader(sink.got(), ReaderOptions{}).AllOn(addr(ip), 0, 0, sec(12), sec(19)), "anna 192.0.2.1/32 10..20")
	if s := b.Stats(); s.Late != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestFactsOfOneSessionAreBounded(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	for i := range 3 * maxFacts {
		name := string(rune('a' + i%26))
		apply(t, b, ev(Start, "0", name, float64(i*10), "192.0.2.1"))
	}
	for _, k := range b.all() {
		if n := len(k.look().facts); n > maxFacts {
			t.Errorf("%d facts", n)
		}
	}
	if s := b.Stats(); s.Crowded == 0 || s.InForce != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestAtDoesNotAllocate(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	apply(t, b, ev(Start, "s", "house", 0, "198.51.100.0/24"), ev(Start, "a", "anna", 10, "198.51.100.1"), ev(Stop, "a", "anna", 20, "198.51.100.1"))
	a := addr("198.51.100.1")
	for _, at := range []int64{sec(15), sec(30), sec(-1)} {
		if n := testing.AllocsPerRun(100, func() { b.At(a, 1, at) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// TestOfTwoSubscribersThatOneSessionNamesAtOneMomentTheLaterHolds has a report of
// the second of the log-on name another: in the book, and read back from what was
// handed over.
func TestOfTwoSubscribersThatOneSessionNamesAtOneMomentTheLaterHolds(t *testing.T) {
	for _, c := range [][2]string{{"anna", "bo"}, {"bo", "anna"}} {
		sink := &testSink{}
		b := openTest(t, t.TempDir(), Options{Sink: sink})
		tell := func(k Kind, who string, at float64) {
			t.Helper()
			e := Event{Kind: k, At: sec(at), Source: session.SourceRADIUS, NAS: "nas1", Session: "s", Subscriber: who,
				Leases: []Lease{{Kind: IPv4Address, Prefix: netip.MustParsePrefix("10.0.0.1/32")}}}
			if err := errors.Join(b.Apply(t.Context(), []Event{e}), b.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		tell(Start, c[0], 100)
		tell(Interim, c[1], 100)
		tell(Stop, c[1], 500)
		for where, at := range map[string]Bindings{"in the book": b, "read back": NewReader(sink.got(), ReaderOptions{})} {
			list := at.AllOn(session.AddrFrom(netip.MustParseAddr("10.0.0.1")), 0, 65535, sec(101), sec(499))
			if len(list) != 1 || list[0].Subscriber != c[1] || list[0].From != sec(100) || list[0].To != sec(500) {
				t.Errorf("%s, %v: %+v", where, c, list)
			}
		}
	}
}
