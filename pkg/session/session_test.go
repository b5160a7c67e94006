package session

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"
)

func example() Session {
	return Session{
		Start: 1_700_000_000_123_999_999, End: 1_700_000_001_000_000_000,
		Initiator: AddrFrom(netip.MustParseAddr("192.0.2.1")), InitiatorPort: 40000,
		Responder: AddrFrom(netip.MustParseAddr("2001:db8::1")), ResponderPort: 443,
		Proto: TCP, EndReason: EndFIN, Local: SideInitiator, Subscriber: "a\"b\x01",
	}
}

func TestASessionInJSON(t *testing.T) {
	s := example()
	const want = `{"proto":6,"initiator":"192.0.2.1","initiator_port":40000,"responder":"2001:db8::1","responder_port":443,` +
		`"start":"2023-11-14T22:13:20.123Z","end":"2023-11-14T22:13:21.000Z","end_reason":"fin","local":"initiator","subscriber":"a\"b\u0001"}`
	if got := string(s.AppendJSON(nil)); got != want || !json.Valid([]byte(got)) {
		t.Errorf("%s", got)
	}
	s.Flags, s.Subscriber = LocalOnly|MidStream, ""
	const local = `{"proto":6,"initiator":"192.0.2.1","initiator_port":40000,` +
		`"start":"2023-11-14T22:13:20.123Z","end":"2023-11-14T22:13:21.000Z","end_reason":"fin","local":"initiator","flags":["mid-stream","local-only"]}`
	if got := string(s.AppendJSON(nil)); got != local {
		t.Errorf("%s", got)
	}
}

func TestEndpointsAsUsersWriteThem(t *testing.T) {
	s := example()
	if a, b := s.Endpoint(SideInitiator), s.Endpoint(SideResponder); a != "192.0.2.1:40000" || b != "[2001:db8::1]:443" {
		t.Error(a, b)
	}
	s.Proto = ICMP
	if a := s.Endpoint(SideInitiator); a != "192.0.2.1" {
		t.Error(a)
	}
	s.Flags = LocalOnly
	if b := s.Endpoint(SideResponder); b != "-" {
		t.Error(b)
	}
}

func TestTheUnspecifiedAddressIsAnAddress(t *testing.T) {
	if a := AddrFrom(netip.IPv6Unspecified()); a.String() != "::" || a.Is4() {
		t.Error(a)
	}
	if a := AddrFrom(netip.MustParseAddr("0.0.0.0")); a.String() != "0.0.0.0" || !a.Is4() {
		t.Error(a)
	}
}

func TestALaterOrClosedRecordOfTheSameSessionHolds(t *testing.T) {
	old, later := example(), example()
	later.End += int64(time.Second)
	if old.ID() != later.ID() || !later.Supersedes(&old) || old.Supersedes(&later) {
		t.Error("the later end does not hold")
	}
	later.Flags = Open
	if later.Supersedes(&old) || !old.Supersedes(&later) {
		t.Error("an open record holds against a closed one")
	}
	again := example()
	again.Reuse++
	if again.ID() == old.ID() {
		t.Error("the tuple in use again is the same session")
	}
}

func TestDaysAreCountedInUTC(t *testing.T) {
	for when, day := range map[string]string{
		"2024-02-29T23:59:59.999999999Z": "2024-02-29", "2024-03-01T00:00:00Z": "2024-03-01",
		"1969-12-31T23:59:59.999Z": "1969-12-31", "2024-03-01T00:30:00+01:00": "2024-02-29",
	} {
		at, err := time.Parse(time.RFC3339Nano, when)
		if err != nil {
			t.Fatal(err)
		}
		if d := DayOf(at.UnixNano()); d.String() != day || d.Start().After(at) || (d+1).Start().Compare(at) <= 0 {
			t.Errorf("%s is in %s", when, d)
		}
	}
}

func TestABindingCoversItsAddressesPortsAndTime(t *testing.T) {
	b := Binding{Prefix: netip.MustParsePrefix("192.0.2.0/30"), FirstPort: 1000, LastPort: 1999, From: 10, To: 20}
	in, out := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")
	for _, c := range []struct {
		addr netip.Addr
		port uint16
		ns   int64
		want bool
	}{{in, 1000, 10, true}, {in, 1999, 19, true}, {in, 1999, 20, false}, {in, 1000, 9, false}, {in, 999, 15, false}, {in, 2000, 15, false}, {out, 1500, 15, false}} {
		if got := b.Covers(c.addr, c.port, c.ns); got != c.want {
			t.Errorf("%v: %v", c, got)
		}
	}
}

func TestEveryNumberHasItsWord(t *testing.T) {
	for r := range EndReason(len(endReasons)) {
		if !r.Valid() || r.String() == "" {
			t.Errorf("reason %d", r)
		}
	}
	if r := EndReason(200); r.Valid() || r.String() != "reason-200" {
		t.Error(r)
	}
	for p, name := range profiles {
		if got, err := ParseProfile(name); err != nil || got != p {
			t.Error(name, got, err)
		}
	}
	if _, err := ParseProfile("everything"); err == nil {
		t.Error("an unknown profile was taken")
	}
	if w := (MidStream | Open).Words(); len(w) != 2 || w[0] != "mid-stream" || w[1] != "open" {
		t.Error(w)
	}
}

func TestTheEndUserIsBehindTheTranslation(t *testing.T) {
	public, inside := AddrFrom(netip.MustParseAddr("203.0.113.1")), AddrFrom(netip.MustParseAddr("100.64.0.9"))
	s := Session{Initiator: public, InitiatorPort: 2000, Local: SideInitiator}
	if a, port, ok := s.UserEnd(); a != public || port != 2000 || !ok {
		t.Errorf("without a translation the end user is %v:%d, %v", a, port, ok)
	}
	s.Inside, s.InsidePort = inside, 4000
	if a, port, ok := s.UserEnd(); a != inside || port != 4000 || !ok {
		t.Errorf("with a translation the end user is %v:%d, %v", a, port, ok)
	}
	s.Local = SideUnknown
	if _, _, ok := s.UserEnd(); ok {
		t.Error("a session without a local side has an end user")
	}
}
