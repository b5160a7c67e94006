package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/load"
)

const (
	// While the rate is searched for; sessions that end by silence have to last
	// until the table has as many as it will ever have.
	trialTime     = 6 * time.Second
	idleTrialTime = 20 * time.Second
	// patience is how long the agent has to catch up when the traffic has ended:
	// closed sessions wait 2 s for stragglers, and a block 1 s for company. What
	// it does later counts as too late.
	patience = 6 * time.Second
	hang     = 2 * time.Minute
)

// traffic is what is sent end to end.
type traffic struct {
	name    string
	mode    load.Mode
	family  load.Family
	setting setting
	direct  bool // handed to the program, without a link
	note    string
}

var endToEnd = []traffic{
	{"e2e/new_sessions_per_second", load.Visits, load.IPv4, setting{slots: 1 << 23}, false, "TCP lives of three packets, IPv4, over the link, table of 8M slots"},
	{"e2e/new_sessions_per_second/direct", load.Visits, load.IPv4, setting{slots: 1 << 23}, true, "the same handed to the attached program without a link, which costs the traffic's CPU more than recording"},
	{"e2e/new_sessions_per_second/ipv6", load.Visits, load.IPv6, setting{slots: 1 << 23}, true, "TCP lives of three packets, IPv6, without a link, table of 8M slots"},
	{"e2e/new_sessions_per_second/udp", load.New, load.IPv4, setting{slots: 1 << 24, udp: "5s"}, true, "one UDP packet each, without a link, idle time 5 s, table of 16M slots"},
}

// outcome is what one trial found.
type outcome struct {
	rate    float64       // sessions a second that were sent
	lost    uint64        // sessions sent that were not stored in time
	behind  time.Duration // from the last packet until all was stored
	agent   float64       // CPUs that the agent used meanwhile
	memory  float64       // MiB resident beside mapped maps, when the traffic ended
	traffic float64       // CPUs that the traffic used, the kernel's side of recording in it
}

func (o outcome) clean() bool { return o.lost == 0 }

func (b *bench) e2e(ctx context.Context) ([]Entry, error) {
	var out []Entry
	toDisk, err := b.tableToDisk(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, Entry{Name: "e2e/table_to_disk", Value: toDisk, Unit: "sessions/s", Note: "the agent alone, on one CPU, from a full table to durable"})
	for _, t := range endToEnd {
		if !strings.HasSuffix(t.name, b.only) {
			continue
		}
		best, err := b.highest(ctx, t)
		if err != nil {
			return out, fmt.Errorf("%s: %w", t.name, err)
		}
		out = append(out, Entry{
			Name: t.name, Value: best.rate, Unit: "sessions/s", Vs: "table_to_disk", Ratio: best.rate / toDisk,
			Note: fmt.Sprintf("%s; none lost in %v; all durable %.1f s after the last packet; CPU: agent %.0f %%, traffic with the kernel's side %.0f %%",
				t.note, b.duration, best.behind.Seconds(), 100*best.agent, 100*best.traffic),
		}, Entry{Name: strings.Replace(t.name, "new_sessions_per_second", "memory", 1), Value: best.memory, Unit: "MiB", Note: "resident at that rate, without the mapped table and ring"})
	}
	return out, nil
}

// highest searches for the highest rate at which nothing is lost: in short
// trials, and then for as long as it is asked for.
func (b *bench) highest(ctx context.Context, t traffic) (best outcome, err error) {
	try := trialTime
	if t.mode != load.Visits {
		try = idleTrialTime
	}
	full, err := b.trial(ctx, t, 0, try)
	if err != nil {
		return best, err
	}
	rate := 0.0 // full speed
	if !full.clean() {
		low, high := 0.0, full.rate
		for range 4 {
			middle := (low + high) / 2
			o, err := b.trial(ctx, t, middle, try)
			if err != nil {
				return best, err
			}
			if o.clean() {
				low = middle
			} else {
				high = middle
			}
		}
		rate = max(low, full.rate/32)
	}
	for range 8 {
		if best, err = b.trial(ctx, t, rate, b.duration); err != nil || best.clean() {
			return best, err
		}
		rate = best.rate * 0.92
	}
	return best, errors.New("no rate was found at which nothing is lost")
}

