package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// State says how much room there is.
type State string

// The states.
const (
	StateOK      State = "ok"
	StateLow     State = "low"     // still writing; the disk should be looked after
	StateStopped State = "stopped" // nothing is written until there is room
	StateFailed  State = "failed"  // nothing is written, whatever room there is: see Health.Err
)

// minInodes is the least number of free inodes to write with, on file systems
// that count them.
const minInodes = 256

// guard watches the free space of the file system that the store lies on. File
// sizes say nothing: Badger's logs are sparse. Its methods are called under the
// store's lock.
//
// Four marks, from much to little free space: at low+ballast a ballast that was
// given up is taken again; below low the state is low; below stop nothing is
// written; below stop/2 the ballast is given up, and what it leaves is not for
// blocks but for Badger, which may be in the middle of something: until the
// ballast is back, the mark to stop at is higher by its size.
type guard struct {
	dir     string
	stop    int64
	low     int64
	ballast int64 // bytes that the ballast should have; 0 for none
	held    int64 // bytes that it has
	log     *slog.Logger
}

func (g *guard) path() string { return filepath.Join(g.dir, "ballast") }

// space returns the bytes that this process may still write, and 0 when there
// are too few inodes.
func (g *guard) space() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(g.dir, &st); err != nil {
		return 0, fmt.Errorf("look at free space of %q: %w", g.dir, err)
	}
	if st.Files > 0 && st.Ffree < minInodes {
		return 0, nil
	}
	if st.Bavail > uint64(math.MaxInt64/st.Frsize) {
		return math.MaxInt64, nil
	}
	return int64(st.Bavail) * st.Frsize, nil
}

// open finds out whether Badger may be opened, and gives up the ballast if that
// is what it takes. When it returns an error nothing has been changed.
func (g *guard) open() error {
	if fi, err := os.Stat(g.path()); err == nil {
		g.held = fi.Size()
	}
	free, err := g.space()
	if err != nil {
		return err
	}
	if free+g.held < openNeed {
		return fmt.Errorf("%w on %q: %d MiB free, at least %d MiB needed to start; make room, or move the store to a larger disk",
			ErrNoSpace, g.dir, free>>20, openNeed>>20)
	}
	if err := g.fits(); err != nil {
		return err
	}
	if free < openNeed && g.held > 0 {
		return g.giveUp(free)
	}
	return g.shrink()
}

// fits refuses a mark to stop at that lies beyond the whole disk: nothing would
// ever be written. And it refuses a ballast for which the file system has no place even when it is
// empty: it would never be taken, and nobody would know.
func (g *guard) fits() error {
	var st unix.Statfs_t
	if err := unix.Statfs(g.dir, &st); err != nil {
		return fmt.Errorf("look at size of %q: %w", g.dir, err)
	}
	if st.Blocks > uint64(math.MaxInt64/st.Frsize) {
		return nil
	}
	size := int64(st.Blocks) * st.Frsize
	if g.stop > size {
		return fmt.Errorf("%w on %q: %d MiB are to stay free, and the whole disk has %d MiB; set a smaller store.min_free, or use a larger disk",
			ErrNoSpace, g.dir, g.stop>>20, size>>20)
	}
	if g.ballast > 0 && (g.stop > size || g.ballast > size-g.stop) {
		return fmt.Errorf("%w on %q: a ballast of %d MiB beside %d MiB that stay free does not fit a disk of %d MiB; set a smaller store.ballast",
			ErrNoSpace, g.dir, g.ballast>>20, g.stop>>20, size>>20)
	}
	return nil
}

// shrink makes a ballast smaller that is larger than it should be now. One that
// is too small is taken anew when there is room (look).
func (g *guard) shrink() error {
	if g.held <= g.ballast {
		return nil
	}
	var err error
	if g.ballast == 0 {
		err = os.Remove(g.path())
	} else {
		err = os.Truncate(g.path(), g.ballast)
	}
	if err != nil {
		return fmt.Errorf("make ballast smaller: %w", err)
	}
	g.log.Info("ballast made smaller", "from_bytes", g.held, "to_bytes", g.ballast)
	g.held = g.ballast
	return nil
}

func (g *guard) giveUp(free int64) error {
	if err := os.Remove(g.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give up ballast: %w", err)
	}
	g.log.Warn("disk nearly full: ballast given up", "free_bytes", free, "ballast_bytes", g.held)
	g.held = 0
	return nil
}

// look measures, gives the ballast up or takes it again, and returns the state
// and the bytes that may be written now, which is below 0 in StateStopped.
func (g *guard) look() (state State, free, room int64, err error) {
	if free, err = g.space(); err != nil {
		return StateStopped, 0, -1, err
	}
	switch {
	case g.held > 0 && free < g.stop/2:
		if err := g.giveUp(free); err != nil {
			return StateStopped, free, -1, err
		}
		if free, err = g.space(); err != nil {
			return StateStopped, 0, -1, err
		}
	case g.held < g.ballast && free+g.held >= g.low+g.ballast:
		g.take()
		if free, err = g.space(); err != nil {
			return StateStopped, 0, -1, err
		}
	}
	state, room = g.judge(free)
	return state, free, room, nil
}

// judge returns the state with so many bytes free, and how many of them may be
// written, which is below 0 in StateStopped.
func (g *guard) judge(free int64) (State, int64) {
	room := free - (g.stop + g.ballast - g.held)
	switch {
	case room < 0:
		return StateStopped, room
	case free < g.low+g.ballast-g.held:
		return StateLow, room
	}
	return StateOK, room
}

// take makes the ballast. Where the file system cannot reserve space the store
// goes on without.
func (g *guard) take() {
	err := func() error {
		f, err := os.OpenFile(g.path(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, g.ballast), f.Close())
	}()
	if err != nil {
		_ = os.Remove(g.path())
		g.log.Warn("no ballast: the file system does not reserve space", "err", err)
		g.ballast, g.held = 0, 0
		return
	}
	g.held = g.ballast
}
