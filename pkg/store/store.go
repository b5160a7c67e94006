package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/session"
)

// Errors by which callers decide. Every error of this package wraps one of
// them, or the file system's.
var (
	ErrMissing  = errors.New("store does not exist")
	ErrNotStore = errors.New("directory is not a store")
	ErrNewer    = errors.New("store is of a newer version")
	ErrInUse    = errors.New("store is in use by another process")
	ErrReadOnly = errors.New("store cannot be written to")
	ErrNoSpace  = errors.New("too little disk space")
	ErrDamaged  = errors.New("store is damaged")
	ErrClosed   = errors.New("store is closed")
	ErrFailed   = errors.New("an earlier write failed, and what is on disk is not known")
	ErrTooLarge = errors.New("too large to be stored at once")
	ErrTurn     = errors.New("block is out of turn")
	ErrNoKey    = errors.New("wrapped key of the block was not saved")
	ErrKeyKnown = errors.New("a wrapped key of this day and epoch is there already")
	ErrExpired  = errors.New("the time of that day is over, and it was destroyed")
	ErrBlock    = errors.New("not a block to be stored")
)

const versionText = "edgelog store 2\n"

// Options of a store. A zero field means its default.
type Options struct {
	Create bool // make the store where there is none

	// MinFree is the free space, in bytes, below which nothing is written; 0
	// means 1 GiB. Beside what is put, Badger writes out its tables in memory:
	// less than 128 MiB is not enough for a store that takes blocks all day.
	MinFree int64
	// LowFree is the free space below which the state is low; 0 means twice
	// MinFree.
	LowFree int64
	// Ballast is the disk space held back, in bytes, to be given up when the
	// disk is nearly full; 0 means 256 MiB, less than 0 none.
	Ballast int64

	Log *slog.Logger     // nil means slog.Default()
	Now func() time.Time // nil means time.Now; used to number epochs
}

// DefaultOptions returns the defaults with nothing left at 0.
func DefaultOptions() Options {
	return Options{MinFree: 1 << 30, LowFree: 2 << 30, Ballast: 256 << 20, Log: slog.Default(), Now: time.Now}
}

func (o Options) filled() Options {
	d := DefaultOptions()
	o.MinFree = cmp.Or(o.MinFree, d.MinFree)
	o.LowFree = max(cmp.Or(o.LowFree, 2*o.MinFree), o.MinFree)
	o.Ballast = max(cmp.Or(o.Ballast, d.Ballast), 0)
	if o.Log == nil {
		o.Log = d.Log
	}
	if o.Now == nil {
		o.Now = d.Now
	}
	return o
}

// Store is an open store. It is safe for use by several goroutines.
type Store struct {
	dir  string
	o    Options
	lock *os.File
	copy string // of a copy that is only read: where its fresh databases were copied to once more (OpenCopy)

	shelves shelves // what is open for reading

	mu      sync.Mutex // one writer; also guards all below
	guard   guard
	fresh   *database   // takes what is put
	waiting []*database // fresh ones that are to be merged, the oldest first
	runs    []*database
	broken  []Problem // runs of which it is not known what is in them
	aside   int       // fresh databases that lie in damaged/
	number  uint64    // of the newest fresh database
	next    map[shelf]uint32
	keys    map[keyName]bool

	destroyed map[session.Day]bool // days whose keys were destroyed by this process
	forgotten uint64               // records of them
	holds     map[uint64]*Hold
	badHolds  []Problem // of which it is not known what is in them

	synced time.Time // when the directory of the fresh database was changed, as of its last fsync
	failed error     // why nothing is written any more
	last   error     // for Health
	closed bool

	seenMu sync.Mutex // guards what Health says while mu is held for long
	seen   Health     // what it said last
	busy   time.Time  // when the Put under way began; zero: none is

	commit  *measure.Histogram // seconds of each Put that succeeded
	readers sync.WaitGroup     // added to under mu, and not once closed is set
}

