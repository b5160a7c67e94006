package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// onASmallDisk gives the ledger a file system of its own.
func (r *room) onASmallDisk() {
	r.t.Helper()
	r.shut()
	if err := os.RemoveAll(r.ledgerDir()); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Mkdir(r.ledgerDir(), 0o700); err != nil {
		r.t.Fatal(err)
	}
	dir := r.ledgerDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700")
	if errors.Is(err, unix.EPERM) {
		r.t.Skip("mounting a small file system needs root")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			r.t.Error(err)
		}
	})
	r.open()
	r.evidence.note(ledger.Gap, nil)
}

// goesOnWithout demands that sessions are recorded, that nobody reads, and that an
// alarm says so.
func (r *room) goesOnWithout() {
	r.t.Helper()
	before := len(r.table.stored)
	r.table.add(seen(7, r.clock.Now())...)
	if err := r.step(); err != nil {
		r.t.Fatal(err)
	}
	if got := len(r.table.stored) - before; got != 7 {
		r.t.Errorf("%d of 7 sessions are stored", got)
	}
	for range 2 {
		if _, err := r.Evidence().Append(r.t.Context(), ledger.Entry{Kind: ledger.Intent}); !errors.Is(err, ledger.ErrNotWritten) {
			r.t.Errorf("somebody may read: %v", err)
		}
		if s := r.Status().Ledger; s.OK || s.Waiting == 0 { // who was turned away is enough of an alarm
			r.t.Errorf("the status says %+v", s)
		}
	}
	r.evidence.note(ledger.Gap, nil)
	if s := r.Status().Ledger; s.OK || s.Waiting == 0 || s.Doubt != "" {
		r.t.Errorf("the status says %+v", s)
	}
}

// goesOnWith demands that somebody may read again, and that what waited is written.
func (r *room) goesOnWith() {
	r.t.Helper()
	r.clock.add(lastRetry)
	r.evidence.step()
	if _, err := r.Evidence().Append(r.t.Context(), ledger.Entry{Kind: ledger.Intent}); err != nil {
		r.t.Error(err)
	}
	if s := r.Status().Ledger; !s.OK || s.Waiting != 0 {
		r.t.Errorf("the status says %+v", s)
	}
	if err := r.ledger.Verify(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

func TestALedgerOnAFullDiskStopsReadingAndNotRecording(t *testing.T) {
	r := newRoom(t, "")
	r.onASmallDisk()
	ballast := filepath.Join(r.ledgerDir(), "ballast")
	f, err := os.Create(ballast)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r.goesOnWithout()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.goesOnWith()
}

func TestALedgerOnAReadOnlyDiskStopsReadingAndNotRecording(t *testing.T) {
	r := newRoom(t, "")
	r.onASmallDisk()
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", r.ledgerDir(), "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	r.goesOnWithout()
	r.shut()
	r.open() // a start finds it so
	r.goesOnWithout()
	remount(0)
	r.goesOnWith()
}
