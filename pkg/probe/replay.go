package probe

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/pkg/session"
)

const (
	replaySweep   = 10 * time.Second // of the capture's time
	minFrame      = 14               // the kernel runs programs on nothing shorter than an Ethernet header
	maxSkbTestRun = 3072             // bytes of a frame that fit in one test-run skb on all kernels
	never         = time.Duration(1 << 62)
)

// ReplayOptions configure a Replay. Zero fields take defaults.
type ReplayOptions struct {
	Local    []netip.Prefix // a packet whose source is local goes through the egress program; none: all are recorded
	Exempt   []netip.Prefix
	Slots    uint32
	Profile  session.Profile // default: ProfileSession
	Timeouts Timeouts        // Linger and HalfOpen are not used: nothing has to be written early
	RawIP    bool            // frames begin with IP
	// HalfOpenShare is that of Options; 0: 1, so that a capture of a flood is
	// replayed as far as the table has room.
	HalfOpenShare float64
	// OverlappingAddresses makes VLAN ids part of a session's key.
	OverlappingAddresses bool
	// Emit gets sessions as they end; the slice is reused.
	Emit func([]session.Session)
}

// Replay runs frames through the very programs that the agent attaches, in the
// kernel (BPF_PROG_TEST_RUN), with the frames' own times as the programs'
// clock. It needs no network link.
type Replay struct {
	opt     ReplayOptions
	t       *table
	maps    map[string]*ebpf.Map
	coll    *ebpf.Collection
	clock   *ebpf.Variable
	c       collector
	frags   fragmentKeeper
	samples sampler
	batch   Batch
	out     []byte

	now     uint64
	sweptAt uint64
	share   float64 // of half-open sessions
	runts   uint64
}

// OpenReplay loads the programs with a private table.
func OpenReplay(opt ReplayOptions) (*Replay, error) {
	return openReplay(opt, uint32(os.Getpagesize()), true)
}

func openReplay(opt ReplayOptions, ring uint32, testClock bool) (*Replay, error) {
	o := Options{
		Profile: opt.Profile, Local: opt.Local, Exempt: opt.Exempt, Slots: opt.Slots, RingBytes: ring,
		Timeouts: opt.Timeouts, OverlappingAddresses: opt.OverlappingAddresses, HalfOpenShare: opt.HalfOpenShare,
	}
	if o.Profile == 0 {
		o.Profile = session.ProfileSession
	}
	if o.HalfOpenShare == 0 {
		o.HalfOpenShare = 1
	}
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := removeMemlock(); err != nil {
		return nil, err
	}
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	size(spec, o.Slots, o.RingBytes)
	r := &Replay{opt: opt, out: make([]byte, 1<<17)}
	if r.maps, err = createMaps(spec, o.Profile, nil); err != nil {
		return nil, err
	}
	if err := r.load(&o, testClock); err != nil {
		_ = r.Close() // the first error says why
		return nil, err
	}
	return r, nil
}

func (r *Replay) load(o *Options, testClock bool) (err error) {
	if r.t, err = mapTable(r.maps["sessions"], r.maps["bucket_words"], r.maps["meta"]); err != nil {
		return err
	}
	if err := setBorder(r.maps["border"], o.Local, o.Exempt); err != nil {
		return err
	}
	r.share = o.HalfOpenShare
	if r.samples, err = openSampler(r.maps, r.t, o.Profile == session.ProfileSource); err != nil {
		return err
	}
	r.coll, err = loadPrograms(r.maps, o, knobs{testClock: testClock, rawIP: r.opt.RawIP}, "edgelog_xdp", "edgelog_egress", "edgelog_orphan")
	if err != nil {
		return err
	}
	r.clock = r.coll.Variables["test_clock_ns"]
	timeouts := o.Timeouts
	timeouts.Linger, timeouts.HalfOpen = never, never
	r.c = collector{
		t: r.t, localOnly: o.Profile == session.ProfileSource,
		timeouts: timeouts, window: fragmentWindow, sweep: 1,
	}
	r.frags = fragmentKeeper{m: r.maps["fragments"], orphan: r.coll.Programs["edgelog_orphan"], meta: r.t.meta, window: fragmentWindow}
	return nil
}

