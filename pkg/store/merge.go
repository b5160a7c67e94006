package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Merge takes the blocks of a fresh database over into one run for each day. It
// is used by one goroutine; blocks are put and scanned meanwhile.
//
//  1. Blocks delivers what there is to take over.
//  2. Put adds what shall stand for it: the block itself, or merged ones.
//  3. Commit makes the runs durable and lets go of the fresh database; nothing
//     changes for a reader before that, or after Abort.
type Merge struct {
	s       *Store
	from    *database
	entries []entry // of from, sorted
	lost    []entry // of them: could not be read

	destroyed uint64 // records of days whose time was over, in from

	runs   map[session.Day]*runWriter
	open   *runWriter        // the one that is written; nil: none yet
	next   map[shelf]uint32  // of merged kinds: the number of the next block
	copied map[shelf]stretch // what was taken over as it is, to find what was not
	over   bool
}

// ErrNothing says that no fresh database waits to be merged.
var ErrNothing = errors.New("nothing waits to be merged")

// Merge begins to take over the fresh database that waits longest. The error
// wraps ErrNothing, ErrNoSpace, ErrFailed or ErrClosed. There may be one at a
// time, and it must be ended by Commit or Abort before Close.
func (s *Store) Merge() (*Merge, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("merge: %w", ErrClosed)
	}
	if len(s.waiting) == 0 {
		return nil, fmt.Errorf("merge: %w", ErrNothing)
	}
	m := &Merge{s: s, from: s.waiting[0], runs: map[session.Day]*runWriter{}, next: map[shelf]uint32{}, copied: map[shelf]stretch{}}
	m.entries = slices.DeleteFunc(slices.Clone(m.from.entries), func(e entry) bool { return s.destroyed[e.shelf.day] })
	sortEntries(m.entries)
	size := 0
	for i := range m.entries {
		size += int(m.entries[i].size)
	}
	if err := s.writable(size); err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	return m, nil
}

// Waiting returns how many fresh databases wait to be merged.
func (s *Store) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Blocks calls fn with each block, by day, kind, epoch and number: runs are
// written one day after the other, since each that is open takes as much memory as a
// fresh database. The block is valid only during the call. When one cannot be read,
// the error wraps ErrDamaged the first time: a disk may fail for a moment, and merging
// is for ever. The next time it is left out, and listed as lost by Commit.
func (m *Merge) Blocks(ctx context.Context, fn func(vault.Place, Sealed) error) error {
	m.lost = m.lost[:0]
	var buf []byte
	order := slices.Clone(m.entries)
	slices.SortStableFunc(order, func(a, b entry) int { return cmp.Compare(a.shelf.day, b.shelf.day) })
	for i := range order {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		e := &order[i]
		p, b, err := m.s.shelves.read(m.from, e, buf, whole)
		if err != nil {
			m.s.o.Log.Error("a block cannot be read", "block", e.seq, "of", e.shelf.String(), "error", err)
			m.lost = append(m.lost, *e)
			continue
		}
		buf = b
		if err := fn(p, b); err != nil {
			return err
		}
	}
	if len(m.lost) > 0 && !m.from.doubted {
		m.from.doubted = true
		return fmt.Errorf("merge: %w: %d blocks cannot be read; they are tried once more before they are given up", ErrDamaged, len(m.lost))
	}
	return nil
}

func (m *Merge) isLost(sh shelf, seq uint32) bool {
	return slices.ContainsFunc(m.lost, func(e entry) bool { return e.shelf == sh && e.seq == seq })
}

