package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// measureTime is how long the kernel is asked to measure.
const measureTime = time.Second

// programs returns the ids of those that watch uplinks.
func programs(s *recorder.Status) (ids []uint32) {
	if s.Probe == nil {
		return nil
	}
	for i := range s.Probe.Uplinks {
		ids = append(ids, s.Probe.Uplinks[i].Ingress.Program, s.Probe.Uplinks[i].Egress.Program)
	}
	return ids
}

// costsOf returns what the programs cost: measured now with --cost; else since
// the kernel was told to measure, if it was and this user may know.
func costsOf(c *cli.Context, s *recorder.Status) ([]probe.Cost, error) {
	if c.Bool("cost") {
		list, err := probe.MeasureCosts(c.Context, programs(s), pause)
		if err != nil {
			return nil, fail(err).hint("run it as root on the gateway itself")
		}
		return list, nil
	}
	if !probe.CostsKept() {
		return nil, nil
	}
	list, err := probe.Costs(programs(s))
	if err != nil {
		return nil, nil // nobody asked for it
	}
	return list, nil
}

// pause waits while the kernel measures.
func pause(ctx context.Context) error {
	t := time.NewTimer(measureTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkCost has the kernel measure what the programs cost.
func (d *doctor) checkCost(s *recorder.Status) {
	if !d.measure {
		return
	}
	list, err := probe.MeasureCosts(d.ctx, programs(s), pause)
	if err != nil {
		d.warn("cost", err.Error(), "run this as root")
		return
	}
	for _, c := range list {
		if c.Runs == 0 {
			d.ok("cost", fmt.Sprintf("program %d: no packet came within %v", c.Program, measureTime))
			continue
		}
		d.ok("cost", fmt.Sprintf("program %d: %.0f ns a packet, of %d packets; some 20 ns of them are the measuring", c.Program, c.PerRun(), c.Runs))
	}
}
