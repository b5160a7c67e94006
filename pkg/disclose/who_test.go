package disclose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
)

const sec = time.Second

// asks is a question about 10.0.0.1 at half past eleven, 30 minutes before now.
func asks(change func(*Query)) *Query {
	q := Who("case 7", netip.MustParseAddr("10.0.0.1"), port(4000), at(-30*time.Minute), 2*sec)
	if change != nil {
		change(q)
	}
	return q
}

func noPort(q *Query) { q.Port = nil }

// bind is a binding of 10.0.0.1 from and to times before noon; to 0 is for ever.
func bind(who string, from, to time.Duration, change ...func(*session.Binding)) session.Binding {
	b := held(who, "10.0.0.1/32", at(from), at(to))
	if to == 0 {
		b.To = session.Forever
	}
	for _, f := range change {
		f(&b)
	}
	return b
}

func ports(first, last uint16) func(*session.Binding) {
	return func(b *session.Binding) { b.FirstPort, b.LastPort = first, last }
}

func of(s session.Source) func(*session.Binding) {
	return func(b *session.Binding) { b.Source, b.SourceKey = s, s.String()+b.SourceKey }
}

func sure(c session.Certainty) func(*session.Binding) {
	return func(b *session.Binding) { b.Certainty = c }
}

func on(prefix string) func(*session.Binding) {
	return func(b *session.Binding) { b.Prefix = netip.MustParsePrefix(prefix) }
}

func via(a string) func(*session.Binding) {
	return func(b *session.Binding) { b.Via = netip.MustParseAddr(a) }
}

const hour, half = -time.Hour, -30 * time.Minute

