package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// onCPU runs f on one CPU; programs that f starts stay there too.
func onCPU(cpu int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return fmt.Errorf("ask for the CPUs of a thread: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &old))
}

// setting is how a gateway is configured for a measurement.
type setting struct {
	slots int
	udp   string // idle time; "" as usual
	local string // line of the configuration with the own prefixes; "" as usual

	before func(*gateway.Gateway) error // nil, or what is done before the agent is started
}

func (s setting) edits() map[string]string {
	e := map[string]string{"ring_bytes =": "ring_bytes = 67108864"}
	if s.udp != "" {
		e["udp ="] = fmt.Sprintf("udp = %q", s.udp)
	}
	if s.local != "" {
		e["local ="] = s.local
	}
	return e
}

// withGateway makes a laboratory with a running agent, for as long as f takes.
func (b *bench) withGateway(ctx context.Context, s setting, f func(*gateway.Gateway) error) (err error) {
	border, err := lab.OpenBorder(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, border.Close()) }()
	dir, err := os.MkdirTemp(b.dir, "gateway-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g, err := gateway.Open(ctx, border, dir, gateway.Options{Binary: b.edgelog, Slots: s.slots, Edit: s.edits()})
	if err != nil {
		return err
	}
	if s.before != nil {
		if err := s.before(g); err != nil {
			return err
		}
	}
	if err := onCPU(b.agentCPU, func() error { return g.Start(ctx) }); err != nil {
		return err
	}
	return f(g)
}

// await asks for the status twice a second until ok: asking costs the agent
// time. When ctx ends before, the last status is returned with its error.
func await(ctx context.Context, g *gateway.Gateway, ok func(*gateway.Status) bool) (last *gateway.Status, err error) {
	pace := time.NewTicker(500 * time.Millisecond)
	defer pace.Stop()
	for {
		s, err := g.Status(ctx)
		if err == nil {
			last = s
			if ok(s) {
				return s, nil
			}
		}
		if ctx.Err() != nil {
			return last, errors.Join(ctx.Err(), err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

// refusals are the outcomes of packets whose session may be missing; see
// bpf/wire.h.
var refusals = []string{"table_full", "half_open", "contended", "fragment_lost", "truncated"}

// refused is the number of packets that should have been recorded and were
// not, and their reasons.
func refused(s *gateway.Status) (n uint64, why string) {
	for _, u := range s.Probe.Uplinks {
		for _, r := range refusals {
			if k := u.In.Outcomes[r] + u.Out.Outcomes[r]; k > 0 {
				n += k
				why += fmt.Sprintf(" %s %d", r, k)
			}
		}
	}
	return n, strings.TrimSpace(why)
}

// cpuTime is what a process has used so far, in itself and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	used, _, err := stat(pid)
	return used, err
}

// groupTime is that of all processes of a group that still run.
func groupTime(leader int) (sum time.Duration, err error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		if used, group, err := stat(pid); err == nil && group == leader {
			sum += used
		}
	}
	return sum, nil
}

// stat reads the CPU time and the process group of a process.
func stat(pid int) (used time.Duration, group int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the CPU time of a process: %w", err)
	}
	// Behind the name in brackets: pgrp is field 5, utime 14, stime 15 (proc(5)), in 1/100 s.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("read the CPU time of process %d: %q is not understood", pid, text)
	}
	group, err1 := strconv.Atoi(f[2])
	user, err2 := strconv.ParseInt(f[11], 10, 64)
	system, err3 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, group, errors.Join(err1, err2, err3)
}

// memory is what a process has resident, and what of it are mapped BPF maps, in
// bytes.
func memory(pid int) (resident, mapped uint64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	defer f.Close()
	ofMap := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case !strings.HasSuffix(name, ":"): // the head of an area
			ofMap = strings.Contains(rest, "bpf-map") || strings.Contains(rest, "bpf-ringbuf")
		case name == "Rss:":
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("read the memory of a process: %w", err)
			}
			resident += kib << 10
			if ofMap {
				mapped += kib << 10
			}
		}
	}
	return resident, mapped, lines.Err()
}
