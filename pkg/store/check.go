package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Problem is one thing that Check found. It is also an error.
type Problem struct {
	Kind  Kind // 0 for a wrapped key
	Day   session.Day
	Epoch uint64
	Seq   int64 // number of the block; -1 where the problem is not one block's
	What  error
}

// Error says where and what.
func (p Problem) Error() string {
	switch {
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
// block is there, whole, and says that it lies where it lies; each book agrees
// with its blocks; each block's wrapped key is there and looks like one; nothing
// else lies between them. It returns what it found, and an error only when it
// could not look. It reads the whole store and changes nothing.
func (s *Store) Check(ctx context.Context) ([]Problem, error) {
	r, err := s.reader()
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	defer r.close()
	usable := s.checkKeys(r)
	for _, sh := range r.shelves {
		if err := r.checkShelf(ctx, sh); err != nil {
			return r.bad, fmt.Errorf("check store: %w", err)
		}
		if !usable[keyName{sh.day, sh.epoch}] {
			r.find(sh, -1, fmt.Errorf("%w: nobody can open these blocks", ErrNoKey))
		}
	}
	if err := fence(func() error { return r.checkStrays(ctx) }); err != nil {
		if ctx.Err() != nil {
			return r.bad, fmt.Errorf("check store: %w", err)
		}
		r.bad = append(r.bad, Problem{Seq: -1, What: err})
	}
	return r.bad, nil
}

func (r *reader) find(sh shelf, seq int64, what error) {
	r.bad = append(r.bad, Problem{sh.kind, sh.day, sh.epoch, seq, what})
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

func (r *reader) checkShelf(ctx context.Context, sh shelf) error {
	all := func(int64, int64) bool { return true }
	want, have := r.books[sh], book{}
	for seq := range want.next {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, block, err := r.read(sh, seq, all)
		if err != nil {
			r.find(sh, int64(seq), err)
			continue
		}
		have.add(p, len(block))
		if l, ok := r.label(sh, seq); !ok || l != (label{p.From, p.To}) {
			r.find(sh, int64(seq), fmt.Errorf("%w: its label does not agree with it", ErrDamaged))
		}
	}
	if have.next == want.next && have != want {
		r.find(sh, -1, fmt.Errorf("%w: the book does not agree with its blocks", ErrDamaged))
	}
	return nil
}

var errStray = errors.New("it is in no book")

// checkStrays looks for entries that no book knows.
func (r *reader) checkStrays(ctx context.Context) error {
	it := r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := it.Item().Key()
		switch {
		case len(key) == bookKeySize && key[0] == bookMark:
			if sh := parseShelf(key[1:]); r.books[sh].next == 0 {
				r.find(sh, -1, errStray)
			}
		case len(key) == blockKeySize, len(key) == labelKeySize && key[0] == labelMark:
			sh := parseShelf(key[len(key)-blockKeySize:])
			if seq := parseSeq(key); seq >= r.books[sh].next {
				r.find(sh, int64(seq), errStray)
			}
		default:
			return fmt.Errorf("%w: an entry with a key of %d bytes", ErrDamaged, len(key))
		}
	}
	return nil
}
