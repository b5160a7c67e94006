package disclose

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

func addr(s string) session.Addr { return session.AddrFrom(netip.MustParseAddr(s)) }

// lived returns a TCP session of an end user behind 10.0.0.1:4000.
func lived(from, to time.Duration) session.Session {
	return session.Session{
		Start: at(from), End: at(to), Proto: session.TCP, Local: session.SideInitiator, EndReason: session.EndFIN,
		Initiator: addr("10.0.0.1"), InitiatorPort: 4000, Responder: addr("192.0.2.9"), ResponderPort: 443,
	}
}

func held(who, prefix string, from, to int64) session.Binding {
	return session.Binding{
		Prefix: netip.MustParsePrefix(prefix), LastPort: 65535, From: from, To: to,
		Subscriber: who, Source: session.SourceRADIUS, SourceKey: "radius/nas/" + who,
	}
}

// match asks about the hour before noon, with bindings known for a day.
func match(q Query, bindings []session.Binding, sessions ...session.Session) []Hit {
	q.Reference, q.From, q.To = "r", at(-time.Hour), at(0)
	m := NewMatcher(&q, identity.NewReader(bindings, identity.ReaderOptions{}), at(-24*time.Hour))
	for i := range sessions {
		m.Add(&sessions[i])
	}
	return m.Hits()
}

func TestWindowTakesEveryOverlap(t *testing.T) {
	tests := []struct {
		name     string
		from, to time.Duration
		want     bool
	}{
		{"inside", -30 * time.Minute, -20 * time.Minute, true},
		{"around it", -2 * time.Hour, time.Hour, true},
		{"ends in its first millisecond", -2 * time.Hour, -time.Hour, true},
		{"ended just before", -2 * time.Hour, -time.Hour - time.Millisecond, false},
		{"starts in its last millisecond", -time.Millisecond, time.Hour, true},
		{"starts when it is over", 0, time.Hour, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := match(Query{Address: netip.MustParseAddr("10.0.0.1")}, nil, lived(tc.from, tc.to))
			if (len(got) == 1) != tc.want {
				t.Errorf("%d hits", len(got))
			}
		})
	}
}

func TestWindowWithFractionsLosesNoSession(t *testing.T) {
	q := Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour) + 999_999, To: at(0)}
	m := NewMatcher(&q, identity.NewReader(nil, identity.ReaderOptions{}), 0)
	s := lived(-2*time.Hour, -time.Hour) // ended within that millisecond, its fraction cut off
	m.Add(&s)
	if len(m.Hits()) != 1 {
		t.Error("a session that may have ended in the window was lost")
	}
}

func TestEndpointsAreTakenFromTheRightSide(t *testing.T) {
	incoming := lived(-time.Minute, 0)
	incoming.Local = session.SideResponder // its end user is 192.0.2.9:443
	nobody := lived(-time.Minute, 0)
	nobody.Local = session.SideUnknown
	local := lived(-time.Minute, 0)
	local.Flags |= session.LocalOnly
	local.Responder, local.ResponderPort = session.Addr{}, 0
	tests := []struct {
		name string
		q    Query
		s    session.Session
		want bool
	}{
		{"the end user's address", Query{Address: netip.MustParseAddr("10.0.0.1")}, lived(-time.Minute, 0), true},
		{"and port", Query{Address: netip.MustParseAddr("10.0.0.1"), Port: port(4000)}, lived(-time.Minute, 0), true},
		{"another port", Query{Address: netip.MustParseAddr("10.0.0.1"), Port: port(4001)}, lived(-time.Minute, 0), false},
		{"the far address is not the end user's", Query{Address: netip.MustParseAddr("192.0.2.9")}, lived(-time.Minute, 0), false},
		{"the far address", Query{Remote: netip.MustParseAddr("192.0.2.9")}, lived(-time.Minute, 0), true},
		{"the far port", Query{Remote: netip.MustParseAddr("192.0.2.9"), Port: port(80)}, lived(-time.Minute, 0), false},
		{"a session from outside", Query{Address: netip.MustParseAddr("192.0.2.9"), Port: port(443)}, incoming, true},
		{"a session from outside by its far side", Query{Remote: netip.MustParseAddr("10.0.0.1")}, incoming, true},
		{"no side known, first end", Query{Address: netip.MustParseAddr("10.0.0.1")}, nobody, true},
		{"no side known, second end", Query{Address: netip.MustParseAddr("192.0.2.9"), Port: port(443)}, nobody, true},
		{"no far side recorded", Query{Address: netip.MustParseAddr("10.0.0.1")}, local, true},
		{"a far side that was not recorded is no address", Query{Remote: netip.MustParseAddr("::")}, local, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := match(tc.q, nil, tc.s); (len(got) == 1) != tc.want {
				t.Errorf("%d hits", len(got))
			}
		})
	}
}