// Open opens the store in dir. The error wraps ErrMissing, ErrNotStore,
// ErrNewer, ErrInUse, ErrReadOnly or ErrNoSpace, and then nothing has been
// changed. What is damaged does not keep the store shut: Check and Health tell,
// and all the rest answers.
func Open(dir string, o Options) (*Store, error) {
	o = o.filled()
	fresh, err := inspect(dir, o.Create)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make store %q: %w", dir, translate(err))
		}
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(dir, o)
	s.lock = lock
	if err := s.open(fresh); err != nil {
		return nil, errors.Join(err, s.closeAll(), lock.Close())
	}
	return s, nil
}

func newStore(dir string, o Options) *Store {
	return &Store{
		commit: measure.New(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
		dir:    dir, o: o, next: map[shelf]uint32{}, keys: map[keyName]bool{}, destroyed: map[session.Day]bool{}, holds: map[uint64]*Hold{},
		shelves: shelves{log: o.Log},
		guard:   guard{dir: dir, stop: o.MinFree, low: o.LowFree, ballast: o.Ballast, log: o.Log},
	}
}

// inspect looks at dir without changing it and reports whether a store is yet
// to be made there.
func inspect(dir string, create bool) (fresh bool, err error) {
	version, err := os.ReadFile(filepath.Join(dir, "VERSION"))
	switch {
	case err == nil:
		return false, checkVersion(dir, string(version))
	case errors.Is(err, fs.ErrPermission):
		return false, fmt.Errorf("open store %q: %w: %w; run it as the user who owns the store", dir, ErrReadOnly, err)
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("open store %q: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("open store %q: %w: %w", dir, ErrNotStore, err)
	}
	for _, e := range entries {
		// Left by a start or a restore that was broken off before VERSION was written.
		if n := e.Name(); !slices.Contains([]string{"keys", freshName, daysDir, holdsDir, coverDir, trashDir, "VERSION.new"}, n) {
			return false, fmt.Errorf("open store %q: %w: there is no VERSION in it, but %q is; give an empty directory", dir, ErrNotStore, n)
		}
	}
	if !create {
		return false, fmt.Errorf("open store %q: %w; check the path, or let the agent make it", dir, ErrMissing)
	}
	return true, nil
}

func checkVersion(dir, text string) error {
	if text == versionText {
		return nil
	}
	var n int
	if _, err := fmt.Sscanf(text, "edgelog store %d\n", &n); err == nil && n > 2 {
		return fmt.Errorf("open store %q: %w: format %d, this version reads 2; upgrade edgelog", dir, ErrNewer, n)
	}
	if n == 1 {
		return fmt.Errorf("open store %q: %w that this version reads: format 1, it reads 2; keep the directory and the version that wrote it until what it holds may go, and begin with an empty data_dir", dir, ErrNotStore)
	}
	return fmt.Errorf("open store %q: %w: VERSION does not say %q", dir, ErrNotStore, strings.TrimSpace(versionText))
}

// lockDir takes the directory for this process. The lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return nil, fmt.Errorf("open store %q: %w: %w; mount it read-write, or run as the user who owns it", dir, ErrReadOnly, err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, translate(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %q: %w: %w; is an agent running already?", dir, ErrInUse, err), f.Close())
	}
	return f, nil
}

func (s *Store) open(fresh bool) error {
	if err := s.guard.open(); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, dir := range []string{s.keysDir(), s.freshDir(), filepath.Join(s.dir, daysDir)} {
		if _, err := os.Stat(dir); !fresh && errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open store %q: %w: %s is gone; put it back from a backup, nothing has been touched", s.dir, ErrDamaged, filepath.Base(dir))
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make store %q: %w", s.dir, translate(err))
		}
	}
	for _, step := range []func() error{s.emptyTrash, s.readKeys, s.openDays, s.openFresh, s.openHolds, s.countAside} {
		if err := step(); err != nil {
			return fmt.Errorf("open store %q: %w", s.dir, err)
		}
	}
	s.countOn()
	if fresh {
		if err := s.finish(); err != nil {
			return fmt.Errorf("make store %q: %w", s.dir, translate(err))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state, free, _, err := s.guard.look()
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	s.health(state, free, nil) // for the first who asks while something is put
	return nil
}

// emptyTrash removes what was on its way out, and goes on as DestroyHold does.
func (s *Store) emptyTrash() error {
	trash := filepath.Join(s.dir, trashDir)
	entries, _ := os.ReadDir(trash) // mostly there is none
	for _, e := range entries {
		if err := wipeFile(filepath.Join(trash, e.Name(), holdKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.o.Log.Warn("the key of a hold that was destroyed could not be overwritten before it was removed", "hold", e.Name(), "error", err)
		}
	}
	return translate(os.RemoveAll(trash))
}

// countAside counts what was set aside, now or by an earlier start.
func (s *Store) countAside() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, damagedDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return translate(err)
	}
	s.aside = len(entries)
	return nil
}

