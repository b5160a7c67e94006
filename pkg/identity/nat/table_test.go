package nat

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

const (
	anna   = "100.64.0.1:4000"
	bo     = "100.64.0.2:4000"
	public = "192.0.2.1:40000"
)

func TestTheTranslationThatHeldAtTheTimeNames(t *testing.T) {
	late := func(c change, doubt float64) change { c.doubt = int64(doubt * 1e9); return c }
	for _, c := range []struct {
		name     string
		changes  []change
		from, to float64
		want     string // inside, "" for none, "two" for ambiguous
	}{
		{"none", nil, 1, 2, ""},
		{"one that goes on", []change{begins(of(anna, public, 1), 0)}, 1, 2, anna},
		{"one that has ended", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 100)}, 1, 2, anna},
		{"one that had ended long before", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 5)}, 10, 11, ""},
		{"one that begins long after", []change{begins(of(anna, public, 1), 20)}, 10, 11, ""},
		{"heard of a little after its first packet", []change{late(begins(of(anna, public, 1), 1.3), 0.4)}, 1, 1, anna},
		{"the first of two", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 10), begins(of(bo, public, 2), 10.001)}, 1, 3, anna},
		{"the second of two, at once", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 10), begins(of(bo, public, 2), 10.001)}, 10.002, 14, bo},
		{"a packet on the seam of two", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 10), begins(of(bo, public, 2), 10.001)}, 10.002, 10.002, "two"},
		{"the second of two, each heard of late", []change{
			begins(of(anna, public, 1), 0), late(ends(of(anna, public, 1), 10.9), 1), late(begins(of(bo, public, 2), 11), 1),
		}, 10.2, 10.4, "two"},
		{"one session over both", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 10), begins(of(bo, public, 2), 11)}, 5, 20, "two"},
		{"one session over two of the same subscriber", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 1), 10), begins(of(anna, public, 2), 11)}, 5, 20, anna},
		{"an end that was missed", []change{begins(of(anna, public, 1), 0), begins(of(bo, public, 2), 30)}, 31, 35, bo},
		{"only its end was heard: it may have been another before", []change{late(ends(of(anna, public, 1), 10), 0.1)}, 1, 3, "two"},
		{"its end tells when it began", []change{begins(of(anna, public, 1), 7), {kind: ended, Translation: of(anna, public, 1), at: sec(10), start: sec(1)}}, 1, 3, anna},
		{"the end of another entry ends nothing", []change{begins(of(anna, public, 1), 0), ends(of(anna, public, 9), 2)}, 5, 6, anna},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(TableOptions{})
			table.apply(c.changes, sec(50))
			s := seen(public, c.from, c.to)
			inside, port, a := table.Find(s)
			got := map[Answer]string{Unknown: "", Ambiguous: "two"}[a]
			if a == Found {
				s.Inside, s.InsidePort = inside, port
				got = s.InsideEnd()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			balanced(t, table)
		})
	}
}

func TestASessionThatDoesNotTellItsFarEndIsFoundByItsOwn(t *testing.T) {
	table := NewTable(TableOptions{FarUnknown: true})
	other := of(bo, public, 2)
	other.Far = addr("198.51.100.77")
	table.apply([]change{begins(of(anna, public, 1), 0)}, sec(1))
	s := seen(public, 1, 2)
	s.Responder, s.ResponderPort, s.Flags = session.Addr{}, 0, session.LocalOnly
	if inside, port, a := table.Find(s); a != Found || inside != addr("100.64.0.1") || port != 4000 {
		t.Error(inside, port, a)
	}
	table.apply([]change{begins(other, 1.5)}, sec(2))
	if _, _, a := table.Find(s); a != Ambiguous {
		t.Errorf("two with one public end: %v", a)
	}
	table.apply([]change{ends(other, 3)}, sec(10+360+3600))
	if _, _, a := table.Find(s); a != Found {
		t.Errorf("when one is forgotten: %v", a)
	}
}

func TestEchoesAreFoundWithoutTheirIdentifier(t *testing.T) {
	table := NewTable(TableOptions{})
	ping := Translation{Proto: session.ICMP, Inside: addr("100.64.0.1"), InsidePort: 77, Public: addr("192.0.2.1"), PublicPort: 1077, Far: addr("198.51.100.9")}
	s := seen(public, 1, 2)
	s.Proto, s.InitiatorPort, s.ResponderPort = session.ICMP, 0, 0
	table.apply([]change{begins(ping, 0)}, sec(1))
	if inside, port, a := table.Find(s); a != Found || inside != ping.Inside || port != 0 {
		t.Error(inside, port, a)
	}
	again := ping
	again.InsidePort, again.PublicPort = 78, 1078
	table.apply([]change{begins(again, 0.5)}, sec(1))
	if _, _, a := table.Find(s); a != Found {
		t.Error("two of one subscriber", a)
	}
	again.Inside, again.PublicPort = addr("100.64.0.2"), 1079
	table.apply([]change{begins(again, 0.5)}, sec(1))
	if _, _, a := table.Find(s); a != Ambiguous {
		t.Error("two subscribers that ask one host", a)
	}
}