// Packet runs one frame, seen at a time in ns since 1970. The programs promise
// to let every frame pass unchanged; a broken promise is an error.
func (r *Replay) Packet(frame []byte, at int64) error {
	r.now = uint64(at)
	if silence(r.now, r.sweptAt) > replaySweep {
		if err := r.sweep(); err != nil {
			return err
		}
	}
	if len(frame) < minFrame {
		r.runts++
		return nil
	}
	if err := r.clock.Set(r.now); err != nil {
		return fmt.Errorf("set the programs' clock: %w", err)
	}
	program, verdict := r.coll.Programs["edgelog_xdp"], uint32(xdpPass)
	if r.leaves(frame) {
		program, verdict = r.coll.Programs["edgelog_egress"], tcNext
		if len(frame) > maxSkbTestRun {
			frame = frame[:maxSkbTestRun] // all headers that are ever read are in front
		}
	}
	if !r.samples.drained() {
		r.samples.collect(&r.batch, 1<<30)
		r.emit()
	}
	run := ebpf.RunOptions{Data: frame, DataOut: r.out, Repeat: 1}
	got, err := program.Run(&run)
	if err != nil {
		return explain(fmt.Sprintf("run a frame of %d bytes", len(frame)), err)
	}
	if got != verdict || !bytes.Equal(run.DataOut, frame) {
		return fmt.Errorf("the program %s gave verdict %d (%d expected) or changed a frame of %d bytes: please report it",
			program, got, verdict, len(frame))
	}
	return nil
}

const (
	xdpPass = 2
	tcNext  = ^uint32(0) // -1: the next program decides
)

// leaves reports whether the frame's source is local. It looks for the first
// IP header the way the programs do, but only to choose the program.
func (r *Replay) leaves(frame []byte) bool {
	if len(r.opt.Local) == 0 {
		return false
	}
	src, ok := sourceAddr(frame, r.opt.RawIP)
	if !ok {
		return false
	}
	for _, p := range r.opt.Local {
		if p.Contains(src) {
			return true
		}
	}
	return false
}

// sweep collects what has ended by now.
func (r *Replay) sweep() error {
	r.sweptAt = r.now
	if _, err := r.frags.expire(r.now, false); err != nil {
		return err
	}
	for range 2 { // what the first round closes, the second takes
		r.c.collect(&r.batch, r.now, 1<<30)
	}
	r.samples.collect(&r.batch, 1<<30)
	r.emit()
	return nil
}

func (r *Replay) emit() {
	if r.opt.Emit != nil && r.batch.Len() > 0 {
		r.opt.Emit(r.batch.Sessions)
	}
	r.c.stored(&r.batch, r.now)
	r.samples.stored(&r.batch)
	r.batch.Reset()
}

// Finish ends the replay: fragments that still wait are recorded without
// ports, and sessions that still go on are emitted with EndOpen.
func (r *Replay) Finish() error {
	if err := r.sweep(); err != nil {
		return err
	}
	held, err := r.frags.expire(r.now, true)
	if err != nil {
		return err
	}
	r.c.flushQueues()
	for more := true; more; {
		more = r.c.takeOpen(&r.batch, 1<<16, session.EndOpen)
		r.emit()
		if held == 0 || more {
			continue
		}
		before := held // they found no room in a full table; now there is
		if held, err = r.frags.expire(r.now, true); err != nil {
			return err
		}
		if held == before {
			return fmt.Errorf("%d fragments find no room in the empty table: please report it", held)
		}
		more = true
	}
	return nil
}

// ReplayStatus is what became of the frames.
type ReplayStatus struct {
	Runts uint64 // frames shorter than an Ethernet header, which no link delivers
	In    PacketCounter
	Out   PacketCounter
	Table TableStatus
}

// Status returns the counters; they add up once Finish has returned.
func (r *Replay) Status() (s ReplayStatus, err error) {
	s.Runts = r.runts
	if s.In, err = packetCounters(r.maps["packet_counts"], 0, 0); err != nil {
		return s, err
	}
	if s.Out, err = packetCounters(r.maps["packet_counts"], 0, 1); err != nil {
		return s, err
	}
	s.Table, err = tableStatus(r.t, r.maps["table_counts"])
	s.Table.Full, s.Table.Contended = s.In.Outcomes["table_full"]+s.Out.Outcomes["table_full"], s.In.Outcomes["contended"]+s.Out.Outcomes["contended"]
	s.Table.Refused = refused(s.In, s.Out)
	s.Table.SamplesWaiting, s.Table.HalfOpenLimit = r.samples.waiting(), halfOpenLimit(r.t, r.share)
	return s, err
}

// Close frees the programs and the table. It may be called twice.
func (r *Replay) Close() error {
	if r.coll != nil {
		r.coll.Close()
		r.coll = nil
	}
	r.samples.close()
	if r.t != nil {
		r.t.close()
		r.t = nil
	}
	closeMaps(r.maps)
	r.maps = nil
	return nil
}
