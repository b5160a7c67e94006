package load

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// edgelog is the program under test, built once.
var edgelog string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edgelog-load-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	edgelog = filepath.Join(dir, "edgelog")
	if out, err := exec.Command("go", "build", "-o", edgelog, "../../cmd/edgelog").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build edgelog: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// limited bounds a hang.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// startGateway runs the real program; it stores everything when it is stopped.
func startGateway(t *testing.T, attach string) *gateway.Gateway {
	t.Helper()
	g, err := gateway.Open(limited(t), lab.NewBorder(t), t.TempDir(), gateway.Options{
		Binary: edgelog, Slots: 1 << 17, Edit: map[string]string{
			"on_stop =": `on_stop = "drain"`, "attach =": fmt.Sprintf("attach = %q", attach),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(limited(t)); err != nil {
		t.Fatal(err)
	}
	return g
}

// send runs a generator to its end.
func send(t *testing.T, o Options) Sent {
	t.Helper()
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Run(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Lost != 0 {
		t.Fatalf("%d frames were lost", s.Lost)
	}
	return s
}

// line is how a session is compared: what edgelog says, and what was sent.
func line(proto uint8, from, to netip.AddrPort, end string) string {
	return fmt.Sprintf("%d %v > %v %s", proto, from, to, end)
}

// recorded stops the agent and reads all sessions of the local ends.
func recorded(t *testing.T, g *gateway.Gateway, locals []netip.Addr) []string {
	t.Helper()
	ctx := limited(t)
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range locals {
		_, sessions, err := g.Sessions(ctx, "--address", a.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sessions {
			from := netip.AddrPortFrom(netip.MustParseAddr(s.Initiator), s.InitiatorPort)
			to := netip.AddrPortFrom(netip.MustParseAddr(s.Responder), s.ResponderPort)
			out = append(out, line(s.Proto, from, to, s.EndReason))
		}
	}
	slices.Sort(out)
	return out
}

// expected is what shall be recorded of what was sent.
func expected(t *testing.T, o Options, n uint64) (lines []string, locals []netip.Addr, packets uint64) {
	t.Helper()
	tuples, err := Tuples(o, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tuples {
		ends := []string{"shutdown"}
		if s.Ended {
			ends = []string{"fin"}
			if o.Mode == Resets || o.Mode == Visits || s.Far.Port() == 80 {
				ends = []string{"rst"}
			}
		}
		lines = append(lines, line(s.Proto, s.Initiator(), s.Responder(), ends[0]))
		locals = append(locals, s.Local.Addr())
		packets += uint64(s.Packets)
	}
	slices.Sort(lines)
	slices.SortFunc(locals, netip.Addr.Compare)
	return lines, slices.Compact(locals), packets
}

func TestTheGatewayRecordsExactlyTheSessionsThatWereSent(t *testing.T) {
	cases := []struct {
		name   string
		attach string
		o      Options
	}{
		{"packets of open sessions that come in", "auto", Options{Mode: Established, Family: Both, Count: 6000, Flows: 2000}},
		{"packets of open sessions that leave", "auto", Options{Mode: Established, Family: Both, Count: 6000, Flows: 2000, Egress: true}},
		{"one packet each, coming in", "auto", Options{Mode: New, Family: Both, Count: 3000}},
		{"one packet each, leaving", "auto", Options{Mode: New, Family: Both, Count: 3000, Egress: true}},
		{"one packet each, coming in where only TCX looks", "tcx", Options{Mode: New, Family: Both, Count: 3000}},
		{"whole lives of IPv4", "auto", Options{Mode: Lives, Family: IPv4, Count: 3000}},
		{"whole lives of IPv6", "auto", Options{Mode: Lives, Family: IPv6, Count: 3000}},
		{"whole lives behind two tags", "auto", Options{Mode: Lives, Family: Both, Count: 1000, Tags: []uint16{10, 20}}},
		{"lives of which one direction is seen", "auto", Options{Mode: Resets, Family: Both, Count: 3000}},
		{"handshakes", "auto", Options{Mode: Handshakes, Family: Both, Count: 3000}},
		{"questions and answers", "auto", Options{Mode: Answers, Family: Both, Count: 3000}},
		{"a flood", "auto", Options{Mode: Flood, Family: Both, Count: 3000}},
		{"a mix", "auto", Options{Mode: Mix, Family: Both, Count: 3000}},
		{"lives handed to the program without a link", "auto", Options{Mode: Resets, Family: Both, Count: 3000, Direct: true}},
		{"established lives of which one direction is seen", "auto", Options{Mode: Visits, Family: Both, Count: 3000}},
		{"without GRO", "auto", Options{Mode: Resets, Family: IPv4, Count: 3000, Lean: true}},
		{"at a rate at which the program waits", "auto", Options{Mode: New, Family: IPv4, Count: 5000, Rate: 200_000}},
		{"at a set rate, in small waves", "auto", Options{Mode: New, Family: IPv4, Count: 200, Rate: 5000}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, c.attach)
			o := On(g.Border, c.o.Mode)
			o.Family, o.Count, o.Flows, o.Egress, o.Tags, o.Rate = c.o.Family, c.o.Count, c.o.Flows, c.o.Egress, c.o.Tags, c.o.Rate
			o.Direct, o.Lean = c.o.Direct, c.o.Lean
			o.Hosts, o.Seed, o.CPU = 2, uint64(i), i%2
			sessions := o.Count
			if o.Mode == Established {
				sessions = o.Flows
			}
			want, locals, packets := expected(t, o, sessions)
			if o.Mode == Established {
				packets = o.Count
			}
			sent := send(t, o)
			if sent.Sessions != sessions || sent.Packets() != packets {
				t.Errorf("%d sessions and %d packets were sent, want %d and %d", sent.Sessions, sent.Packets(), sessions, packets)
			}
			status, err := g.Until(limited(t), "the packets are counted", func(s *gateway.Status) bool {
				return s.Probe.Uplinks[0].In.Outcomes["recorded"] >= sent.In && s.Probe.Uplinks[0].Out.Outcomes["recorded"] >= sent.Out
			})
			if err != nil {
				t.Fatal(err)
			}
			u := status.Probe.Uplinks[0]
			if u.In.Outcomes["recorded"] != sent.In || u.Out.Outcomes["recorded"] != sent.Out {
				t.Errorf("in %d, out %d packets are recorded, want %d, %d", u.In.Outcomes["recorded"], u.Out.Outcomes["recorded"], sent.In, sent.Out)
			}
			compare(t, recorded(t, g, locals), want)
		})
	}
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%d sessions are recorded, want %d", len(got), len(want))
	said := 0
	for i, j := 0, 0; (i < len(got) || j < len(want)) && said < 10; {
		switch {
		case j == len(want) || i < len(got) && got[i] < want[j]:
			t.Errorf("too many: %s", got[i])
			i, said = i+1, said+1
		case i == len(got) || got[i] > want[j]:
			t.Errorf("missing: %s", want[j])
			j, said = j+1, said+1
		default:
			i, j = i+1, j+1
		}
	}
}

func TestATupleIsAPureFunctionAndComesOnce(t *testing.T) {
	for _, m := range []Mode{Established, New, Lives, Resets, Handshakes, Answers, Flood, Mix, Visits} {
		o := Options{Mode: m, Family: Both, Seed: 7, Local4: netip.MustParsePrefix("192.0.2.0/24"), Local6: netip.MustParsePrefix("2001:db8:a::/48")}
		a, err := Tuples(o, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := Tuples(o, 1<<16)
		if !slices.Equal(a, b) {
			t.Errorf("%v: another list the second time", m)
		}
		seen := map[Session]bool{}
		for i, s := range a {
			one, err := Tuple(o, uint64(i))
			if err != nil || one != s || seen[s] {
				t.Fatalf("%v: session %d is %+v, %+v (%v), or not the only one", m, i, one, s, err)
			}
			seen[s] = true
			for _, p := range []netip.Prefix{o.Local4, o.Local6} {
				if p.Contains(s.Far.Addr()) {
					t.Fatalf("%v: the far end of %+v is local", m, s)
				}
			}
			if !o.Local4.Contains(s.Local.Addr()) && !o.Local6.Contains(s.Local.Addr()) {
				t.Fatalf("%v: the local end of %+v is not local", m, s)
			}
		}
		o.Seed++
		if c, _ := Tuples(o, 1<<10); slices.Equal(a[:1<<10], c) {
			t.Errorf("%v: another seed gives the same sessions", m)
		}
	}
}
