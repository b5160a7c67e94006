package disclose

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// translated has a deterministic translation on the shelf, anna behind it, and
// bo, and a session of anna's as it is seen outside.
func translated(t *testing.T, r *gateRoom) (seen session.Session) {
	t.Helper()
	rule := bind("", 10*hour, -minute, on("203.0.113.0/26"))
	rule.Rule, rule.Source, rule.SourceKey = "inside=100.64.0.0/20 outside=203.0.113.0/26 ports=1024-65535 per-host=1008", session.SourceNAT, "nat/rule"
	r.shelf.addBindings(rule, bind("anna", 2*hour, -minute, on("100.64.0.2/32")), bind("bo", 2*hour, -minute, on("100.64.0.3/32")))
	seen = lived(-31*minute, -29*minute)
	seen.Initiator, seen.InitiatorPort = addr("203.0.113.0"), 1024+2*1008+5
	other := seen
	other.InitiatorPort += 1008
	r.shelf.addSessions(seen, other)
	return seen
}

func anHour(change func(*Query)) *Query {
	q := &Query{Reference: "case 7", From: at(-time.Hour), To: at(0)}
	change(q)
	return q
}

func byRemote(q *Query) { q.Remote = netip.MustParseAddr("192.0.2.9") }

// TestARuleIsFollowedWhateverIsAskedFor: it names nobody, and what is behind it
// follows from the ports of the sessions alone.
func TestARuleIsFollowedWhateverIsAskedFor(t *testing.T) {
	for what, c := range map[string]struct {
		query func(*Query)
		want  []string
	}{
		"a remote address": {byRemote, []string{"anna", "bo"}},
		"a subscriber":     {func(q *Query) { q.Subscriber = "anna" }, []string{"anna"}},
		"an address":       {func(q *Query) { q.Address = netip.MustParseAddr("203.0.113.0") }, []string{"anna", "bo"}},
		"an address and port": {func(q *Query) {
			q.Address, q.Port = netip.MustParseAddr("203.0.113.0"), port(1024+3*1008+5)
		}, []string{"bo"}},
	} {
		t.Run(what, func(t *testing.T) {
			r := newGateRoom(t, nil)
			translated(t, r)
			a, err := r.ask(t, anHour(c.query))
			if err != nil {
				t.Fatal(err)
			}
			var who []string
			for i := range a.Hits {
				who = append(who, a.Hits[i].Subscriber)
				if d := a.Hits[i].doubts(); len(d) > 0 {
					t.Errorf("doubts: %q", d)
				}
			}
			if fmt.Sprint(who) != fmt.Sprint(c.want) || !a.Summary.Complete() {
				t.Errorf("%q, want %q; %+v", who, c.want, a.Summary)
			}
		})
	}
}

