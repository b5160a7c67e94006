package store

import (
	"fmt"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
)

// NextSeq returns the number that the next block of kind, day and epoch must
// have. Numbers begin at 0 and have no gaps: a block counts when Put has
// returned without error, and until then its number is not taken.
func (s *Store) NextSeq(kind Kind, day session.Day, epoch uint64) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next[shelf{kind, day, epoch}]
}

// Put stores blocks. When it returns nil, all of them are on disk; when it
// returns an error, none is counted, and the same blocks can be put again.
//
// The error wraps ErrNoSpace (try again later: it goes by itself when there is
// room), ErrTooLarge (one block above MaxSealed, or all together above MaxPut:
// split), ErrTurn (a number that is not the next one), ErrNoKey, ErrBlock, or
// ErrFailed and ErrClosed (this Store will write no more).
func (s *Store) Put(blocks ...Sealed) error {
	if len(blocks) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := s.o.Now()
	s.began(s.o.Now())
	defer s.began(time.Time{})
	if err := s.put(blocks); err != nil {
		return s.note(fmt.Errorf("put %d blocks: %w", len(blocks), err))
	}
	s.commit.Seconds(s.o.Now().Sub(begin))
	return nil
}

// note keeps err for Health.
func (s *Store) note(err error) error {
	s.last = err
	return err
}

// writable reports whether n bytes may be written now.
func (s *Store) writable(n int) error {
	switch {
	case s.closed:
		return ErrClosed
	case s.failed != nil:
		return fmt.Errorf("%w: %w; restart the agent, it goes on from what is on disk", ErrFailed, s.failed)
	}
	_, free, room, err := s.guard.look()
	if err != nil {
		return err
	}
	// What is put is written twice: to the log now, to a table later.
	if need := 2 * int64(n); room < need {
		return fmt.Errorf("%w on %q: %d MiB free, writing stops below %d MiB; make room, writing then goes on by itself",
			ErrNoSpace, s.dir, free>>20, (free-room+need)>>20)
	}
	return nil
}

func (s *Store) put(blocks []Sealed) error {
	if s.copy != "" {
		return s.failed
	}
	pages, size, err := s.enter(blocks)
	if err != nil {
		return err
	}
	if err := s.writable(size); err != nil {
		return err
	}
	if err := s.commitBlocks(pages); err != nil {
		// After a failed fsync the kernel may have dropped the pages and call
		// the next one a success: nothing that this process writes can be
		// vouched for any more.
		s.failed = err
		return err
	}
	if len(s.fresh.entries) == 0 {
		s.fresh.since = s.o.Now()
	}
	for i := range pages {
		p := &pages[i]
		s.fresh.entries = append(s.fresh.entries, p.entry)
		s.fresh.books[p.entry.shelf] = p.after
		s.next[p.entry.shelf] = p.after.next
	}
	s.last = nil
	return nil
}

// commitBlocks writes blocks and the books after them to the fresh database, in
// one transaction.
func (s *Store) commitBlocks(pages []page) error {
	txn := s.fresh.db.NewTransaction(true)
	defer txn.Discard()
	after := map[shelf]book{}
	for i := range pages {
		p := &pages[i]
		if err := txn.SetEntry(badger.NewEntry(p.entry.shelf.blockKey(p.entry.seq), p.block)); err != nil {
			return translate(err)
		}
		after[p.entry.shelf] = p.after
	}
	for sh, b := range after {
		key := sh.bookKey()
		if err := txn.SetEntry(badger.NewEntry(key, b.encode(key))); err != nil {
			return translate(err)
		}
	}
	failpoint("put begun")
	if err := translate(txn.Commit()); err != nil {
		return err
	}
	failpoint("put committed")
	return translate(s.syncFresh())
}

// page is a block on its way in, and its book after it.
type page struct {
	entry entry
	block Sealed
	after book
}

// enter checks that the blocks can be stored, all of them, and in this order.
func (s *Store) enter(blocks []Sealed) (pages []page, size int, err error) {
	after := map[shelf]book{}
	for i, b := range blocks {
		if len(b) > MaxSealed {
			return nil, 0, fmt.Errorf("%w: block %d of the call has %d bytes, at most %d; split it", ErrTooLarge, i, len(b), MaxSealed)
		}
		p, err := b.Place()
		if err != nil {
			return nil, 0, fmt.Errorf("%w: block %d of the call: %w", ErrBlock, i, err)
		}
		e := entryOf(&p, len(b))
		sh := e.shelf
		if !sh.kind.fresh() || sh.day < 0 || sh.day > lastDay {
			return nil, 0, fmt.Errorf("%w: block %d of the call is of %s", ErrBlock, i, sh)
		}
		if !s.keys[keyName{sh.day, sh.epoch}] {
			return nil, 0, fmt.Errorf("%w: %s", ErrNoKey, sh)
		}
		at, seen := after[sh]
		if !seen {
			if at, seen = s.fresh.books[sh]; !seen {
				at = book{first: s.next[sh], next: s.next[sh]}
			}
		}
		if e.seq != at.next || at.next == math.MaxUint32 {
			return nil, 0, fmt.Errorf("%w: %s: number %d, the next is %d", ErrTurn, sh, e.seq, at.next)
		}
		at.add(&e)
		after[sh] = at
		size += len(b)
		pages = append(pages, page{e, b, at})
	}
	if size > MaxPut {
		return nil, 0, fmt.Errorf("%w: %d bytes in one call, at most %d; put fewer blocks", ErrTooLarge, size, MaxPut)
	}
	return pages, size, nil
}
