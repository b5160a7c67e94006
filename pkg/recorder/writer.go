package recorder

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/identity/nat"
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// Names says whose an address was; identity.Book is one.
type Names interface {
	Names(list []identity.Question)
}

// writer takes sessions from the table to the disk. It is driven by one
// goroutine: step does what is due and says when to call again. While a full
// batch is on its way to the disk the next one is collected and sealed.
type writer struct {
	src   Collector
	names Names

	inside Translations // nil: nothing is translated
	behind func() bool  // whether translations of a moment ago may be missing; nil: never

	shelf *filer
	head  func() block.Header // clock, profile and names at this moment
	max   int                 // sessions in a block
	flush time.Duration       // longest wait of a collected session
	now   func() time.Time
	over  func(session.Day) bool // whether the time of a day is over

	batch probe.Batch
	since time.Time // of the first session in batch
	days  []daySessions

	questions []identity.Question // of the batch, about the sessions in asked
	asked     []int

	under  *shipment   // on its way to the disk; nil: none
	spare  probe.Batch // memory of the one before
	atRest func()      // called when nothing is on its way any more; nil: nobody asks

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
	inside                                            uint64 // of those stored
	expired                                           uint64 // of those collected: their day has been destroyed
	waiting                                           uint64 // in the batch now
	last                                              time.Time
}

// poll is how often the table is asked while nothing is due.
const poll = 50 * time.Millisecond

// arrival is how soon it is asked again whether a shipment has arrived.
const arrival = 5 * time.Millisecond

// step collects, and stores when a block is full, when the first of its
// sessions has waited long enough, or when force is set. It returns when it
// wants to be called again. The error says that nothing was stored; the
// sessions are back in the table then.
func (w *writer) step(force bool) (time.Duration, error) {
	if w.under != nil && (force || w.under.arrived()) {
		if err := w.settle(); err != nil {
			return w.alarm.raise(w.now(), err), err
		}
	}
	if wait := w.alarm.wait(w.now()); wait > 0 && !force {
		return min(wait, time.Second), nil
	}
	if err := w.collect(); err != nil {
		return w.alarm.raise(w.now(), err), err
	}
	full := w.batch.Len() >= w.max
	if w.batch.Len() == 0 && w.under == nil {
		w.alarm.clear(w.now()) // what was given back would have been in it
		return poll, nil
	}
	if !force && !full && (w.batch.Len() == 0 || !w.ripe()) {
		if w.under != nil {
			return arrival, nil
		}
		return poll, nil
	}
	if err := w.store(full && !force); err != nil {
		return w.alarm.raise(w.now(), err), err
	}
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
		w.giveBack(&w.batch)
		return fmt.Errorf("collect sessions: %w", err)
	}
	if before == 0 && w.batch.Len() > 0 {
		w.since = w.now()
	}
	return nil
}

// store sends the batch to the disk, when what went before has arrived there,
// and tells the table when it is durable; or, when that fails, gives it back. It
// does not wait for the end when it may go on meanwhile.
func (w *writer) store(goOn bool) error {
	s := &shipment{since: w.since, done: make(chan outcome, 1)}
	var err error
	w.translate(s)
	s.named, s.oldest, s.newest = w.join()
	s.load, err = w.seal(s.oldest, s.newest)
	if before := w.settle(); before != nil || err != nil {
		w.giveBack(&w.batch) // sealed for a place behind what has not arrived
		if before == nil {
			before = fmt.Errorf("store sessions: %w", err)
		}
		return before
	}
	s.batch, w.batch, w.spare = w.batch, w.spare, probe.Batch{}
	w.under = s
	go s.run() // ends when the store has answered
	if goOn {
		return nil
	}
	return w.settle()
}

// settleMost is how long sessions wait at most for translations that are late.
const settleMost = 10 * time.Second