// countOn learns how far the numbers of each kind, day and epoch are taken.
func (s *Store) countOn() {
	for _, d := range s.databases() {
		for sh, b := range d.books {
			s.next[sh] = max(s.next[sh], b.next)
		}
		for _, m := range d.merged {
			s.next[m.shelf] = max(s.next[m.shelf], m.next)
		}
		for i := range d.lost {
			s.next[d.lost[i].shelf] = max(s.next[d.lost[i].shelf], d.lost[i].seq+1)
		}
	}
}

// databases returns all that hold something. s.mu is held.
func (s *Store) databases() []*database {
	list := slices.Concat(s.runs, s.waiting)
	if s.fresh != nil {
		list = append(list, s.fresh)
	}
	return list
}

// finish writes VERSION, after all else is there: without it there is no store.
func (s *Store) finish() error {
	tmp := filepath.Join(s.dir, "VERSION.new")
	if err := writeFile(tmp, []byte(versionText), os.O_TRUNC); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, "VERSION")); err != nil {
		return err
	}
	for _, d := range []string{s.keysDir(), s.freshDir(), filepath.Join(s.dir, daysDir), s.dir, filepath.Dir(filepath.Clean(s.dir))} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a new file and fsyncs it.
func writeFile(name string, b []byte, flag int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFresh fsyncs the directory of the fresh database when a file came or went
// since the last time: Badger fsyncs what is in a new file, not its name. Only a
// failed fsync is an error: the directory is held open, so that a process short
// of files or memory is none, and one that cannot be looked at is fsynced.
func (s *Store) syncFresh() error {
	fi, err := s.fresh.names.Stat()
	if err == nil && fi.ModTime().Equal(s.synced) {
		return nil
	}
	if err := s.fresh.names.Sync(); err != nil {
		return err
	}
	if err == nil {
		s.synced = fi.ModTime()
	}
	return nil
}

// Close writes out what Badger holds in memory and closes the store. It is safe
// to call twice. With too little space it leaves Badger as it is, returns an
// error that wraps ErrNoSpace, and the next Open makes good what is missing;
// until this process ends the store cannot be opened again then. It waits for
// scans to end; cancel their contexts first.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	s.readers.Wait()
	if s.copy != "" {
		return errors.Join(s.closeAll(), os.RemoveAll(s.copy))
	}
	free, err := s.guard.space()
	if err == nil && free < closeNeed && s.guard.held > 0 {
		err = s.guard.giveUp(free)
		if err == nil {
			free, err = s.guard.space()
		}
	}
	if err == nil && free < closeNeed {
		err = fmt.Errorf("%w: %d MiB free, %d MiB needed; nothing is lost, make room before the next start", ErrNoSpace, free>>20, closeNeed>>20)
	}
	if err == nil {
		err = s.closeAll()
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("close store %q: %w", s.dir, err)
	}
	return nil
}

// closeAll closes what is open. A fresh database with nothing in it goes.
func (s *Store) closeAll() (err error) {
	for _, d := range s.databases() {
		empty := d == s.fresh && len(d.entries) == 0
		err = errors.Join(err, s.shelves.retire(d, empty))
		if empty && err == nil {
			err = s.removeDir(d.dir)
		}
	}
	return err
}
