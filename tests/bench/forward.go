package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
	"github.com/edgelog/edgelog/tests/load"
)

const (
	forwardTime   = 3 * time.Second
	forwardRounds = 5 // of each kind, in turn; the best of each counts: disturbance only takes away
	forwardFlows  = 1 << 16
)

// way is a direction in which the gateway forwards.
type way struct {
	name    string
	options func(*lab.Border) load.Options
	arrive  func(*lab.Border) (n *lab.Namespace, name string) // the interface at which forwarded packets end
}

var ways = []way{
	{"in", func(b *lab.Border) load.Options {
		o := load.On(b, load.Established)
		o.Local4 = netip.PrefixFrom(b.Subscribers[0].Addr4, 32)
		return o
	}, func(b *lab.Border) (*lab.Namespace, string) { return b.Subscribers[0].Namespace, "wan" }},
	{"out", func(b *lab.Border) load.Options {
		o := load.On(b, load.Established)
		o.Uplink, o.Neighbour, o.Far = "sub1", b.Subscribers[0].Namespace, "wan"
		o.Local4, o.Far4 = netip.MustParsePrefix("10.0.0.0/8"), netip.PrefixFrom(b.Subscribers[0].Addr4, 32)
		o.Hosts = 1 << 16
		return o
	}, func(b *lab.Border) (*lab.Namespace, string) { return b.Internet, "border" }},
}

// forward counts what the gateway forwards through its stack from one
// interface to another, on one CPU.
func (b *bench) forward(ctx context.Context) (out []Entry, err error) {
	for _, w := range ways {
		rates := map[string][]float64{}
		for range forwardRounds {
			for _, kind := range []string{"nothing", "pass", "edgelog"} {
				r, err := b.forwarded(ctx, w, kind)
				if err != nil {
					return out, fmt.Errorf("forward %s with %s: %w", w.name, kind, err)
				}
				rates[kind] = append(rates[kind], r)
			}
		}
		mine := slices.Max(rates["edgelog"])
		for _, kind := range []string{"nothing", "pass"} {
			base := slices.Max(rates[kind])
			vs := map[string]string{"nothing": "nothing", "pass": "XDP_PASS"}[kind]
			out = append(out, Entry{
				Name: "forward/" + w.name + "/packets_per_second", Value: mine, Unit: "packets/s", Vs: vs, Ratio: mine / base,
				Note: fmt.Sprintf("%s: %s; IPv4, %d flows at random, each second of CPU time, of one CPU for traffic and forwarding", vs, figure(base), forwardFlows),
			})
		}
	}
	return out, nil
}

// forwarded measures once.
func (b *bench) forwarded(ctx context.Context, w way, kind string) (rate float64, err error) {
	if kind == "edgelog" {
		err = b.withGateway(ctx, setting{slots: 1 << 18}, func(g *gateway.Gateway) error {
			rate, err = b.through(ctx, g.Border, w)
			return err
		})
		return rate, err
	}
	border, err := lab.OpenBorder(0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, border.Close()) }()
	if kind == "pass" {
		undo, err := passAll(border)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	return b.through(ctx, border, w)
}

// passAll attaches to the uplink an XDP program that does nothing.
func passAll(border *lab.Border) (undo func() error, err error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return nil, fmt.Errorf("load a program that passes all: %w", err)
	}
	err = border.Gateway.Do(func() error {
		i, err := net.InterfaceByName(border.Uplink)
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: i.Index})
		if err == nil {
			undo = func() error { return errors.Join(l.Close(), p.Close()) }
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach a program that passes all: %w", errors.Join(err, p.Close()))
	}
	return undo, nil
}

// through sends at full speed and returns how many packets came out in each
// second of CPU time: all of it happens on one CPU, which others may use too.
func (b *bench) through(ctx context.Context, border *lab.Border, w way) (float64, error) {
	o := w.options(border)
	o.Flows, o.Duration, o.CPU, o.PassOn = forwardFlows, forwardTime, b.loadCPU, true
	at, name := w.arrive(border)
	rules := fmt.Sprintf("table netdev end {\nchain end {\ntype filter hook ingress device %q priority 0; policy accept;\nether type ip drop\n}\n}\n", name)
	if _, err := at.RunCommand(ctx, lab.Command{Path: "nft", Args: []string{"-f", "-"}, Stdin: strings.NewReader(rules)}); err != nil {
		return 0, err
	}
	before, err := received(at, name)
	if err != nil {
		return 0, err
	}
	sent, err := b.send(ctx, o)
	if err != nil {
		return 0, err
	}
	after, err := received(at, name)
	if err != nil {
		return 0, err
	}
	if lost := sent.In - min(sent.In, after-before); lost > sent.In/1000 {
		return 0, fmt.Errorf("of %d packets %d were not forwarded", sent.In, lost)
	}
	return float64(after-before) / sent.Busy.Seconds(), nil
}

// received is the number of packets that an interface has received.
func received(n *lab.Namespace, name string) (count uint64, err error) {
	err = n.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if device, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && device == name {
				count, err = strconv.ParseUint(strings.Fields(rest)[1], 10, 64)
				return err
			}
		}
		return fmt.Errorf("there is no interface %q", name)
	})
	return count, err
}
