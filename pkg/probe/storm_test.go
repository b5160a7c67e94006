package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// The storm: two processors run both programs on the same few sessions, while
// the agent collects, stores, gives back and frees. Each lane is a tuple that
// one processor opens, closes and opens again, so that it knows how many
// sessions there are; the other one sends into it all the time.

const (
	stormTick   = uint64(4 * time.Millisecond) // of the test clock
	stormSpeed  = 8                            // of the test clock, to real time
	livesInTick = 32                           // of one lane: a tuple has so many graves, and its reuse is told apart by 8 bits
)

// stormClock is the programs' clock: their own, or one that the test moves.
type stormClock struct {
	test  *ebpf.Variable // nil: their own
	value atomic.Uint64  // never before the programs' clock is
	ahead atomic.Uint64  // never behind it
	since time.Time
	tick  uint64
}

func (c *stormClock) now() uint64 {
	if c.test == nil {
		return programsNow()
	}
	return c.value.Load()
}

// latest is what the programs' clock may be at the most.
func (c *stormClock) latest() uint64 {
	if c.test == nil {
		return programsNow()
	}
	return c.ahead.Load()
}

// advance moves the test clock by whole ticks; only one goroutine does so.
func (c *stormClock) advance(t testing.TB, extra time.Duration) {
	if c.test == nil {
		return
	}
	passed := uint64(time.Since(c.since)) * stormSpeed / stormTick * stormTick
	to := c.value.Load() + passed + uint64(extra)
	if passed > 0 {
		c.since = time.Now()
	}
	c.ahead.Store(to)
	if err := c.test.Set(to); err != nil {
		t.Error(err)
	}
	c.value.Store(to)
}

// life is a session of a lane, as those who sent it know it.
type life struct {
	first, last [2]uint64 // earliest and latest clock that is right
	reset       bool
}

type lane struct {
	driver int                  // the processor that opens and closes
	frames [2]map[string][]byte // by processor and TCP flags
	open   atomic.Bool          // the other one may send
	heard  [2]atomic.Uint64     // clock before the last finished packet of each processor
	lives  []life
	ended  bool // FIN or RST went out: a SYN begins the next life
	tick   uint64
	inTick int
}

type storm struct {
	t       *testing.T
	r       *Replay
	ring    *ringbuf.Reader
	clock   stormClock
	rng     *rand.Rand // of the agent
	lanes   []*lane
	records map[session.ID]session.Session
	written int // records, before those of one session were made one
	stored  atomic.Int64
	begun   atomic.Int64
	sent    atomic.Int64
	udp     []life
}

func stormLane(i int) *lane {
	a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
	l := &lane{ended: true}
	for p := range l.frames {
		l.frames[p] = map[string][]byte{}
		for _, f := range []string{"S", "A", "PA", "FA", "R"} {
			if p == 0 {
				l.frames[p][f] = frame(ether(0x0800), ip(b4, a, 6, tcp(80, 40000, f)))
			} else {
				l.frames[p][f] = frame(ether(0x0800), ip(a, b4, 6, tcp(40000, 80, f)))
			}
		}
	}
	return l
}

func openStorm(t *testing.T, lanes int, ring uint32, testClock bool, rng *rand.Rand) *storm {
	t.Helper()
	r, err := openReplay(ReplayOptions{Slots: 1 << 19}, ring, testClock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	s := &storm{t: t, r: r, rng: rng, records: map[session.ID]session.Session{}, clock: stormClock{since: time.Now(), tick: r.t.meta.TickNs}}
	if s.ring, err = ringbuf.NewReader(r.maps["events"]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ring.Close() })
	s.ring.SetDeadline(time.Unix(0, 1))
	r.c.timeouts.Linger, r.c.timeouts.HalfOpen = time.Millisecond, time.Millisecond
	r.c.sweep, r.c.grace = 20*time.Millisecond, DefaultOptions().Grace
	if testClock {
		s.clock.test, s.clock.tick = r.clock, stormTick
		s.clock.value.Store(uint64(t0))
		s.clock.ahead.Store(uint64(t0))
		s.clock.advance(t, 0)
		r.c.grace *= stormSpeed // a program that is held up is held up in real time
	}
	for i := range lanes {
		s.lanes = append(s.lanes, stormLane(i))
	}
	return s
}

