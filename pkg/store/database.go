package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// database is one Badger database of the store: a fresh one, which takes what
// is put, or a run, which was written once and is opened only while somebody
// reads it.
type database struct {
	dir    string
	number uint64
	run    bool
	day    session.Day // of a run

	// What it holds, guarded by the store's mu. Of a run it never changes; to
	// that of a fresh one is only appended.
	entries []entry
	books   map[shelf]book
	merged  []stretch // of a run: what it stands for
	lost    []entry   // of a run: what could not be taken over
	since   time.Time // of a fresh one: when the first block came
	names   *os.File  // of the one that takes what is put: its directory
	doubted bool      // a block of it could not be read when it was to be merged; its merge's alone

	// The rest is guarded by shelves.mu.
	db     *badger.DB // nil: a run that is not open
	pins   int        // readers at work in it
	gone   bool       // it is to be closed when the last reader has left
	drop   bool       // and what is in it need not be kept then
	closed chan struct{}
	err    error // of closing it
}

func (d *database) String() string {
	return filepath.Join(filepath.Base(filepath.Dir(d.dir)), filepath.Base(d.dir))
}

// errGone says that a database went while it was to be read.
var errGone = errors.New("it was destroyed or merged meanwhile")

// openRuns is how many runs stay open at most while nobody reads them. One
// takes a few descriptors and hardly any memory.
const openRuns = 64

// shelves keeps databases open for reading.
type shelves struct {
	log *slog.Logger

	mu   sync.Mutex
	open []*database // runs, the one that was used last at the end
}

// with calls f with the database, opened. f must not call back to the user of
// the package. The error wraps errGone or ErrDamaged, or is that of f.
func (s *shelves) with(d *database, f func(*badger.DB) error) error {
	db, err := s.pin(d)
	if err != nil {
		return err
	}
	defer s.unpin(d)
	return fence(func() error { return f(db) })
}

func (s *shelves) pin(d *database) (*badger.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.gone && d.pins == 0 { // otherwise it stays until the readers that it has are done
		return nil, errGone
	}
	if d.db == nil {
		db, err := openRun(d.dir, s.log)
		if err != nil {
			return nil, err
		}
		d.db = db
		s.open = append(s.open, d)
		s.shrink(openRuns)
	} else if at := slices.Index(s.open, d); at >= 0 {
		s.open = append(slices.Delete(s.open, at, at+1), d)
	}
	d.pins++
	return d.db, nil
}

func (s *shelves) unpin(d *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.pins--; d.pins == 0 && d.gone {
		s.close(d)
	}
}

// shrink closes runs that nobody reads until no more than n are open, the one
// that was used longest ago first. The last one is about to be read.
func (s *shelves) shrink(n int) {
	for i := 0; len(s.open) > n && i < len(s.open)-1; {
		if d := s.open[i]; d.pins == 0 {
			s.close(d)
		} else {
			i++
		}
	}
}

// close closes a database that nobody reads. s.mu is held.
func (s *shelves) close(d *database) {
	if at := slices.Index(s.open, d); at >= 0 {
		s.open = slices.Delete(s.open, at, at+1)
	}
	if d.db != nil {
		if d.drop { // or Badger would write out a table only for it to be removed
			_ = fence(d.db.DropAll) // what fails costs a table
		}
		err := fence(d.db.Close)
		d.db = nil
		if err != nil {
			d.err = translate(err)
			s.log.Warn("a database of the store was not closed in good order", "database", d.String(), "error", err)
		}
	}
	if d.names != nil {
		_ = d.names.Close() // it was only fsynced
	}
	if d.closed != nil {
		close(d.closed)
		d.closed = nil
	}
}

// retire lets nobody begin to read d, and returns when it is closed. With drop
// what is in it is not needed any more.
func (s *shelves) retire(d *database, drop bool) error {
	s.mu.Lock()
	if !d.gone {
		d.gone, d.drop = true, drop
		if d.pins == 0 {
			s.close(d)
		} else {
			d.closed = make(chan struct{})
		}
	}
	wait := d.closed
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return d.err
}

// openRun opens a run for reading. It looks first whether Badger would survive
// that.
func openRun(dir string, log *slog.Logger) (*badger.DB, error) {
	if err := preflight(dir, log); err != nil {
		return nil, err
	}
	var db *badger.DB
	err := fence(func() (err error) {
		db, err = badger.Open(badgerOptions(dir, log).WithReadOnly(true))
		return translate(err)
	})
	return db, err
}

// cut makes of a block what is to be read of it, in dst where there is room. It
// gets the block where it is mapped, and reads no more from the disk than it
// looks at.
type cut func(dst, sealed []byte) ([]byte, error)

// whole is a cut that leaves nothing out.
func whole(dst, sealed []byte) ([]byte, error) { return append(dst, sealed...), nil }

// read returns a block, in buf where there is room. The error wraps errGone or
// ErrDamaged.
func (s *shelves) read(d *database, e *entry, buf []byte, c cut) (p vault.Place, b Sealed, err error) {
	err = s.with(d, func(db *badger.DB) error {
		return get(db, e.shelf.blockKey(e.seq), func(v []byte) error {
			if p, err = vault.ParsePlace(v); err != nil {
				return err
			}
			if shelfOf(p) != e.shelf || p.Seq != e.seq {
				return fmt.Errorf("%w: it says that it is block %d of %s", ErrDamaged, p.Seq, shelfOf(p))
			}
			b, err = c(buf[:0], v)
			return err
		})
	})
	return p, b, err
}

// get gives the value of key to f, which must not call back to the user of the
// package.
func get(db *badger.DB, key []byte, f func([]byte) error) error {
	txn := db.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return errLost
	}
	if err != nil {
		return translate(err)
	}
	return item.Value(f)
}

var errLost = fmt.Errorf("%w: it is not there", ErrDamaged)

// removeDir removes what is no part of the store any more. It is moved away
// first, so that one that is half removed is never taken for a whole one.
func (s *Store) removeDir(dir string) error {
	to, err := s.moveAway(dir)
	if err != nil {
		return err
	}
	if filepath.Dir(dir) == s.freshDir() {
		failpoint("fresh database moved away")
	} else {
		failpoint("day moved away")
	}
	return translate(os.RemoveAll(to))
}

// moveAway takes a directory out of the store, durably: what is left of it goes
// with the next start.
func (s *Store) moveAway(dir string) (to string, err error) {
	trash := filepath.Join(s.dir, trashDir)
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return "", translate(err)
	}
	to = filepath.Join(trash, fmt.Sprintf("%s-%s", filepath.Base(filepath.Dir(dir)), filepath.Base(dir)))
	if err := os.RemoveAll(to); err != nil {
		return "", translate(err)
	}
	if err := os.Rename(dir, to); err != nil {
		return "", translate(err)
	}
	return to, translate(errors.Join(syncDir(filepath.Dir(dir)), syncDir(trash)))
}
