package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Scan calls fn with every block of kind whose time range meets [fromMs, toMs],
// unix milliseconds, both included, by day, epoch and number. Blocks are filed
// under the day on which their sessions ended, so those of later days are
// looked at too. The block is valid only during the call. It sees what was there when
// it began; Put goes on meanwhile.
//
// A block that is missing or cannot be read is left out, and the error at the
// end says which: all others have been delivered then. It wraps ErrDamaged. An
// error of fn or of ctx ends the scan and is returned.
func (s *Store) Scan(ctx context.Context, kind Kind, fromMs, toMs int64, fn func(vault.Place, Sealed) error) error {
	return s.ScanDays(ctx, kind, 0, lastDay, fromMs, toMs, fn)
}

// ScanDays is Scan of the blocks that are filed under the days first to last.
func (s *Store) ScanDays(ctx context.Context, kind Kind, first, last session.Day, fromMs, toMs int64, fn func(vault.Place, Sealed) error) error {
	meets := func(from, to int64) bool { return from <= toMs && to >= fromMs }
	r, err := s.reader()
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	defer r.close()
	for _, sh := range r.shelves {
		b := r.books[sh]
		if sh.kind != kind || sh.day < first || sh.day > last || !meets(b.from, b.to) {
			continue
		}
		for seq := range b.next {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("scan store: %w", err)
			}
			p, block, err := r.read(sh, seq, meets)
			if err != nil {
				r.bad = append(r.bad, Problem{Kind: sh.kind, Day: sh.day, Epoch: sh.epoch, Seq: int64(seq), What: err})
				continue
			}
			if block == nil {
				continue
			}
			if err := fn(p, block); err != nil {
				return err
			}
		}
	}
	if len(r.bad) > 0 {
		return fmt.Errorf("scan store: %w: %d blocks could not be read, %w; the others were; put the files back from a backup", ErrDamaged, len(r.bad), r.bad[0])
	}
	return nil
}

// reader sees the store as it was when it was made.
type reader struct {
	txn     *badger.Txn
	books   map[shelf]book
	shelves []shelf // of books, sorted
	buf     []byte
	bad     []Problem
	done    func()
}

func (s *Store) reader() (*reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.readers.Add(1)
	r := &reader{txn: s.db.NewTransaction(false), books: make(map[shelf]book, len(s.books)), done: s.readers.Done}
	for sh, b := range s.books {
		r.books[sh] = b
		r.shelves = append(r.shelves, sh)
	}
	slices.SortFunc(r.shelves, shelf.compare)
	return r, nil
}

func (s shelf) compare(x shelf) int {
	return cmp.Or(cmp.Compare(s.kind, x.kind), cmp.Compare(s.day, x.day), cmp.Compare(s.epoch, x.epoch))
}

func (r *reader) close() {
	r.txn.Discard()
	r.done()
}

var errLost = fmt.Errorf("%w: it is not there", ErrDamaged)

// read returns a block, or none if want does not want its time range. Each
// block is looked up by its number: an iterator of Badger's ends without an
// error where it cannot read on.
func (r *reader) read(sh shelf, seq uint32, want func(from, to int64) bool) (p vault.Place, block Sealed, err error) {
	if l, ok := r.label(sh, seq); ok && !want(l.from, l.to) {
		return p, nil, nil
	}
	err = r.get(sh.blockKey(seq), func(v []byte) error {
		if p, err = vault.ParsePlace(v); err != nil {
			return err
		}
		if shelfOf(p) != sh || p.Seq != seq {
			return fmt.Errorf("%w: it says that it is block %d of %s", ErrDamaged, p.Seq, shelfOf(p))
		}
		if want(p.From, p.To) {
			r.buf = append(r.buf[:0], v...)
			block = r.buf
		}
		return nil
	})
	return p, block, err
}

// label returns the label of a block; ok is false where it cannot be believed.
func (r *reader) label(sh shelf, seq uint32) (l label, ok bool) {
	key := sh.labelKey(seq)
	err := r.get(key, func(v []byte) error {
		l, ok = parseLabel(key, v)
		return nil
	})
	return l, ok && err == nil
}

// get gives the value of key to f, which must not call back to the user of the
// package.
func (r *reader) get(key []byte, f func([]byte) error) error {
	return fence(func() error {
		item, err := r.txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return errLost
		}
		if err != nil {
			return translate(err)
		}
		return item.Value(f)
	})
}

// Block returns one block. The error wraps ErrMissing when there is none of that
// number, and ErrDamaged when it cannot be read.
func (s *Store) Block(kind Kind, day session.Day, epoch uint64, seq uint32) (Sealed, error) {
	r, err := s.reader()
	if err != nil {
		return nil, fmt.Errorf("read block: %w", err)
	}
	defer r.close()
	sh := shelf{kind, day, epoch}
	if seq >= r.books[sh].next {
		return nil, fmt.Errorf("read block %d of %s: %w", seq, sh, ErrMissing)
	}
	_, block, err := r.read(sh, seq, func(int64, int64) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("read block %d of %s: %w", seq, sh, err)
	}
	return block, nil
}

// Days returns the days that have blocks of kind.
func (s *Store) Days(kind Kind) []session.Day {
	s.mu.Lock()
	defer s.mu.Unlock()
	var days []session.Day
	for sh := range s.books {
		if sh.kind == kind {
			days = append(days, sh.day)
		}
	}
	slices.Sort(days)
	return slices.Compact(days)
}
