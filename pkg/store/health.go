package store

import (
	"math"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/session"
)

// Health is how the store is.
type Health struct {
	State    State
	Free     int64  // bytes that may still be written to the file system
	Ballast  int64  // bytes held back
	Err      error  // the last error of writing, nil after a success
	Blocks   uint64 // number of blocks
	Bytes    uint64 // their size, sealed
	Rows     uint64 // records in them
	Keys     int    // number of wrapped keys
	Waiting  int    // fresh databases that are to be merged
	Broken   int    // runs of which it is not known what is in them
	SetAside int    // fresh databases that could not be opened, and lie in damaged/
	Lost     int    // blocks that could not be read when they were to be merged

	// Busy is since when something has been under way that waits for the disk,
	// zero when nothing is. The rest is as it was before then.
	Busy   time.Time
	Commit measure.Reading // seconds from a Put, once it had the disk to itself, to durable

	Oldest, Newest session.Day // days that have blocks; both 0 when Blocks is 0
}

// Health measures the free space and returns how the store is. It writes nothing,
// and while the disk keeps a Put waiting it does not wait with it, but returns
// what was so before, and since when that is.
func (s *Store) Health() Health {
	if !s.mu.TryLock() {
		s.seenMu.Lock()
		defer s.seenMu.Unlock()
		h := s.seen
		h.Busy = s.busy
		return h
	}
	defer s.mu.Unlock()
	free, err := s.guard.space()
	state, _ := s.guard.judge(free)
	return s.health(state, free, err)
}

// Tend is Health for whoever looks after the store now and then: it gives the
// ballast up and takes it again, when nothing is put that would do so. It may
// have to wait for the disk.
func (s *Store) Tend() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.health(StateStopped, 0, nil)
	}
	s.began(s.o.Now())
	defer s.began(time.Time{})
	state, free, _, err := s.guard.look()
	return s.health(state, free, err)
}

// began notes when something began that may have to wait for the disk, the zero time when it has ended. s.mu is held.
func (s *Store) began(at time.Time) {
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	s.busy = at
}

// health puts together what was measured and what is known. s.mu is held.
func (s *Store) health(state State, free int64, err error) Health {
	h := Health{State: StateStopped, Err: s.last, Keys: len(s.keys), Commit: s.commit.Read()}
	if !s.closed {
		if h.State, h.Free = state, free; err != nil {
			h.State, h.Err = StateFailed, err
		}
	}
	if s.failed != nil {
		h.State, h.Err = StateFailed, s.failed
	}
	h.Ballast = s.guard.held
	h.Waiting, h.Broken, h.SetAside = len(s.waiting), len(s.broken), s.aside
	for _, d := range s.databases() {
		for sh, b := range d.books {
			if h.Blocks == 0 {
				h.Oldest, h.Newest = sh.day, sh.day
			}
			h.Oldest, h.Newest = min(h.Oldest, sh.day), max(h.Newest, sh.day)
			h.Blocks += uint64(b.next - b.first)
			h.Bytes += b.bytes
			h.Rows += b.rows
		}
		h.Lost += len(d.lost)
	}
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	s.seen = h
	return h
}

// Rows returns the number of records that were put: those that are there, and
// those that were destroyed since the store was opened. It does not look at the
// disk. One that was put twice counts twice, though merging keeps it once.
func (s *Store) Rows() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.forgotten
	for _, d := range s.databases() {
		n += rowsPut(d)
	}
	return n
}

// Due returns those of days whose time is over at now: the sessions of a day
// are kept for retentionDays whole days after it (BEK 988/2006 § 9). With less
// than one day of retention nothing is due: that is no value to destroy by.
func Due(days []session.Day, now time.Time, retentionDays int) []session.Day {
	if retentionDays < 1 {
		return nil
	}
	today := int64(session.DayOf(now.UnixNano()))
	keep := int64(min(retentionDays, math.MaxInt32))
	due := slices.DeleteFunc(slices.Clone(days), func(d session.Day) bool { return int64(d)+keep >= today })
	slices.Sort(due)
	return slices.Compact(due)
}
