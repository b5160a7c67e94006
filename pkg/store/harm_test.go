package store

import (
	"bytes"
	"errors"
	"fmt"
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

// openOnce opens the store and prints what came of it.
func openOnce() error {
	o := testOptions()
	o.Create = false
	s, err := Open(childArgs()[0], o)
	if err != nil {
		for name, is := range map[string]error{"damaged": ErrDamaged, "read-only": ErrReadOnly} {
			if errors.Is(err, is) {
				fmt.Println(name)
			}
		}
		return err
	}
	fmt.Println("open")
	return s.Close()
}

func TestTablesThatAreCutOrGoneAreNamedAsDamage(t *testing.T) {
	for what, harm := range map[string]func(string) error{
		"gone":            os.Remove,
		"empty":           func(f string) error { return os.Truncate(f, 0) },
		"cut in the half": func(f string) error { return os.Truncate(f, 700) },
		"cut by a byte": func(f string) error {
			fi, err := os.Stat(f)
			if err != nil {
				return err
			}
			return os.Truncate(f, fi.Size()-1)
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			b := l.put(KindSessions, aDay, strings.Repeat("session ", 200))
			l.close()
			file, _ := onDisk(t, l.dir, b)
			if err := harm(file); err != nil {
				t.Fatal(err)
			}
			var out, complaint bytes.Buffer
			cmd := child("open", l.dir)
			cmd.Stdout, cmd.Stderr = &out, &complaint
			if err := cmd.Run(); err == nil || out.String() != "damaged\n" {
				t.Errorf("%v: %q, %s", err, out.String(), complaint.String())
			}
		})
	}
}

func TestAManifestThatIsGoneDoesNotCostTheTables(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.put(KindSessions, aDay, strings.Repeat("session ", 200))
	l.close()
	manifest := filepath.Join(l.dir, "blocks", "MANIFEST")
	content, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for what, harm := range map[string]func() error{
		"gone":  func() error { return os.Remove(manifest) },
		"empty": func() error { return os.WriteFile(manifest, nil, 0o600) },
		"noise": func() error { return os.WriteFile(manifest, bytes.Repeat([]byte("noise"), 20), 0o600) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(l.dir, testOptions()); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v %v", what, s, err)
		}
	}
	if err := os.WriteFile(manifest, content, 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk(t, l.dir, b)
	l.open(testOptions())
	if got, err := l.readAll(KindSessions, 0, 1<<62); err != nil || len(got) != 1 {
		t.Errorf("%d blocks, %v", len(got), err)
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
		files, err := filepath.Glob(filepath.Join(l.dir, "blocks", "*."+ext))
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
