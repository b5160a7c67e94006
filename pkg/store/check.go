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

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Problem is one thing that Check found. It is also an error.
type Problem struct {
	Kind  Kind // 0 for a wrapped key, a whole day (Epoch 0), or the store (Day 0 too)
	Day   session.Day
	Epoch uint64
	Seq   int64 // number of the block; -1 where the problem is not one block's
	What  error

	From, To int64 // the times that the block spoke of, unix milliseconds, both included; 0, 0 where that is not known
}

// Error says where and what.
func (p Problem) Error() string {
	switch {
	case p.Kind.held() && p.Seq < 0:
		return fmt.Sprintf("hold %d: %v", p.Epoch, p.What)
	case p.Kind.held():
		return fmt.Sprintf("block %d of hold %d: %v", p.Seq, p.Epoch, p.What)
	case p.Kind == 0 && p.Day == 0:
		return p.What.Error()
	case p.Kind == 0 && p.Epoch == 0:
		return fmt.Sprintf("day %s: %v", p.Day, p.What)
	case p.Kind == 0:
		return fmt.Sprintf("wrapped key of day %s, epoch %d: %v", p.Day, p.Epoch, p.What)
	case p.Seq < 0:
		return fmt.Sprintf("%s: %v", shelf{p.Kind, p.Day, p.Epoch}, p.What)
	}
	return fmt.Sprintf("block %d of %s: %v", p.Seq, shelf{p.Kind, p.Day, p.Epoch}, p.What)
}

// Unwrap returns What.
func (p Problem) Unwrap() error { return p.What }

// Check looks at everything that can be looked at without a private key: each
// block is there, whole, and says that it lies where it lies; lists of contents
// and books agree with the blocks; the numbers of each kind, day and epoch have
// no gap, merged ones counted by the runs that stand for them; each block's
// wrapped key is there and looks like one; nothing else lies between them, and the
// tables have their sums; holds are whole. It returns what it found, and an error
// only when it could not look. It reads the whole store and changes nothing;
// blocks are put, merged and destroyed meanwhile. progress, if there is one, is
// told after each block how many of how many bytes were read.
func (s *Store) Check(ctx context.Context, progress func(done, all int64)) ([]Problem, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("check store: %w", ErrClosed)
	}
	s.readers.Add(1)
	c := &check{s: s, progress: progress, reader: reader{bad: slices.Clone(s.broken)}}
	for _, d := range s.databases() {
		for _, b := range d.books {
			c.all += int64(b.bytes)
		}
	}
	s.mu.Unlock()
	defer s.readers.Done()
	for _, day := range s.Kept() {
		if err := c.day(ctx, day); err != nil {
			return c.bad, fmt.Errorf("check store: %w", err)
		}
	}
	c.numbers()
	if err := c.databases(ctx); err != nil {
		return c.bad, fmt.Errorf("check store: %w", err)
	}
	bad, err := s.checkHolds(ctx)
	if c.bad = append(c.bad, bad...); err != nil {
		return c.bad, fmt.Errorf("check store: %w", err)
	}
	return c.bad, nil
}

// check is one Check. Days are read one after the other, so that what is fresh
// can be merged meanwhile.
type check struct {
	reader    // takes what is found
	s         *Store
	done, all int64 // bytes
	progress  func(done, all int64)
	buf       []byte
}

// day checks the blocks and wrapped keys of a day.
func (c *check) day(ctx context.Context, day session.Day) error {
	r, err := c.s.reader(func(sh shelf, _, _ int64) bool { return sh.day == day })
	if err != nil {
		return err
	}
	defer r.close()
	r.bad = nil // runs that are broken as a whole were found before
	err = c.blocks(ctx, r)
	usable := c.keys(day, r) // each was there before the first block under it
	seen := map[keyName]bool{}
	for i := range r.list {
		k := keyName{day, r.list[i].shelf.epoch}
		if !usable[k] && !seen[k] {
			r.find(r.list[i].shelf, -1, fmt.Errorf("%w: nobody can open these blocks", ErrNoKey))
		}
		seen[k] = true
	}
	if !c.s.wasDestroyed(day) { // else it went while it was looked at
		c.bad = append(c.bad, r.bad...)
	}
	return err
}

