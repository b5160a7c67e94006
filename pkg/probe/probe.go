package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/pkg/session"
)

const (
	clockPeriod     = time.Second     // between measurements of the clock offset
	reconcilePeriod = 5 * time.Second // between checks that all is still attached
	fragmentPeriod  = 5 * time.Second // between walks through the fragments, in the programs' clock
	maxNews         = 1 << 20         // ring events read in one go
	eventBacklog    = 256
)

// Event is something that makes a gap, or could make one doubted: it belongs
// in the ledger.
type Event struct {
	Kind   string // link-attached, link-vanished, link-lost, clock-step
	Uplink string
	Text   string
	At     time.Time
}

// Probe is the attached, pinned datapath of one gateway.
//
// Collect, Stored, Release and CollectAll must be called from one goroutine at
// a time; all other methods may be called at any time.
type Probe struct {
	opt     Options
	log     *slog.Logger
	pins    pinDir
	maps    map[string]*ebpf.Map
	clock   *clock
	adopted bool
	events  chan Event
	lost    atomic.Uint64 // events that did not fit

	mu      sync.Mutex // guards uplinks and closed
	uplinks []*uplink
	closed  bool

	cmu       sync.Mutex // guards the collector
	t         *table
	c         collector
	ring      *ring[kernelEvent]
	samples   sampler
	frags     fragmentKeeper
	fragsAt   uint64
	fragsHeld int
	helpers   *ebpf.Collection
	older     []*older // tables that are brought into ours
	carrier   carrier
	carriedAt uint64 // programs' clock of the last try
	drained   bool
	ticksOff  bool
	freed     bool
}

// Open creates the table or adopts the one an earlier agent left, and attaches
// to the uplinks. An uplink that does not exist yet, or cannot be attached, is
// reported in Status and tried again; missing privileges, a missing kernel
// feature or wrong options are errors.
func Open(opt Options) (*Probe, error) {
	opt = opt.withDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	if err := removeMemlock(); err != nil {
		return nil, err
	}
	p := &Probe{opt: opt, log: opt.Logger, events: make(chan Event, eventBacklog)}
	if err := p.open(); err != nil {
		_ = p.Close() // the first error says why
		return nil, err
	}
	return p, nil
}

func (p *Probe) open() (err error) {
	if p.clock, err = openClock(p.opt.StateDir, p.opt.Now); err != nil {
		return err
	}
	spec, err := loadSpec()
	if err != nil {
		return err
	}
	if p.pins, err = openPinDir(p.opt.PinDir, layoutOf(spec)); err != nil {
		return err
	}
	if p.pins.brief {
		p.log.Warn("the pinned table will not outlive this agent: its mounts are its own, as under \"ip netns exec\"; "+
			"mount a BPF file system for all first and name it as bpf_dir, or enter the namespace with nsenter --net", "bpf_dir", p.opt.PinDir)
	}
	if err := p.openTables(spec); err != nil {
		return err
	}
	if err := setBorder(p.maps["border"], p.opt.Local, p.opt.Exempt); err != nil {
		return err
	}
	if p.helpers, err = loadPrograms(p.maps, &p.opt, knobs{}, "edgelog_orphan", "edgelog_clock"); err != nil {
		return err
	}
	if p.t, err = mapTable(p.maps["sessions"], p.maps["bucket_words"], p.maps["meta"]); err != nil {
		return err
	}
	p.t.settleCount()
	if p.ring, err = openRing[kernelEvent](p.maps["events"]); err != nil {
		return fmt.Errorf("open the event ring: %w", err)
	}
	if p.samples, err = openSampler(p.maps, p.t, p.opt.Profile == session.ProfileSource); err != nil {
		return err
	}
	p.c = collector{
		t: p.t, localOnly: p.opt.Profile == session.ProfileSource, timeouts: p.opt.Timeouts,
		window: fragmentWindow, grace: p.opt.Grace,
		sweep:     max(p.opt.Sweep, walkEvery(len(p.t.slots), idleParts)),
		rush:      rush{every: max(shortest, walkEvery(len(p.t.slots), rushParts))},
		negatives: p.adopted, // the prefixes may be others now
	}
	p.c.lag.open()
	if p.adopted {
		p.c.sign(programsNow()) // of what happened while nobody looked
	}
	p.frags = fragmentKeeper{m: p.maps["fragments"], orphan: p.helpers.Programs["edgelog_orphan"], meta: p.t.meta, window: fragmentWindow}
	if err := p.openCarrier(); err != nil {
		return err
	}
	if err := p.SetUplinks(p.opt.Uplinks); err != nil {
		return err
	}
	return p.carryAtStart()
}

