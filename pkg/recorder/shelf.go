package recorder

import (
	"context"
	"errors"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Shelf hands out what is kept, sealed as it is, to whoever has the ledger's
// leave to ask.
type Shelf struct{ store *store.Store }

// Shelf returns the shelf of this agent.
func (r *Recorder) Shelf() Shelf { return Shelf{r.store} }

// Keys calls fn with each wrapped data key of the days first to last.
func (s Shelf) Keys(ctx context.Context, first, last session.Day, fn func(wrapped []byte) error) error {
	keys, err := s.store.WrappedKeys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Day < first || k.Day > last {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(k.Wrapped); err != nil {
			return err
		}
	}
	return nil
}

// Bindings calls fn with each sealed block of bindings filed under the days
// first to last. A damaged block is passed over and counted.
func (s Shelf) Bindings(ctx context.Context, first, last session.Day, fn func(sealed []byte) error) (damaged int, err error) {
	from, to := first.Start().UnixMilli(), (last+1).Start().UnixMilli()-1
	return passOver(s.store.Scan(ctx, store.KindBindings, from, to, func(p vault.Place, b store.Sealed) error {
		if day := session.Day(p.Day); day < first || day > last {
			return nil // a later day's bindings in force: the same again
		}
		return fn(b)
	}))
}

// Sessions calls fn with each sealed block of sessions that holds a time
// from ≤ t < to, ns. A damaged block is passed over and counted.
func (s Shelf) Sessions(ctx context.Context, from, to int64, fn func(sealed []byte) error) (damaged int, err error) {
	return passOver(s.store.Scan(ctx, store.KindSessions, floorMilli(from), floorMilli(to-1), func(_ vault.Place, b store.Sealed) error {
		return fn(b)
	}))
}

// passOver turns the error about blocks that were left out into their number.
// The store says only the first of them apart: 1 means at least one.
func passOver(err error) (damaged int, rest error) {
	if errors.Is(err, store.ErrDamaged) {
		return 1, nil
	}
	return 0, err
}