// NextSeq returns the number that the next block of a merged kind must have.
func (m *Merge) NextSeq(kind Kind, day session.Day, epoch uint64) uint32 {
	sh := shelf{kind, day, epoch}
	if n, ok := m.next[sh]; ok {
		return n
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.next[sh]
}

// Put adds a block: one that Blocks delivered, as it is, or one of a merged kind
// with the next number. They must come in the order of Blocks; of a day that is
// over, none more.
func (m *Merge) Put(b Sealed) error {
	p, err := b.Place()
	if err != nil {
		return fmt.Errorf("merge: %w: %w", ErrBlock, err)
	}
	e := entryOf(&p, len(b))
	if len(b) > MaxSealed {
		return fmt.Errorf("merge: %w: a block has %d bytes, at most %d; split it", ErrTooLarge, len(b), MaxSealed)
	}
	if e.shelf.kind.fresh() {
		if err := m.take(&e); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
	} else {
		if want := m.NextSeq(e.shelf.kind, e.shelf.day, e.shelf.epoch); e.seq != want {
			return fmt.Errorf("merge: %w: %s: number %d, the next is %d", ErrTurn, e.shelf, e.seq, want)
		}
		m.next[e.shelf] = e.seq + 1
	}
	run, err := m.run(e.shelf.day)
	if err == nil {
		err = m.closeOthers(run)
	}
	if err == nil {
		err = run.put(e, b)
	}
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return nil
}

// closeOthers closes the databases of all runs but one.
func (m *Merge) closeOthers(open *runWriter) error {
	if m.open == open {
		return nil
	}
	if m.open != nil {
		if err := m.open.close(); err != nil {
			return err
		}
	}
	m.open = open
	return nil
}

// take notes that a block was taken over as it is.
func (m *Merge) take(e *entry) error {
	if at, found := slices.BinarySearchFunc(m.entries, e, func(a entry, b *entry) int { return a.compare(b) }); !found || m.entries[at] != *e {
		return fmt.Errorf("%w: block %d of %s was not in the fresh database", ErrBlock, e.seq, e.shelf)
	}
	at, seen := m.copied[e.shelf]
	if !seen {
		b := m.from.books[e.shelf]
		at = stretch{shelf: e.shelf, first: b.first, next: b.first}
	}
	for m.isLost(e.shelf, at.next) {
		at.next++
	}
	if e.seq != at.next {
		return fmt.Errorf("%w: block %d of %s, the next is %d", ErrTurn, e.seq, e.shelf, at.next)
	}
	at.next++
	m.copied[e.shelf] = at
	return nil
}

// Commit makes the runs durable and puts them in the place of the fresh
// database. Of each kind, day and epoch, all blocks must have been put as they
// are, or else merged ones that stand for all of them. It returns the runs.
func (m *Merge) Commit() ([]Run, error) {
	if err := m.account(); err != nil {
		return nil, errors.Join(fmt.Errorf("merge: %w", err), m.Abort())
	}
	for _, w := range m.runs {
		if err := w.finish(); err != nil {
			return nil, errors.Join(fmt.Errorf("merge: %w", err), m.Abort())
		}
	}
	if err := m.mark(); err != nil {
		return nil, errors.Join(fmt.Errorf("merge: %w", err), m.Abort())
	}
	m.over = true
	if err := m.replace(); err != nil {
		// Runs may have their names or not: the next start finishes it.
		m.s.mu.Lock()
		defer m.s.mu.Unlock()
		m.s.failed = err
		return nil, m.s.note(fmt.Errorf("merge: %w", err))
	}
	var out []Run
	for _, day := range slices.Sorted(maps.Keys(m.runs)) {
		out = append(out, runOf(&m.runs[day].contents))
	}
	return out, nil
}

// account notes what the merged blocks stand for and what was lost, and refuses
// to lose anything else.
func (m *Merge) account() error {
	for sh, b := range m.from.books {
		if !slices.ContainsFunc(m.entries, func(e entry) bool { return e.shelf == sh }) {
			m.destroyed += b.rows
			continue // its day's time was over
		}
		gone := uint32(0)
		for i := range m.lost {
			if m.lost[i].shelf == sh {
				gone++
			}
		}
		run, err := m.run(sh.day)
		if err != nil {
			return err
		}
		kind, _ := sh.kind.Merged()
		_, put := m.next[shelf{kind, sh.day, sh.epoch}]
		c, copied := m.copied[sh]
		for copied && m.isLost(sh, c.next) {
			c.next++
		}
		switch {
		case copied && c.first == b.first && c.next == b.next, gone == b.next-b.first:
		case put && !copied:
			run.merged = append(run.merged, stretch{sh, b.first, b.next, b.rows})
		default:
			return fmt.Errorf("%w: of %s, not all was taken over", ErrBlock, sh)
		}
	}
	for i := range m.lost {
		run := m.runs[m.lost[i].shelf.day]
		run.lost = append(run.lost, m.lost[i])
	}
	for _, w := range m.runs {
		slices.SortFunc(w.merged, func(a, b stretch) int { return a.shelf.compare(b.shelf) })
	}
	return nil
}

// run returns the run of a day, and begins it where there is none yet.
func (m *Merge) run(day session.Day) (*runWriter, error) {
	if w := m.runs[day]; w != nil {
		return w, nil
	}
	w, err := m.s.newRun(day, m.from.number)
	if err == nil {
		m.runs[day] = w
	}
	return w, err
}

// mark says in the fresh database which runs stand for it. Until it returns nil
// nothing has changed.
func (m *Merge) mark() error {
	days := make([]string, 0, len(m.runs))
	for day := range m.runs {
		days = append(days, day.String())
	}
	slices.Sort(days)
	// Renamed when it is whole: by one that is cut short, blocks would be removed whose runs have no names yet.
	mark := filepath.Join(m.from.dir, mergedMark)
	err := writeFile(mark+".new", []byte(strings.Join(days, "\n")+"\n"), os.O_TRUNC)
	failpoint("mark written")
	if err == nil {
		err = os.Rename(mark+".new", mark)
	}
	return translate(err)
}

// replace puts the finished runs in the place of the fresh database, which has
// been marked.
func (m *Merge) replace() error {
	s := m.s
	if err := syncDir(m.from.dir); err != nil {
		return translate(err)
	}
	failpoint("merge marked")
	if err := m.swap(); err != nil {
		return err
	}
	failpoint("merge swapped")
	if err := s.shelves.retire(m.from, true); err != nil {
		s.o.Log.Warn("a fresh database that was merged was not closed in good order", "error", err)
	}
	if err := s.removeDir(m.from.dir); err != nil {
		s.o.Log.Warn("a fresh database that was merged is not removed yet; the next start does it", "error", err)
	}
	return nil
}

// swap gives the runs their names and lists them instead of the fresh database.
// The run of a day that was destroyed meanwhile goes; DestroyBlocks, which goes by
// the same lock, may have come before it was begun.
func (m *Merge) swap() error {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began(s.o.Now())
	defer s.began(time.Time{})
	var runs []*database
	for day, w := range m.runs {
		if s.destroyed[day] {
			if err := w.drop(); err != nil {
				s.o.Log.Warn("a run of a day that was destroyed is not removed yet; the next start does it", "error", err)
			}
			_ = os.Remove(s.dayDir(day)) // unless there is something else in it
			s.forgotten += m.rowsOf(day)
			delete(m.runs, day)
			continue
		}
		if err := s.nameRun(day, m.from.number); err != nil {
			return err
		}
		failpoint("run named")
		d := &database{dir: s.runDir(day, m.from.number), number: m.from.number, run: true, day: day, entries: w.entries, merged: w.merged, lost: w.lost}
		d.books, _ = books(w.entries, w.lost) // in order: Put saw to it
		runs = append(runs, d)
	}
	s.runs = append(s.runs, runs...)
	s.waiting = slices.DeleteFunc(s.waiting, func(d *database) bool { return d == m.from })
	maps.Copy(s.next, m.next)
	s.forgotten += m.destroyed
	return nil
}

// rowsOf returns how many records of a day were put into the fresh database.
func (m *Merge) rowsOf(day session.Day) (n uint64) {
	for sh, b := range m.from.books {
		if sh.day == day {
			n += b.rows
		}
	}
	return n
}

// Abort gives the merge up; the fresh database stays as it is. It is safe to
// call after Commit.
func (m *Merge) Abort() error {
	if m.over {
		return nil
	}
	m.over = true
	var err error
	for _, w := range m.runs {
		err = errors.Join(err, w.drop())
	}
	return err
}
