package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/vault"
)

func init() { children["fill"] = fillTheDisk }

// TestAFullDiskStopsWritingAndNothingElse runs fillTheDisk in a mount namespace
// of its own.
func TestAFullDiskStopsWritingAndNothingElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file system of its own needs root")
	}
	cmd := child("fill", t.TempDir())
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if err := cmd.Run(); err != nil {
		t.Errorf("the process with the full disk: %v", err)
	}
}

const (
	diskSize = 560 << 20
	mib      = 1 << 20
)

func smallDisk() Options {
	o := testOptions()
	o.MinFree, o.LowFree, o.Ballast = 100*mib, 140*mib, 40*mib
	o.Log = slog.New(slog.DiscardHandler)
	return o
}

// filler is another user of the same disk.
type filler struct{ path string }

func (f filler) leave(free int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(f.path), &st); err != nil {
		return err
	}
	var have int64
	if fi, err := os.Stat(f.path); err == nil {
		have = fi.Size()
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	size := have + int64(st.Bavail)*st.Frsize - free
	if size <= have {
		return errors.Join(file.Truncate(size), file.Close())
	}
	return errors.Join(unix.Fallocate(int(file.Fd()), 0, 0, size), file.Close())
}

// writer puts blocks until it may not.
type writer struct {
	s     *Store
	v     *vault.Vault
	epoch uint64
}

func (w *writer) put(n int) (done int, err error) {
	plain := make([]byte, 700_000)
	for ; done < n; done++ {
		p := vault.Place{Gateway: "gw-1", Kind: uint8(KindSessions), Day: int32(aDay), Epoch: w.epoch,
			Seq: w.s.NextSeq(KindSessions, aDay, w.epoch), Count: 1}
		b, err := w.v.Seal(nil, p, plain)
		if err != nil {
			return done, err
		}
		if err := w.s.Put(b); err != nil {
			return done, err
		}
	}
	return done, nil
}

// fillTheDisk is one long story, so that each step begins where the last ended.
func fillTheDisk() error {
	mnt := childArgs()[0]
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	other := filler{filepath.Join(mnt, "other")}
	dir := filepath.Join(mnt, "store")
	kp, err := vault.GenerateIdentity()
	if err != nil {
		return err
	}
	step := func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

	if err := other.leave(10 * mib); err != nil {
		return err
	}
	if _, err := Open(dir, smallDisk()); !errors.Is(err, ErrNoSpace) {
		return step("first start on a full disk", fmt.Errorf("got %w", err))
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		return step("first start on a full disk", fmt.Errorf("it left %v", entries))
	}
	if err := other.leave(330 * mib); err != nil {
		return err
	}
	s, err := Open(dir, smallDisk())
	if err != nil {
		return err
	}
	w := &writer{s: s, epoch: s.NewEpoch()}
	if w.v, err = vault.New([]string{kp.Recipient}, vault.Options{Keys: s}); err != nil {
		return err
	}
	for _, next := range []struct {
		what string
		do   func(*writer, filler) error
	}{
		{"write until full", untilFull}, {"the others fill up the rest", othersFill}, {"room again", roomAgain},
		{"read only", stillReads},
	} {
		if err := next.do(w, other); err != nil {
			return step(next.what, err)
		}
	}
	return step2(w, other, dir)
}

func expect(s *Store, state State, ballast int64) error {
	if h := s.Tend(); h.State != state || h.Ballast != ballast {
		return fmt.Errorf("health %+v, want %s and ballast %d", h, state, ballast)
	}
	return nil
}

func untilFull(w *writer, _ filler) error {
	if err := expect(w.s, StateOK, 40*mib); err != nil {
		return err
	}
	n, err := w.put(1000)
	if !errors.Is(err, ErrNoSpace) || n < 20 {
		return fmt.Errorf("%d blocks, then %w", n, err)
	}
	return nil
}

func othersFill(w *writer, other filler) error {
	if err := flushed(w.s); err != nil {
		return err
	}
	if err := other.leave(0); err != nil {
		return err
	}
	if _, err := w.put(1); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("put on a full disk: got %w", err)
	}
	if err := expect(w.s, StateStopped, 0); err != nil {
		return fmt.Errorf("the ballast was not given up: %w", err)
	}
	// A key cannot be saved either, and leaves nothing half done.
	if err := w.s.SaveKey(int32(aDay+1), w.epoch, make([]byte, 500)); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("save key: got %w", err)
	}
	return other.leave(0) // the others take the ballast too
}

