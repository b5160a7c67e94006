package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/lab"
)

const (
	liveFrames = 1 << 1  // BPF_F_TEST_XDP_LIVE_FRAMES
	mostRuns   = 1 << 22 // of the program in one call: a second or two
	spinRate   = 100_000 // sessions a second
	tick       = time.Millisecond
	patience   = 5 * time.Second // without a frame that arrives
	noLimit    = ^uint64(0)
)

// Generator sends the sessions of its Options once.
type Generator struct {
	opt     Options
	objects programObjects
	frame   []byte
	limit   atomic.Uint64  // as the program has it
	closers []func() error // taken newest first
}

// Sent says what left, exactly.
type Sent struct {
	Sessions uint64 // complete ones, from number First on
	In, Out  uint64 // packets that came into the uplink, and that left by it
	Lost     uint64 // packets sent of which nothing was seen behind the gateway's programs
	Idle     uint64 // runs of the program without a frame: waiting for the gateway, or for the time
	Took     time.Duration
	Busy     time.Duration // CPU time of it, with that of the gateway's programs and stack: they run behind each frame
}

// Packets is all that were sent.
func (s Sent) Packets() uint64 { return s.In + s.Out }

// generators tells apart the frames of several in one process.
var generators atomic.Uint32

// Open makes a generator: programs, and the veth pair for frames that leave.
// The gateway's programs must be attached by then. Close must be called.
//
// Errors: ErrOptions, or those of the system.
func Open(o Options) (*Generator, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Lab == nil || o.Gateway == nil || o.Neighbour == nil {
		return nil, fmt.Errorf("%w: no lab to send in", ErrOptions)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	g := &Generator{opt: o, frame: make([]byte, o.Length)}
	if err := g.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the load generator: %w", err), g.Close())
	}
	return g, nil
}

func (g *Generator) open() error {
	o := &g.opt
	uplink, err := find(o.Gateway, o.Uplink)
	if err != nil {
		return err
	}
	far, err := find(o.Neighbour, o.Far)
	if err != nil {
		return err
	}
	id := generators.Add(1)
	var from, to port // the pair by which frames enter that leave by the uplink
	if o.leaves() {
		if from, to, err = g.pair(id); err != nil {
			return err
		}
	}
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("read the programs: %w", err)
	}
	set := g.constants()
	set["uplink_mac"], set["far_mac"] = [6]byte(uplink.mac), [6]byte(far.mac)
	set["mark_mac"] = [6]byte{0x02, 0xed, 0x9e, byte(id >> 16), byte(id >> 8), byte(id)}
	set["in_ifindex"], set["out_ifindex"], set["uplink_ifindex"] = uint32(far.index), uint32(from.index), uint32(uplink.index)
	for name, value := range set {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return fmt.Errorf("load the programs: %w", err)
	}
	g.closers = append(g.closers, g.objects.Close)
	if o.Direct {
		return aim(g.objects.GatewayXdp, o.Gateway, o.Uplink)
	}
	return g.attachAll(uplink.index, far.index, to.index)
}

// pair makes the links by which frames get into the gateway that shall leave it.
func (g *Generator) pair(id uint32) (from, to port, err error) {
	o := &g.opt
	near, far := fmt.Sprintf("relay%d", id), fmt.Sprintf("load%d", id)
	if err := o.Lab.Link(lab.End{In: o.Gateway, Name: near}, lab.End{In: o.Neighbour, Name: far}, 0); err != nil {
		return from, to, err
	}
	g.closers = append(g.closers, func() error { return o.Gateway.Unlink(near) })
	if err := setGRO(o.Gateway, near, true); err != nil {
		return from, to, err
	}
	if from, err = find(o.Neighbour, far); err != nil {
		return from, to, err
	}
	to, err = find(o.Gateway, near)
	return from, to, err
}

func (g *Generator) attachAll(uplink, far, relay int) error {
	o := &g.opt
	if err := setGRO(o.Gateway, o.Uplink, !o.Lean); err != nil {
		return err
	}
	undo, err := attach(g.objects.LoadArrivedIn, o.Gateway, o.Uplink, uplink)
	if err != nil {
		return err
	}
	g.closers = append(g.closers, undo)
	if relay == 0 {
		return nil
	}
	if undo, err = attach(g.objects.LoadArrivedOut, o.Neighbour, o.Far, far); err != nil {
		return err
	}
	g.closers = append(g.closers, undo)
	if undo, err = attach(g.objects.LoadRelay, o.Gateway, "relay", relay); err != nil {
		return err
	}
	g.closers = append(g.closers, undo)
	return nil
}

