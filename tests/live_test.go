package tests

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

func TestRealTrafficIsRecordedWithItsEnds(t *testing.T) {
	g := start(t, gateway.Options{Edit: map[string]string{"half_open =": `half_open = "1s"`, "linger =": `linger = "100ms"`}})
	ctx := limited(t)
	web4, web6 := netip.AddrPortFrom(g.Server4, 80), netip.AddrPortFrom(g.Server6, 80)
	for _, at := range []netip.AddrPort{web4, web6} {
		if err := g.Internet.ServeHTTP(at, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	var want []lab.Flow
	var reasons []string
	expect := func(f lab.Flow, err error, reason string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		want, reasons = append(want, f), append(reasons, reason)
	}
	alice := g.Subscribers[0]
	_, f, err := alice.GetHTTP(ctx, "http://"+web4.String()+"/")
	expect(f, err, "fin")
	_, f, err = alice.GetHTTP(ctx, "http://"+web6.String()+"/")
	expect(f, err, "fin")
	f, err = alice.Refused(ctx, netip.AddrPortFrom(g.Server4, 81))
	expect(f, err, "rst")
	f, err = alice.HalfOpen(netip.AddrPortFrom(g.Blackhole4, 443))
	expect(f, err, "half-open")

	if _, err := g.Until(ctx, "all is stored", func(s *gateway.Status) bool { return s.Probe.Table.Stored >= uint64(len(want)) }); err != nil {
		t.Fatal(err)
	}
	found := map[string]gateway.Session{}
	for _, a := range []netip.Addr{alice.Addr4, alice.Addr6} {
		_, sessions, err := g.Sessions(ctx, "--address", a.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sessions {
			if s.Proto == session.TCP {
				found[fmt.Sprintf("%s:%d %s:%d", s.Initiator, s.InitiatorPort, s.Responder, s.ResponderPort)] = s
			}
		}
	}
	for i, f := range want {
		name := fmt.Sprintf("%s:%d %s:%d", f.Initiator.Addr(), f.Initiator.Port(), f.Responder.Addr(), f.Responder.Port())
		if s, ok := found[name]; !ok {
			t.Errorf("not found: %s", name)
		} else if s.EndReason != reasons[i] {
			t.Errorf("%s ended by %q, not %q", name, s.EndReason, reasons[i])
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d TCP sessions, %d expected: %v", len(found), len(want), found)
	}
}