// worker is one processor.
type worker struct {
	*storm
	p    int
	prog *ebpf.Program
	rng  *rand.Rand
}

// send runs a frame and returns the clock before and after.
func (w *worker) send(f []byte) (before, after uint64) {
	before = w.clock.now()
	if _, err := w.prog.Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
		w.t.Error(err)
	}
	w.sent.Add(1)
	return before, w.clock.latest()
}

func (w *worker) into(l *lane, flags string) (before, after uint64) {
	before, after = w.send(l.frames[w.p][flags])
	l.heard[w.p].Store(before)
	return before, after
}

// step sends one packet into some lane.
func (w *worker) step() {
	l := w.lanes[w.rng.IntN(len(w.lanes))]
	if l.driver != w.p {
		if l.open.Load() {
			w.into(l, []string{"A", "PA", "A", "FA"}[w.rng.IntN(4)])
		}
		return
	}
	switch {
	case l.ended && w.mayBegin(l):
		w.begin(l)
	case l.ended && !l.open.Load(): // there is nothing to send into
	case !l.ended && w.rng.IntN(3) == 0:
		l.ended = true
		life := &l.lives[len(l.lives)-1]
		if life.reset = w.rng.IntN(2) == 0; life.reset {
			w.into(l, "R")
		} else {
			w.into(l, "FA")
		}
	default:
		w.into(l, "A")
	}
}

// mayBegin keeps to what one tuple can hold in a tick, and to the table's room.
func (w *worker) mayBegin(l *lane) bool {
	if now := w.clock.now(); now != l.tick {
		l.tick, l.inTick = now, 0
	}
	l.inTick++
	return l.inTick <= livesInTick && w.begun.Load()-w.stored.Load() < int64(len(w.r.t.slots)/16)
}

func (w *worker) begin(l *lane) {
	l.settle(max(l.heard[0].Load(), l.heard[1].Load()))
	before, after := w.into(l, "S")
	if n := len(l.lives); n > 0 && l.lives[n-1].last[1] == 0 {
		l.lives[n-1].last[1] = after
	}
	l.lives = append(l.lives, life{first: [2]uint64{before, after}})
	l.ended = false
	w.begun.Add(1)
	l.open.Store(true)
}

// settle notes the earliest clock at which the last life's last packet was.
func (l *lane) settle(heard uint64) {
	if n := len(l.lives); n > 0 && l.lives[n-1].last[0] == 0 {
		l.lives[n-1].last[0] = heard
	}
}

// run has both processors work and the agent beside them, until both are done.
func (s *storm) run(seeds [2]uint64, work func(w *worker)) {
	var wg sync.WaitGroup
	var busy atomic.Int32
	for p, name := range []string{"edgelog_xdp", "edgelog_egress"} {
		busy.Add(1)
		w := &worker{s, p, s.r.coll.Programs[name], rand.New(rand.NewPCG(seeds[p], uint64(p)))}
		wg.Go(func() { // ends with its work
			defer busy.Add(-1)
			runtime.LockOSThread() // and never unlocked: the thread goes with its affinity
			var set unix.CPUSet
			set.Set(p % runtime.NumCPU())
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				s.t.Error(err)
			}
			work(w)
		})
	}
	for busy.Load() > 0 {
		s.clock.advance(s.t, 0)
		s.take()
	}
	wg.Wait()
}

// take does what the agent does all the time; now and then the disk refuses.
func (s *storm) take() {
	var record ringbuf.Record
	for {
		err := s.ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		e := kernelEvent{
			Slot: binary.NativeEndian.Uint32(record.RawSample), Kind: binary.NativeEndian.Uint16(record.RawSample[4:]),
			Generation: binary.NativeEndian.Uint16(record.RawSample[6:]), Time: binary.NativeEndian.Uint64(record.RawSample[8:]),
		}
		s.r.c.news(&e)
	}
	s.r.c.collect(&s.r.batch, s.clock.now(), 1+s.rng.IntN(1<<13))
	if s.rng.IntN(8) == 0 {
		s.r.c.release(&s.r.batch)
		s.r.batch.Reset()
		return
	}
	s.store()
}