func TestTheTableIsBoundedAndSaysWhatItForgot(t *testing.T) {
	table := NewTable(TableOptions{Max: 1024, Keep: func(uint8) time.Duration { return time.Minute }})
	make := func(i int) Translation {
		x := of(anna, public, uint32(i))
		x.PublicPort, x.InsidePort = uint16(i), uint16(i)
		return x
	}
	for i := 1; i <= 1500; i++ {
		table.apply([]change{begins(make(i), 0)}, sec(1))
	}
	s := table.Stats()
	if s.Open != 1024 || s.Refused != 476 || s.ForgottenEarly != 0 {
		t.Errorf("full of what goes on: %+v", s)
	}
	balanced(t, table)
	for i := 1; i <= 600; i++ {
		table.apply([]change{ends(make(i), 2)}, sec(2))
	}
	for i := 2001; i <= 2100; i++ {
		table.apply([]change{begins(make(i), 3)}, sec(3))
	}
	if s = table.Stats(); s.ForgottenEarly != 100 || s.Open != 1024-600+100 || s.Kept != 500 {
		t.Errorf("full of what has ended: %+v", s)
	}
	table.apply(nil, sec(100))
	if s = table.Stats(); s.Kept != 0 || s.Forgotten != 500 {
		t.Errorf("after a minute: %+v", s)
	}
	balanced(t, table)
	port := fmt.Sprintf("192.0.2.1:%d", 700)
	if _, _, a := table.Find(seen(port, 1, 90)); a != Found {
		t.Error("one that goes on was forgotten")
	}
}

func TestAListingEndsWhatItDoesNotHave(t *testing.T) {
	table := NewTable(TableOptions{})
	a, b, x := of(anna, public, 1), of(bo, "192.0.2.1:40001", 2), of(bo, "192.0.2.1:40002", 3)
	foreign := begins(of(anna, "192.0.2.9:1", 0), 0)
	foreign.from = true
	table.apply([]change{begins(a, 0), begins(b, 0), foreign}, sec(1))
	table.startListing()
	table.apply([]change{
		{kind: listed, Translation: a, at: sec(20), doubt: 20e9},
		begins(x, 20), ends(x, 20.1), {kind: listed, Translation: x, at: sec(20.2)}, // listed before its end was heard of
	}, sec(20))
	if stale, unsure := table.endListing(sec(1), sec(21)); stale != 1 || unsure != 0 {
		t.Errorf("%d stale, %d unsure", stale, unsure)
	}
	if s := table.Stats(); s.Open != 2 || s.Kept != 2 || s.Begun != 4 {
		t.Errorf("%+v", s)
	}
	if _, _, got := table.Find(seen("192.0.2.1:40001", 1, 2)); got != Found {
		t.Error("what a listing ended is not found", got)
	}
	balanced(t, table)
}

func TestPiecesAreTrueEachByItself(t *testing.T) {
	table := NewTable(TableOptions{Pieces: true, MaxPieces: 3})
	a := of(anna, public, 1)
	table.apply([]change{begins(a, 0)}, sec(1))
	if p := table.Pieces(false, sec(5)); len(p) != 0 {
		t.Errorf("it goes on: %v", p)
	}
	first := table.Pieces(true, sec(10))
	table.apply([]change{{kind: ended, Translation: a, at: sec(15), start: sec(0)}}, sec(16))
	second := table.Pieces(false, sec(20))
	if len(first) != 1 || len(second) != 1 {
		t.Fatalf("%v, %v", first, second)
	}
	if p := first[0]; p.From != sec(0) || p.To != sec(10) || p.Certainty != session.ToInferred {
		t.Errorf("%+v", p)
	}
	if p := second[0]; p.From != sec(10) || p.To != sec(15) || p.Certainty != session.FromInferred {
		t.Errorf("%+v", p)
	}
	b := second[0].Binding("gw")
	if b.Via.String() != "100.64.0.1" || b.FirstPort != 40000 || b.LastPort != 40000 || b.Prefix.String() != "192.0.2.1/32" || b.Source != session.SourceNAT {
		t.Errorf("%+v", b)
	}
	for i := range 5 {
		x := of(anna, fmt.Sprintf("192.0.2.1:%d", i+1), uint32(i))
		table.apply([]change{begins(x, 20), ends(x, 21)}, sec(22))
	}
	if s := table.Stats(); s.Waiting != 3 || s.Lost != 2 {
		t.Errorf("%+v", s)
	}
	balanced(t, table)
}

// TestAModelAgreesWithTheTable lets few subscribers share few ports, with events
// that are told late, and compares each answer with what was so.
func TestAModelAgreesWithTheTable(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		table := NewTable(TableOptions{Keep: func(uint8) time.Duration { return time.Hour }})
		type life struct {
			t        Translation
			from, to float64
		}
		var lives []life
		var open = map[uint16]int{}
		now := 0.0
		for id := uint32(1); id < 400; id++ {
			now += r.Float64() * 0.3
			port := uint16(1 + r.IntN(8))
			doubt := r.Float64() * 0.2
			heard := func(c change) change { c.at, c.doubt = sec(now+doubt*r.Float64()), int64(doubt*1e9); return c }
			if i, ok := open[port]; ok {
				lives[i].to = now
				delete(open, port)
				if r.IntN(10) > 0 { // or it is lost
					table.apply([]change{heard(ends(lives[i].t, 0))}, sec(now))
				}
				continue
			}
			x := of(fmt.Sprintf("100.64.0.%d:%d", 1+r.IntN(5), port), fmt.Sprintf("192.0.2.1:%d", port), id)
			open[port] = len(lives)
			lives = append(lives, life{x, now, 1e9})
			table.apply([]change{heard(begins(x, 0))}, sec(now))
		}
		right := 0
		for _, l := range lives {
			to := min(l.to, now)
			a := l.from + (to-l.from)*r.Float64()
			b := a + (to-a)*r.Float64()
			inside, _, got := table.Find(seen(fmt.Sprintf("192.0.2.1:%d", l.t.PublicPort), a, b))
			if got == Found && inside != l.t.Inside {
				t.Fatalf("seed %d: a session from %v to %v of %v is said to be of %v", seed, a, b, l, inside)
			}
			if got == Found {
				right++
			}
		}
		if right < len(lives)/2 {
			t.Errorf("seed %d: only %d of %d are named", seed, right, len(lives))
		}
		balanced(t, table)
	}
}
