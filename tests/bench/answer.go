package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
)

const askedTimes = 7

// answer measures questions from the command line to the answer, in a store of
// days: a million addresses that are held, sessions each second. Beside each is
// the question that reads all of it.
func (b *bench) answer(ctx context.Context) (out []Entry, err error) {
	var f *filler
	s := setting{slots: 1 << 16, local: fmt.Sprintf("local = [%q]", filledNet)}
	s.before = func(g *gateway.Gateway) (err error) {
		if f, err = fill(g); err != nil {
			return err
		}
		f.since, f.holder = nil, nil
		return forgetPeak()
	}
	err = b.withGateway(ctx, s, func(g *gateway.Gateway) error {
		if len(f.asked) < 3*askedTimes {
			return fmt.Errorf("there are only %d sessions to ask about", len(f.asked))
		}
		out, err = b.questions(ctx, g, f)
		return err
	})
	return out, err
}

// forgetPeak gives memory back: a process begins with the peak of the one that
// starts it, see proc_pid_clear_refs(5).
func forgetPeak() error {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// question is one measurement.
type question struct {
	took   []time.Duration
	memory int64 // peak of the asking process, bytes
}

func (q *question) ms() float64 {
	slices.Sort(q.took)
	return float64(q.took[len(q.took)/2].Microseconds()) / 1000
}

func (b *bench) questions(ctx context.Context, g *gateway.Gateway, f *filler) ([]Entry, error) {
	var who, shared, access, lookup question
	step := len(f.asked) / askedTimes
	window := []string{"--from", time.Unix(0, f.first).UTC().Format(time.RFC3339), "--to", "now"}
	for i := range askedTimes {
		x := &f.asked[i*step]
		at := x.at.UTC().Format(time.RFC3339Nano)
		if err := b.ask(ctx, g, &who, x.subscriber, "who", "--at", at, x.end.String()); err != nil {
			return nil, err
		}
		if err := b.ask(ctx, g, &shared, x.subscriber, "who", "--at", at, "--error", "1h", x.end.Addr().String()); err != nil {
			return nil, err
		}
		day := x.at.UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
		if err := b.ask(ctx, g, &access, x.subscriber, "access", "--subscriber", x.subscriber, "--from", day, "--to", at); err != nil {
			return nil, err
		}
		if i%3 > 0 { // it takes long
			continue
		}
		if err := b.ask(ctx, g, &lookup, x.subscriber, "lookup", append([]string{"--address", x.end.Addr().String()}, window...)...); err != nil {
			return nil, err
		}
	}
	note := fmt.Sprintf("of a process, from its start to its end; store of %.1f days: %d addresses held, %s changes of hands, %s sessions; lookup of it all: %s ms",
		time.Since(time.Unix(0, f.first)).Hours()/24, filledLeases, figure(float64(f.holders-filledLeases)), figure(float64(f.sessions)), figure(lookup.ms()))
	var out []Entry
	for _, e := range []struct {
		name string
		q    *question
		note string
	}{
		{"answer/who", &who, "address, port and time ± 2 s, " + note}, {"answer/who_hour", &shared, "without a port, time ± 1 h"},
		{"answer/access", &access, "of one subscriber and day"},
	} {
		out = append(out,
			Entry{Name: e.name + "_ms", Value: e.q.ms(), Unit: "ms", Vs: "lookup_of_all", Ratio: lookup.ms() / e.q.ms(), Note: e.note},
			Entry{Name: e.name + "_memory", Value: float64(e.q.memory) / (1 << 20), Unit: "MiB", Vs: "lookup_of_all", Ratio: float64(lookup.memory) / float64(e.q.memory), Note: "peak of the process that asks"})
	}
	return out, nil
}

// ask runs a question and fails unless the answer names who it was. The time is that
// of the reading: its approval reads as much.
func (b *bench) ask(ctx context.Context, g *gateway.Gateway, q *question, want, command string, args ...string) error {
	id, _, err := g.Office.Approve(ctx, g.RunAs, command, args...)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	o := g.Office.Officer
	cmd := exec.CommandContext(ctx, b.edgelog, command, "--socket", g.Socket(), "--request", strconv.FormatInt(id, 10), "--identity", o.Identity)
	cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = o.Credential(), &stdout, &stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("edgelog %s: %w: %s", command, err, stderr.String())
	}
	q.took = append(q.took, time.Since(begin))
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		q.memory = max(q.memory, r.Maxrss<<10)
	}
	if !strings.Contains(stdout.String(), want) {
		return fmt.Errorf("edgelog %s does not name %s: %s", command, want, stdout.String())
	}
	return nil
}
