package main

import (
	"context"
	"fmt"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/load"
)

const idleTime = 20 * time.Second

// idle measures an agent to which nothing happens, with no and with a million
// open sessions.
func (b *bench) idle(ctx context.Context) (out []Entry, err error) {
	for _, sessions := range []uint64{0, 1_000_000} {
		err := b.withGateway(ctx, setting{slots: 1 << 22, udp: "1h"}, func(g *gateway.Gateway) error {
			if sessions > 0 {
				o := load.On(g.Border, load.New)
				o.Count, o.CPU = sessions, b.loadCPU
				if _, err := b.send(ctx, o); err != nil {
					return err
				}
				if _, err := await(ctx, g, func(s *gateway.Status) bool { return s.Probe.Table.Open >= sessions }); err != nil {
					return err
				}
			}
			entries, err := b.resting(ctx, g, fmt.Sprintf("idle/sessions=%d/", sessions))
			out = append(out, entries...)
			return err
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// resting looks at an agent for a while, and at its memory then.
func (b *bench) resting(ctx context.Context, g *gateway.Gateway, name string) ([]Entry, error) {
	pid := g.Agent().PID()
	before, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	over := time.NewTimer(idleTime)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := cpuTime(pid)
	if err != nil {
		return nil, err
	}
	resident, mapped, err := memory(pid)
	if err != nil {
		return nil, err
	}
	return []Entry{
		{Name: name + "cpu", Value: 100 * (after - before).Seconds() / idleTime.Seconds(), Unit: "% of a CPU", Note: "table of 4M slots"},
		{
			Name: name + "memory", Value: float64(resident-mapped) / (1 << 20), Unit: "MiB",
			Note: fmt.Sprintf("resident, without %.0f MiB of mapped table and ring", float64(mapped)/(1<<20)),
		},
	}, nil
}