func TestBehindATranslationTheInsideAddressNames(t *testing.T) {
	s := lived(-time.Minute, 0)
	s.Inside, s.InsidePort = addr("100.64.0.5"), 4711
	bindings := []session.Binding{held("anna", "100.64.0.5/32", at(-time.Hour), session.Forever), held("bo", "10.0.0.1/32", at(-time.Hour), session.Forever)}
	port := uint16(4711)
	for name, q := range map[string]Query{
		"subscriber":      {Subscriber: "anna"},
		"inside address":  {Address: netip.MustParseAddr("100.64.0.5")},
		"inside and port": {Address: netip.MustParseAddr("100.64.0.5"), Port: &port},
		"public address":  {Address: netip.MustParseAddr("10.0.0.1")},
	} {
		if got := match(q, bindings, s); len(got) != 1 || got[0].Subscriber != "anna" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := match(Query{Address: netip.MustParseAddr("10.0.0.1"), Port: &port}, bindings, s); len(got) != 0 {
		t.Errorf("found by the public address with the inside port: %+v", got)
	}
	if got := match(Query{Subscriber: "bo"}, bindings, s); len(got) != 0 {
		t.Errorf("named after the public address: %+v", got)
	}
}

func TestASessionWrittenTwiceIsOneAndTheLaterHolds(t *testing.T) {
	open := lived(-time.Minute, -30*time.Second)
	open.Flags |= session.Open
	closed := lived(-time.Minute, -10*time.Second)
	for _, order := range [][]session.Session{{open, closed}, {closed, open}, {closed, closed, open}} {
		got := match(Query{Address: netip.MustParseAddr("10.0.0.1")}, nil, order...)
		if len(got) != 1 || got[0].Flags&session.Open != 0 || got[0].End != closed.End {
			t.Errorf("%+v", got)
		}
	}
	again := closed
	again.Reuse = 1
	if got := match(Query{Address: netip.MustParseAddr("10.0.0.1")}, nil, closed, again); len(got) != 2 {
		t.Errorf("a tuple in use again is another session: %d", len(got))
	}
}

func TestIdentityThatCameLateNamesTheSession(t *testing.T) {
	s := lived(-time.Minute, 0)
	anna := held("anna", "10.0.0.1/32", at(-time.Hour), session.Forever)
	got := match(Query{Subscriber: "anna"}, []session.Binding{anna}, s)
	if len(got) != 1 || got[0].Subscriber != "anna" || got[0].Stored != "" || !got[0].Corrected() {
		t.Fatalf("%+v", got)
	}
	s.Subscriber = "bo" // believed when it was sealed
	for _, who := range []string{"anna", "bo"} {
		got = match(Query{Subscriber: who}, []session.Binding{anna}, s)
		if len(got) != 1 || got[0].Subscriber != "anna" || got[0].Stored != "bo" {
			t.Errorf("asked for %s: %+v", who, got)
		}
	}
	if got := match(Query{Subscriber: "carl"}, []session.Binding{anna}, s); len(got) != 0 {
		t.Errorf("somebody else got %+v", got)
	}
}

func TestWhatTheBookDoesNotKnowLeavesWhatWasSealed(t *testing.T) {
	s := lived(-time.Minute, 0)
	s.Subscriber = "anna"
	if got := match(Query{Subscriber: "anna"}, nil, s); len(got) != 1 || got[0].Corrected() {
		t.Errorf("no binding read: %+v", got)
	}
	over := held("anna", "10.0.0.1/32", at(-2*time.Hour), at(-time.Hour)) // a Stop that came late
	if got := match(Query{Subscriber: "anna"}, []session.Binding{over}, s); len(got) != 1 || got[0].Subscriber != "" || !got[0].Corrected() {
		t.Errorf("a binding that was over: %+v", got)
	}
	old := lived(-48*time.Hour, -time.Minute) // began before the bindings that are read
	old.Subscriber = "anna"
	bo := held("bo", "10.0.0.1/32", at(-72*time.Hour), session.Forever)
	if got := match(Query{Subscriber: "anna"}, []session.Binding{bo}, old); len(got) != 1 || got[0].Corrected() {
		t.Errorf("a session from before: %+v", got)
	}
}

func TestAChangeOfHandsWithinAMillisecondIsDecidedByWhatWasSealed(t *testing.T) {
	s := lived(-time.Minute, 0)
	change := s.Start + 500_000
	list := []session.Binding{
		held("anna", "10.0.0.1/32", at(-time.Hour), change),
		held("bo", "10.0.0.1/32", change, session.Forever),
	}
	for _, who := range []string{"anna", "bo"} {
		s.Subscriber = who
		if got := match(Query{Subscriber: who}, list, s); len(got) != 1 || got[0].Subscriber != who {
			t.Errorf("%s: %+v", who, got)
		}
	}
}

// alike reports whether each of the doubts begins as wanted.
func alike(got []string, want ...string) bool {
	return slices.EqualFunc(got, want, strings.HasPrefix)
}

func TestNoNameThatMayBeWrongStandsWithoutARemark(t *testing.T) {
	s := lived(-10*time.Minute, -time.Minute)
	start, end := s.Start, s.End
	sec := int64(time.Second)
	stopped := held("anna", "10.0.0.1/32", at(-time.Hour), start-sec/2)
	lost := held("anna", "10.0.0.1/32", at(-time.Hour), session.Forever)
	whole := held("anna", "10.0.0.1/32", at(-time.Hour), at(0))
	for _, c := range []struct {
		what, name string
		bindings   []session.Binding
		doubts     []string
		bob        bool // asked for bob, the session is found
	}{
		{"nothing to doubt", "anna", []session.Binding{whole}, nil, false},
		{"passed on in its course", "anna",
			[]session.Binding{held("anna", "10.0.0.1/32", at(-time.Hour), at(-5*time.Minute)), held("bob", "10.0.0.1/32", at(-5*time.Minute), at(0))},
			[]string{"address passed to bob at 2025-03-01T11:55:00.000Z"}, true},
		{"changed hands just before", "bob", []session.Binding{stopped, held("bob", "10.0.0.1/32", start-sec/2, at(0))},
			[]string{"address changed hands within 1s of the start: anna"}, true},
		{"changed hands just after", "anna",
			[]session.Binding{held("anna", "10.0.0.1/32", at(-time.Hour), start+sec/2), held("bob", "10.0.0.1/32", start+sec/2, at(0))},
			[]string{"address changed hands within 1s of the start: bob"}, true},
		{"taken just after by the first", "", []session.Binding{held("bob", "10.0.0.1/32", start+sec/2, at(0))},
			[]string{"address changed hands within 1s of the start: bob"}, true},
		{"changed hands just after the end", "anna",
			[]session.Binding{held("anna", "10.0.0.1/32", at(-time.Hour), end+sec/2), held("bob", "10.0.0.1/32", end+sec/2, at(0))},
			[]string{"address changed hands within 1s of the end: bob"}, false},
		{"changed hands long before and after", "anna",
			[]session.Binding{held("bob", "10.0.0.1/32", at(-time.Hour), start-2*sec), held("anna", "10.0.0.1/32", start-2*sec, end+2*sec),
				held("bob", "10.0.0.1/32", end+2*sec, at(0))}, nil, false},
		{"two at once", "bob", []session.Binding{whole, held("bob", "10.0.0.1/32", at(-50*time.Minute), at(0))},
			[]string{"contradicting sources: anna"}, true},
		{"two at once, the other named", "anna", []session.Binding{whole, held("bob", "10.0.0.1/32", at(-70*time.Minute), at(0))},
			[]string{"contradicting sources: bob"}, true},
		{"no log-off", "anna", []session.Binding{lost}, []string{"still logged on"}, false},
		{"a prefix around it says less", "anna", []session.Binding{whole, held("bob", "10.0.0.0/24", at(-time.Hour), at(0))}, nil, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := match(Query{Address: netip.MustParseAddr("10.0.0.1")}, c.bindings, s)
			if len(got) != 1 || got[0].Subscriber != c.name || !alike(got[0].doubts(), c.doubts...) {
				t.Errorf("%+v", got)
			}
			if got := match(Query{Subscriber: "bob"}, c.bindings, s); (len(got) == 1) != c.bob {
				t.Errorf("asked for bob: %+v", got)
			}
		})
	}
}

