package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Scan calls fn with every block of kind whose time range meets [fromMs, toMs],
// unix milliseconds, both included, merged or not, by day and epoch, and in the
// order in which they were put as far as merging leaves it.
// Blocks are filed under the day on which their sessions ended, so those of
// later days are looked at too. The block is valid only during the call. It sees
// what was there when it began; Put goes on meanwhile.
//
// A block that is missing or cannot be read is left out, and the error at the
// end says which: all others have been delivered then. It wraps ErrDamaged. An
// error of fn or of ctx ends the scan and is returned.
func (s *Store) Scan(ctx context.Context, kind Kind, fromMs, toMs int64, fn func(vault.Place, Sealed) error) error {
	return s.ScanDays(ctx, kind, 0, lastDay, fromMs, toMs, fn)
}

// Heads is Scan, but of a block with more than a few KiB only the first frames
// are read and delivered, as a part of it (vault.Part).
func (s *Store) Heads(ctx context.Context, kind Kind, fromMs, toMs int64, frames int, fn func(vault.Place, []byte) error) error {
	return s.HeadsOfDays(ctx, kind, 0, lastDay, fromMs, toMs, frames, fn)
}

// HeadsOfDays is Heads of the blocks that are filed under the days first to last.
func (s *Store) HeadsOfDays(ctx context.Context, kind Kind, first, last session.Day, fromMs, toMs int64, frames int, fn func(vault.Place, []byte) error) error {
	head := func(dst, sealed []byte) ([]byte, error) {
		if len(sealed) <= smallBlock {
			return append(dst, sealed...), nil
		}
		return vault.Part(dst, sealed, func(i int) bool { return i < frames })
	}
	var zones *zoneList
	if kind == KindSessions && frames <= zoneFrames {
		zones = &zoneList{}
	}
	return s.deliver(ctx, inDays(kind, first, last, fromMs, toMs), head, zones, func(p vault.Place, b Sealed) error { return fn(p, b) })
}

// smallBlock is up to which size, in bytes, a head saves nothing.
const smallBlock = 8 << 10

// ScanDays is Scan of the blocks that are filed under the days first to last.
func (s *Store) ScanDays(ctx context.Context, kind Kind, first, last session.Day, fromMs, toMs int64, fn func(vault.Place, Sealed) error) error {
	return s.deliver(ctx, inDays(kind, first, last, fromMs, toMs), whole, nil, fn)
}

// All calls fn with every block there is, by day and epoch; else it is Scan.
func (s *Store) All(ctx context.Context, fn func(vault.Place, Sealed) error) error {
	return s.deliver(ctx, func(shelf, int64, int64) bool { return true }, whole, nil, fn)
}

// inDays wants blocks of a kind, merged or not, that are filed under the days first
// to last and meet a window.
func inDays(kind Kind, first, last session.Day, fromMs, toMs int64) func(sh shelf, from, to int64) bool {
	return func(sh shelf, from, to int64) bool {
		return sh.kind.Of() == kind && sh.day >= first && sh.day <= last && from <= toMs && to >= fromMs
	}
}

// deliver calls fn with the blocks that are wanted, or, with zones, with the zones
// of those that have one.
func (s *Store) deliver(ctx context.Context, want func(sh shelf, from, to int64) bool, c cut, zones *zoneList, fn func(vault.Place, Sealed) error) error {
	r, err := s.reader(want)
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	defer r.close()
	var buf []byte
	for i := range r.list {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("scan store: %w", err)
		}
		l := &r.list[i]
		p, block, err := s.fetch(l, &buf, c, zones)
		switch {
		case errors.Is(err, errGone) && l.in.run: // its time was over
			continue
		case err != nil:
			r.find(l.shelf, int64(l.seq), err)
			continue
		}
		if err := fn(p, block); err != nil {
			return err
		}
	}
	if len(r.bad) > 0 {
		return fmt.Errorf("scan store: %w: %d blocks could not be read, %w; the others were; put the files back from a backup", ErrDamaged, len(r.bad), r.bad[0])
	}
	return nil
}

// fetch reads a block, or its zone.
func (s *Store) fetch(l *located, buf *[]byte, c cut, zones *zoneList) (p vault.Place, block Sealed, err error) {
	if l.lost {
		return p, nil, errLost
	}
	if zones != nil {
		if part := zones.zone(l); part != nil {
			p, _, err = vault.Layout(part)
			return p, part, err
		}
	}
	if p, block, err = s.shelves.read(l.in, &l.entry, *buf, c); err == nil {
		*buf = block
	}
	return p, block, err
}