// keys returns the wrapped keys of a day that are there and look like keys.
func (c *check) keys(day session.Day, r *reader) map[keyName]bool {
	usable := map[keyName]bool{}
	for _, k := range c.s.keyNames() {
		if k.day != day {
			continue
		}
		b, err := os.ReadFile(filepath.Join(c.s.keysDir(), k.file()))
		switch {
		case err != nil:
			r.find(shelf{0, k.day, k.epoch}, -1, err)
		case !vault.IsSealedKey(b):
			r.find(shelf{0, k.day, k.epoch}, -1, fmt.Errorf("%w: it does not begin like an age file", ErrDamaged))
		default:
			usable[k] = true
		}
	}
	return usable
}

// blocks reads every block and compares it with its list of contents.
func (c *check) blocks(ctx context.Context, r *reader) error {
	for i := range r.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &r.list[i]
		if l.lost {
			r.find(l.shelf, int64(l.seq), fmt.Errorf("%w when it was to be merged", errLost))
			continue
		}
		p, b, err := c.s.shelves.read(l.in, &l.entry, c.buf, whole)
		switch {
		case errors.Is(err, errGone):
		case err != nil:
			r.find(l.shelf, int64(l.seq), err)
		case entryOf(&p, len(b)) != l.entry:
			r.find(l.shelf, int64(l.seq), fmt.Errorf("%w: the list of contents does not agree with it", ErrDamaged))
		}
		if b != nil {
			c.buf = b
		}
		c.done += int64(l.size)
		if c.all = max(c.all, c.done); c.progress != nil { // more may have come meanwhile
			c.progress(c.done, c.all)
		}
	}
	return nil
}

// numbers finds gaps in the numbers of the blocks.
func (c *check) numbers() {
	for sh, parts := range c.s.stretches() {
		slices.SortFunc(parts, func(a, b stretch) int { return cmp.Compare(a.first, b.first) })
		next := uint32(0)
		for _, p := range parts {
			if p.first > next {
				c.find(sh, int64(next), fmt.Errorf("%w: and those after it, up to number %d", errLost, p.first-1))
			}
			next = max(next, p.next)
		}
	}
}

// stretches returns which numbers of each kind, day and epoch are there, or were
// merged, or are known to be lost.
func (s *Store) stretches() map[shelf][]stretch {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := map[shelf][]stretch{}
	for _, d := range s.databases() {
		for sh, b := range d.books {
			if !s.destroyed[sh.day] {
				have[sh] = append(have[sh], stretch{sh, b.first, b.next, b.rows})
			}
		}
		for _, m := range d.merged {
			have[m.shelf] = append(have[m.shelf], m)
		}
		for i := range d.lost {
			e := &d.lost[i]
			if !slices.ContainsFunc(d.merged, func(m stretch) bool { return m.shelf == e.shelf }) {
				have[e.shelf] = append(have[e.shelf], stretch{e.shelf, e.seq, e.seq + 1, 0})
			}
		}
	}
	return have
}

// databases looks into each database for what does not belong there, and has it
// check the sums of its tables: they judge bytes that otherwise only a key can.
func (c *check) databases(ctx context.Context) error {
	c.s.mu.Lock()
	list := c.s.databases()
	c.s.mu.Unlock()
	for _, d := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.s.shelves.with(d, func(db *badger.DB) error {
			c.strays(d, db)
			if err := db.VerifyChecksum(); err != nil {
				c.s.o.Log.Error("the sums of a table do not agree with it", "database", d.String(), "error", err)
				return errSums
			}
			return nil
		})
		if err != nil && !errors.Is(err, errGone) {
			c.bad = append(c.bad, Problem{Day: d.day, Seq: -1, What: fmt.Errorf("%s: %w", d, err)})
		}
	}
	return nil
}

var errSums = fmt.Errorf("%w: the sums of a table do not agree with it; opening its blocks tells which", ErrDamaged)

var errStray = errors.New("it is in no list")

// strays looks for entries that no list of contents knows.
func (c *check) strays(d *database, db *badger.DB) {
	c.s.mu.Lock() // so that no block is on its way into both
	txn, books := db.NewTransaction(false), maps.Clone(d.books)
	c.s.mu.Unlock()
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		switch {
		case len(key) == bookKeySize && key[0] == bookMark:
			if sh := parseShelf(key[1:]); d.run || books[sh].next == 0 {
				c.find(sh, -1, errStray)
			}
		case len(key) == blockKeySize:
			sh, seq := parseShelf(key), parseSeq(key)
			if b := books[sh]; seq < b.first || seq >= b.next {
				c.find(sh, int64(seq), errStray)
			}
		default:
			c.bad = append(c.bad, Problem{Seq: -1, What: fmt.Errorf("%w: an entry with a key of %d bytes in %s", ErrDamaged, len(key), d)})
		}
	}
}
