package nat

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) session.Addr { return session.AddrFrom(netip.MustParseAddr(s)) }

// noon is a time; sec is so many seconds after it, in ns.
var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func sec(s float64) int64 { return noon.UnixNano() + int64(s*1e9) }

// of makes a translation of TCP with one far end.
func of(inside, public string, id uint32) Translation {
	in, out := netip.MustParseAddrPort(inside), netip.MustParseAddrPort(public)
	return Translation{
		Proto: session.TCP, Inside: session.AddrFrom(in.Addr()), InsidePort: in.Port(),
		Public: session.AddrFrom(out.Addr()), PublicPort: out.Port(), Far: addr("198.51.100.9"), FarPort: 443, ID: id,
	}
}

func begins(t Translation, at float64) change {
	return change{kind: began, Translation: t, at: sec(at)}
}

func ends(t Translation, at float64) change {
	return change{kind: ended, Translation: t, at: sec(at)}
}

// seen is a session of a public end with the same far end.
func seen(public string, from, to float64) *session.Session {
	p := netip.MustParseAddrPort(public)
	return &session.Session{
		Start: sec(from), End: sec(to), Proto: session.TCP, Local: session.SideInitiator,
		Initiator: session.AddrFrom(p.Addr()), InitiatorPort: p.Port(), Responder: addr("198.51.100.9"), ResponderPort: 443,
	}
}

// balanced fails when the counters of a table do not add up.
func balanced(t *testing.T, table *Table) {
	t.Helper()
	s := table.Stats()
	if s.Begun != uint64(s.Open)+uint64(s.Kept)+s.Forgotten+s.ForgottenEarly || s.Pieces != s.Taken+uint64(s.Waiting) {
		t.Errorf("not balanced: %+v", s)
	}
}