func TestANameThatTheBookWasNotAskedForSaysSo(t *testing.T) {
	s := lived(-time.Minute, 0)
	s.Subscriber = "anna"
	if got := match(Query{Subscriber: "anna"}, nil, s); len(got) != 1 || !alike(got[0].doubts(), "name as sealed") {
		t.Errorf("%+v", got)
	}
	old := lived(-48*time.Hour, -time.Minute)
	old.Subscriber = "anna"
	bo := held("bo", "10.0.0.1/32", at(-25*time.Hour), session.Forever)
	got := match(Query{Subscriber: "anna"}, []session.Binding{bo}, old)
	if len(got) != 1 || !alike(got[0].doubts(), "address passed to bo", "name as sealed") {
		t.Errorf("%+v", got)
	}
}

func TestAClockThatMayBeWrongMakesMoreDoubtful(t *testing.T) {
	s := lived(-10*time.Minute, -time.Minute)
	change := s.Start - int64(1500*time.Millisecond)
	book := identity.NewReader([]session.Binding{held("anna", "10.0.0.1/32", at(-time.Hour), change), held("bob", "10.0.0.1/32", change, at(0))}, identity.ReaderOptions{})
	q := &Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour), To: at(0)}
	for _, c := range []struct {
		clock block.Clock
		want  []string
	}{
		{block.Clock{Synchronised: true, MaxErrorMicros: 1000}, nil},
		{block.Clock{Synchronised: true, MaxErrorMicros: 600_000}, []string{"address changed hands within 1.6s of the start: anna"}},
		{block.Clock{MaxErrorMicros: 1000}, []string{"address changed hands within 2s of the start: anna"}},
	} {
		m := NewMatcher(q, book, at(-24*time.Hour))
		m.SetClock(c.clock)
		m.Add(&s)
		if got := m.Hits(); len(got) != 1 || !alike(got[0].doubts(), c.want...) {
			t.Errorf("%+v: %+v", c.clock, got)
		}
	}
}
