package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
// tables have their sums; holds are whole. It
// returns what it found, and an error only when it could not look. It reads the
// whole store and changes nothing. progress, if there is one, is told after each
// block how many of how many bytes were read.
func (s *Store) Check(ctx context.Context, progress func(done, all int64)) ([]Problem, error) {
	r, err := s.reader(func(shelf, int64, int64) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	defer r.close()
	usable := s.checkKeys(r)
	if err := r.checkBlocks(ctx, progress); err != nil {
		return r.bad, fmt.Errorf("check store: %w", err)
	}
	s.mu.Lock()
	list := s.databases()
	s.mu.Unlock()
	r.checkNumbers(list)
	checked := map[keyName]bool{}
	for i := range r.list {
		k := keyName{r.list[i].shelf.day, r.list[i].shelf.epoch}
		if !usable[k] && !checked[k] {
			r.find(r.list[i].shelf, -1, fmt.Errorf("%w: nobody can open these blocks", ErrNoKey))
		}
		checked[k] = true
	}
	for _, d := range list {
		if ctx.Err() != nil {
			return r.bad, fmt.Errorf("check store: %w", ctx.Err())
		}
		err := s.shelves.with(d, func(db *badger.DB) error {
			r.checkStrays(d, db)
			// Bytes that only a key can judge are judged by the sums of their table.
			return translate(db.VerifyChecksum())
		})
		if err != nil && !errors.Is(err, errGone) {
			r.bad = append(r.bad, Problem{Day: d.day, Seq: -1, What: fmt.Errorf("%s: %w", d, err)})
		}
	}
	bad, err := s.checkHolds(ctx)
	if r.bad = append(r.bad, bad...); err != nil {
		return r.bad, fmt.Errorf("check store: %w", err)
	}
	return r.bad, nil
}

// checkKeys returns the wrapped keys that are there and look like keys.
func (s *Store) checkKeys(r *reader) map[keyName]bool {
	usable := map[keyName]bool{}
	for _, k := range s.keyNames() {
		b, err := os.ReadFile(filepath.Join(s.keysDir(), k.file()))
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

// checkBlocks reads every block and compares it with its list of contents.
func (r *reader) checkBlocks(ctx context.Context, progress func(done, all int64)) error {
	var done, all int64
	for i := range r.list {
		all += int64(r.list[i].size)
	}
	var buf []byte
	for i := range r.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &r.list[i]
		if l.lost {
			r.find(l.shelf, int64(l.seq), fmt.Errorf("%w when it was to be merged", errLost))
			continue
		}
		p, b, err := r.s.shelves.read(l.in, &l.entry, buf, whole)
		switch {
		case errors.Is(err, errGone):
		case err != nil:
			r.find(l.shelf, int64(l.seq), err)
		case entryOf(&p, len(b)) != l.entry:
			r.find(l.shelf, int64(l.seq), fmt.Errorf("%w: the list of contents does not agree with it", ErrDamaged))
		}
		if b != nil {
			buf = b
		}
		if done += int64(l.size); progress != nil {
			progress(done, all)
		}
	}
	return nil
}

// checkNumbers finds gaps in the numbers of the blocks.
func (r *reader) checkNumbers(list []*database) {
	have := map[shelf][]stretch{}
	for _, d := range list {
		for sh, b := range d.books {
			if r.s.wasDestroyed(sh.day) {
				continue
			}
			have[sh] = append(have[sh], stretch{sh, b.first, b.next, b.rows})
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
	for sh, parts := range have {
		slices.SortFunc(parts, func(a, b stretch) int { return cmp.Compare(a.first, b.first) })
		next := uint32(0)
		for _, p := range parts {
			if p.first > next {
				r.find(sh, int64(next), fmt.Errorf("%w: and those after it, up to number %d", errLost, p.first-1))
			}
			next = max(next, p.next)
		}
	}
}

var errStray = errors.New("it is in no list")

// checkStrays looks for entries that no list of contents knows.
func (r *reader) checkStrays(d *database, db *badger.DB) {
	txn := db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		switch {
		case len(key) == bookKeySize && key[0] == bookMark:
			if sh := parseShelf(key[1:]); d.run || d.books[sh].next == 0 {
				r.find(sh, -1, errStray)
			}
		case len(key) == blockKeySize:
			sh, seq := parseShelf(key), parseSeq(key)
			if b := d.books[sh]; seq < b.first || seq >= b.next {
				r.find(sh, int64(seq), errStray)
			}
		default:
			r.bad = append(r.bad, Problem{Seq: -1, What: fmt.Errorf("%w: an entry with a key of %d bytes in %s", ErrDamaged, len(key), d)})
		}
	}
}
