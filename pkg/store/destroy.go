package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Run is what can be said of a run without opening it.
type Run struct {
	Day    session.Day
	Number uint64
	Blocks int
	Rows   uint64
	Bytes  uint64
	Hash   [32]byte // SHA-256 of its list of contents
}

func runOf(c *contents) Run {
	r := Run{Day: c.day, Number: c.number, Blocks: len(c.entries), Hash: sha256.Sum256(c.encode())}
	for i := range c.entries {
		r.Rows += uint64(c.entries[i].rows)
		r.Bytes += uint64(c.entries[i].size)
	}
	return r
}

// KeyFact names a wrapped key without repeating it.
type KeyFact struct {
	Epoch uint64
	Hash  [32]byte // SHA-256 of the wrapped key

	Unreadable bool // it is to be there, and cannot be read
}

// DayFacts is what there is of a day.
type DayFacts struct {
	Day    session.Day
	Keys   []KeyFact
	Runs   []Run
	Blocks int // in the runs, and those that are fresh yet
	Rows   uint64
	Bytes  uint64
}

// Expired returns the days whose time is over at now, of all that anything is
// left of (Due).
func (s *Store) Expired(now time.Time, retentionDays int) []session.Day {
	return Due(s.Kept(), now, retentionDays)
}

// Kept returns the days that anything is left of, sorted.
func (s *Store) Kept() []session.Day {
	s.mu.Lock()
	defer s.mu.Unlock()
	var days []session.Day
	for k := range s.keys {
		days = append(days, k.day)
	}
	for _, d := range s.databases() {
		if d.run {
			days = append(days, d.day) // though all of its blocks be lost
			continue
		}
		for sh := range d.books {
			if !s.destroyed[sh.day] {
				days = append(days, sh.day)
			}
		}
	}
	for _, p := range s.broken {
		days = append(days, p.Day)
	}
	slices.Sort(days)
	return slices.Compact(days)
}

// Day returns what there is of a day.
func (s *Store) Day(day session.Day) (DayFacts, error) {
	f := DayFacts{Day: day}
	for _, k := range s.keyNames() {
		if k.day != day {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.keysDir(), k.file()))
		f.Keys = append(f.Keys, KeyFact{Epoch: k.epoch, Hash: sha256.Sum256(b), Unreadable: err != nil})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Runs = s.runsOf(day)
	for _, d := range s.databases() {
		for sh, b := range d.books {
			if sh.day == day {
				f.Blocks += int(b.next - b.first)
				f.Rows += b.rows
				f.Bytes += b.bytes
			}
		}
	}
	return f, nil
}

// DestroyKeys removes every wrapped key of a day, durably: from then on nobody
// can open its blocks, wherever copies of them may lie. What the file system
// keeps of removed files is not overwritten; they are wrapped all the same. It
// is safe to call again.
func (s *Store) DestroyKeys(day session.Day) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("destroy keys of %s: %w", day, ErrClosed)
	}
	s.destroyed[day] = true
	for k := range s.keys {
		if k.day != day {
			continue
		}
		if err := os.Remove(filepath.Join(s.keysDir(), k.file())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.note(fmt.Errorf("destroy keys of %s: %w", day, translate(err)))
		}
		failpoint("key destroyed")
		delete(s.keys, k)
	}
	if err := syncDir(s.keysDir()); err != nil {
		return s.note(fmt.Errorf("destroy keys of %s: %w", day, translate(err)))
	}
	failpoint("keys destroyed")
	return nil
}

// Reopen lets days be written to again that this process destroyed and whose time
// is not over, which happens when the clock was wrong. Those of which something
// lies in a fresh database yet are left; there are none left when it returns true.
func (s *Store) Reopen(over func(session.Day) bool) (all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = true
	for day := range s.destroyed {
		if over(day) {
			continue
		}
		if slices.ContainsFunc(s.databases(), func(d *database) bool { return d.has(day) }) {
			all = false
		} else {
			delete(s.destroyed, day)
		}
	}
	return all
}

func (d *database) has(day session.Day) bool {
	for sh := range d.books {
		if sh.day == day {
			return true
		}
	}
	return false
}

// DestroyBlocks gives the space of a day back, after its keys: one rename,
// whatever there is, then the removal of its files. Blocks of it that are fresh
// yet are not delivered any more, and go when their database is merged. It is
// safe to call again.
func (s *Store) DestroyBlocks(day session.Day) error {
	s.mu.Lock()
	if s.closed || !s.destroyed[day] {
		s.mu.Unlock()
		return fmt.Errorf("destroy blocks of %s: its keys were not destroyed", day)
	}
	var gone []*database
	s.runs = slices.DeleteFunc(s.runs, func(d *database) bool {
		if d.day != day {
			return false
		}
		gone = append(gone, d)
		s.forgotten += rowsPut(d)
		return true
	})
	s.broken = slices.DeleteFunc(s.broken, func(p Problem) bool { return p.Day == day })
	s.mu.Unlock()
	var err error
	for _, d := range gone {
		err = errors.Join(err, s.shelves.retire(d, false))
	}
	if _, none := os.Stat(s.dayDir(day)); errors.Is(none, fs.ErrNotExist) {
		return err
	}
	if err = errors.Join(err, s.removeDir(s.dayDir(day))); err != nil {
		return fmt.Errorf("destroy blocks of %s: %w", day, err)
	}
	return nil
}

// rowsPut returns how many records were put that a database stands for.
func rowsPut(d *database) (n uint64) {
	for sh, b := range d.books {
		if sh.kind.fresh() {
			n += b.rows
		}
	}
	for _, m := range d.merged {
		n += m.rows
	}
	return n
}

func (s *Store) wasDestroyed(day session.Day) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.destroyed[day]
}
