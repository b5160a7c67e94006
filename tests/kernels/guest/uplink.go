package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/kernels"
	"github.com/edgelog/edgelog/tests/lab"
)

// uplink is a gateway whose uplink is a virtio network card; the other card is
// the internet.
//
//	own 192.0.2.1 on lo ── gateway ── eth0 ═══ eth1 ── internet
//	                       198.51.100.1        198.51.100.10
type uplink struct {
	g      *gateway.Gateway
	native int // sessions made so far
}

var own = netip.MustParseAddr("192.0.2.1")

// take does a step of this program's own, and says what it found.
func (u *uplink) take(ctx context.Context, name string) (string, error) {
	step := map[string]func(context.Context) (string, error){
		"attach": u.attach, "traffic": u.traffic, "restart": u.restart, "load": u.load, "drain": u.drain,
	}[name]
	if step == nil {
		return "", fmt.Errorf("no step is called %q", name)
	}
	if u.g == nil && name != "attach" {
		return "", errors.New("there is no gateway: its step has failed")
	}
	return step(ctx)
}

func (u *uplink) close() error {
	if u.g == nil {
		return nil
	}
	return u.g.Close()
}

// log is what the agent printed, for a failed step.
func (u *uplink) log() string {
	if u.g == nil || u.g.Agent() == nil {
		return ""
	}
	return lastOf(u.g.Agent().Output(), 8000)
}

// join makes the two namespaces and moves a card to each.
func join() (*lab.Border, error) {
	l, err := lab.Open()
	if err != nil {
		return nil, err
	}
	b := &lab.Border{
		Lab: l, Uplink: "eth0", MTU: 1500, Local: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Gateway4: netip.MustParseAddr("198.51.100.1"), Server4: netip.MustParseAddr("198.51.100.10"),
	}
	var err1, err2 error
	b.Gateway, err1 = l.Namespace("gateway")
	b.Internet, err2 = l.Namespace("internet")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	any4 := netip.MustParsePrefix("0.0.0.0/0")
	return b, errors.Join(
		move(b.Gateway, "eth0", netip.PrefixFrom(b.Gateway4, 24)), move(b.Internet, "eth1", netip.PrefixFrom(b.Server4, 24)),
		address(b.Gateway, "lo", netip.PrefixFrom(own, 32)),
		b.Gateway.Route(any4, b.Server4), b.Internet.Route(b.Local[0], b.Gateway4),
		// What the load step sends to is answered by nobody.
		b.Gateway.Blackhole(netip.MustParsePrefix("192.0.2.128/25")), b.Internet.Blackhole(netip.MustParsePrefix("203.0.113.0/24")))
}

// move takes a card of the machine into a namespace, and brings it up.
func move(to *lab.Namespace, name string, a netip.Prefix) error {
	ns, err := os.Open(to.Path())
	if err != nil {
		return fmt.Errorf("open namespace %q: %w", to.Name, err)
	}
	defer ns.Close()
	card, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the network card %q: %w", name, err)
	}
	if err := netlink.LinkSetNsFd(card, int(ns.Fd())); err != nil {
		return fmt.Errorf("move the network card %q: %w", name, err)
	}
	return address(to, name, a)
}

func address(in *lab.Namespace, name string, a netip.Prefix) error {
	return in.Do(func() error {
		card, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %q: %w", name, err)
		}
		ipNet := &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}
		return errors.Join(netlink.AddrAdd(card, &netlink.Addr{IPNet: ipNet}), netlink.LinkSetUp(card))
	})
}

// attach starts the agent, and demands native XDP one way and what this kernel
// has the other way.
func (u *uplink) attach(ctx context.Context) (string, error) {
	b, err := join()
	if err != nil {
		return "", err
	}
	g, err := gateway.Open(ctx, b, b.Dir(), gateway.Options{Binary: kernels.Agent, Slots: 1 << 17, Edit: map[string]string{
		"half_open =": `half_open = "1s"`, "linger =": `linger = "100ms"`, "udp =": `udp = "1s"`,
	}})
	if err != nil {
		return "", errors.Join(err, b.Close())
	}
	u.g = g
	if err := g.Start(ctx); err != nil {
		return "", err
	}
	return u.attached(ctx)
}

// attached compares what the agent says with what hangs on the card: one
// program each way.
func (u *uplink) attached(ctx context.Context) (string, error) {
	s, err := u.g.Status(ctx)
	if err != nil {
		return "", err
	}
	at := s.Probe.Uplinks[0]
	found := fmt.Sprintf("in %s, out %s", at.Ingress.Mode, at.Egress.Mode)
	if at.Error != "" || at.Ingress.Mode != "xdp" {
		return found, fmt.Errorf("the uplink is not watched by native XDP: %s: %s %s", found, at.Ingress.Note, at.Error)
	}
	h, err := u.hooks()
	if err != nil {
		return found, err
	}
	want := hooks{xdp: []uint32{at.Ingress.Program}, native: true}
	if h.hasTCX {
		want.hasTCX, want.egress = true, []uint32{at.Egress.Program}
	} else {
		want.filtersOut = 1
	}
	if mode := map[bool]string{true: "tcx", false: "clsact"}[h.hasTCX]; at.Egress.Mode != mode {
		return found, fmt.Errorf("this kernel has %s, but the agent uses %s: %s", mode, at.Egress.Mode, at.Egress.Note)
	}
	if !h.equal(want) {
		return found, fmt.Errorf("on the card hang %+v, expected %+v", h, want)
	}
	return found, nil
}

// restart kills and stops the agent, and starts it again: what hangs on the
// card stays, is replaced, and never doubles.
func (u *uplink) restart(ctx context.Context) (string, error) {
	before, err := u.hooks()
	if err != nil {
		return "", err
	}
	stop := func() error { return u.g.Stop(ctx) }
	for name, end := range map[string]func() error{"killed": func() error { u.g.Kill(); return nil }, "stopped": stop} {
		if err := end(); err != nil {
			return "", err
		}
		left, err := u.hooks()
		if err != nil || left.count() != before.count() {
			return "", fmt.Errorf("an agent that was %s left %+v, expected as many as %+v (%w)", name, left, before, err)
		}
		if err := u.g.Start(ctx); err != nil {
			return "", err
		}
		if _, err := u.attached(ctx); err != nil {
			return "", fmt.Errorf("after it was %s: %w", name, err)
		}
		if before, err = u.hooks(); err != nil {
			return "", err
		}
		if _, err := u.traffic(ctx); err != nil {
			return "", fmt.Errorf("after it was %s: %w", name, err)
		}
	}
	return "killed and stopped, nothing doubled", nil
}

// drain stops the agent for good: nothing stays on the card or in the table.
func (u *uplink) drain(ctx context.Context) (string, error) {
	if err := u.g.Reconfigure(map[string]string{"on_stop =": `on_stop = "drain"`}); err != nil {
		return "", err
	}
	// on_stop counts from the next start on.
	if err := u.g.Stop(ctx); err != nil {
		return "", err
	}
	if err := u.g.Start(ctx); err != nil {
		return "", err
	}
	if err := u.g.Stop(ctx); err != nil {
		return "", err
	}
	h, err := u.hooks()
	if err != nil {
		return "", err
	}
	if h.count() != 0 {
		return "", fmt.Errorf("a drained gateway still has %+v", h)
	}
	left, err := os.ReadDir(u.g.BPFFS())
	if err != nil || len(left) > 0 {
		return "", fmt.Errorf("a drained gateway left %v (%w)", left, err)
	}
	return "nothing left", nil
}
