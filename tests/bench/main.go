package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	edgelog           string // the program
	dir               string // for everything that is written
	agentCPU, loadCPU int
	duration          time.Duration // of the measurement that counts
	peerRate          float64
	millions          int    // of sessions in the store
	only              string // end of the name of an end-to-end measurement
}

// parts by name, in the order in which they run.
var order = []string{
	"datapath", "sweep", "parts", "e2e", "forward", "idle",
	"identity", "radius", "nat", "dhcp", "answer",
	"store", "peers",
}

var parts = map[string]func(*bench, context.Context) ([]Entry, error){
	"datapath": (*bench).datapath, "sweep": (*bench).sweep, "parts": (*bench).pieces, "e2e": (*bench).e2e,
	"forward": (*bench).forward, "idle": (*bench).idle, "peers": (*bench).peers,
	"identity": (*bench).identity,
	"radius":   (*bench).radius,
	"nat":      (*bench).nat,
	"dhcp":     (*bench).leases,
	"answer":   (*bench).answer,
	"store":    (*bench).store,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) // everything is closed by now
	}
}

func run(ctx context.Context) (err error) {
	var b bench
	which := flag.String("part", "", "parts to run, with commas between; all: "+strings.Join(order, ","))
	out := flag.String("out", "bench.json", "file for the figures")
	flag.StringVar(&b.edgelog, "edgelog", "", "the program; none: it is built")
	flag.IntVar(&b.agentCPU, "agent-cpu", 1, "CPU that the agent runs on")
	flag.IntVar(&b.loadCPU, "load-cpu", 0, "CPU that the traffic runs on")
	flag.DurationVar(&b.duration, "duration", 30*time.Second, "of the end-to-end measurements")
	flag.Float64Var(&b.peerRate, "peer-rate", 100_000, "sessions a second that the peers get")
	flag.IntVar(&b.millions, "millions", 100, "of sessions that the store part keeps")
	flag.StringVar(&b.only, "only", "", "end-to-end measurements whose name ends like this, such as /udp")
	profile := flag.String("cpuprofile", "", "file for a CPU profile of this process")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // a profile that is cut is seen when it is read
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	names := order
	if *which != "" {
		names = strings.Split(*which, ",")
	}
	for _, n := range names {
		if parts[n] == nil {
			return fmt.Errorf("there is no part %q: use %s", n, strings.Join(slices.Sorted(maps.Keys(parts)), ", "))
		}
	}
	if b.dir, err = os.MkdirTemp("", "edgelog-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	var all []Entry
	for _, n := range names {
		fmt.Fprintf(os.Stderr, "bench: %s …\n", n)
		entries, failed := parts[n](&b, ctx)
		for i := range entries {
			entries[i].judge()
		}
		all = append(all, entries...)
		if failed != nil { // the others are worth having
			err = errors.Join(err, fmt.Errorf("part %s: %w", n, failed))
		}
	}
	return errors.Join(err, table(os.Stdout, all), write(*out, all))
}

// build makes the program to measure.
func (b *bench) build(ctx context.Context) (err error) {
	if b.edgelog != "" {
		b.edgelog, err = filepath.Abs(b.edgelog)
		return err
	}
	b.edgelog = filepath.Join(b.dir, "edgelog")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.edgelog, "./cmd/edgelog")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build edgelog: %w: %s", err, text)
	}
	return nil
}
