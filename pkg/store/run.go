package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/edgelog/edgelog/pkg/session"
)

// Names in the directory of a store.
const (
	daysDir    = "days"
	trashDir   = "trash"
	damagedDir = "damaged"

	contentsFile = "CONTENTS"
	unfinished   = ".new-" // what the names of files and directories begin with that are being written
)

func (s *Store) dayDir(day session.Day) string { return filepath.Join(s.dir, daysDir, day.String()) }

func (s *Store) runDir(day session.Day, n uint64) string {
	return filepath.Join(s.dayDir(day), strconv.FormatUint(n, 10))
}

// parseDay reads the name of a day's directory.
func parseDay(name string) (session.Day, bool) {
	t, err := time.Parse(time.DateOnly, name)
	if err != nil {
		return 0, false
	}
	day := session.Day(t.Unix() / (24 * 3600))
	return day, day >= 0 && day.String() == name
}

// days returns the days that have a directory.
func (s *Store) days() (list []session.Day, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, daysDir))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, e := range entries {
		if day, ok := parseDay(e.Name()); ok && e.IsDir() {
			list = append(list, day)
		} else {
			s.o.Log.Warn("something that is no day lies among the days", "name", e.Name())
		}
	}
	return list, nil
}

// openDays learns which runs there are, after what a kill broke off has been
// finished or undone. A run whose list of contents is damaged is listed without
// any: Check finds it.
func (s *Store) openDays() error {
	pending, err := s.finishMerges()
	if err != nil {
		return err
	}
	days, err := s.days()
	if err != nil {
		return err
	}
	for _, day := range days {
		if s.copy == "" {
			if err := s.removeUnfinished(s.dayDir(day)); err != nil {
				return err
			}
		}
		list, err := numbers(s.dayDir(day))
		if err != nil {
			return err
		}
		for _, n := range list {
			if pending[n] {
				continue
			}
			s.number = max(s.number, n)
			d := &database{dir: s.runDir(day, n), number: n, run: true, day: day, books: map[shelf]book{}}
			if err := d.readContents(); err != nil {
				s.o.Log.Error("a run of the store has no list of its contents; put it back from a backup", "run", d.String(), "error", err)
				s.broken = append(s.broken, Problem{Day: day, Seq: -1, What: fmt.Errorf("run %s: %w", d, err)})
				continue
			}
			s.runs = append(s.runs, d)
		}
	}
	return nil
}

func (d *database) readContents() error {
	b, err := os.ReadFile(filepath.Join(d.dir, contentsFile))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c, err := parseContents(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if c.day != d.day || c.number != d.number {
		return fmt.Errorf("%w: it says that it is run %d of %s", ErrDamaged, c.number, c.day)
	}
	var ok bool
	if d.books, ok = books(c.entries, c.lost); !ok {
		return fmt.Errorf("%w: %w: numbers are missing", ErrDamaged, errContents)
	}
	d.entries, d.merged, d.lost = c.entries, c.merged, c.lost
	return nil
}

// finishMerges goes on with merges that were broken off after all of their runs
// were durable: the runs get their names, and the fresh database goes. In a copy,
// which is not changed, the fresh database is read instead of such runs: pending
// has their numbers.
func (s *Store) finishMerges() (pending map[uint64]bool, err error) {
	list, err := numbers(s.freshDir())
	if err != nil {
		return nil, err
	}
	pending = map[uint64]bool{}
	for _, n := range list {
		mark, err := os.ReadFile(filepath.Join(s.freshPath(n), mergedMark))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasSuffix(string(mark), "\n") {
			continue // not marked, or the mark was cut short
		}
		if err != nil {
			return nil, translate(err)
		}
		for _, name := range strings.Fields(string(mark)) {
			day, ok := parseDay(name)
			if !ok {
				return nil, fmt.Errorf("%w: fresh database %d says that it was merged to %q", ErrDamaged, n, name)
			}
			if s.copy != "" {
				pending[n] = true
				continue
			}
			err := s.nameRun(day, n)
			switch gone := errors.Is(err, fs.ErrNotExist); {
			case err == nil, gone && !s.hasKey(day): // without a key the day was destroyed
			case gone:
				return nil, fmt.Errorf("%w: fresh database %d was merged, and its run of %s is gone; put it back, or remove %q and what else there is of that number under %s/, and it is merged anew",
					ErrDamaged, n, day, filepath.Join(freshName, strconv.FormatUint(n, 10), mergedMark), daysDir)
			default:
				return nil, err
			}
		}
		if s.copy != "" {
			continue
		}
		if err := s.removeDir(s.freshPath(n)); err != nil {
			return nil, err
		}
	}
	return pending, nil
}

// nameRun gives a run that is durable its name; one that has it already is fine,
// but a kill may have come before that was durable.
func (s *Store) nameRun(day session.Day, n uint64) error {
	dir := s.runDir(day, n)
	if _, err := os.Stat(dir); err != nil {
		if err := os.Rename(filepath.Join(s.dayDir(day), unfinished+strconv.FormatUint(n, 10)), dir); err != nil {
			return translate(err)
		}
	}
	return translate(syncDir(s.dayDir(day)))
}

func (s *Store) removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return translate(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return translate(err)
			}
		}
	}
	return nil
}

