package recorder

import (
	"fmt"
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
)

// shipment is a sealed batch on its way to the disk. There is one at a time, so
// that batches arrive in the order in which they were collected.
type shipment struct {
	load           *load
	batch          probe.Batch
	since          time.Time // of its first session
	oldest, newest int64     // ends of its sessions
	named, inside  uint64
	done           chan outcome // holds one
	result         *outcome
}

// outcome is what became of a shipment.
type outcome struct {
	again uint64 // records that are on the disk although it failed
	err   error
}

func (s *shipment) run() {
	again, err := s.load.put()
	s.done <- outcome{again, err}
}

// arrived reports whether the store has answered.
func (s *shipment) arrived() bool {
	if s.result == nil {
		select {
		case o := <-s.done:
			s.result = &o
		default:
		}
	}
	return s.result != nil
}

// wait returns what the store has answered.
func (s *shipment) wait() outcome {
	if s.result == nil {
		o := <-s.done
		s.result = &o
	}
	return *s.result
}

// settle waits for what is on its way to the disk, and tells the table; or,
// when it did not arrive, gives it back.
func (w *writer) settle() error {
	s := w.under
	if s == nil {
		return nil
	}
	o := s.wait()
	w.under = nil
	if o.err != nil {
		w.shelf.again += o.again
		w.giveBack(&s.batch)
		w.spare = s.batch
		return fmt.Errorf("store sessions: %w", o.err)
	}
	w.count.stored += uint64(s.batch.Len()) - s.load.expired
	w.count.expired += s.load.expired
	w.sizes.Observe(float64(s.batch.Len()))
	w.src.Stored(&s.batch)
	w.count.named += s.named
	w.count.inside += s.inside
	w.count.blocks += uint64(len(s.load.blocks))
	w.count.bytes += uint64(s.load.bytes)
	w.count.last = w.now()
	w.delay.Seconds(w.count.last.Sub(s.since))
	w.age.Seconds(w.count.last.Sub(time.Unix(0, s.oldest)))
	s.batch.Reset()
	w.spare = s.batch
	w.alarm.clear(w.now())
	if w.atRest != nil {
		w.atRest()
	}
	return nil
}
