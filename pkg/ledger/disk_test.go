package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of that many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting a small file system needs root")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func TestAFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	mount := smallDisk(t, "256k")
	l := mustOpen(t, filepath.Join(mount, "ledger"))
	mustAppend(t, l, 3)
	ballast := filepath.Join(mount, "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	must(t, f.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for range 3 {
		_, err = l.Append(t.Context(), testEntry(3))
		if !errors.Is(err, ErrNotWritten) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "nothing may be read") {
			t.Fatalf("got %v, want ErrNotWritten, the cause and what follows", err)
		}
	}
	must(t, l.Verify(t.Context()))
	checkEntries(t, l, 3)
	must(t, os.Remove(ballast))
	mustAppend(t, l, 1)
	must(t, l.Verify(t.Context()))
	checkEntries(t, l, 4)
	must(t, l.Close())
}

func TestAReadOnlyDiskIsAnErrorAndCanStillBeRead(t *testing.T) {
	mount := smallDisk(t, "1m")
	dir := filepath.Join(mount, "ledger")
	l := mustOpen(t, dir)
	mustAppend(t, l, 3)
	remount := func(flags uintptr) { must(t, unix.Mount("", mount, "", unix.MS_REMOUNT|flags, "")) }
	remount(unix.MS_RDONLY)
	if _, err := l.Append(t.Context(), testEntry(3)); !errors.Is(err, ErrNotWritten) || !errors.Is(err, syscall.EROFS) {
		t.Fatalf("got %v, want ErrNotWritten and the cause", err)
	}
	must(t, l.Close())
	l, err := Open(dir, testOptions())
	must(t, err)
	checkEntries(t, l, 3)
	must(t, errors.Join(l.Verify(t.Context()), l.Close()))
	remount(0)
	l = mustOpen(t, dir)
	mustAppend(t, l, 1)
	must(t, errors.Join(l.Verify(t.Context()), l.Close()))
}