func TestAnAnswerNeverSaysMoreThanIsKnown(t *testing.T) {
	for _, c := range []struct {
		name     string
		query    func(*Query)
		bindings []session.Binding
		verdict  Verdict
		reason   string   // a part of it
		who      []string // in the order of the answer
	}{
		{"nobody", nil, nil, NotKnown, "nobody is known", nil},
		{"log-on and log-off were reported", nil, []session.Binding{bind("anna", hour, -time.Minute)}, Certain, "reported", []string{"anna"}},
		{"another had it long before and long after", nil,
			[]session.Binding{bind("bo", 2*hour, hour), bind("anna", hour, -time.Minute), bind("cy", -time.Minute, 0)}, Certain, "", []string{"anna"}},
		{"still logged on", nil, []session.Binding{bind("anna", hour, 0)}, Likely, "no log-off is known", []string{"anna"}},
		{"a table has no log-off to lose", nil, []session.Binding{bind("anna", hour, 0, of(session.SourceStatic))}, Certain, "", []string{"anna"}},
		{"log-on not seen", nil, []session.Binding{bind("anna", hour, -time.Minute, sure(session.FromInferred))}, Likely, doubtFrom, []string{"anna"}},
		{"log-off not seen", nil, []session.Binding{bind("anna", hour, -time.Minute, sure(session.ToInferred))}, Likely, doubtTo, []string{"anna"}},
		{"handed over in the very second", nil, []session.Binding{bind("anna", hour, half), bind("bo", half, -time.Minute)}, Uncertain, "changed hands within the error of the time", []string{"bo", "anna"}},
		{"handed over within what clocks may differ by", nil, []session.Binding{bind("anna", hour, half+2500*time.Millisecond), bind("bo", half+2500*time.Millisecond, -time.Minute)},
			Uncertain, "within 1.001s of the time", []string{"anna", "bo"}},
		{"handed over a minute later", nil, []session.Binding{bind("anna", hour, half+time.Minute), bind("bo", half+time.Minute, -time.Minute)}, Certain, "", []string{"anna"}},
		{"logged off in the second before", nil, []session.Binding{bind("anna", hour, half-sec)}, Uncertain, "at the very time", []string{"anna"}},
		{"logged off in the second after", nil, []session.Binding{bind("anna", hour, half+sec)}, Likely, "within the error of the time", []string{"anna"}},
		{"logged off just too early", nil, []session.Binding{bind("anna", hour, half-2500*time.Millisecond)}, Uncertain, "within 1.001s of it", []string{"anna"}},
		{"sources contradict", nil, []session.Binding{bind("anna", hour, -time.Minute), bind("bo", hour, -time.Minute, of(session.SourceDHCP))}, Uncertain, "contradict", []string{"anna", "bo"}},
		{"a delegated prefix around the address", nil, []session.Binding{bind("anna", hour, -time.Minute), bind("firm", 2*hour, 0, on("10.0.0.0/24"), of(session.SourceStatic))}, Certain, "", []string{"anna"}},
		{"the address within was free", nil, []session.Binding{bind("anna", 3*hour, 2*hour), bind("firm", 2*hour, 0, on("10.0.0.0/24"), of(session.SourceStatic))}, Certain, "", []string{"firm"}},
		{"the port is of a block", nil, []session.Binding{bind("anna", hour, -time.Minute, ports(3000, 4999)), bind("bo", hour, -time.Minute, ports(5000, 6999))}, Certain, "", []string{"anna"}},
		{"a block goes before the whole address", nil, []session.Binding{bind("cgn", hour, -time.Minute), bind("anna", hour, -time.Minute, ports(3000, 4999))}, Certain, "", []string{"anna"}},
		{"no port, of two who shared", noPort, []session.Binding{bind("anna", hour, -time.Minute, ports(3000, 4999)), bind("bo", hour, -time.Minute, ports(5000, 6999))},
			Uncertain, "shared by 2 subscribers at that time; a source port is needed", []string{"anna", "bo"}},
		{"no port, one block is known", noPort, []session.Binding{bind("anna", hour, -time.Minute, ports(3000, 4999))}, Uncertain, "a source port is needed", []string{"anna"}},
		{"no port is needed", noPort, []session.Binding{bind("anna", hour, -time.Minute)}, Certain, "", []string{"anna"}},
		{"behind another address", nil, []session.Binding{bind("", hour, -time.Minute, via("100.64.0.9"), of(session.SourceNAT)), bind("anna", hour, -time.Minute, on("100.64.0.9/32"))}, Certain, "", []string{"anna"}},
		{"behind an address that nobody has", nil, []session.Binding{bind("", hour, -time.Minute, via("100.64.0.9"), of(session.SourceNAT))}, NotKnown, "not whose", []string{""}},
		{"behind an address that changed hands", nil, []session.Binding{bind("", hour, -time.Minute, via("100.64.0.9"), of(session.SourceNAT)),
			bind("anna", hour, half, on("100.64.0.9/32")), bind("bo", half, -time.Minute, on("100.64.0.9/32"))}, Uncertain, "changed hands", []string{"bo", "anna"}},
		{"an exact time between two", func(q *Query) { *q = *Who("r", q.Address, q.Port, at(half), 0) }, []session.Binding{bind("anna", hour, half-5*sec), bind("bo", half-5*sec, -time.Minute)}, Certain, "", []string{"bo"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newGateRoom(t, nil)
			r.shelf.addBindings(append(c.bindings, held("other", "10.0.0.2/32", at(-time.Hour), session.Forever))...)
			a, err := r.askWho(t, asks(c.query))
			if err != nil {
				t.Fatal(err)
			}
			who := subscribersOf(a)
			if a.Verdict != c.verdict || !strings.Contains(a.Reason, c.reason) || fmt.Sprint(who) != fmt.Sprint(c.who) {
				t.Errorf("%s (%s) %q", a.Verdict, a.Reason, who)
			}
			e := r.entries(t)
			if len(e) != 6 || e[4].Fields["action"] != "who" || e[5].Fields["records"] != fmt.Sprint(len(who)) || e[5].Fields["result"] != "answered" {
				t.Errorf("ledger %v", kinds(e))
			}
		})
	}
}

func subscribersOf(a *WhoAnswer) (who []string) {
	for i := range a.Candidates {
		who = append(who, a.Candidates[i].Subscriber)
	}
	return who
}

func TestWhatWasWrongWithTheRecordingIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		clock  block.Clock
		gap    session.Cover
		reason string
	}{
		"the clock":     {block.Clock{}, session.CoverComplete, "clock was not synchronised"},
		"a slow clock":  {block.Clock{Synchronised: true, MaxErrorMicros: 1_500_000}, session.CoverComplete, "wrong by 1.5s"},
		"a gap":         {block.Clock{Synchronised: true}, session.CoverMissing, "a gap at that time"},
		"an unknown":    {block.Clock{Synchronised: true}, session.CoverUnknown, "not known what was recorded"},
		"nothing wrong": {block.Clock{Synchronised: true}, session.CoverSampled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGateRoom(t, nil)
			plain, err := block.EncodeBindings(nil, block.Header{Gateway: "gw1", Provider: "Net", Clock: c.clock}, []session.Binding{bind("anna", -time.Hour, -time.Minute)})
			r.shelf.binding = append(r.shelf.binding, r.shelf.seal(block.KindBindings, plain, err))
			r.gate.o.Coverage = func(int64, int64) (*session.CoverageReport, error) {
				return report(noon.Unix(), covered("eth0", 0, 1800, session.CoverComplete, 0), covered("eth0", 1800, 1801, c.gap, 0), covered("eth0", 1801, 3600, session.CoverComplete, 0)), nil
			}
			a, err := r.askWho(t, asks(nil))
			if err != nil {
				t.Fatal(err)
			}
			want := Likely
			if c.reason == "" {
				want = Certain
			}
			if a.Verdict != want || !strings.Contains(a.Reason, c.reason) {
				t.Errorf("%s: %s", a.Verdict, a.Reason)
			}
			if text := strings.Join(a.Candidates[0].Doubts, "; "); !strings.Contains(text, c.reason) {
				t.Error(text)
			}
		})
	}
}