// Run measures the clock and keeps the uplinks attached until ctx ends.
func (p *Probe) Run(ctx context.Context) error {
	changes, stop, err := watchLinks()
	if err != nil {
		return err
	}
	defer stop()
	var clock sync.WaitGroup
	defer clock.Wait()
	clock.Go(func() { p.watchClock(ctx) }) // ends with ctx; apart, because it writes to the disk
	check := time.NewTicker(reconcilePeriod)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok { // the socket overflowed or failed: the periodic check goes on
				changes = nil
				p.log.Warn("link changes are no longer announced; checking every few seconds instead")
			}
			p.reconcile()
		case <-check.C:
			p.reconcile()
		}
	}
}

// watchClock measures the clock until ctx ends.
func (p *Probe) watchClock(ctx context.Context) {
	every := time.NewTicker(clockPeriod)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			p.measureClock()
		}
	}
}

func (p *Probe) measureClock() {
	step, err := p.clock.measure()
	if err != nil {
		p.log.Error("the clock offset could not be kept", "error", err)
	}
	if step != 0 {
		p.tell(Event{Kind: "clock-step", Text: fmt.Sprintf("the clock was set by %.3f s", step.Seconds())})
	}
	p.cmu.Lock()
	defer p.cmu.Unlock()
	if p.freed || p.ticksOff {
		return
	}
	behind, err := checkTicks(p.helpers.Programs["edgelog_clock"], p.t.meta)
	if err != nil || behind != 0 {
		p.ticksOff = true // once is enough
		p.log.Error("the programs' clock is not CLOCK_MONOTONIC: times are off by this much", "behind", behind, "error", err)
	}
}

// tell hands out evidence; the agent's own log has it too, so that a backlog
// loses nothing but the ledger entry, which is counted.
func (p *Probe) tell(e Event) {
	e.At = time.Now().UTC()
	p.log.Info(e.Kind, "uplink", e.Uplink, "text", e.Text)
	select {
	case p.events <- e:
	default:
		p.lost.Add(1)
	}
}

// Events carries evidence of gaps. It is never closed.
func (p *Probe) Events() <-chan Event { return p.events }

// Collect adds to b up to max sessions that are due to be recorded. It never
// waits. The batch must be given to Stored or Release.
func (p *Probe) Collect(b *Batch, max int) error {
	p.carryAgain()
	p.cmu.Lock()
	defer p.cmu.Unlock()
	now := programsNow()
	p.readNews(now)
	if silence(now, p.fragsAt) >= fragmentPeriod {
		p.fragsAt = now
		held, err := p.frags.expire(now, false)
		if err != nil {
			p.log.Error("fragments could not be looked through; sessions are recorded all the same", "error", err)
		}
		p.fragsHeld = held
		if err := forgetUsers(p.maps, now); err != nil {
			p.log.Error("counters of refused packets could not be emptied; it is tried again", "error", err)
		}
	}
	from := b.Len()
	p.samples.collect(b, from+max)
	p.c.collect(b, now, from+max)
	p.toUTC(b.Sessions[from:])
	return nil
}

func (p *Probe) toUTC(sessions []session.Session) {
	segments := p.clock.history()
	for i := range sessions {
		s := &sessions[i]
		s.Start, s.End = utc(segments, uint64(s.Start)), utc(segments, uint64(s.End))
		s.End = max(s.End, s.Start) // the clock was set back in between
	}
}

// readNews takes all events that are in the ring.
func (p *Probe) readNews(now uint64) {
	if e := p.ring.first(); e != nil {
		p.c.lag.heard(now, e.Time)
	}
	each := p.c.news
	if p.ring.waiting() > calm*(recordHeader+uint64(unsafe.Sizeof(kernelEvent{}))) {
		each = nil
		p.c.sign(now)
	}
	if p.ring.take(maxNews, each) {
		p.c.sign(now)
	}
}

// Stored says that the batch is durable: its slots are freed, or kept for
// stragglers. The batch is empty afterwards.
func (p *Probe) Stored(b *Batch) {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	p.c.stored(b, programsNow())
	p.samples.stored(b)
	b.Reset()
}

// Release says that the batch could not be stored: its sessions will be
// collected again. The batch is empty afterwards.
func (p *Probe) Release(b *Batch) {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	p.c.release(b)
	p.samples.release(b)
	b.Reset()
}