// constants are what kernel/load.bpf.c declares const, without the links.
func (g *Generator) constants() map[string]any {
	o := &g.opt
	var share [4]uint32
	var steps [4]uint64
	var protos [4]uint8
	var ports [4]uint16
	longest := 0
	for k, l := range o.lives() {
		share[k], protos[k], ports[k] = l.share, l.proto, l.port
		for i, s := range l.steps {
			steps[k] |= uint64(s) << (8 * i)
		}
		longest = max(longest, len(l.steps))
	}
	var tags [2]uint16
	copy(tags[:], o.Tags)
	mode := map[Mode]uint32{Mix: 1, Established: 2}[o.Mode]
	end := uint64(noLimit)
	if o.Count > 0 {
		end = o.First + o.Count
	}
	local4, far4 := o.bases4()
	local6, far6 := o.bases6()
	return map[string]any{
		"share": share, "lives": steps, "protos": protos, "server_ports": ports, "steps": uint32(longest),
		"mode": mode, "family": uint32(o.Family), "wave": uint32(o.Wave), "flows": o.Flows, "end": end, "seed": o.Seed,
		"host_bits": uint32(o.hostBits()), "far_bits": uint32(o.farBits()), "far_client": o.farClient(),
		"local4": local4, "far4": far4,
		"local6_high": local6[0], "local6_low": local6[1], "far6_high": far6[0], "far6_low": far6[1],
		"tags": uint32(len(o.Tags)), "tag_ids": tags, "pass_on": o.PassOn, "base": o.First,
	}
}

// Close removes all that Open made. It may be called twice.
func (g *Generator) Close() error {
	var err error
	for len(g.closers) > 0 {
		last := len(g.closers) - 1
		err = errors.Join(err, g.closers[last]())
		g.closers = g.closers[:last]
	}
	return err
}

// Run sends until Count, Duration or ctx ends; the sessions it has begun are
// finished. It runs on Options.CPU alone. It can be called once.
//
// Errors: ErrLost, or those of the system. Sent is right with an error too, but
// for ErrLost its sessions are those that were sent, not all that arrived.
func (g *Generator) Run(ctx context.Context) (Sent, error) {
	start := time.Now()
	var busy time.Duration
	err := g.opt.Neighbour.Do(func() error {
		restore, err := pin(g.opt.CPU)
		if err != nil {
			return err
		}
		before := threadTime()
		err = g.send(ctx, start)
		busy = threadTime() - before
		return errors.Join(err, restore())
	})
	sent := g.Progress()
	sent.Took, sent.Busy = time.Since(start), busy
	if err != nil {
		err = fmt.Errorf("send %v sessions: %w", g.opt.Mode, err)
	}
	return sent, err
}

// pin keeps this thread on one CPU: frames are counted without a lock.
func pin(cpu int) (restore func() error, err error) {
	runtime.LockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, fmt.Errorf("ask for the CPUs of a thread: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	return func() error {
		defer runtime.UnlockOSThread()
		return unix.SchedSetaffinity(0, &old)
	}, nil
}

// threadTime is the CPU time of this thread, 0 when the system does not say.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// send calls the program until all is sent. A call costs some 40 ms in which
// nothing is sent (the kernel waits for RCU when test runs begin and end), so it
// runs the program often; what may be sent meanwhile is said by pace.
func (g *Generator) send(ctx context.Context, start time.Time) error {
	quit := make(chan struct{})
	paced := make(chan error, 1)
	if err := g.allow(ctx, start); err != nil {
		return err
	}
	go func() { paced <- g.pace(ctx, start, quit) }() // ends with quit
	err := g.calls()
	close(quit)
	return errors.Join(err, <-paced)
}

// pace says again and again what may be sent.
func (g *Generator) pace(ctx context.Context, start time.Time, quit chan struct{}) error {
	tick := time.NewTicker(tick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-quit:
			return nil
		}
		if err := g.allow(ctx, start); err != nil {
			return err
		}
	}
}

