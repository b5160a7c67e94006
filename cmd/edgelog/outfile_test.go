package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAPackageTakesItsNameFromNoOtherFileAndIsNotLost(t *testing.T) {
	name := filepath.Join(t.TempDir(), "answer.age")
	f, err := newFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("of somebody else"), 0o600); err != nil { // meanwhile
		t.Fatal(err)
	}
	err = f.fill(func(w io.Writer) error { _, err := io.WriteString(w, "the answer"); return err })
	f.drop()
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(name); string(b) != "of somebody else" {
		t.Errorf("%q", b)
	}
	if b, err := os.ReadFile(f.Name()); string(b) != "the answer" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := newFile(name); err == nil {
		t.Error("a file that is there is taken")
	}
}

func TestRoomForAPackageIsKeptBeforeItIsHandedOverAndGivenBack(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // its directory goes with the test
	f, err := newFile(filepath.Join(dir, "answer.age"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.reserve(2 << 20); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("more than the disk has: %v", err)
	}
	if err := f.reserve(512 << 10); err != nil {
		t.Fatal(err)
	}
	if err := f.fill(func(w io.Writer) error { _, err := w.Write(make([]byte, 5000)); return err }); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(f.name, &st); err != nil || st.Size != 5000 || st.Blocks*512 > 64<<10 {
		t.Errorf("%d bytes, %d blocks, %v", st.Size, st.Blocks, err)
	}
}
