package recorder

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// Book hands over access records; identity.Book is one.
type Book interface {
	// InForce returns the bindings that have no end.
	InForce() []session.Binding
	// Flush hands what is new to the book's sink.
	Flush(ctx context.Context) error
}

// accessWriter takes access records from the book to the disk. It is the
// book's sink, and is driven by the goroutine that drives the writer of
// sessions.
type accessWriter struct {
	book  Book
	shelf *filer
	head  func() block.Header
	max   int
	every time.Duration
	now   func() time.Time

	next  time.Time   // of the next Flush
	shown session.Day // the day that has its snapshot already
	start bool        // no snapshot was made since the start

	seed  maphash.Seed
	known []uint64 // hashes of what was in force when it was last written down, sorted: 8 bytes each

	// more gives access records that are not the book's: of translations that
	// ended, and with goingOn of those that go on. nil: there are none.
	more  func(goingOn bool, now time.Time) []session.Binding
	owed  []session.Binding // of them, not durable yet
	asked time.Time         // when those that go on were taken last

	alarm alarm
	count accessCount
}

type accessCount struct {
	blocks, records uint64
	snapshot        uint64 // of records: all in force, at a start and once a day
	late            uint64 // of those handed over: filed apart, since they say something about a time long past
	translations    uint64 // of records: of more
	owed            uint64 // not records yet
	again           uint64 // of records: they will be handed over once more
}

// PutBindings seals bindings and makes them durable. They are filed under the
// day on which they are written; those that say something about a time long
// before it are filed apart, so that a reader of a day finds them without
// reading the year after it.
func (w *accessWriter) PutBindings(_ context.Context, list []session.Binding) error {
	long := w.now().AddDate(0, 0, -timely).UnixNano()
	of := map[store.Kind][]session.Binding{}
	for i := range list {
		k := w.kind(&list[i], long)
		of[k] = append(of[k], list[i])
	}
	w.count.late += uint64(len(of[store.KindLate]))
	return w.put(of)
}

// kind says how b is filed: late when it may be the first to say something about
// a time before ns, an end when b was in force already when the day began.
func (w *accessWriter) kind(b *session.Binding, ns int64) store.Kind {
	if b.From >= ns {
		return store.KindBindings
	}
	if _, known := slices.BinarySearch(w.known, w.hash(b)); known && b.To >= ns {
		return store.KindEnds
	}
	return store.KindLate
}

// hash names a binding by what stays the same while it is in force.
func (w *accessWriter) hash(b *session.Binding) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	_, _ = h.WriteString(b.SourceKey) // never fails
	_, _ = h.WriteString(b.Subscriber)
	maphash.WriteComparable(&h, b.Prefix)
	maphash.WriteComparable(&h, [3]int64{int64(b.FirstPort), int64(b.LastPort), b.From})
	return h.Sum64()
}

// put files bindings of each kind.
func (w *accessWriter) put(of map[store.Kind][]session.Binding) error {
	day := session.DayOf(w.now().UnixNano())
	head, l := w.head(), w.shelf.load(nil)
	records := 0
	for kind, list := range of {
		for part := range slices.Chunk(list, w.max) {
			if err := l.bindings(head, kind, day, part); err != nil {
				return fmt.Errorf("store access records: %w", err)
			}
		}
		records += len(list)
	}
	if done, err := l.put(); err != nil {
		w.shelf.again += done
		return fmt.Errorf("store access records: %w", err)
	}
	w.count.blocks += uint64(len(l.blocks))
	w.count.records += uint64(records)
	return nil
}

// step hands over what is new, and at the start and at each change of the UTC
// day writes down all that is in force, so that whoever reads a day finds its
// bindings without reading the year before it.
func (w *accessWriter) step(ctx context.Context, force bool) (time.Duration, error) {
	now := w.now()
	if wait := max(w.next.Sub(now), w.alarm.wait(now)); wait > 0 && !force {
		return wait, nil
	}
	w.next = now.Add(w.every)
	before := w.count.records
	err := w.book.Flush(ctx)
	if err != nil { // the book hands all of them over once more
		w.count.again += w.count.records - before
	}
	if day := session.DayOf(now.UnixNano()); err == nil && (w.start || day != w.shown) {
		list := w.book.InForce()
		if err = w.put(map[store.Kind][]session.Binding{store.KindInForce: list}); err == nil {
			w.shown, w.start = day, false
			w.count.snapshot += uint64(len(list))
			w.remember(list)
		}
	}
	if err == nil && w.more != nil {
		err = w.takeMore(ctx, now, force)
	}
	if err != nil {
		err = fmt.Errorf("keep access records: %w", err)
		return w.alarm.raise(now, err), err
	}
	w.alarm.clear(now)
	return w.every, nil
}

// remember keeps which bindings need not be told again when they end.
func (w *accessWriter) remember(force []session.Binding) {
	w.known = slices.Grow(w.known[:0], len(force))
	for i := range force {
		w.known = append(w.known, w.hash(&force[i]))
	}
	slices.Sort(w.known)
}

// askedOften is how soon those that go on are taken again, when there is a
// question after the other.
const askedOften = 2 * time.Second

// takeMore makes the records of more durable: of those that go on when there is
// a question or a stop (force), and once an hour, so that little is lost with
// this process.
func (w *accessWriter) takeMore(ctx context.Context, now time.Time, force bool) error {
	if w.asked.IsZero() {
		w.asked = now.Add(-askedOften) // the first question may come at once
	}
	since := now.Sub(w.asked)
	goingOn := force && since >= askedOften || since >= time.Hour
	if goingOn && len(w.owed) == 0 {
		w.asked = now
	}
	for {
		if len(w.owed) == 0 { // else the disk fails: they wait where their number is bounded
			w.owed = w.more(goingOn, now)
			goingOn = false
		}
		if len(w.owed) == 0 {
			return nil
		}
		if err := w.PutBindings(ctx, w.owed); err != nil {
			w.count.owed = uint64(len(w.owed))
			return err
		}
		w.count.translations += uint64(len(w.owed))
		w.owed, w.count.owed = nil, 0
	}
}
