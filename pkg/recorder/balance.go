package recorder

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/probe"
)

// ErrNotBalanced is returned when counters do not add up: something was lost
// or counted twice, and nobody knows what. It is a fault of edgelog itself.
var ErrNotBalanced = errors.New("counters do not add up")

// Sum is a balance of counters: what came in, on the left, and all that became
// of it, on the right.
type Sum struct {
	Text  string `json:"text"`
	Left  uint64 `json:"left"`
	Right uint64 `json:"right"`

	// Moving is by how much the two may differ because things went on while
	// they were counted; 0: not at all.
	Moving uint64 `json:"moving,omitempty"`
}

// Holds reports whether the balance is even, but for what moved meanwhile.
func (s *Sum) Holds() bool { return max(s.Left, s.Right)-min(s.Left, s.Right) <= s.Moving }

// Fault says by how much the balance is not even, "" when it holds.
func (s *Sum) Fault() string {
	switch {
	case s.Holds():
		return ""
	case s.Left > s.Right:
		return fmt.Sprintf("%d unaccounted for", s.Left-s.Right)
	}
	return fmt.Sprintf("%d too many on the right", s.Right-s.Left)
}

// Balance checks each sum of the status. The error is ErrNotBalanced and says
// which sums do not add up and by how much; it names nobody.
func (s *Status) Balance() error {
	var wrong []string
	for i := range s.Sums {
		if fault := s.Sums[i].Fault(); fault != "" {
			wrong = append(wrong, s.Sums[i].Text+": "+fault)
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNotBalanced, strings.Join(wrong, "; "))
}

// Settled reports whether each sum is even to the last one: so it is when
// nothing moves.
func (s *Status) Settled() bool {
	for i := range s.Sums {
		if s.Sums[i].Left != s.Sums[i].Right {
			return false
		}
	}
	return true
}

// sums puts together all balances of a status.
func (s *Status) sums() []Sum {
	var out []Sum
	if s.Probe != nil {
		out = probeSums(s.Probe)
	}
	translated := ""
	if s.NAT != nil && s.NAT.Access {
		translated = fmt.Sprintf(" + translations %d", s.Bindings.Translations)
	}
	n, st, b, l := &s.Sessions, &s.Store, &s.Bindings, &s.Ledger
	out = append(out, Sum{
		Text: fmt.Sprintf("writer: collected %d = stored %d + given back %d + waiting %d + expired %d", n.Collected, n.Stored, n.Returned, n.Waiting, n.Expired),
		Left: n.Collected, Right: n.Stored + n.Returned + n.Waiting + n.Expired,
	}, Sum{
		Text: fmt.Sprintf("store: records %d = found at start %d + sessions %d + access records %d + register %d + calls %d + mail %d + to be stored again %d",
			st.Counted, st.AtStart, n.Stored, b.Records, s.Register.Records, s.Imports.Calls, s.Imports.Mail, st.Again),
		Left: st.Counted, Right: st.AtStart + n.Stored + b.Records + s.Register.Records + s.Imports.Calls + s.Imports.Mail + st.Again,
	}, Sum{
		Text: fmt.Sprintf("access records: sealed %d = new or changed %d + in force at the start of a day %d%s + handed over again %d",
			b.Records, b.Changed, b.Snapshot, translated, b.Again),
		Left: b.Records, Right: b.Changed + b.Snapshot + b.Translations + b.Again,
	}, Sum{
		Text: fmt.Sprintf("ledger: noted %d = written %d + waiting %d + lost %d", l.Noted, l.Written, l.Waiting, l.Lost),
		Left: l.Noted, Right: l.Written + l.Waiting + l.Lost,
	})
	if s.RADIUS != nil {
		out = append(out, s.RADIUS.sum())
		if x := s.RADIUS.RadSec; x != nil {
			out = append(out, connectionSum(x))
		}
	}
	if s.NAT != nil {
		out = append(out, s.NAT.sums()...)
	}
	if s.DHCP != nil {
		out = append(out, s.DHCP.sums()...)
	}
	return out
}

// probeSums returns the balances that a probe's counters must keep.
func probeSums(p *probe.Status) []Sum {
	t := &p.Table
	out := []Sum{{
		Text:  fmt.Sprintf("sessions: started %d + reopened %d + carried %d = stored %d + open %d + closed %d", t.Started, t.Reopened, t.Carried, t.Stored, t.Open, t.Closed),
		Left:  t.Started + t.Reopened + t.Carried,
		Right: t.Stored + t.Open + t.Closed, Moving: t.Moving,
	}, {
		Text:  fmt.Sprintf("samples: taken %d = stored %d + waiting %d + lost %d", t.Sampled, t.SamplesStored, t.SamplesWaiting, t.SamplesLost),
		Left:  t.Sampled,
		Right: t.SamplesStored + t.SamplesWaiting + t.SamplesLost, Moving: t.Moving,
	}}
	for i := range p.Uplinks {
		u := &p.Uplinks[i]
		out = append(out, packetSum(u.Name+" in", &u.In), packetSum(u.Name+" out", &u.Out))
	}
	return out
}

func packetSum(where string, c *probe.PacketCounter) Sum {
	s := Sum{Left: c.Seen, Moving: c.Moving}
	for _, n := range c.Outcomes {
		s.Right += n
	}
	parts := strings.TrimSpace(c.Sum())
	if parts == "" {
		parts = "0"
	}
	s.Text = fmt.Sprintf("packets %s: seen %d = %s", where, c.Seen, parts)
	return s
}

// sum is the balance that the server's counters must keep.
func (s *RADIUSStatus) sum() Sum {
	return Sum{
		Text: fmt.Sprintf("accounting: received %d = answered %d + answered again %d + dropped %d + waiting %d",
			s.Received, s.Answered, s.Repeated, s.drops(), s.InFlight),
		Left: s.Received, Right: s.ends(), Moving: s.Moving,
	}
}

// connectionSum is the balance of RADIUS over TLS. Its counters are read at one
// moment.
func connectionSum(x *radius.StreamStats) Sum {
	s := Sum{Left: x.Accepted, Right: x.Open}
	var refused, ended uint64
	for _, n := range x.Refused {
		refused += n
	}
	for _, n := range x.Ended {
		ended += n
	}
	s.Right += refused + ended
	s.Text = fmt.Sprintf("radius over tls: connections %d = open %d + refused %d + ended %d", x.Accepted, x.Open, refused, ended)
	return s
}

func (s *RADIUSStatus) drops() (n uint64) {
	for _, d := range s.Dropped {
		n += d
	}
	return n
}

// ends is what became of all that was received.
func (s *RADIUSStatus) ends() uint64 {
	return s.Answered + s.Repeated + s.drops() + uint64(max(s.InFlight, 0))
}

// steadyStats reads counters that others go on counting with: when they are not
// even, once more, between two readings that say how much may have moved.
func steadyStats(read func() radius.Stats) RADIUSStatus {
	before := RADIUSStatus{Stats: read()}
	if before.Received == before.ends() {
		return before
	}
	s, after := RADIUSStatus{Stats: read()}, RADIUSStatus{Stats: read()}
	s.Moving = after.counted() - before.counted() + inTheirHands
	return s
}

// inTheirHands is more than the requests that goroutines of a RADIUS server
// are in the middle of counting, at any moment.
const inTheirHands = 64

// counted is the sum of all that only grows.
func (s *RADIUSStatus) counted() uint64 { return s.Received + s.Answered + s.Repeated + s.drops() }
