package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	offsetTolerance = 2 * time.Millisecond   // a smaller change of the offset is not acted upon
	clockStep       = 500 * time.Millisecond // a larger one is a step of the clock, and evidence
	maxSegments     = 4096
	clockFile       = "clock.json"
)

// clock converts the programs' clock (CLOCK_MONOTONIC) to UTC. The offset is
// measured all the time; each value holds for the monotonic times from its
// measurement on and is on disk before it is used, so that the same packet has
// the same UTC time whoever converts it, before and after a restart.
type clock struct {
	mu       sync.RWMutex
	path     string // "" keeps the history in memory
	bootID   string
	segments []segment
	spread   int64 // of the last measurement, ns
	steps    uint64
	lastStep time.Duration
	seenMu   sync.Mutex // guards seen
	seen     ClockStatus
	read     func() (mono uint64, utc int64, spread int64)
}

// segment: from this monotonic time on, UTC = monotonic + Offset.
type segment struct {
	From   uint64 `json:"from_ns"`
	Offset int64  `json:"offset_ns"`
}

type clockHistory struct {
	BootID   string    `json:"boot_id"`
	Segments []segment `json:"segments"`
}

// openClock reads the history of this boot from dir, or begins one. now is UTC.
func openClock(dir string, now func() time.Time) (*clock, error) {
	c := &clock{read: func() (uint64, int64, int64) { return readClocks(now) }}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	c.bootID = strings.TrimSpace(string(boot))
	if dir != "" {
		c.path = filepath.Join(dir, clockFile)
		if err := c.load(); err != nil {
			return nil, err
		}
	}
	if _, err := c.measure(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *clock) load() error {
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the clock history: %w", err)
	}
	var h clockHistory
	if err := json.Unmarshal(b, &h); err != nil {
		return fmt.Errorf("clock history %q is damaged: %w; move it away: sessions open now then get times from the clock of now", c.path, err)
	}
	if h.BootID == c.bootID {
		c.segments = h.Segments
	}
	return nil
}

func (c *clock) save(segments []segment) error {
	if c.path == "" {
		return nil
	}
	if err := writeJSON(c.path, clockHistory{c.bootID, segments}); err != nil {
		return fmt.Errorf("keep the clock history: %w", err)
	}
	return nil
}

// readClocks reads both clocks; spread bounds how far apart the readings are.
func readClocks(now func() time.Time) (mono uint64, utc int64, spread int64) {
	spread = 1 << 62
	for range 5 {
		var a, b unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &a) // cannot fail for these clocks
		r := now().UnixNano()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &b)
		if d := b.Nano() - a.Nano(); d < spread {
			mono, utc, spread = uint64(a.Nano()+d/2), r, d
		}
	}
	return mono, utc, spread
}

// measure takes the offset afresh; step is how far the clock jumped, 0 when
// it did not.
func (c *clock) measure() (step time.Duration, err error) {
	mono, utc, spread := c.read()
	offset := utc - int64(mono)
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Duration(spread) > offsetTolerance {
		return 0, nil // this process was held up between the readings
	}
	c.spread = spread
	if n := len(c.segments); n > 0 {
		change := time.Duration(offset - c.segments[n-1].Offset)
		if change.Abs() <= offsetTolerance {
			return 0, nil
		}
		if change.Abs() >= clockStep {
			step = change
		}
	}
	from := mono
	if len(c.segments) == 0 {
		from = 0
	}
	next := append(c.segments[:len(c.segments):len(c.segments)], segment{from, offset})
	if len(next) > maxSegments {
		next = next[len(next)-maxSegments:]
		next[0].From = 0
	}
	if err := c.save(next); err != nil {
		return 0, err // the old offset stays in use, and it is tried again in a second
	}
	c.segments = next
	if step != 0 {
		c.steps++
		c.lastStep = step
	}
	return step, nil
}

// utc converts a time of the programs' clock to UTC, ns since 1970.
func (c *clock) utc(mono uint64) int64 { return utc(c.history(), mono) }

// history returns the offsets, which nobody changes any more.
func (c *clock) history() []segment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.segments
}

func utc(segments []segment, mono uint64) int64 {
	for i := len(segments) - 1; i > 0; i-- {
		if segments[i].From <= mono {
			return int64(mono) + segments[i].Offset
		}
	}
	return int64(mono) + segments[0].Offset
}

// programsNow reads the clock that the programs read.
func programsNow() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}

// status asks the kernel how far its clock may be trusted: in sync when it
// says so and bounds its error by less than the second that the law allows.
func (c *clock) status() ClockStatus {
	var tx unix.Timex
	_, err := unix.Adjtimex(&tx)
	locked := c.mu.TryRLock() // not while the disk keeps a new offset waiting
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	if locked {
		c.seen = ClockStatus{
			Steps: c.steps, LastStep: c.lastStep.Seconds(),
			OffsetNanos: c.segments[len(c.segments)-1].Offset, Uncertainty: c.spread,
		}
		c.mu.RUnlock()
	}
	s := c.seen
	s.MaxErrorMicro = tx.Maxerror
	s.Synchronised = err == nil && tx.Status&unix.STA_UNSYNC == 0 && tx.Maxerror < 1e6
	return s
}
