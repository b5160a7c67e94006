package tests

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
)

// program loads one that returns a verdict and does nothing else.
func program(t *testing.T, kind ebpf.ProgramType, verdict int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "neighbour", Type: kind, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// hung is what hangs on an interface, in words that do not change while
// packets pass.
func hung(t *testing.T, g *gateway.Gateway) []string {
	t.Helper()
	var out []string
	err := g.Gateway().Do(func() error {
		dev, err := netlink.LinkByName(g.Uplink)
		if err != nil {
			return err
		}
		if x := dev.Attrs().Xdp; x != nil && x.Attached {
			out = append(out, fmt.Sprintf("xdp %d", x.ProgId))
		}
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: at})
			if errors.Is(err, unix.EINVAL) {
				continue // no TCX before Linux 6.6
			}
			if err != nil {
				return err
			}
			for _, p := range r.Programs {
				out = append(out, fmt.Sprintf("%s %d", at, p.ID))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range [][]string{{"qdisc", "show"}, {"filter", "show"}} {
		for _, hook := range []string{"ingress", "egress"} {
			args := append(slices.Clone(what), "dev", g.Uplink)
			if what[0] == "filter" {
				args = append(args, hook)
			}
			text, err := g.Gateway().Run(limited(t), "tc", args...)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(text) {
				out = append(out, what[0]+" "+hook+" "+strings.TrimSpace(line))
			}
		}
	}
	return out
}

// hasTCX asks the kernel.
func hasTCX(t *testing.T) bool {
	t.Helper()
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXEgress}) // the loopback
	if err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	return err == nil
}

// The neighbours are attached before the agent.
func neighbourXDP(t *testing.T, g *gateway.Gateway) error {
	p := program(t, ebpf.XDP, 2) // XDP_PASS
	return g.Gateway().Do(func() error {
		dev, err := netlink.LinkByName(g.Uplink)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFd(dev, p.FD()) // as "ip link set dev … xdp" does
	})
}

func neighbourTCX(t *testing.T, g *gateway.Gateway) error {
	p := program(t, ebpf.SchedCLS, -1) // TCX_NEXT
	return g.Gateway().Do(func() error {
		dev, err := net.InterfaceByName(g.Uplink)
		if err != nil {
			return err
		}
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			if !hasTCX(t) {
				t.Skip("this kernel has no TCX (Linux 6.6)")
			}
			l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: p, Attach: at})
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = l.Close() })
		}
		return nil
	})
}

func neighbourFilters(t *testing.T, g *gateway.Gateway) error { return filters(t, g, unix.ETH_P_ALL) }

func neighbourIPFilters(t *testing.T, g *gateway.Gateway) error { return filters(t, g, unix.ETH_P_IP) }

// filters adds filters that look at packets of a protocol and leave the
// decision about each to the next.
func filters(t *testing.T, g *gateway.Gateway, protocol uint16) error {
	p := program(t, ebpf.SchedCLS, -1) // TC_ACT_UNSPEC
	return g.Gateway().Do(func() error {
		dev, err := netlink.LinkByName(g.Uplink)
		if err != nil {
			return err
		}
		at := dev.Attrs().Index
		err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: at, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}})
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			for _, priority := range []uint16{1, 7} {
				err = errors.Join(err, netlink.FilterAdd(&netlink.BpfFilter{
					FilterAttrs: netlink.FilterAttrs{LinkIndex: at, Parent: parent, Handle: 1, Protocol: protocol, Priority: priority},
					Fd:          p.FD(), Name: "neighbour", DirectAction: true,
				}))
			}
		}
		return err
	})
}

// company is who hangs on the uplink before the agent comes, and what the agent
// then does.
type company struct {
	name            string
	attach          string
	neighbours      []func(*testing.T, *gateway.Gateway) error
	ingress, egress string
	note            string
}

func TestProgramsOfOthersStayAndTheAgentRecordsBesideThem(t *testing.T) {
	type list = []func(*testing.T, *gateway.Gateway) error
	for _, c := range []company{
		{"nobody else, and the best way is taken", "auto", nil, "xdp", "tcx", ""},
		{"nobody else, and tcx is asked for", "tcx", nil, "tcx", "tcx", ""},
		{"nobody else, and clsact is asked for", "clsact", nil, "clsact", "clsact", ""},
		{"an XDP program", "auto", list{neighbourXDP}, "tcx", "tcx", "another XDP program"},
		{"TCX programs", "auto", list{neighbourTCX}, "xdp", "tcx", ""},
		{"TCX programs, and tcx is asked for", "tcx", list{neighbourTCX}, "tcx", "tcx", ""},
		{"filters, and tcx is asked for", "tcx", list{neighbourFilters}, "tcx", "tcx", ""},
		{"filters, and clsact is asked for", "clsact", list{neighbourFilters}, "clsact", "clsact", ""},
		{"filters of one protocol, and clsact is asked for", "clsact", list{neighbourIPFilters}, "clsact", "clsact", "filters of others come first"},
		{"everything at once", "auto", list{neighbourXDP, neighbourTCX, neighbourFilters}, "tcx", "tcx", "another XDP program"},
	} {
		t.Run(c.name, c.stays)
	}
}

// stays starts, kills, starts and stops an agent beside the neighbours.
func (c company) stays(t *testing.T) {
	edit := quickEnds()
	edit["attach ="], edit["on_stop ="] = fmt.Sprintf("attach = %q", c.attach), `on_stop = "drain"`
	filtered := c.attach == "clsact"
	if !hasTCX(t) {
		if c.attach == "tcx" {
			t.Skip("this kernel has no TCX (Linux 6.6)")
		}
		c.ingress, c.egress, filtered = strings.Replace(c.ingress, "tcx", "clsact", 1), "clsact", true
	}
	g := open(t, 0, gateway.Options{Edit: edit})
	ctx := limited(t)
	for _, neighbour := range c.neighbours {
		if err := neighbour(t, g); err != nil {
			t.Fatal(err)
		}
	}
	before := hung(t, g)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	u := s.Probe.Uplinks[0]
	if u.Ingress.Mode != c.ingress || u.Egress.Mode != c.egress || !strings.Contains(u.Ingress.Note, c.note) || u.Error != "" {
		t.Fatalf("ingress %+v, egress %+v, %q", u.Ingress, u.Egress, u.Error)
	}
	during := hung(t, g)
	for _, line := range before {
		if !slices.Contains(during, line) && !strings.Contains(line, "noqueue") {
			t.Errorf("gone while the agent runs: %s", line)
		}
	}
	w := newCrowd(t, g, 8080)
	callAndCheck(ctx, t, g, w, 400)
	g.Kill()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if again := hung(t, g); len(again) != len(during) {
		t.Errorf("killed and started again, it does not take the place that it had:\n%s", strings.Join(again, "\n"))
	}
	callAndCheck(ctx, t, g, w, 40)
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	// The qdisc that clsact needs stays: others may have come to use it.
	after := slices.DeleteFunc(hung(t, g), func(line string) bool {
		return filtered && strings.Contains(line, "clsact") && !slices.Contains(before, line)
	})
	if !slices.Equal(before, after) {
		t.Errorf("before the agent:\n%s\nafter it:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}
