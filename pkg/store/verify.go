package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// OpenCopy opens a copy of a store, or a backup of one, to be read and checked.
// Nothing in dir is changed, and it may lie on a read-only file system: what was
// fresh when the copy was made has to be opened for writing, so that is copied
// once more, beside all other temporary files, and goes with Close. Wrapped keys
// may be missing. The error wraps ErrMissing, ErrNotStore, ErrNewer or ErrDamaged.
func OpenCopy(dir string, o Options) (*Store, error) {
	o = o.filled()
	if _, err := inspect(dir, false); err != nil {
		return nil, err
	}
	s := newStore(dir, o)
	var err error
	if s.copy, err = os.MkdirTemp("", "edgelog-fresh-"); err != nil {
		return nil, fmt.Errorf("open copy %q: %w; set TMPDIR to a directory with room", dir, translate(err))
	}
	s.failed = fmt.Errorf("%w: it is a copy", ErrReadOnly)
	for _, step := range []func() error{s.copyFresh, s.readKeys, s.openDays, s.openFresh, s.openHolds} {
		if err := step(); err != nil {
			return nil, errors.Join(fmt.Errorf("open copy %q: %w", dir, err), s.Close())
		}
	}
	s.countOn()
	return s, nil
}

// copyFresh copies the fresh databases of a copy to where they may be written to.
func (s *Store) copyFresh() error {
	from := filepath.Join(s.dir, freshName)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil // it is a backup
	}
	if err := os.CopyFS(s.copy, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy what is fresh to %q: %w; set TMPDIR to a directory with room", s.copy, translate(err))
	}
	return filepath.WalkDir(s.copy, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chmod(name, 0o600)
		}
		return err
	})
}

// Keyless reports whether there is no wrapped key at all, as in a backup.
func (s *Store) Keyless() bool { return len(s.keyNames()) == 0 }

// Runs returns what can be said of each run without opening it, by day and
// number.
func (s *Store) Runs() (list []Run) {
	for _, day := range s.Kept() {
		s.mu.Lock()
		list = append(list, s.runsOf(day)...)
		s.mu.Unlock()
	}
	return list
}

// runsOf returns the runs of a day, by number. s.mu is held.
func (s *Store) runsOf(day session.Day) (list []Run) {
	for _, d := range s.databases() {
		if d.run && d.day == day {
			list = append(list, runOf(&contents{day: d.day, number: d.number, entries: slices.Clone(d.entries), merged: d.merged, lost: slices.Clone(d.lost)}))
		}
	}
	slices.SortFunc(list, func(a, b Run) int { return int(a.Number) - int(b.Number) })
	return list
}

// CheckCoverage reads the record of coverage and says what of it is damaged. Of
// a day that is being written to, an unfinished end is none.
func (s *Store) CheckCoverage() ([]Problem, error) {
	dir := filepath.Join(s.dir, coverDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("check coverage: %w", translate(err))
	}
	var bad []Problem
	for _, e := range entries {
		day, ok := parseCoverFile(e.Name())
		if !ok {
			continue // among them what was put aside as damaged
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its time was over
		}
		var d *coverDay
		if err == nil {
			d, err = decodeCover(day, b)
		}
		if err == nil && d.bad != nil && !d.torn {
			err = d.bad
		}
		if err != nil {
			bad = append(bad, Problem{Day: day, Seq: -1, What: fmt.Errorf("record of coverage: %w", translate(err)),
				From: day.Start().UnixMilli(), To: (day + 1).Start().UnixMilli() - 1})
		}
	}
	return bad, nil
}
