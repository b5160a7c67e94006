package radius

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// once makes radclient try once and wait a second for the answer.
var once = []string{"-r", "1", "-t", "1"}

const everyAttribute = `User-Name = "anna@isp.example"
Acct-Status-Type = Start
Acct-Session-Id = "8F3A-01"
Acct-Multi-Session-Id = "M-77"
NAS-Identifier = "bng-1"
NAS-IP-Address = 198.51.100.9
NAS-Port-Id = "eth 1/2:100.7"
Calling-Station-Id = "E6-FB-DF-05-7A-88"
Called-Station-Id = "hotspot-7"
Chargeable-User-Identity = "cui-4711"
Framed-IP-Address = 192.0.2.17
Framed-IPv6-Address = 2001:db8:0:1::17
Framed-IPv6-Prefix = 2001:db8:1:2::/64
Framed-Interface-Id = 0:0:0:5
Delegated-IPv6-Prefix = 2001:db8:ff00::/56
ADSL-Agent-Circuit-Id = "dslam-3 eth 0/4"
ADSL-Agent-Remote-Id = "0xcafe01"
Event-Timestamp = %d
Acct-Delay-Time = 7
Acct-Session-Time = 3
Proxy-State = 0x0102ff
Proxy-State = 0x33
`

func TestEveryAttributeThroughRadclient(t *testing.T) {
	book := &testBook{}
	s := serve(t, book, Options{})
	when := arrival.Add(-90 * time.Second).Truncate(time.Second)
	out, err := radclient(t, s, "acct", secret, fmt.Sprintf(everyAttribute, when.Unix()), once...)
	if err != nil || !strings.Contains(out, "Received Accounting-Response") {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "Proxy-State = 0x0102ff\n\tProxy-State = 0x33") {
		if answer := out[strings.Index(out, "Received"):]; !strings.Contains(answer, "0x0102ff") || strings.Index(answer, "0x33") < strings.Index(answer, "0x0102ff") {
			t.Errorf("Proxy-State is not echoed in order:\n%s", out)
		}
	}
	want := identity.Event{
		Kind: identity.Start, At: when.UnixNano(), Source: session.SourceRADIUS, NAS: "bng-1@198.51.100.9",
		Session: "8F3A-01", Group: "M-77", Held: 3 * time.Second, HasHeld: true, Subscriber: "anna@isp.example", Identity: "cui-4711",
		Line: "dslam-3 eth 0/4; 0xcafe01", Equipment: "e6:fb:df:05:7a:88", Place: "hotspot-7",
		Leases: []identity.Lease{
			{Kind: identity.IPv4Address, Prefix: netip.MustParsePrefix("192.0.2.17/32")},
			{Kind: identity.IPv6Address, Prefix: netip.MustParsePrefix("2001:db8:0:1::17/128")},
			{Kind: identity.FramedPrefix, Prefix: netip.MustParsePrefix("2001:db8:1:2::/64")},
			{Kind: identity.IPv6Address, Prefix: netip.MustParsePrefix("2001:db8:1:2::5/128")},
			{Kind: identity.DelegatedPrefix, Prefix: netip.MustParsePrefix("2001:db8:ff00::/56")},
			{Kind: identity.Equipment, Prefix: netip.MustParsePrefix("100::e6fb:df05:7a88/128")},
		},
	}
	got := book.got()
	if len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
}

