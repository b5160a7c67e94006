package recorder

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// Names says whose an address was; identity.Book is one.
type Names interface {
	At(a session.Addr, port uint16, ns int64) (*session.Binding, bool)
}

// writer takes sessions from the table to the disk. It is driven by one
// goroutine: step does what is due and says when to call again.
type writer struct {
	src   Collector
	names Names
	shelf *filer
	head  func() block.Header // clock, profile and names at this moment
	max   int                 // sessions in a block
	flush time.Duration       // longest wait of a collected session
	now   func() time.Time

	batch probe.Batch
	since time.Time // of the first session in batch
	days  []daySessions

	alarm alarm
	count writeCount
	timing
}

// timing is what the writer measures, once for each batch.
type timing struct {
	sizes *measure.Histogram // sessions
	delay *measure.Histogram // seconds from the table to durable
	age   *measure.Histogram // seconds from the end of the oldest session to durable
}

func newTiming() timing {
	return timing{
		sizes: measure.New(1, 10, 100, 1000, 4096, 16384, 32768, 65536, 131072),
		delay: measure.New(0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60),
		age:   measure.New(1, 2, 5, 10, 30, 60, 65, 120, 300, 310, 600, 1800, 3600),
	}
}

type daySessions struct {
	day  session.Day
	list []session.Session
}

// writeCount is what the writer did since its start.
type writeCount struct {
	collected, stored, named, blocks, bytes, returned uint64
	waiting                                           uint64 // in the batch now
	last                                              time.Time
}

// poll is how often the table is asked while nothing is due.
const poll = 50 * time.Millisecond

// step collects, and stores when a block is full, when the first of its
// sessions has waited long enough, or when force is set. It returns when it
// wants to be called again. The error says that nothing was stored; the
// sessions are back in the table then.
func (w *writer) step(force bool) (time.Duration, error) {
	if wait := w.alarm.wait(w.now()); wait > 0 && !force {
		return min(wait, time.Second), nil
	}
	if err := w.collect(); err != nil {
		return w.alarm.raise(w.now(), err), err
	}
	full := w.batch.Len() >= w.max
	if w.batch.Len() == 0 {
		w.alarm.clear(w.now()) // what was given back would have been in it
		return poll, nil
	}
	if !force && !full && w.now().Sub(w.since) < w.flush {
		return poll, nil
	}
	if err := w.store(); err != nil {
		return w.alarm.raise(w.now(), err), err
	}
	w.alarm.clear(w.now())
	if full {
		return 0, nil // there may be more
	}
	return poll, nil
}

func (w *writer) collect() error {
	before := w.batch.Len()
	err := w.src.Collect(&w.batch, w.max-before)
	w.count.collected += uint64(w.batch.Len() - before)
	if err != nil {
		w.giveBack()
		return fmt.Errorf("collect sessions: %w", err)
	}
	if before == 0 && w.batch.Len() > 0 {
		w.since = w.now()
	}
	return nil
}

// store makes the batch durable and tells the table; or, when that fails,
// gives it back.
func (w *writer) store() error {
	named, oldest := w.join()
	l, err := w.seal()
	if err == nil {
		err = l.put()
	}
	if err != nil {
		w.giveBack()
		return fmt.Errorf("store sessions: %w", err)
	}
	w.count.stored += uint64(w.batch.Len())
	w.sizes.Observe(float64(w.batch.Len()))
	w.src.Stored(&w.batch)
	w.count.named += named
	w.count.blocks += uint64(len(l.blocks))
	w.count.bytes += uint64(l.bytes)
	w.count.last = w.now()
	w.delay.Seconds(w.count.last.Sub(w.since))
	w.age.Seconds(w.count.last.Sub(time.Unix(0, oldest)))
	w.batch.Reset()
	return nil
}

func (w *writer) giveBack() {
	w.count.returned += uint64(w.batch.Len())
	w.src.Release(&w.batch)
	w.batch.Reset()
}

// join puts a subscriber beside each session, as far as is known now, and
// returns when the oldest one ended.
func (w *writer) join() (named uint64, oldest int64) {
	oldest = math.MaxInt64
	for i := range w.batch.Sessions {
		s := &w.batch.Sessions[i]
		oldest = min(oldest, s.End)
		a, port, ok := s.LocalEnd()
		if !ok {
			continue
		}
		if b, ok := w.names.At(a, port, s.Start); ok {
			s.Subscriber = b.Subscriber
			named++
		}
	}
	return named, oldest
}

// seal makes one or more sealed blocks for each UTC day on which sessions
// ended: retention counts from there.
func (w *writer) seal() (*load, error) {
	w.byDay()
	head, l := w.head(), w.shelf.load()
	for _, d := range w.days {
		for part := range slices.Chunk(d.list, w.max) {
			if err := l.sessions(head, d.day, part); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// byDay sorts the batch into days; nearly always there is one.
func (w *writer) byDay() {
	for i := range w.days {
		w.days[i].list = w.days[i].list[:0]
	}
	w.days = w.days[:0]
	for i := range w.batch.Sessions {
		s := &w.batch.Sessions[i]
		day := session.DayOf(s.End)
		at := slices.IndexFunc(w.days, func(d daySessions) bool { return d.day == day })
		if at < 0 {
			at = len(w.days)
			if at < cap(w.days) { // take the memory of an earlier batch
				w.days = w.days[:at+1]
				w.days[at].day = day
			} else {
				w.days = append(w.days, daySessions{day: day})
			}
		}
		w.days[at].list = append(w.days[at].list, *s)
	}
}

// drain stores everything, sessions that are still open too. It gives up at
// the first failure: what is left stays in the table.
func (w *writer) drain() error {
	for {
		before := w.batch.Len()
		more, err := w.src.CollectAll(&w.batch, w.max)
		w.count.collected += uint64(w.batch.Len() - before)
		if before == 0 {
			w.since = w.now()
		}
		if err != nil {
			w.giveBack()
			return fmt.Errorf("collect open sessions: %w", err)
		}
		if w.batch.Len() > 0 {
			if err := w.store(); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}
