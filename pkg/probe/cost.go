package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Cost is what the kernel measured of one program (bpf_stats, Linux ≥ 5.8).
type Cost struct {
	Program uint32        // its id
	Runs    uint64        // packets, on egress GSO buffers
	Time    time.Duration // in the program, the measuring itself included (some 20 ns a run)
}

// PerRun returns the mean time of a run in nanoseconds, 0 when there was none.
func (c Cost) PerRun() float64 {
	if c.Runs == 0 {
		return 0
	}
	return float64(c.Time) / float64(c.Runs)
}

// statsSwitch has the kernel measure all programs as long as it says 1.
const statsSwitch = "/proc/sys/kernel/bpf_stats_enabled"

// CostsKept reports whether the kernel measures programs all the time.
func CostsKept() bool {
	b, err := os.ReadFile(statsSwitch)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// Costs reads what the kernel has measured of these programs so far: nothing,
// unless CostsKept or MeasureCosts had it measure. It needs the right to look
// at programs of others.
func Costs(programs []uint32) ([]Cost, error) {
	out := make([]Cost, 0, len(programs))
	for _, id := range slices.Compact(slices.Sorted(slices.Values(programs))) {
		if id == 0 {
			continue // not attached
		}
		c, err := measuredOf(id)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func measuredOf(id uint32) (Cost, error) {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return Cost{}, explain(fmt.Sprintf("look at program %d", id), err)
	}
	defer p.Close()
	s, err := p.Stats()
	if err != nil {
		return Cost{}, explain(fmt.Sprintf("read what program %d costs", id), err)
	}
	return Cost{Program: id, Runs: s.RunCount, Time: s.Runtime}, nil
}

// MeasureCosts has the kernel measure until wait returns, and returns what the
// programs cost meanwhile. Measuring makes each run some 20 ns dearer.
func MeasureCosts(ctx context.Context, programs []uint32, wait func(context.Context) error) (list []Cost, err error) {
	measuring, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, explain("have the kernel measure its programs", err)
	}
	defer func() { err = errors.Join(err, measuring.Close()) }()
	first, err := Costs(programs)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx); err != nil {
		return nil, err
	}
	if list, err = Costs(programs); err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Runs -= first[i].Runs
		list[i].Time -= first[i].Time
	}
	return list, nil
}