// The life of sessions, told by the real radclient to a real book.
func TestSessionsThroughRadclientIntoTheBook(t *testing.T) {
	book := openBook(t)
	s := serve(t, book, Options{})
	begin := arrival.Add(-time.Hour).Truncate(time.Second)
	say := func(status string, minute int, more string) {
		t.Helper()
		out, err := radclient(t, s, "acct", secret, fmt.Sprintf("Acct-Status-Type = %s\nNAS-Identifier = bng\nEvent-Timestamp = %d\n%s",
			status, begin.Add(time.Duration(minute)*time.Minute).Unix(), more), once...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", status, err, out)
		}
	}
	const anna = "User-Name = anna\nAcct-Session-Id = a\nFramed-IP-Address = 192.0.2.1\n"
	const bo = "User-Name = bo\nAcct-Session-Id = b\nFramed-IP-Address = 192.0.2.2\nDelegated-IPv6-Prefix = 2001:db8:1::/48\n"
	say("Accounting-On", 0, "")
	say("Start", 1, anna)
	say("Interim-Update", 5, bo)
	say("Interim-Update", 6, anna)
	say("Stop", 10, anna)
	for _, c := range []struct {
		addr   string
		minute int
		name   string
		bits   session.Certainty
	}{
		{"192.0.2.1", 0, "", 0}, {"192.0.2.1", 1, "anna", 0}, {"192.0.2.1", 9, "anna", 0}, {"192.0.2.1", 10, "", 0},
		{"192.0.2.2", 4, "", 0}, {"192.0.2.2", 30, "bo", session.FromInferred}, {"2001:db8:1:77::1", 30, "bo", session.FromInferred},
	} {
		x, _ := at(book, c.addr, begin.Add(time.Duration(c.minute)*time.Minute))
		if x.Subscriber != c.name || x.Certainty != c.bits {
			t.Errorf("%s in minute %d: %+v", c.addr, c.minute, x)
		}
	}
	say("Accounting-Off", 40, "")
	x, ok := at(book, "192.0.2.2", begin.Add(39*time.Minute))
	if !ok || x.To != begin.Add(40*time.Minute).UnixNano() || x.Certainty != session.FromInferred|session.ToInferred {
		t.Errorf("after accounting-off: %+v", x)
	}
	if n := len(book.InForce()); n != 0 {
		t.Errorf("%d in force after accounting-off", n)
	}
}

func TestAWrongSecretGetsNoAnswer(t *testing.T) {
	book := &testBook{}
	s := serve(t, book, Options{},
		Client{Name: "good", Prefix: netip.MustParsePrefix("127.0.0.1/32"), Secret: []byte(secret)},
		Client{Name: "net", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte("other")})
	out, err := radclient(t, s, "acct", "guess", "Acct-Status-Type = Start\nAcct-Session-Id = a\n", once...)
	if err == nil || strings.Contains(out, "Received") {
		t.Fatalf("%v\n%s", err, out)
	}
	s.stop()
	c := s.Stats()
	if c.Dropped["bad-authenticator"] != 1 || c.Clients[0].BadAuthenticator != 1 || c.Clients[1].BadAuthenticator != 0 || len(book.got()) != 0 {
		t.Errorf("%+v", c)
	}
}

// radclient repeats the request while the book fails: no answer before the
// event is durable, and one answer then.
func TestRadclientTriesAgainWhileTheBookFails(t *testing.T) {
	book := &testBook{fail: 2}
	s := serve(t, book, Options{})
	out, err := radclient(t, s, "acct", secret, "Acct-Status-Type = Start\nAcct-Session-Id = a\nUser-Name = anna\nFramed-IP-Address = 192.0.2.1\n",
		"-r", "10", "-t", "0.3")
	if err != nil || !strings.Contains(out, "Received Accounting-Response") {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out, "Sent Accounting-Request"); n < 3 {
		t.Errorf("answered after %d tries, two of which had failed", n)
	}
	s.stop()
	c := s.Stats()
	if c.Dropped["not-durable"] != 2 || c.Answered != 1 || len(book.got()) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestStatusServerThroughRadclient(t *testing.T) {
	s := serve(t, &testBook{}, Options{})
	out, err := radclient(t, s, "status", secret, "Message-Authenticator = 0x00\n", once...)
	// radclient verifies the Message-Authenticator of the answer.
	if err != nil || strings.Count(out, "Message-Authenticator") < 2 {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = radclient(t, s, "status", "guess", "Message-Authenticator = 0x00\n", once...)
	if err == nil {
		t.Errorf("answered with a wrong secret:\n%s", out)
	}
	s.stop()
	if c := s.Stats(); c.Status != 1 || c.Dropped["bad-message-authenticator"] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestMessageAuthenticatorThroughRadclient(t *testing.T) {
	book := &testBook{}
	s := serve(t, book, Options{}, Client{Prefix: netip.MustParsePrefix("127.0.0.1/32"), Secret: []byte(secret), RequireMessageAuthenticator: true})
	const start = "Acct-Status-Type = Start\nAcct-Session-Id = a\nFramed-IP-Address = 192.0.2.1\n"
	out, err := radclient(t, s, "acct", secret, start+"Message-Authenticator = 0x00\n", once...)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = radclient(t, s, "acct", secret, start, once...); err == nil {
		t.Errorf("answered without one:\n%s", out)
	}
	s.stop()
	if c := s.Stats(); c.Answered != 1 || c.Dropped["missing-message-authenticator"] != 1 {
		t.Errorf("%+v", c)
	}
}