// allow sets the number that a session must be below to begin now.
func (g *Generator) allow(ctx context.Context, start time.Time) error {
	elapsed := time.Since(start)
	limit := uint64(noLimit)
	switch {
	case ctx.Err() != nil || g.opt.Duration > 0 && elapsed >= g.opt.Duration:
		limit = 0
	case g.opt.Rate > 0:
		limit = g.opt.First + 1 + uint64(elapsed.Seconds()*g.opt.Rate)
	}
	g.limit.Store(limit)
	if err := g.objects.Limit.Set(limit); err != nil {
		return fmt.Errorf("set the limit: %w", err)
	}
	return nil
}

func (g *Generator) calls() error {
	pause := time.NewTicker(tick)
	defer pause.Stop()
	seen, moved := uint64(0), time.Now()
	for {
		limit := g.limit.Load()
		w, err := g.wave()
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case w.between && (limit == 0 || w.base >= g.end()):
			return nil
		case w.between && w.base >= limit && !g.spins(): // nothing to do until it is time
			moved = now
			<-pause.C
			continue
		case w.moved != seen:
			seen, moved = w.moved, now
		case now.Sub(moved) > patience:
			s := g.Progress()
			return fmt.Errorf("%w: %d of %d, none arrived for %v", ErrLost, s.Lost, s.Packets(), patience)
		}
		run := ebpf.RunOptions{Data: g.frame, Repeat: g.runs(w.base, limit)}
		if g.opt.Direct {
			_, err = g.objects.LoadDirect.Run(&run)
		} else {
			run.Flags, run.BatchSize = liveFrames, uint32(g.opt.Wave)
			_, err = g.objects.LoadSend.Run(&run)
		}
		if err != nil {
			return fmt.Errorf("run the program: %w", err)
		}
	}
}

// spins reports whether the program rather runs without a frame than waits
// outside for the time to send: where so much is sent that waiting would make
// it come in gushes.
func (g *Generator) spins() bool { return g.opt.Rate >= spinRate }

func (g *Generator) end() uint64 {
	if g.opt.Count == 0 {
		return noLimit
	}
	return g.opt.First + g.opt.Count
}

// runs is how often the program has to run to get to the limit, within bounds.
func (g *Generator) runs(base, limit uint64) uint32 {
	steps := uint64(0)
	for _, l := range g.opt.lives() {
		steps = max(steps, uint64(len(l.steps)))
	}
	todo := uint64(1) // a wave is to be finished
	switch {
	case g.spins():
		todo = min(mostRuns, g.end()-base)
	case limit > base:
		todo = min(mostRuns, limit-base, g.end()-base)
	}
	waves := (todo + uint64(g.opt.Wave) - 1) / uint64(g.opt.Wave)
	return uint32(min(waves*uint64(g.opt.Wave)*steps, mostRuns))
}

// waveState is where the program stands.
type waveState struct {
	base    uint64
	between bool   // no wave is under way, and all that was sent has arrived
	moved   uint64 // changes with each frame
}

func (g *Generator) wave() (waveState, error) {
	var base uint64
	var step, member uint32
	v := &g.objects.programVariables
	if err := errors.Join(v.Base.Get(&base), v.Step.Get(&step), v.Member.Get(&member)); err != nil {
		return waveState{}, fmt.Errorf("read the program's state: %w", err)
	}
	s := g.Progress()
	return waveState{
		base: base, between: step == 0 && member == 0 && s.Lost == 0,
		moved: base<<20 ^ uint64(step)<<10 ^ uint64(member) ^ s.Packets() ^ s.Lost<<40,
	}, nil
}

// Progress says what has left so far. It may be called while Run runs; what is
// under way counts as lost.
func (g *Generator) Progress() Sent {
	v := &g.objects.programVariables
	read := func(v *ebpf.Variable) uint64 {
		var n uint64
		if err := v.Get(&n); err != nil {
			return 0 // closed
		}
		return n
	}
	arrived := read(v.ArrivedIn) + read(v.ArrivedOut) // before what was sent: it never seems more
	s := Sent{In: read(v.SentIn), Out: read(v.SentOut), Idle: read(v.Idle)}
	s.Lost = s.Packets() - arrived
	base := read(v.Base)
	if g.opt.Mode == Established {
		base = min(base, g.opt.Flows)
	}
	s.Sessions = max(base, g.opt.First) - g.opt.First
	return s
}
