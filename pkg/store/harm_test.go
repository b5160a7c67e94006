package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/vault"
)

func init() {
	children["open"] = openOnce
	children["read-only"] = readOnlyDisk
}

// openOnce opens the store and closes it.
func openOnce() error {
	o := testOptions()
	o.Create = false
	s, err := Open(childArgs()[0], o)
	if err != nil {
		return err
	}
	return s.Close()
}

// harms are ways in which a database of the store can be hurt.
func harms(file string) map[string]func() error {
	manifest := filepath.Join(filepath.Dir(file), "MANIFEST")
	return map[string]func() error{
		"its table is gone":            func() error { return os.Remove(file) },
		"its table is empty":           func() error { return os.Truncate(file, 0) },
		"its table is cut in the half": func() error { return os.Truncate(file, 700) },
		"its table is cut by a byte": func() error {
			fi, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, fi.Size()-1)
		},
		"its manifest is gone":  func() error { return os.Remove(manifest) },
		"its manifest is empty": func() error { return os.WriteFile(manifest, nil, 0o600) },
		"its manifest is noise": func() error { return os.WriteFile(manifest, bytes.Repeat([]byte("noise"), 20), 0o600) },
	}
}

func TestAFreshDatabaseThatIsDamagedIsSetAsideAndAllElseAnswers(t *testing.T) {
	for what := range harms("") {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "merged before")
			l.merge(nil)
			b := l.put(KindSessions, aDay, strings.Repeat("session ", 200))
			l.close()
			file, _ := onDisk(t, l.dir, b)
			if err := harms(file)[what](); err != nil {
				t.Fatal(err)
			}
			var complaint bytes.Buffer
			cmd := child("open", l.dir)
			cmd.Stderr = &complaint
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, complaint.String())
			}
			if aside, err := filepath.Glob(filepath.Join(l.dir, "damaged", "fresh-*")); len(aside) != 1 || err != nil {
				t.Errorf("set aside: %q %v", aside, err)
			}
			l.open(testOptions())
			if got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64); err != nil || !slices.Equal(got, []string{"merged before"}) {
				t.Errorf("%q %v", got, err)
			}
			if h := l.s.Health(); h.SetAside != 1 {
				t.Errorf("health: %+v", h)
			}
		})
	}
}

func TestARunThatIsDamagedIsReportedAndAllElseAnswers(t *testing.T) {
	for what := range harms("") {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, strings.Repeat("session ", 200))
			l.merge(nil)
			l.put(KindSessions, aDay+1, "another run")
			l.merge(nil)
			l.close()
			file := filepath.Join(l.s.runDir(aDay, 1), "000001.sst")
			if err := harms(file)[what](); err != nil {
				t.Fatal(err)
			}
			l.open(testOptions())
			got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
			if !errors.Is(err, ErrDamaged) || !slices.Equal(got, []string{"another run"}) {
				t.Errorf("%q %v", got, err)
			}
			if got, err := l.readAll(KindSessions, int64(aDay+1)*24*anHour, math.MaxInt64); err != nil || len(got) != 1 {
				t.Errorf("a window beside it: %q %v", got, err)
			}
			if len(l.problems()) == 0 {
				t.Error("check found nothing")
			}
			l.close()
		})
	}
}

func TestBlocksNeverGoToTheLogWhoseFsyncIsNotReported(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.seal(l.place(KindSessions, aDay), make([]byte, MaxPlaintext))
	if err := l.s.Put(b); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, ext := range []string{"mem", "vlog"} {
		files, err := filepath.Glob(filepath.Join(l.dir, "fresh", "*", "*."+ext))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files *.%s: %v", ext, err)
		}
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found[ext] = found[ext] || bytes.Contains(content, b[60:200])
		}
	}
	if !found["mem"] || found["vlog"] {
		t.Errorf("the block is in %v, wanted in mem alone", found)
	}
	if o := badgerOptions("x", nil); !o.SyncWrites || o.ReadOnly || o.BypassLockGuard {
		t.Error("Badger does not sync or lock")
	}
}

func TestAReadOnlyFileSystemIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file system of its own needs root")
	}
	cmd := child("read-only", t.TempDir())
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func readOnlyDisk() error {
	mnt := childArgs()[0]
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=300m"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	dir := filepath.Join(mnt, "store")
	s, err := Open(dir, testOptions())
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := unix.Mount("", mnt, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount read-only: %w", err)
	}
	for _, d := range []string{dir, filepath.Join(mnt, "new")} {
		if _, err := Open(d, testOptions()); !errors.Is(err, ErrReadOnly) {
			return fmt.Errorf("open %s: got %w", d, err)
		}
	}
	return readOnlyCopies(mnt, dir)
}

// readOnlyCopies checks a copy, and a backup to and a restoring into such a place.
func readOnlyCopies(mnt, dir string) error {
	c, err := OpenCopy(dir, testOptions())
	if err != nil {
		return err
	}
	if bad, err := c.Check(context.Background(), nil); err != nil || len(bad) > 0 {
		return fmt.Errorf("check of a copy: %v %w", bad, err)
	}
	cat := c.Catalogue()
	cat.Gateway = "gw-1"
	if err := c.Close(); err != nil {
		return err
	}
	if _, err := Backup(context.Background(), cat, filepath.Join(mnt, "backup"), nil); !errors.Is(err, ErrReadOnly) {
		return fmt.Errorf("back up: got %w", err)
	}
	elsewhere, err := os.MkdirTemp("", "backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(elsewhere) //nolint:errcheck // a test's
	if _, err := Backup(context.Background(), cat, elsewhere, nil); err != nil {
		return err
	}
	for _, d := range []string{dir, filepath.Join(mnt, "new")} {
		if _, err := Restore(context.Background(), elsewhere, d, RestoreOptions{}); !errors.Is(err, ErrReadOnly) {
			return fmt.Errorf("restore to %s: got %w", d, err)
		}
	}
	return nil
}

func TestWhatBadgerSaysIsTranslated(t *testing.T) {
	for text, want := range map[string]error{
		"Cannot acquire directory lock on \"x\".  Another process is using this Badger database. error: resource temporarily unavailable": ErrInUse,
		"while truncate file: x, error: no space left on device":                                                                          ErrNoSpace,
		"manifest has unsupported version: 9 (we support 8).":                                                                             ErrNewer,
		"DB Closed": ErrClosed,
		"Writes are blocked, possibly due to DropAll or Close": ErrClosed,
		"Txn is too big to fit into one request":               ErrTooLarge,
		"manifest has checksum mismatch":                       ErrDamaged,
	} {
		if err := translate(errors.New(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if translate(nil) != nil {
		t.Error("no error became one")
	}
	plain := errors.New("something else")
	if got := translate(plain); !errors.Is(got, plain) || slices.ContainsFunc(translations, func(x struct {
		words string
		is    error
	}) bool {
		return errors.Is(got, x.is)
	}) {
		t.Errorf("%v", got)
	}
}

// aPart leaves out no frame, and yet is no whole block.
func aPart(t *testing.T, b Sealed) Sealed {
	t.Helper()
	part, err := vault.Part(nil, b, func(int) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return part
}
