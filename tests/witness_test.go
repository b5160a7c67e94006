package tests

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// TestTheKernelsOwnConnectionTrackingSawTheSameSessions compares what is
// stored with what netfilter, which shares no line of code with it, reported
// of the same packets in the same namespace.
func TestTheKernelsOwnConnectionTrackingSawTheSameSessions(t *testing.T) {
	edit := quickEnds()
	edit["udp ="], edit["icmp ="] = `udp = "3s"`, `icmp = "3s"`
	g := start(t, gateway.Options{Edit: edit})
	ctx := limited(t)
	witness := conntrack(ctx, t, g)
	manyKinds(ctx, t, g)

	locals := []netip.Addr{g.Subscribers[0].Addr4, g.Subscribers[0].Addr6, g.Subscribers[1].Addr4, g.Subscribers[1].Addr6}
	stored := map[string]int{}
	if _, err := allStored(ctx, g, 1); err != nil {
		t.Fatal(err)
	}
	for _, a := range locals {
		_, sessions, err := g.Sessions(ctx, "--address", a.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sessions {
			stored[fmt.Sprintf("%d %s", s.Proto, tupleOf(s))]++
		}
	}
	seen := newConnections(witness.Output(), locals)
	if len(seen) < 100 {
		t.Errorf("the witness saw only %d sessions: %s", len(seen), witness.Output())
	}
	for _, tuple := range slices.Sorted(maps.Keys(seen)) {
		if stored[tuple] != 1 {
			t.Errorf("stored %d times: %s", stored[tuple], tuple)
		}
	}
	for _, tuple := range slices.Sorted(maps.Keys(stored)) {
		if !seen[tuple] {
			t.Errorf("stored, but not seen by the witness: %s", tuple)
		}
	}
}

// conntrack switches connection tracking on in the gateway and prints what it
// sees begin.
func conntrack(ctx context.Context, t *testing.T, g *gateway.Gateway) *lab.Process {
	t.Helper()
	_, err := g.Gateway().RunCommand(ctx, lab.Command{Path: "nft", Args: []string{"-f", "-"}, Stdin: strings.NewReader(
		"table inet witness { chain forward { type filter hook forward priority 0; ct state new counter; }; };\n")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Gateway().Start(lab.Command{Path: "conntrack", Args: []string{"-E", "-e", "NEW", "-b", "8388608"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := subscribed(ctx, g.Gateway(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// subscribed waits until a program listens to events of netfilter: its socket
// is then in a multicast group.
func subscribed(ctx context.Context, n *lab.Namespace, p *lab.Process) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		found := false
		err := n.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/netlink")
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line) // sk, protocol, port id, groups, …
				if len(f) > 3 && f[1] == strconv.Itoa(unix.NETLINK_NETFILTER) && f[3] != "00000000" {
					found = true
				}
			}
			return err
		})
		if found || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.Done():
			return fmt.Errorf("conntrack has ended: %s", p.Output())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// manyKinds is traffic of many kinds from both subscribers.
func manyKinds(ctx context.Context, t *testing.T, g *gateway.Gateway) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, server := range []netip.Addr{g.Server4, g.Server6} {
		check(g.Internet.ServeHTTP(netip.AddrPortFrom(server, 80), "hello"))
		_, err := g.Internet.ServeDNS(ctx, netip.AddrPortFrom(server, 53), map[string]netip.Addr{"www.example.net": g.Server4})
		check(err)
	}
	w := newCrowd(t, g, 8080)
	check(w.call(ctx, 80)())
	for _, s := range g.Subscribers {
		for _, server := range []netip.Addr{g.Server4, g.Server6} {
			for range 3 {
				_, _, err := s.GetHTTP(ctx, "http://"+netip.AddrPortFrom(server, 80).String()+"/")
				check(err)
				_, _, err = s.Lookup(ctx, netip.AddrPortFrom(server, 53), "ip4", "www.example.net")
				check(err)
			}
			_, err := s.Refused(ctx, netip.AddrPortFrom(server, 81))
			check(err)
			if s.Addr4 != g.Subscribers[1].Addr4 || server.Is6() {
				check(s.Ping(ctx, server, 2))
			}
		}
		_, err := s.HalfOpen(netip.AddrPortFrom(g.Blackhole4, 443))
		check(err)
	}
	// The internet may begin a session too. Without ids all echoes between two
	// addresses are one, hence the pair that was left out above.
	check(g.Internet.Ping(ctx, g.Subscribers[1].Addr4, 1))
	_, err := g.Internet.Refused(ctx, netip.AddrPortFrom(g.Subscribers[1].Addr6, 22))
	check(err)
}

var newEvent = regexp.MustCompile(`(?m)^\s*\[NEW\] (\S+)\s+(\d+) .*?src=(\S+) dst=(\S+)(?: sport=(\d+) dport=(\d+))?`)

// newConnections reads conntrack's events: protocol, initiator and responder,
// as tupleOf writes them. Those of the gateway itself are left out, and for
// ICMP each echo's id would be a connection of its own: the ids are left out.
func newConnections(text string, locals []netip.Addr) map[string]bool {
	out := map[string]bool{}
	for _, m := range newEvent.FindAllStringSubmatch(text, -1) {
		from, err1 := netip.ParseAddr(m[3])
		to, err2 := netip.ParseAddr(m[4])
		if err1 != nil || err2 != nil || !slices.Contains(locals, from) && !slices.Contains(locals, to) {
			continue
		}
		sport, _ := strconv.Atoi(m[5]) // "" for ICMP is 0
		dport, _ := strconv.Atoi(m[6])
		out[m[2]+" "+connection{from: netip.AddrPortFrom(from, uint16(sport)), to: netip.AddrPortFrom(to, uint16(dport))}.tuple()] = true
	}
	return out
}