// ripe reports whether the first session of the batch has waited long enough.
func (w *writer) ripe() bool {
	waited := w.now().Sub(w.since)
	return waited >= w.flush && (waited >= settleMost || w.behind == nil || !w.behind())
}

func (w *writer) giveBack(b *probe.Batch) {
	w.count.returned += uint64(b.Len())
	w.src.Release(b)
	b.Reset()
}

// translate puts the inside end beside each session of a translated address.
// One that two may have had gets none.
func (w *writer) translate(under *shipment) {
	if w.inside == nil {
		return
	}
	for i := range w.batch.Sessions {
		s := &w.batch.Sessions[i]
		var answer nat.Answer
		if s.Inside, s.InsidePort, answer = w.inside.Find(s); answer == nat.Found {
			under.inside++
		}
	}
}

// join puts a subscriber beside each session, as far as is known now, and
// returns when the first and the last one ended.
func (w *writer) join() (named uint64, oldest, newest int64) {
	oldest, newest = math.MaxInt64, math.MinInt64
	for i := range w.batch.Sessions {
		s := &w.batch.Sessions[i]
		oldest, newest = min(oldest, s.End), max(newest, s.End)
		a, port, ok := s.UserEnd()
		if !ok {
			continue
		}
		w.asked, w.questions = append(w.asked, i), append(w.questions, identity.Question{Addr: a, Port: port, At: s.Start})
		if len(w.asked) == askAtOnce {
			named += w.name()
		}
	}
	return named + w.name(), oldest, newest
}

// askAtOnce is how many sessions are named together.
const askAtOnce = 256

// name puts the answers to what is asked into the batch.
func (w *writer) name() (named uint64) {
	w.names.Names(w.questions)
	for i := range w.questions {
		if q := &w.questions[i]; q.Subscriber != "" {
			w.batch.Sessions[w.asked[i]].Subscriber = q.Subscriber
			named++
		}
	}
	w.questions, w.asked = w.questions[:0], w.asked[:0]
	return named
}

// seal makes one or more sealed blocks for each UTC day on which sessions
// ended, the first and the last of them at those times: retention counts from
// there.
func (w *writer) seal(oldest, newest int64) (*load, error) {
	w.byDay(session.DayOf(oldest), session.DayOf(newest))
	var behind *load
	if w.under != nil {
		behind = w.under.load
	}
	head, l := w.head(), w.shelf.load(behind)
	for _, d := range w.days {
		for part := range slices.Chunk(d.list, w.max) {
			err := l.sessions(head, d.day, part)
			if errors.Is(err, store.ErrExpired) && w.over(d.day) { // it was destroyed, and they must not be kept
				l.expired += uint64(len(part))
			} else if err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// byDay sorts the batch into days; nearly always there is one.
func (w *writer) byDay(first, last session.Day) {
	if first == last {
		w.days = append(w.days[:0], daySessions{first, w.batch.Sessions})
		return
	}
	w.days = nil
	for i := range w.batch.Sessions {
		s := &w.batch.Sessions[i]
		day := session.DayOf(s.End)
		at := slices.IndexFunc(w.days, func(d daySessions) bool { return d.day == day })
		if at < 0 {
			at = len(w.days)
			w.days = append(w.days, daySessions{day: day})
		}
		w.days[at].list = append(w.days[at].list, *s)
	}
}

// drain stores everything, sessions that are still open too. It gives up at
// the first failure: what is left stays in the table.
func (w *writer) drain() error {
	if err := w.settle(); err != nil {
		return err
	}
	for {
		before := w.batch.Len()
		more, err := w.src.CollectAll(&w.batch, w.max)
		w.count.collected += uint64(w.batch.Len() - before)
		if before == 0 {
			w.since = w.now()
		}
		if err != nil {
			w.giveBack(&w.batch)
			return fmt.Errorf("collect open sessions: %w", err)
		}
		if w.batch.Len() > 0 {
			if err := w.store(false); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}