func roomAgain(w *writer, other filler) error {
	before := w.s.NextSeq(KindSessions, aDay, w.epoch)
	if err := other.leave(170 * mib); err != nil {
		return err
	}
	if n, err := w.put(3); err != nil {
		return fmt.Errorf("with 170 MiB free, %d blocks, then %w", n, err)
	}
	if err := expect(w.s, StateLow, 0); err != nil {
		return err
	}
	if err := other.leave(200 * mib); err != nil {
		return err
	}
	if err := expect(w.s, StateOK, 40*mib); err != nil {
		return fmt.Errorf("the ballast was not taken again: %w", err)
	}
	if n := w.s.NextSeq(KindSessions, aDay, w.epoch); n != before+3 {
		return fmt.Errorf("number %d after %d and three blocks", n, before)
	}
	return nil
}

// flushed waits until Badger has written out what it had begun to.
func flushed(s *Store) error {
	for {
		logs, err := filepath.Glob(filepath.Join(s.fresh.dir, "*.mem"))
		if err != nil || len(logs) == 1 {
			return err
		}
		runtime.Gosched()
	}
}

func stillReads(w *writer, other filler) error {
	if err := flushed(w.s); err != nil {
		return err
	}
	if err := other.leave(0); err != nil {
		return err
	}
	w.s.Tend() // gives the ballast up
	if err := other.leave(0); err != nil {
		return err
	}
	n := 0
	err := w.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(vault.Place, Sealed) error { n++; return nil })
	if err != nil || n != int(w.s.NextSeq(KindSessions, aDay, w.epoch)) {
		return fmt.Errorf("%d blocks read from a full disk, %w", n, err)
	}
	return nil
}

// step2 closes on a full disk, starts again on a full disk, in a new process as
// it would be, and then with room.
func step2(w *writer, other filler, dir string) error {
	want := w.s.NextSeq(KindSessions, aDay, w.epoch)
	if err := w.s.Close(); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("close on a full disk: got %w", err)
	}
	again := child("fill-again", dir, fmt.Sprint(want), fmt.Sprint(w.epoch), other.path)
	again.Stdout = os.Stdout
	// This process still holds Badger's lock, as a dying one would not.
	if err := unlockBadger(dir); err != nil {
		return err
	}
	return again.Run()
}

// unlockBadger gives the files of dir a new inode, so that a lock on the old
// one does not count.
func unlockBadger(dir string) error {
	blocks := filepath.Join(dir, "fresh", "1")
	if err := os.Rename(blocks, blocks+".old"); err != nil {
		return err
	}
	if err := os.Mkdir(blocks, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(blocks + ".old")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Rename(filepath.Join(blocks+".old", f.Name()), filepath.Join(blocks, f.Name())); err != nil {
			return err
		}
	}
	return os.Remove(blocks + ".old")
}

func init() { children["fill-again"] = fillAgain }

func fillAgain() error {
	a := childArgs()
	dir, other := a[0], filler{a[3]}
	var want uint32
	var epoch uint64
	if _, err := fmt.Sscan(a[1]+" "+a[2], &want, &epoch); err != nil {
		return err
	}
	if _, err := Open(dir, smallDisk()); !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("start on a full disk: got %w", err)
	}
	if err := other.leave(220 * mib); err != nil {
		return err
	}
	s, err := Open(dir, smallDisk())
	if err != nil {
		return fmt.Errorf("start with room: %w", err)
	}
	if got := s.NextSeq(KindSessions, aDay, epoch); got != want {
		return fmt.Errorf("%d blocks after the full disk, want %d", got, want)
	}
	bad, err := s.Check(context.Background(), nil)
	if err != nil || len(bad) > 0 {
		return fmt.Errorf("check: %v %w", bad, err)
	}
	return s.Close()
}

func TestTheBallastHasTheSizeOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	size := func() int64 {
		fi, err := os.Stat(filepath.Join(dir, "ballast"))
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	for _, want := range []int64{8 * mib, 2 * mib, 4 * mib, 0, 3 * mib} {
		o := testOptions()
		o.Ballast = want
		if want == 0 {
			o.Ballast = -1
		}
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if h := s.Tend(); h.Ballast != want || size() != want || h.State != StateOK {
			t.Errorf("want %d MiB: %+v, file of %d bytes", want/mib, h, size())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestABallastThatNoDiskHoldsIsRefused(t *testing.T) {
	o := testOptions()
	o.Ballast = 1 << 60
	dir := t.TempDir()
	if _, err := Open(dir, o); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "set a smaller store.ballast") {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}