// runWriter writes a run. Badger's stream writer makes tables without a log, so
// that each byte is written once.
type runWriter struct {
	dir string
	contents
	db  *badger.DB // nil: all of it is written
	out *badger.StreamWriter
	buf *z.Buffer

	zones []byte // see zonesFile
}

func (s *Store) newRun(day session.Day, n uint64) (*runWriter, error) {
	w := &runWriter{dir: filepath.Join(s.dayDir(day), unfinished+strconv.FormatUint(n, 10)), contents: contents{day: day, number: n}}
	if err := os.RemoveAll(w.dir); err != nil {
		return nil, translate(err)
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, translate(err)
	}
	var err error
	if w.db, err = badger.Open(badgerOptions(w.dir, s.o.Log)); err != nil {
		return nil, translate(err)
	}
	w.out = w.db.NewStreamWriter()
	failpoint("run opened")
	if err := w.out.Prepare(); err != nil {
		w.out.Cancel() // has it flush again, which Close stops: twice is a panic
		return nil, errors.Join(translate(err), translate(w.db.Close()))
	}
	w.buf = z.NewBuffer(MaxSealed+(64<<10), "run")
	return w, nil
}

// put adds a block. Of each kind they must come in order.
func (w *runWriter) put(e entry, b Sealed) error {
	if w.db == nil {
		return fmt.Errorf("%w: block %d of %s, after those of another day", ErrTurn, e.seq, e.shelf)
	}
	w.buf.Reset()
	badger.KVToBuffer(&pb.KV{Key: e.shelf.blockKey(e.seq), Value: b, Version: 1, StreamId: uint32(e.shelf.kind)}, w.buf)
	if err := w.out.Write(w.buf); err != nil {
		return translate(err)
	}
	w.entries = append(w.entries, e)
	w.keepZone(&e, b)
	return nil
}

// close writes out the blocks. It is safe to call twice.
func (w *runWriter) close() error {
	if w.db == nil {
		return nil
	}
	err := errors.Join(w.out.Flush(), w.db.Close())
	w.db = nil
	return translate(errors.Join(err, w.buf.Release()))
}

// finish makes the run durable, under the name that it has while it is not yet
// part of the store.
func (w *runWriter) finish() error {
	if err := w.close(); err != nil {
		return err
	}
	failpoint("run written")
	if len(w.zones) > 0 {
		if err := writeFile(filepath.Join(w.dir, zonesFile), w.zones, os.O_TRUNC); err != nil {
			return translate(err)
		}
	}
	if err := writeFile(filepath.Join(w.dir, contentsFile), w.encode(), os.O_TRUNC); err != nil {
		return translate(err)
	}
	failpoint("contents written")
	return translate(errors.Join(syncDir(w.dir), syncDir(filepath.Dir(w.dir)), syncDir(filepath.Dir(filepath.Dir(w.dir)))))
}

// drop undoes a run that is not finished.
func (w *runWriter) drop() error {
	var err error
	if w.db != nil {
		w.out.Cancel()
		err = errors.Join(w.db.Close(), w.buf.Release())
	}
	return translate(errors.Join(err, os.RemoveAll(w.dir)))
}