func TestASessionProvesAndShowsWhatWasBelieved(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(bind("anna", -time.Hour, -time.Minute))
	s, other := lived(-31*time.Minute, -29*time.Minute), lived(-31*time.Minute, -29*time.Minute)
	s.Subscriber = "bo" // when it was sealed
	other.InitiatorPort = 4001
	r.shelf.addSessions(s, other, lived(-20*time.Minute, -19*time.Minute))
	a, err := r.askWho(t, asks(nil))
	if err != nil {
		t.Fatal(err)
	}
	c := &a.Candidates[0]
	if a.Verdict != Likely || a.Proofs != 1 || len(c.Sessions) != 1 || c.Sessions[0].InitiatorPort != 4000 || !strings.Contains(strings.Join(c.Doubts, ";"), "believed to be bo") {
		t.Errorf("%s %s %+v", a.Verdict, a.Reason, c)
	}
}

func TestADamagedBlockMakesAnAnswerUncertain(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(bind("anna", -time.Hour, -time.Minute))
	r.shelf.addBindings(bind("bo", -3*time.Hour, -2*time.Hour))
	r.shelf.binding[1][len(r.shelf.binding[1])-1] ^= 1
	a, err := r.askWho(t, asks(nil))
	if err != nil || a.Verdict != Uncertain || a.Summary.Failed != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, _, err := Read(t.Context(), r.client, r.permit(t, asks(nil), testIdentity(t).ids)); !errors.Is(err, ErrWrongIdentity) {
		t.Error(err)
	}
}

func TestMoreIsReadOnlyWhileTheOutcomeIsNotKnown(t *testing.T) {
	r := newGateRoom(t, nil)
	for _, path := range []string{"/v1/lookup/x/bindings", "/v1/lookup/x/register/1/1/1", "/v1/lookup/x/sessions"} {
		if _, err := send(t.Context(), r.client, "GET", path, nil); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "open") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if r.shelf.handed != 0 {
		t.Error("something was handed out")
	}
}

func TestAnAnswerPrintsInEachFormat(t *testing.T) {
	r := newGateRoom(t, nil)
	evil := bind("=cmd()", -time.Hour, -time.Minute, ports(3000, 4999))
	evil.Equipment, evil.Place = "02:00:00:00:00:01", "ap\x1b[31m"
	r.shelf.addBindings(evil)
	r.shelf.addSessions(lived(-31*time.Minute, -29*time.Minute))
	a, err := r.askWho(t, asks(nil))
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string][]string{
		"table": {"CERTAIN: =cmd(): log-on and log-off", "asked: who held 10.0.0.1:4000 at 2025-03-01T11:30:00.000Z ± 2s", "10.0.0.1 ports 3000-4999 -> subscriber: radius", "1 candidate in"},
		"json":  {`"verdict":"certain"`, `"first_port":3000`, `"summary":`},
		"csv":   {"certain,'=cmd(),", "02:00:00:00:00:01"},
	} {
		var b bytes.Buffer
		if err := PrintWho(&b, a, format); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%q is not in\n%s", w, b.String())
			}
		}
		if format == "table" && strings.Contains(b.String(), "\x1b") {
			t.Error("a terminal would obey it")
		}
		if format == "json" {
			for line := range strings.Lines(b.String()) {
				if !json.Valid([]byte(line)) {
					t.Error(line)
				}
			}
		}
	}
}

// TestATranslatedSessionNamesWhomTheInsideAddressWasOf needs the access records of
// an address that only the session tells.
func TestATranslatedSessionNamesWhomTheInsideAddressWasOf(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(bind("anna", hour, -minute, on("100.64.0.9/32")), bind("bo", hour, -minute, on("100.64.0.8/32")))
	s := lived(-31*minute, -29*minute)
	s.Inside, s.InsidePort = addr("100.64.0.9"), 4711
	r.shelf.addSessions(s)
	a, err := r.askWho(t, asks(nil))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(subscribersOf(a)) != "[anna]" || len(a.Candidates[0].Links) != 2 {
		t.Errorf("%s (%s) %q", a.Verdict, a.Reason, subscribersOf(a))
	}
}
