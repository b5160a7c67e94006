package block

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// asks says in the plainest way whether s is asked for.
func asks(q Query, s *session.Session) bool {
	if s.Start/1e6 > q.To/1e6 || s.End/1e6 < q.From/1e6 || q.Subscriber != "" && s.Subscriber != q.Subscriber {
		return false
	}
	end := func(p netip.Prefix, want uint16, a session.Addr, port uint16) bool {
		return !p.IsValid() || p.Contains(a.Netip()) && (want == 0 || want == port)
	}
	fits := func(l session.Addr, lp uint16, r session.Addr, rp uint16) bool {
		if s.Flags&session.LocalOnly != 0 && q.Remote.IsValid() {
			return false
		}
		return end(q.Address, q.Port, l, lp) && end(q.Remote, q.RemotePort, r, rp)
	}
	if a, port, far, farPort := s.Inside, s.InsidePort, s.Responder, s.ResponderPort; a != (session.Addr{}) && q.Address.IsValid() {
		if s.Local == session.SideResponder {
			far, farPort = s.Initiator, s.InitiatorPort
		}
		if fits(a, port, far, farPort) {
			return true
		}
	}
	out := fits(s.Initiator, s.InitiatorPort, s.Responder, s.ResponderPort)
	in := fits(s.Responder, s.ResponderPort, s.Initiator, s.InitiatorPort)
	switch s.Local {
	case session.SideInitiator:
		return out
	case session.SideResponder:
		return in
	}
	return out || in && s.Flags&session.LocalOnly == 0
}

func match(t testing.TB, s *Sessions, q Query) []session.Session {
	t.Helper()
	out, err := s.Match(nil, q)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// randomQuery asks for what x is, in one of the ways that users ask.
func randomQuery(r *rand.Rand, x *session.Session) Query {
	q := Query{From: x.Start - r.Int64N(3e9), To: x.Start + r.Int64N(3e9)}
	l, lp, ok := x.LocalEnd()
	if !ok {
		l, lp = x.Initiator, x.InitiatorPort
	}
	far, fp, _ := x.RemoteEnd()
	a, f := Exactly(l.Netip()), Exactly(far.Netip())
	if r.IntN(3) == 0 {
		a, _ = a.Addr().Prefix(a.Bits() - 8)
	}
	switch r.IntN(6) {
	case 0:
		q.Address = a
	case 1:
		q.Address, q.Port = a, lp
	case 2:
		q.Remote, q.To = f, q.To+60e9
	case 3:
		q.Remote, q.RemotePort = f, fp
	case 4:
		q.Subscriber = x.Subscriber
	case 5:
		q.Address, q.Remote, q.RemotePort, q.Subscriber = a, f, fp, x.Subscriber
	}
	return q
}

func TestTheEdgesOfTheWindow(t *testing.T) {
	base := int64(1_795_219_200_000_000_000)
	s := session.Session{Start: base + 1_500_000, End: base + 9_700_000, Local: session.SideInitiator, Initiator: v4(1), Subscriber: "s"}
	b, err := NewDecoder().Sessions(encode(t, []session.Session{s}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what     string
		from, to int64
		want     int
	}{
		{"inside", 3e6, 4e6, 1},
		{"around", 0, 20e6, 1},
		{"ends in the millisecond of the start", 0, 1_400_000, 1},
		{"ends the millisecond before the start", 0, 999_999, 0},
		{"begins at the end", 9_700_000, 12e6, 1},
		{"begins after the end, in its millisecond", 9_900_000, 12e6, 1},
		{"begins the millisecond after the end", 10e6, 12e6, 0},
	} {
		if got := match(t, b, Query{Subscriber: "s", From: base + c.from, To: base + c.to}); len(got) != c.want {
			t.Errorf("%s: %d found", c.what, len(got))
		}
	}
	if got := match(t, b, Query{Address: netip.MustParsePrefix("::/0"), From: base, To: base + 20e6}); len(got) != 0 {
		t.Error("an IPv6 prefix holds an IPv4 address")
	}
	if got := match(t, b, Query{Address: netip.MustParsePrefix("0.0.0.0/0"), From: base, To: base + 20e6}); len(got) != 1 {
		t.Error("0.0.0.0/0 does not hold an IPv4 address")
	}
}
