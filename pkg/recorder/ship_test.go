package recorder

import (
	"errors"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/store"
)

// slow is a store that answers when it is told to.
type slow struct {
	*store.Store
	came   chan int   // blocks of a Put that has begun
	answer chan error // nil: it may go on
}

func (s *slow) Put(b ...store.Sealed) error {
	s.came <- len(b)
	if err := <-s.answer; err != nil {
		return err
	}
	return s.Store.Put(b...)
}

func newSlow(r *room) *slow {
	s := &slow{Store: r.store, came: make(chan int, 1), answer: make(chan error)}
	r.sessions.shelf.store = s
	return s
}

func (r *room) stepOn() time.Duration {
	r.t.Helper()
	wait, err := r.sessions.step(false)
	if err != nil {
		r.t.Fatal(err)
	}
	return wait
}

func TestWhileABatchIsOnItsWayTheNextOneIsCollected(t *testing.T) {
	r := newRoom(t, "")
	disk := newSlow(r)
	want := seen(2500, evening)
	r.table.add(want...)
	if wait := r.stepOn(); wait != 0 {
		t.Fatalf("it waits %v although there is more", wait)
	}
	<-disk.came
	seen := make(chan Status)
	go func() { seen <- *r.Status() }() // ends with its answer: nothing waits for the disk
	if s := <-seen; s.Sessions.Stored != 0 {
		t.Errorf("stored %d", s.Sessions.Stored)
	}
	next := make(chan error)
	go func() { // ends when the first batch has arrived
		_, err := r.sessions.step(false)
		next <- err
	}()
	for { // the second batch is taken from the table while the first is not on the disk
		r.table.mu.Lock()
		out, stored := len(r.table.out), len(r.table.stored)
		r.table.mu.Unlock()
		if stored != 0 {
			t.Fatal("told to be stored before the disk has answered")
		}
		if out == 2000 {
			break
		}
	}
	disk.answer <- nil
	<-disk.came
	if err := <-next; err != nil {
		t.Fatal(err)
	}
	r.table.mu.Lock()
	once(t, want[:1000], r.table.stored)
	r.table.mu.Unlock()
	disk.answer <- nil
	go func() { <-disk.came; disk.answer <- nil }() // ends with the rest
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, _, _ := r.read()
	once(t, want, got)
	once(t, want, r.table.stored)
	if s := r.balanced("at the end"); s.Sessions.Stored != 2500 || s.Sessions.Blocks != 3 {
		t.Errorf("%+v", s.Sessions)
	}
}

func TestWhatWasSealedBehindABatchThatDidNotArriveIsGivenBackToo(t *testing.T) {
	r := newRoom(t, "")
	disk := newSlow(r)
	want := seen(2500, evening)
	r.table.add(want...)
	r.stepOn()
	<-disk.came
	go func() { // ends when the next batch is out too
		for {
			r.table.mu.Lock()
			out := len(r.table.out)
			r.table.mu.Unlock()
			if out == 2000 {
				disk.answer <- store.ErrNoSpace
				return
			}
		}
	}()
	if _, err := r.sessions.step(false); !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	if len(r.table.stored) != 0 || len(r.table.out) != 0 || r.sessions.alarm.err == nil {
		t.Fatalf("stored %d, out %d, alarm %v", len(r.table.stored), len(r.table.out), r.sessions.alarm.err)
	}
	r.sessions.shelf.store = r.store
	r.clock.add(time.Minute)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	got, _, _ := r.read()
	once(t, want, got)
	if len(got) != len(want) {
		t.Errorf("%d records for %d sessions", len(got), len(want))
	}
	if s := r.balanced("at the end"); s.Sessions.Returned < 1000 || !s.Store.OK {
		t.Errorf("%+v", s.Sessions)
	}
}