func TestAHoldOfTranslatedSessionsNamesThemWhenTheirDayIsGone(t *testing.T) {
	r, k := holdingRoom(t)
	translated(t, r)
	q := anHour(byRemote)
	q.Ask = WantHold
	if _, err := r.holdOf(t, q, r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	r.destroy(k)
	a, err := r.ask(t, anHour(byRemote))
	if err != nil {
		t.Fatal(err)
	}
	who := map[string]int{}
	for i := range a.Hits {
		who[a.Hits[i].Initiator.String()+" "+a.Hits[i].Subscriber]++
	}
	if fmt.Sprint(who) != "map[10.0.0.1 anna:1 10.0.0.2 bo:1 203.0.113.0 anna:1 203.0.113.0 bo:1]" {
		t.Error(who)
	}
}

// TestHoweverManyLieBehindOthersAllAreNamed asks about sessions of more end users,
// each behind an address of his own, than may lie behind one.
func TestHoweverManyLieBehindOthersAllAreNamed(t *testing.T) {
	const n = most + 100
	r := newGateRoom(t, nil)
	var bindings []session.Binding
	var sessions []session.Session
	for i := range n {
		ip, circuit, who := fmt.Sprintf("10.1.%d.%d", i/250, i%250), fmt.Sprintf("100.64.%d.%d", i/250, i%250), fmt.Sprint("user", i)
		bindings = append(bindings,
			bind("", 2*hour, -minute, on(ip+"/32"), via(circuit), of(session.SourceDHCP), byKey("dhcp/"+ip)), bind(who, 2*hour, -minute, on(circuit+"/32")))
		s := lived(-31*minute, -29*minute)
		s.Initiator, s.Subscriber = addr(ip), who
		sessions = append(sessions, s)
	}
	r.shelf.addBindings(bindings...)
	r.shelf.addSessions(sessions...)
	a, err := r.ask(t, anHour(byRemote))
	if err != nil || len(a.Hits) != n {
		t.Fatalf("%d sessions, %v", len(a.Hits), err)
	}
	for i := range a.Hits {
		if h := &a.Hits[i]; h.Subscriber == "" || h.Corrected() || len(h.doubts()) > 0 {
			t.Fatalf("%s: %q, sealed as %q, %q", h.Initiator, h.Subscriber, h.Stored, h.doubts())
		}
	}
}

// addMany adds more sessions of 10.0.0.2 than an answer holds.
func (s *shelf) addMany() {
	list := make([]session.Session, MostHits/2+1)
	for half := range 2 {
		for i := range list {
			list[i] = lived(-31*minute, -29*minute)
			list[i].Start += int64(i) * int64(time.Millisecond) // to within two minutes
			list[i].Initiator, list[i].InitiatorPort = addr("10.0.0.2"), uint16(1024+half)
		}
		s.addSessions(list...)
	}
}

// TestAnAnswerThatIsTooLongKnowsTheEndsOfWhatItNames: log-offs lie in other blocks
// than the sessions, of which enough have been read.
func TestAnAnswerThatIsTooLongKnowsTheEndsOfWhatItNames(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(bind("anna", 100*hour, 0, on("10.0.0.2/32")))
	r.shelf.addEnds(bind("bo", 100*hour, hour, on("10.5.0.1/32")))
	r.shelf.addEnds(bind("anna", 100*hour, hour, on("10.0.0.2/32"))) // of this one only the head is sent at first
	r.shelf.addMany()
	a, err := r.ask(t, anHour(byRemote))
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Summary; !s.Limited || s.Failed != 0 || len(a.Hits) != MostHits {
		t.Fatalf("%d sessions, %+v", len(a.Hits), s)
	}
	if h := &a.Hits[0]; h.Subscriber != "" {
		t.Errorf("%q logged off an hour before noon and is named half an hour later", h.Subscriber)
	}
}

// TestSessionsOfOthersAreNoReasonToCutAnAnswerShort asks about a subscriber who had
// more prefixes than each block is asked about.
func TestSessionsOfOthersAreNoReasonToCutAnAnswerShort(t *testing.T) {
	r := newGateRoom(t, nil)
	var list []session.Binding
	for i := range mostRows + 1 {
		list = append(list, bind("anna", 2*hour, -minute, on(fmt.Sprintf("10.7.%d.0/24", i)), byKey(fmt.Sprint("radius/", i))))
	}
	r.shelf.addBindings(list...)
	r.shelf.addMany()
	hers, named, inside := lived(-20*minute, -19*minute), lived(-18*minute, -17*minute), lived(-16*minute, -15*minute)
	hers.Initiator = addr("10.7.9.33")
	named.Subscriber = "anna" // it was sealed under her name, and nothing else is known
	inside.Initiator, inside.Inside = addr("203.0.113.1"), addr("10.7.8.1")
	r.shelf.addSessions(hers, named, inside)
	a, err := r.ask(t, askAnna())
	if err != nil {
		t.Fatal(err)
	}
	if a.Summary.Limited || len(a.Hits) != 3 {
		t.Errorf("%d sessions, %+v", len(a.Hits), a.Summary)
	}
}

// TestTheProviderIsTheOneOfTheRecordsThoughTheyAreAskedForAgain: the agent has
// another name now.
func TestTheProviderIsTheOneOfTheRecordsThoughTheyAreAskedForAgain(t *testing.T) {
	for merging := range tries {
		r := newGateRoom(t, nil)
		r.gate.o.Origin = func() Origin { return Origin{Gateway: "gw1", Provider: "NewNet", Profile: "session"} }
		for range 2 { // of the second only the head is sent at first
			r.shelf.addSessions(lived(-31*minute, -29*minute))
		}
		r.shelf.merging = merging
		a, err := r.ask(t, anHour(byRemote))
		if err != nil || a.Summary.Provider != "Net" || len(a.Hits) != 1 {
			t.Errorf("merged %d times: %q, %v", merging, a.Summary.Provider, err)
		}
	}
}

// TestTheEndOfWhatBeganJustBehindTheWindowIsSent: clocks differ, so it is asked for.
func TestTheEndOfWhatBeganJustBehindTheWindowIsSent(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(bind("anna", hour, 0), bind("bo", 30*sec, 0))
	r.shelf.addEnds(bind("cy", 100*hour, hour, on("10.5.0.1/32")))
	r.shelf.addEnds(bind("bo", 30*sec, time.Hour)) // 30 seconds behind it; of this one only the head is sent at first
	r.shelf.addSessions(lived(-31*minute, -29*minute))
	q := anHour(func(q *Query) { q.Address = netip.MustParseAddr("10.0.0.1") })
	if a, err := r.ask(t, q); err != nil || a.Summary.Failed != 0 || len(a.Hits) != 1 {
		t.Errorf("%+v %v", a, err)
	}
}

func TestBlocksAreAskedAboutThePortToo(t *testing.T) {
	q := anHour(byRemote)
	q.Port = port(443)
	if b := q.rows(); b.RemotePort != 443 {
		t.Errorf("%+v", b)
	}
	q.Remote, q.Address = netip.Addr{}, netip.MustParseAddr("10.0.0.1")
	if b := q.rows(); b.Port != 443 {
		t.Errorf("%+v", b)
	}
}