// CollectAll detaches the programs and then adds everything that the table
// holds, open sessions with EndShutdown, up to max sessions. more is true as
// long as another call may find something. It ends the life of a table.
func (p *Probe) CollectAll(b *Batch, max int) (more bool, err error) {
	if err := p.drain(); err != nil {
		return false, err
	}
	if err := p.carryOver(); err != nil {
		return false, err
	}
	p.cmu.Lock()
	defer p.cmu.Unlock()
	p.c.flushQueues() // a batch may have come back after the programs were taken off
	from := b.Len()
	p.samples.collect(b, from+max)
	more = p.c.takeOpen(b, from+max, session.EndShutdown) || !p.samples.drained()
	p.toUTC(b.Sessions[from:])
	if p.fragsHeld > 0 { // they found no room in a full table, and may now
		before := p.fragsHeld
		if p.fragsHeld, err = p.frags.expire(programsNow(), true); err != nil {
			return false, err
		}
		if p.fragsHeld == before && !more && b.Len() == from {
			return false, fmt.Errorf("%d fragments find no room in the empty table: please report it", before)
		}
		more = true
	}
	if len(p.older) > 0 && !more && b.Len() == from {
		return false, fmt.Errorf("%d sessions of an older table find no room in the empty one: please report it", p.waiting())
	}
	return more || len(p.older) > 0, nil
}

// drain detaches all programs, once, and waits until none runs any more.
func (p *Probe) drain() error {
	if p.drained {
		return nil
	}
	if err := p.SetUplinks(nil); err != nil {
		return err
	}
	waitForPrograms(p.opt.Grace)
	p.cmu.Lock()
	defer p.cmu.Unlock()
	var err error
	if p.fragsHeld, err = p.frags.expire(programsNow(), true); err != nil {
		return err
	}
	p.readNews(programsNow())
	p.drained = true
	return nil
}

// SetBorder puts other local and exempt prefixes into force. Sessions that are
// open stay; answers that were remembered as negative are forgotten within one
// sweep.
func (p *Probe) SetBorder(local, exempt []netip.Prefix) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.opt
	o.Local, o.Exempt = local, exempt
	if err := o.check(); err != nil {
		return err
	}
	if (len(local) > 0) != (len(p.opt.Local) > 0) {
		return fmt.Errorf("%w: a border filter cannot be switched on or off while the agent runs: restart it", ErrOptions)
	}
	if err := setBorder(p.maps["border"], local, exempt); err != nil {
		return err
	}
	p.opt.Local, p.opt.Exempt = local, exempt
	p.cmu.Lock()
	defer p.cmu.Unlock()
	p.c.negatives, p.c.forgetTo = true, p.c.cursor
	return nil
}

// Clock returns the state of the clock.
func (p *Probe) Clock() ClockStatus { return p.clock.status() }

// Status returns where the probe is attached and counters that add up.
func (p *Probe) Status() Status {
	st := Status{Profile: p.opt.Profile, PinDir: p.pins.path, Layout: p.pins.layout, Adopted: p.adopted, Clock: p.clock.status()}
	st.Lag, st.EventsLost = p.c.lag.status(), p.lost.Load()
	balanced := true
	var packets []PacketCounter
	p.mu.Lock()
	for _, u := range p.uplinks {
		us := u.status()
		for egress, into := range []*PacketCounter{&us.In, &us.Out} {
			c, err := packetCounters(p.maps["packet_counts"], u.id, uint32(egress))
			if err != nil {
				us.Error = err.Error()
			}
			*into = c
			balanced = balanced && c.Balanced()
			packets = append(packets, c)
		}
		st.Uplinks = append(st.Uplinks, us)
	}
	p.mu.Unlock()
	p.cmu.Lock()
	defer p.cmu.Unlock()
	t, err := tableStatus(p.t, p.maps["table_counts"])
	if err != nil {
		p.log.Error("the table's counters could not be read", "error", err)
	}
	t.Refused, t.FragmentsHeld = refused(packets...), uint64(p.fragsHeld)
	t.SamplesWaiting, t.HalfOpenLimit = p.samples.waiting(), halfOpenLimit(p.t, p.opt.HalfOpenShare)
	t.Full, t.Contended = t.Refused["table_full"], t.Refused["contended"]
	t.Balanced = t.Balanced && balanced && err == nil
	st.Table, st.Waiting = t, p.waiting()
	return st
}

// Close leaves everything pinned and the programs running, for the next agent.
// It may be called twice.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, u := range p.uplinks {
		u.release()
	}
	return p.freeMemory()
}

func (p *Probe) freeMemory() error {
	p.cmu.Lock()
	defer p.cmu.Unlock()
	p.freed = true
	if p.pins.lock != nil {
		_ = p.pins.lock.Close() // gives the lock back
	}
	if p.ring != nil {
		p.ring.close()
	}
	p.samples.close()
	if p.helpers != nil {
		p.helpers.Close()
	}
	if p.carrier.programs != nil {
		p.carrier.programs.Close()
	}
	closeOlder(p.older)
	p.older = nil
	if p.t != nil {
		p.t.close()
	}
	closeMaps(p.maps)
	return nil
}

// Detach takes the programs off all uplinks and unpins the table: what it
// holds is gone once no process has it open. CollectAll comes before it.
func (p *Probe) Detach() error {
	if err := p.SetUplinks(nil); err != nil {
		return err
	}
	return p.pins.remove()
}
