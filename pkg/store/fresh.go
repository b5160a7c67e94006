package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/vault"
)

// fullBytes is when a fresh database is full: its log is the only place where a
// block is until it is merged, and with less than memTable in it Badger writes
// no table.
const fullBytes = memTable * 3 / 4

// mergedMark is the file in a fresh database that names the days whose runs
// stand for it: it must be removed, not read.
const mergedMark = "MERGED"

const freshName = "fresh"

func (s *Store) freshDir() string {
	if s.copy != "" {
		return s.copy
	}
	return filepath.Join(s.dir, freshName)
}

func (s *Store) freshPath(n uint64) string {
	return filepath.Join(s.freshDir(), strconv.FormatUint(n, 10))
}

// numbers returns the numbers that name directories in dir, sorted.
func numbers(dir string) (list []uint64, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, translate(err)
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.IsDir() && strconv.FormatUint(n, 10) == e.Name() {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// openFresh opens what earlier processes left fresh, for reading and merging,
// and begins a fresh database of this process.
func (s *Store) openFresh() error {
	list, err := numbers(s.freshDir())
	if err != nil {
		return err
	}
	for _, n := range list {
		s.number = max(s.number, n)
		d, err := s.reopen(n)
		switch {
		case errors.Is(err, ErrDamaged) && s.copy != "":
			s.broken = append(s.broken, Problem{Seq: -1, What: fmt.Errorf("fresh database %d: %w", n, err)})
		case errors.Is(err, ErrDamaged):
			if err := s.setAside(n, err); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("fresh database %d: %w", n, err)
		case len(d.entries) == 0 && s.copy != "":
			if err := s.shelves.retire(d, false); err != nil {
				return err
			}
		case len(d.entries) == 0:
			if err := errors.Join(s.shelves.retire(d, true), s.removeDir(d.dir)); err != nil {
				return err
			}
		default:
			s.waiting = append(s.waiting, d)
		}
	}
	if s.copy == "" {
		s.fresh, err = s.begin()
	}
	return err
}

// reopen opens a fresh database of an earlier process and learns what is in it.
func (s *Store) reopen(n uint64) (*database, error) {
	d := &database{dir: s.freshPath(n), number: n, books: map[shelf]book{}, since: s.o.Now()}
	if entries, err := os.ReadDir(d.dir); err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !slices.Contains([]string{"LOCK", "KEYREGISTRY", "MANIFEST-REWRITE"}, e.Name())
	}) {
		return d, nil // broken off before there was anything in it
	}
	if err := preflight(d.dir, s.o.Log); err != nil {
		return nil, err
	}
	if err := removeEmptyLogs(d.dir); err != nil {
		return nil, err
	}
	err := fence(func() (err error) {
		d.db, err = badger.Open(badgerOptions(d.dir, s.o.Log))
		return translate(err)
	})
	if err != nil {
		return nil, err
	}
	if err := fence(func() error { return d.learn() }); err != nil {
		return nil, errors.Join(err, s.shelves.retire(d, false))
	}
	return d, nil
}

// learn reads the books, and what each block says of itself. A block that is
// damaged is listed with the time range of its book.
func (d *database) learn() error {
	if err := d.readBooks(); err != nil {
		return err
	}
	for sh, b := range d.books {
		for seq := b.first; seq < b.next; seq++ {
			e := entry{shelf: sh, seq: seq, from: b.from, to: b.to}
			_ = get(d.db, sh.blockKey(seq), func(v []byte) error { // a damaged one is reported by whoever reads it
				if p, err := vault.ParsePlace(v); err == nil && shelfOf(p) == sh && p.Seq == seq {
					e = entryOf(&p, len(v))
				}
				return nil
			})
			d.entries = append(d.entries, e)
		}
	}
	sortEntries(d.entries)
	return nil
}

func (d *database) readBooks() error {
	txn := d.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{bookMark}, PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		v, err := it.Item().ValueCopy(nil)
		if err != nil {
			return translate(err)
		}
		sh, b, err := parseBook(it.Item().Key(), v)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		d.books[sh] = b
	}
	return nil
}

// setAside moves a fresh database that cannot be opened out of the way: what is
// in it is missing, and everything else answers.
func (s *Store) setAside(n uint64, why error) error {
	dir := filepath.Join(s.dir, damagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return translate(err)
	}
	to := filepath.Join(dir, fmt.Sprintf("fresh-%d-%d", n, s.o.Now().UnixMilli()))
	s.o.Log.Error("what was stored last cannot be read and is set aside; put it back from a backup, or keep it for whoever can repair it",
		"database", filepath.Join("fresh", strconv.FormatUint(n, 10)), "moved_to", to, "error", why)
	if err := os.Rename(s.freshPath(n), to); err != nil {
		return translate(err)
	}
	return translate(errors.Join(syncDir(dir), syncDir(s.freshDir())))
}

// begin makes a fresh database.
func (s *Store) begin() (*database, error) {
	s.number++
	d := &database{dir: s.freshPath(s.number), number: s.number, books: map[shelf]book{}}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("begin fresh database %d: %w", s.number, translate(err))
	}
	failpoint("fresh directory made")
	var err error
	d.db, err = badger.Open(badgerOptions(d.dir, s.o.Log))
	failpoint("fresh database made")
	if err == nil {
		d.names, err = os.Open(d.dir)
	}
	if err == nil {
		err = syncDir(s.freshDir())
	}
	if err != nil { // it is tried again soon, under another number
		err = errors.Join(translate(err), s.shelves.retire(d, true), translate(os.RemoveAll(d.dir)))
		return nil, fmt.Errorf("begin fresh database %d: %w", s.number, err)
	}
	return d, nil
}

// Ripe says when a fresh database is to be merged, beside when it is full (12
// MiB). Zero is at once.
type Ripe struct {
	Records uint64        // with so many
	Age     time.Duration // or when its first block is as old as this
}

func (d *database) ripe(now time.Time, when Ripe) bool {
	var rows, size uint64
	for _, b := range d.books {
		rows += b.rows
		size += b.bytes
	}
	return len(d.entries) > 0 && (rows >= when.Records || size >= fullBytes || now.Sub(d.since) >= when.Age)
}

// Turn begins a new fresh database when the present one is ripe, or full. It
// returns how many wait to be merged.
func (s *Store) Turn(when Ripe) (waiting int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.copy != "" || !s.fresh.ripe(s.o.Now(), when) || len(s.waiting) >= mostWaiting {
		return len(s.waiting), nil
	}
	if err := s.writable(0); err != nil {
		return len(s.waiting), fmt.Errorf("begin a fresh database: %w", err)
	}
	s.began(s.o.Now())
	defer s.began(time.Time{})
	next, err := s.begin()
	if err != nil {
		return len(s.waiting), s.note(err)
	}
	s.waiting, s.fresh, s.synced = append(s.waiting, s.fresh), next, time.Time{}
	return len(s.waiting), nil
}

// mostWaiting is how many fresh databases wait at most. With more than that the
// last one grows instead.
const mostWaiting = 4