// reader sees the store as it was when it was made. A fresh database that is
// merged meanwhile stays open for it.
type reader struct {
	s    *Store
	list []located // what was put first comes first, within a day and epoch
	held []*database
	bad  []Problem
}

// located is a block and where it lies.
type located struct {
	entry
	in   *database
	lost bool // it was there, and could not be read when it was to be merged
}

// reader returns one of the blocks that want wants, by what they say of
// themselves; it is asked about whole books first.
func (s *Store) reader(want func(sh shelf, from, to int64) bool) (*reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.readers.Add(1)
	r := &reader{s: s, bad: slices.Clone(s.broken)}
	for _, d := range s.databases() {
		wanted := false
		for sh, b := range d.books {
			wanted = wanted || want(sh, b.from, b.to)
		}
		if wanted && !d.run {
			if _, err := s.shelves.pin(d); err != nil {
				continue // it cannot go while s.mu is held
			}
			r.held = append(r.held, d)
		}
		for i := 0; wanted && i < len(d.entries); i++ {
			if e := &d.entries[i]; want(e.shelf, e.from, e.to) && !s.destroyed[e.shelf.day] {
				r.list = append(r.list, located{*e, d, false})
			}
		}
		for i := range d.lost {
			if e := &d.lost[i]; want(e.shelf, e.from, e.to) {
				r.list = append(r.list, located{*e, d, true})
			}
		}
	}
	slices.SortStableFunc(r.list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.shelf.day, b.shelf.day), cmp.Compare(a.shelf.epoch, b.shelf.epoch),
			cmp.Compare(a.in.number, b.in.number), a.compare(&b.entry))
	})
	return r, nil
}

func (s shelf) compare(x shelf) int {
	return cmp.Or(cmp.Compare(s.kind, x.kind), cmp.Compare(s.day, x.day), cmp.Compare(s.epoch, x.epoch))
}

func (r *reader) close() {
	for _, d := range r.held {
		r.s.shelves.unpin(d)
	}
	r.s.readers.Done()
}

func (r *reader) find(sh shelf, seq int64, what error) {
	p := Problem{Kind: sh.kind, Day: sh.day, Epoch: sh.epoch, Seq: seq, What: what}
	if at := slices.IndexFunc(r.list, func(l located) bool { return l.shelf == sh && int64(l.seq) == seq }); at >= 0 {
		p.From, p.To = r.list[at].from, r.list[at].to
	}
	r.bad = append(r.bad, p)
}

// Block returns one block. The error wraps ErrMissing when there is none of that
// number, and ErrDamaged when it cannot be read.
func (s *Store) Block(kind Kind, day session.Day, epoch uint64, seq uint32) (Sealed, error) {
	e := entry{shelf: shelf{kind, day, epoch}, seq: seq}
	for {
		d, err := s.locate(&e)
		var block Sealed
		if err == nil {
			_, block, err = s.shelves.read(d, &e, nil, whole)
		}
		switch {
		case errors.Is(err, errGone): // merged or destroyed since: the lists say so by now
			continue
		case err != nil:
			return nil, fmt.Errorf("read block %d of %s: %w", seq, e.shelf, err)
		}
		return block, nil
	}
}

// locate returns the database that a block lies in.
func (s *Store) locate(e *entry) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	err := ErrMissing
	for _, d := range s.databases() {
		if slices.ContainsFunc(d.lost, func(x entry) bool { return x.shelf == e.shelf && x.seq == e.seq }) {
			err = errLost
		} else if b := d.books[e.shelf]; e.seq >= b.first && e.seq < b.next && !s.destroyed[e.shelf.day] {
			return d, nil
		}
	}
	return nil, err
}

// Days returns the days that have blocks of kind, merged or not.
func (s *Store) Days(kind Kind) []session.Day {
	s.mu.Lock()
	defer s.mu.Unlock()
	var days []session.Day
	for _, d := range s.databases() {
		for sh := range d.books {
			if sh.kind.Of() == kind {
				days = append(days, sh.day)
			}
		}
	}
	slices.Sort(days)
	return slices.Compact(days)
}
