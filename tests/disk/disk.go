// Package disk is a disk that tests can take the power from, stall and break:
//
//  1. Open serves one file from memory (FUSE), makes ext4 in it and mounts that
//     by a loop device.
//  2. Programs write; the disk remembers what it was told to flush, as a disk
//     with a volatile cache does.
//  3. Stall has it answer nothing until it is let go on.
//  4. CutPower has it fail everything from one moment on. What was flushed by
//     then is there when Power is switched on again; of the rest, any part may
//     be, whole or torn at a sector.
//
// Nothing here waits for a time: a moment is between two requests.
package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	sector = 512
	chunk  = 1 << 16 // of which memory is kept or left out
)

// written is a write that was answered and not yet flushed.
type written struct {
	at   int64
	data []byte
}

// Disk is such a disk with a mounted ext4 file system.
type Disk struct {
	dir  string // holds the two mount points
	size int64

	mu       sync.Mutex
	room     *sync.Cond
	live     []byte // as it is read
	durable  []byte // as it was at the last flush
	touched  []bool // by chunk: not all zero
	unsynced []written
	stalled  bool
	waiting  bool // a request does, for the stall to end
	dead     bool
	left     int    // writes until the power goes
	cut      func() // has it go
	off      chan struct{}
	lost     int
	flushes  uint64
	writes   uint64

	fuse    *os.File
	served  chan struct{}
	mounted bool
}

// Open makes a disk of so many bytes and mounts it on Dir, in dir. Memory is
// taken only for what is written to it.
func Open(dir string, size int64) (*Disk, error) {
	d := &Disk{dir: dir, size: size, touched: make([]bool, (size+chunk-1)/chunk)}
	d.room = sync.NewCond(&d.mu)
	for _, image := range []*[]byte{&d.live, &d.durable} {
		b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("take memory for a disk: %w", err)
		}
		*image = b
	}
	for _, sub := range []string{d.device(), d.Dir()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("make a disk: %w", err)
		}
	}
	if err := d.serve(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	// Nothing is left for the kernel to write later by itself.
	err := run("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=8", "-N", "4096", d.file())
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Dir is where the file system is mounted.
func (d *Disk) Dir() string { return filepath.Join(d.dir, "files") }

func (d *Disk) device() string { return filepath.Join(d.dir, "device") }
func (d *Disk) file() string   { return filepath.Join(d.device(), "disk") }

func (d *Disk) mount() error {
	if err := run("mount", "-t", "ext4", "-o", "loop", d.file(), d.Dir()); err != nil {
		return err
	}
	d.mounted = true
	return nil
}

// Stall has the disk answer nothing until the returned function is called.
func (d *Disk) Stall() (goOn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stalled = false
		d.room.Broadcast()
	}
}

// CutPower ends the disk's answers once it has answered so many more writes, 0
// for at once: everything fails from then on. What was not flushed is kept,
// torn or lost, as rng says. The channel is closed when it has happened.
func (d *Disk) CutPower(rng *rand.Rand, writes int) (off <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = make(chan struct{})
	d.cut = func() { d.powerless(rng) }
	if d.left = writes; writes == 0 {
		d.cut()
	}
	return d.off
}

func (d *Disk) powerless(rng *rand.Rand) {
	d.dead, d.stalled = true, false
	d.room.Broadcast()
	d.lost = 0
	for _, w := range d.unsynced {
		switch rng.IntN(3) {
		case 0:
			d.lost++
			continue
		case 1: // torn
			d.lost++
			w.data = w.data[:rng.IntN(len(w.data)/sector+1)*sector]
		}
		copy(d.durable[w.at:], w.data)
	}
	d.unsynced = nil
	close(d.off)
}

// Lost returns how many writes the last cut took, in whole or in part.
func (d *Disk) Lost() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Power lets go of what was mounted, when the programs that used it are gone,
// and mounts what is left of the disk at the same place.
func (d *Disk) Power() error {
	if err := d.unmount(); err != nil {
		return err
	}
	d.mu.Lock()
	for i, touched := range d.touched {
		if touched {
			from, to := i*chunk, min((i+1)*chunk, len(d.live))
			copy(d.live[from:to], d.durable[from:to])
		}
	}
	d.dead, d.left = false, 0
	d.mu.Unlock()
	return d.mount()
}

// Counts returns how many writes and flushes the disk has answered.
func (d *Disk) Counts() (writes, flushes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes, d.flushes
}

func (d *Disk) unmount() error {
	if !d.mounted {
		return nil
	}
	if err := unix.Unmount(d.Dir(), 0); err != nil {
		return fmt.Errorf("unmount %q: %w", d.Dir(), err)
	}
	d.mounted = false
	return nil
}

// Close unmounts and forgets the disk. It may be called twice.
func (d *Disk) Close() error {
	d.mu.Lock()
	d.stalled = false
	d.room.Broadcast()
	d.mu.Unlock()
	err := d.unmount()
	if d.fuse != nil {
		err = errors.Join(err, d.leave())
	}
	for _, image := range []*[]byte{&d.live, &d.durable} {
		if *image != nil {
			err = errors.Join(err, unix.Munmap(*image))
			*image = nil
		}
	}
	return err
}

// read, write and flush are the disk itself.

func (d *Disk) pause() {
	for d.stalled {
		d.waiting = true
		d.room.Wait()
	}
	d.waiting = false
}

// Waiting says whether a request waits for a stalled disk.
func (d *Disk) Waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

func (d *Disk) read(at int64, n int) ([]byte, unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause()
	if d.dead {
		return nil, unix.EIO
	}
	at = min(at, d.size)
	return append([]byte(nil), d.live[at:min(at+int64(n), d.size)]...), 0
}

func (d *Disk) write(at int64, data []byte) unix.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause()
	switch {
	case d.dead:
		return unix.EIO
	case at+int64(len(data)) > d.size:
		return unix.ENOSPC
	}
	copy(d.live[at:], data)
	for c := at / chunk; c <= (at+int64(len(data))-1)/chunk; c++ {
		d.touched[c] = true
	}
	d.unsynced = append(d.unsynced, written{at, append([]byte(nil), data...)})
	d.writes++
	if d.left > 0 {
		if d.left--; d.left == 0 {
			d.cut()
		}
	}
	return 0
}

func (d *Disk) flush() unix.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause()
	if d.dead {
		return unix.EIO
	}
	for _, w := range d.unsynced {
		copy(d.durable[w.at:], w.data)
	}
	d.unsynced = d.unsynced[:0]
	d.flushes++
	return 0
}
