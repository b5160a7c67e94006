package recorder

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
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
	translations    uint64 // of records: of more
	owed            uint64 // not records yet
	again           uint64 // of records: they will be handed over once more
}

// PutBindings seals bindings and makes them durable. They are filed under the
// day on which they are written, which is where a reader looks for them.
func (w *accessWriter) PutBindings(_ context.Context, list []session.Binding) error {
	if len(list) == 0 {
		return nil
	}
	day := session.DayOf(w.now().UnixNano())
	head, l := w.head(), w.shelf.load(nil)
	for part := range slices.Chunk(list, w.max) {
		if err := l.bindings(head, day, part); err != nil {
			return fmt.Errorf("store access records: %w", err)
		}
	}
	if done, err := l.put(); err != nil {
		w.shelf.again += done
		return fmt.Errorf("store access records: %w", err)
	}
	w.count.blocks += uint64(len(l.blocks))
	w.count.records += uint64(len(list))
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
		if err = w.PutBindings(ctx, list); err == nil {
			w.shown, w.start = day, false
			w.count.snapshot += uint64(len(list))
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