func (s *storm) store() {
	for _, n := range s.r.batch.Sessions {
		s.written++
		if old, again := s.records[n.ID()]; !again || n.Supersedes(&old) {
			s.records[n.ID()] = n
			if !again {
				s.stored.Add(1)
			}
		}
	}
	s.r.c.stored(&s.r.batch, s.clock.now())
	s.r.batch.Reset()
}

// sweepOut empties the table: with the test clock by silence, else as the last
// agent of a table does.
func (s *storm) sweepOut() {
	now := s.clock.now()
	for _, l := range s.lanes {
		l.settle(max(l.heard[0].Load(), l.heard[1].Load()))
		if n := len(l.lives); n > 0 && l.lives[n-1].last[1] == 0 {
			l.lives[n-1].last[1] = now
		}
		l.open.Store(false)
		l.ended = true
	}
	if s.clock.test == nil {
		s.r.c.flushQueues()
		for more := true; more; {
			more = s.r.c.takeOpen(&s.r.batch, 1<<12, session.EndOpen)
			s.store()
		}
		return
	}
	s.clock.advance(s.t, 301*time.Second)
	for left := uint64(1); left > 0; {
		s.clock.advance(s.t, 100*time.Millisecond)
		for range 64 {
			s.take()
		}
		st, err := s.r.Status()
		if err != nil {
			s.t.Fatal(err)
		}
		left = st.Table.Open + st.Table.Closed + st.Table.Lingers
	}
}

// race has both processors send the first packet of new sessions, as many
// apart as there are lanes.
func (s *storm) race(seeds [2]uint64, keys int) {
	var done [2]atomic.Int64
	from := len(s.udp)
	ends := make([][2]life, keys)
	s.run(seeds, func(w *worker) {
		ends4 := [2]netip.Addr{b4, netip.MustParseAddr("10.2.0.0")}
		f := udp4(ends4[w.p], ends4[1-w.p], 53, 53)
		at := 14 + 12 + 4*(1-w.p) // of the local address in the frame
		for i := range keys {
			for done[1-w.p].Load() <= int64(i-len(w.lanes)) {
				runtime.Gosched()
			}
			binary.BigEndian.PutUint32(f[at:], 10<<24|2<<16+uint32(from+i))
			before, after := w.send(f)
			ends[i][w.p] = life{first: [2]uint64{before, after}}
			done[w.p].Add(1)
		}
	})
	for _, e := range ends {
		x, y := e[0].first, e[1].first
		s.udp = append(s.udp, life{
			first: [2]uint64{min(x[0], y[0]), min(x[1], y[1])}, last: [2]uint64{max(x[0], y[0]), max(x[1], y[1])},
		})
	}
}

func TestSessionsStoredAreSessionsSentWhenBothProcessorsHammerTheSameFew(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for _, lanes := range []int{1, 16, 4096} {
		for _, testClock := range []bool{false, true} {
			name := map[bool]string{false: "the programs' own clock", true: "the test's clock"}[testClock]
			t.Run(fmt.Sprintf("%d flows, %s", lanes, name), func(t *testing.T) {
				t.Logf("seed %d", seed)
				rng := rand.New(rand.NewPCG(seed, uint64(lanes)))
				s := openStorm(t, lanes, []uint32{4096, 1 << 20}[rng.IntN(2)], testClock, rng)
				for round := range 4 {
					for i, l := range s.lanes {
						l.driver = (i + round) & 1
					}
					until := s.sent.Load() + 50_000
					s.run([2]uint64{rng.Uint64(), rng.Uint64()}, func(w *worker) {
						for w.sent.Load() < until && !t.Failed() {
							w.step()
						}
					})
					s.sweepOut()
					s.race([2]uint64{rng.Uint64(), rng.Uint64()}, 4000)
					s.sweepOut()
				}
				s.check()
			})
		}
	}
}
