package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Shelf hands out what is kept, sealed as it is, to whoever has the ledger's
// leave to ask.
type Shelf struct{ store *store.Store }

// Shelf returns the shelf of this agent.
func (r *Recorder) Shelf() Shelf { return Shelf{r.store} }

// ShelfOf returns a shelf of a store that no agent has open.
func ShelfOf(s *store.Store) Shelf { return Shelf{s} }

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

// Bindings calls fn with each sealed block of bindings that may say something
// about the time from ≤ t < to, ns:
//
//   - what was in force at the starts of days: of those around the beginning of
//     the window and around its end, which are all days when it is short. Days
//     between need none: what began on them is among the changes.
//   - what began, changed and ended from the day before the window until two
//     days after it;
//   - what came later than that, whenever it came;
//   - last, what is held of such times;
//   - but not the later ends of what was in force all that time: see Ends.
//
// A damaged block is passed over and counted.
func (s Shelf) Bindings(ctx context.Context, from, to int64, fn func(sealed []byte) error) (damaged int, err error) {
	since, first, last := session.DayOf(from)-1, session.DayOf(from), session.DayOf(to-1)
	for _, part := range []struct {
		kind        store.Kind
		first, last session.Day
	}{
		{store.KindInForce, since, min(first, last)},
		{store.KindInForce, max(last, first+1), last + timely},
		{store.KindBindings, since, last + timely},
		{store.KindEnds, since, last + timely},
		{store.KindLate, since, math.MaxInt32},
	} {
		n, err := passOver(s.store.ScanDays(ctx, part.kind, part.first, part.last, math.MinInt64, near(to), func(_ vault.Place, b store.Sealed) error {
			return fn(b)
		}))
		damaged += n
		if err != nil {
			return damaged, err
		}
	}
	n, err := s.held(ctx, store.KindHoldBindings, from, to, fn)
	return damaged + n, err
}

// Ends calls fn with the head of each sealed block of ends, which became known
// more than two days after the time from ≤ t < to, ns, of bindings that may have
// been in force then: its first frames, or all of a small one. A damaged block is
// passed over and counted.
func (s Shelf) Ends(ctx context.Context, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error) {
	after := session.DayOf(to-1) + timely + 1
	return passOver(s.store.HeadsOfDays(ctx, store.KindEnds, after, math.MaxInt32, floorMilli(from), near(to), frames, func(_ vault.Place, b []byte) error {
		return fn(b)
	}))
}

// timely is in how many days after the fact an access record is among the
// changes of its day; later it is filed apart.
const timely = 2

// near is until when a binding may begin that is to be known of a window that
// ends at to, ns; unix milliseconds.
func near(to int64) int64 { return floorMilli(to) + session.NearBy.Milliseconds() }

// Registers calls fn with the sealed directory of each import of subscribers
// that says something about a time before to, ns, the first import first. A
// damaged block is passed over and counted.
func (s Shelf) Registers(ctx context.Context, to int64, fn func(sealed []byte) error) (damaged int, err error) {
	return passOver(s.store.Scan(ctx, store.KindDirectory, math.MinInt64, floorMilli(to), func(_ vault.Place, b store.Sealed) error {
		return fn(b)
	}))
}

// Page returns one sealed block of an import. The error wraps fs.ErrNotExist
// when it is not there, or damaged.
func (s Shelf) Page(_ context.Context, day session.Day, epoch uint64, page uint32) (sealed []byte, err error) {
	b, err := s.store.Block(store.KindRegister, day, epoch, page)
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return b, err
}

// Sessions calls fn with the head of each sealed block of sessions that holds a
// time from ≤ t < to, ns: its first frames, or all of a small one; and with what is
// held of that time. A damaged block is passed over and counted.
func (s Shelf) Sessions(ctx context.Context, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error) {
	damaged, err = passOver(s.store.Heads(ctx, store.KindSessions, floorMilli(from), floorMilli(to-1), frames, func(_ vault.Place, b []byte) error {
		return fn(b)
	}))
	if err != nil {
		return damaged, err
	}
	n, err := s.held(ctx, store.KindHoldSessions, from, to, fn)
	return damaged + n, err
}

// Communications calls fn with the head of each sealed block of calls, of mail, or of both, that
// holds a time from ≤ t < to, ns: its first frames, or all of a small one. A damaged block is
// passed over and counted.
func (s Shelf) Communications(ctx context.Context, calls, mail bool, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error) {
	for kind, wanted := range map[store.Kind]bool{store.KindCalls: calls, store.KindMail: mail} {
		if !wanted {
			continue
		}
		n, err := passOver(s.store.Heads(ctx, kind, floorMilli(from), floorMilli(to-1), frames, func(_ vault.Place, b []byte) error {
			return fn(b)
		}))
		if damaged += n; err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

// Block returns one sealed block of sessions, of ends, of calls or of mail. The error wraps
// fs.ErrNotExist when it is not there, or damaged.
func (s Shelf) Block(_ context.Context, kind uint8, day session.Day, epoch uint64, seq uint32) (sealed []byte, err error) {
	switch store.Kind(kind).Of() {
	case store.KindSessions, store.KindEnds, store.KindCalls, store.KindMail:
	default:
		return nil, fmt.Errorf("%w: blocks of kind %d are not read one by one", fs.ErrNotExist, kind)
	}
	b, err := s.store.Block(store.Kind(kind), day, epoch, seq)
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return b, err
}

// passOver turns the error about blocks that were left out into their number.
// The store says only the first of them apart: 1 means at least one.
func passOver(err error) (damaged int, rest error) {
	if errors.Is(err, store.ErrDamaged) {
		return 1, nil
	}
	return 0, err
}