// trial sends at a rate, 0 for full speed, and waits until all is stored.
func (b *bench) trial(ctx context.Context, t traffic, rate float64, duration time.Duration) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, duration+hang)
	defer cancel()
	err = b.withGateway(ctx, t.setting, func(g *gateway.Gateway) error {
		opt := load.On(g.Border, t.mode)
		opt.Family, opt.Rate, opt.Duration, opt.CPU, opt.Lean, opt.Direct = t.family, rate, duration, b.loadCPU, true, t.direct
		before, err := cpuTime(g.Agent().PID())
		if err != nil {
			return err
		}
		sent, err := b.send(ctx, opt)
		if err != nil {
			return err
		}
		end := time.Now()
		after, err := cpuTime(g.Agent().PID())
		if err != nil {
			return err
		}
		resident, mapped, err := memory(g.Agent().PID())
		if err != nil {
			return err
		}
		wait, stop := context.WithTimeout(ctx, patience+t.idle())
		defer stop()
		s, err := await(wait, g, func(s *gateway.Status) bool {
			n, _ := refused(s)
			return s.Probe.Table.Stored >= sent.Sessions+s.Probe.Table.Reopened || n > 0
		})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if s == nil {
			return err
		}
		o = outcome{
			rate: float64(sent.Sessions) / sent.Took.Seconds(), behind: time.Since(end),
			memory: float64(resident-mapped) / (1 << 20),
			agent:  (after - before).Seconds() / sent.Took.Seconds(), traffic: sent.Busy.Seconds() / sent.Took.Seconds(),
		}
		n, why := refused(s)
		o.lost = max(n, sent.Sessions-min(sent.Sessions, s.Probe.Table.Stored-s.Probe.Table.Reopened))
		fmt.Fprintf(os.Stderr, "bench: %s: %s a second for %v: %d not stored in time (refused: %d %s); agent %.0f %%, traffic %.0f %% of a CPU\n",
			t.name, figure(o.rate), duration, o.lost, n, why, 100*o.agent, 100*o.traffic)
		return nil
	})
	return o, err
}

// idle is how long a session of this traffic may wait in the table until its
// end is found: its idle time, and some walks of the agent through a large table.
func (t traffic) idle() time.Duration {
	if t.mode == load.Visits {
		return 0
	}
	return 30 * time.Second
}

// send runs a generator to its end.
func (b *bench) send(ctx context.Context, o load.Options) (load.Sent, error) {
	g, err := load.Open(o)
	if err != nil {
		return load.Sent{}, err
	}
	sent, err := g.Run(ctx)
	return sent, errors.Join(err, g.Close())
}

// tableToDisk is what the agent can do: sessions come into being while it is
// stopped, and it is timed from its start until the last one is durable.
func (b *bench) tableToDisk(ctx context.Context) (rate float64, err error) {
	const sessions = 3 << 20
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	err = b.withGateway(ctx, setting{slots: 1 << 23}, func(g *gateway.Gateway) error {
		if err := g.Stop(ctx); err != nil {
			return err
		}
		o := load.On(g.Border, load.Visits)
		o.Count, o.CPU = sessions, b.loadCPU
		if _, err := b.send(ctx, o); err != nil {
			return err
		}
		if err := onCPU(b.agentCPU, func() error { return g.Start(ctx) }); err != nil {
			return err
		}
		start := time.Now()
		if _, err := await(ctx, g, func(s *gateway.Status) bool { return s.Probe.Table.Stored >= sessions }); err != nil {
			return err
		}
		rate = sessions / time.Since(start).Seconds()
		return nil
	})
	return rate, err
}
