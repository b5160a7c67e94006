package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// joinUplink makes the link to the internet anew, with its addresses and
// routes.
func joinUplink(b *lab.Border) error {
	err := b.Link(
		lab.End{In: b.Gateway, Name: b.Uplink, Addrs: []netip.Prefix{netip.PrefixFrom(b.Gateway4, 24), netip.PrefixFrom(b.Gateway6, 64)}},
		lab.End{In: b.Internet, Name: "border", Addrs: []netip.Prefix{netip.PrefixFrom(b.Server4, 24), netip.PrefixFrom(b.Server6, 64)}}, b.MTU)
	return errors.Join(err,
		b.Gateway.Route(netip.MustParsePrefix("0.0.0.0/0"), b.Server4), b.Gateway.Route(netip.MustParsePrefix("::/0"), b.Server6),
		b.Internet.Route(b.Local[0], b.Gateway4), b.Internet.Route(b.Local[1], b.Gateway6))
}

// waits and attached say how the one uplink is.
func waits(s *gateway.Status) bool {
	u := s.Probe.Uplinks[0]
	return u.Ifindex == 0 && strings.Contains(u.Error, "waiting for it")
}

func attached(s *gateway.Status) bool {
	u := s.Probe.Uplinks[0]
	return u.Ifindex != 0 && u.Error == "" && u.Ingress.Mode != "none" && u.Egress.Mode != "none"
}

// callAndCheck has the crowd make n connections and checks all that were ever
// made.
func callAndCheck(ctx context.Context, t *testing.T, g *gateway.Gateway, w *crowd, n int) {
	t.Helper()
	if err := w.call(ctx, n)(); err != nil {
		t.Fatal(err)
	}
	if _, err := allStored(ctx, g, int(w.total.Load())); err != nil {
		t.Fatal(err)
	}
	storedOnce(t, g, w)
}

func TestAnUplinkIsWatchedWhenItComesAndWhenItComesBack(t *testing.T) {
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	if err := g.Border.Gateway.Unlink(g.Uplink); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		s, err := g.Until(ctx, "the agent waits for its uplink", waits)
		if err != nil {
			t.Fatal(err)
		}
		if u := s.Probe.Uplinks[0]; !strings.Contains(u.Error, "the link does not exist") {
			t.Errorf("the uplink is away: %q", u.Error)
		}
		if i == 0 && (s.LastError == nil || !strings.Contains(s.LastError.Text, g.Uplink)) {
			t.Errorf("the status does not name the missing uplink: %+v", s.LastError)
		}
		if err := joinUplink(g.Border); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Until(ctx, "the uplink is watched", attached); err != nil {
			t.Fatal(err)
		}
		w := newCrowd(t, g, uint16(8080+i))
		if err := w.call(ctx, 40)(); err != nil {
			t.Fatal(err)
		}
		if _, err := allStored(ctx, g, 40*(i+1)); err != nil {
			t.Fatal(err)
		}
		storedOnce(t, g, w)
		if err := g.Border.Gateway.Unlink(g.Uplink); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Until(ctx, "the agent waits for its uplink", waits); err != nil {
		t.Fatal(err)
	}
}

func TestASessionThatLeavesByOneUplinkAndComesBackByAnotherIsOne(t *testing.T) {
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	b := g.Border
	near := []netip.Prefix{netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("2001:db8:e::1/64")}
	far := []netip.Prefix{netip.MustParsePrefix("198.18.0.10/24"), netip.MustParsePrefix("2001:db8:e::10/64")}
	err := b.Link(lab.End{In: b.Gateway, Name: "second", Addrs: near}, lab.End{In: b.Internet, Name: "border2", Addrs: far}, 0)
	for _, back := range []string{"192.0.2.0/25", "192.0.2.128/25", "2001:db8:a:1::/64", "2001:db8:a:2::/64"} {
		dst := netip.MustParsePrefix(back) // more specific than the way by the first uplink
		via := near[0].Addr()
		if dst.Addr().Is6() {
			via = near[1].Addr()
		}
		err = errors.Join(err, b.Internet.Route(dst, via))
	}
	for _, which := range []string{"all", "default", b.Uplink, "second"} {
		err = errors.Join(err, b.Gateway.Sysctl("net/ipv4/conf/"+which+"/rp_filter", "0"))
	}
	err = errors.Join(err, g.Reconfigure(map[string]string{"name =": fmt.Sprintf("name = %q\n[[uplink]]\nname = \"second\"", b.Uplink)}), g.Start(ctx))
	if err != nil {
		t.Fatal(err)
	}
	const all = 400
	w := newCrowd(t, g, 8080)
	callAndCheck(ctx, t, g, w, all)
	s, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.Probe.Uplinks[0], s.Probe.Uplinks[1]
	// A connection is SYN, ACK and FIN, ACK one way; SYN+ACK and FIN the other.
	if first.Out.Outcomes["recorded"] < 3*all || second.In.Outcomes["recorded"] < 2*all || first.In.Outcomes["recorded"]+second.Out.Outcomes["recorded"] > 0 {
		t.Errorf("the packets did not go out by one and in by the other: out %v, %v; in %v, %v",
			first.Out.Outcomes, second.Out.Outcomes, first.In.Outcomes, second.In.Outcomes)
	}
}
