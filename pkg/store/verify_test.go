package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fingerprint returns the names, sizes, times and contents of all files below dir.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	all := sha256.New()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		fmt.Fprintln(all, name, fi.Size(), fi.ModTime(), fi.Mode(), sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", all.Sum(nil))
}

// duplicate copies a store as it lies, open or not.
func duplicate(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func openCopy(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenCopy(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestACopyOfARunningStoreIsCheckedAndNotChanged(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay+1, "two")
	l.merge(joined)
	l.put(KindSessions, aDay+1, "three, which is fresh")
	dir := duplicate(t, l.dir) // while it is open
	before := fingerprint(t, dir)
	s := openCopy(t, dir)
	if bad, err := s.Check(context.Background(), nil); err != nil || len(bad) > 0 {
		t.Errorf("check: %v %v", bad, err)
	}
	if n := len(s.Runs()); n != 2 || s.Keyless() {
		t.Errorf("%d runs", n)
	}
	if err := s.Put(l.seal(l.place(KindSessions, aDay), []byte("x"))); !errors.Is(err, ErrReadOnly) {
		t.Errorf("put into a copy: %v", err)
	}
	if got, err := (&lab{t: t, s: s, ids: l.ids}).readAll(KindSessions, math.MinInt64, math.MaxInt64); err != nil || len(got) != 3 {
		t.Errorf("read %q, %v", got, err)
	}
	scratch := s.copy
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	if fingerprint(t, dir) != before {
		t.Error("the copy was changed")
	}
}

func TestACopyTakenInTheMiddleOfAMergeIsReadOnce(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay+1, "two")
	m := l.beginMerge(joined)
	finishRuns(t, m)
	mark(t, m)
	if err := l.s.nameRun(aDay, m.from.number); err != nil { // the other has not got its name
		t.Fatal(err)
	}
	dir := duplicate(t, l.dir)
	before := fingerprint(t, dir)
	s := openCopy(t, dir)
	if bad, err := s.Check(context.Background(), nil); err != nil || len(bad) > 0 {
		t.Errorf("check: %v %v", bad, err)
	}
	if got, err := (&lab{t: t, s: s, ids: l.ids}).readAll(KindSessions, math.MinInt64, math.MaxInt64); err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q, %v", got, err)
	}
	if fingerprint(t, dir) != before {
		t.Error("the copy was changed")
	}
}

func TestEveryByteOfARunIsWatched(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.put(KindSessions, aDay, strings.Repeat("session ", 200))
	l.merge(nil)
	l.close()
	file := filepath.Join(l.s.runDir(aDay, 1), "000001.sst")
	table, err := os.ReadFile(file)
	at := bytes.Index(table, b)
	if err != nil || at < 0 {
		t.Fatal(at, err)
	}
	for _, off := range []int{50, len(b) / 2, len(b) - 1} { // the header, and what only the key can tell
		dir := duplicate(t, l.dir)
		name := strings.Replace(file, l.dir, dir, 1)
		whole := bytes.Clone(table)
		whole[at+off] ^= 1
		if err := os.WriteFile(name, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if bad, err := openCopy(t, dir).Check(context.Background(), nil); err != nil || len(bad) == 0 {
			t.Errorf("byte %d of %d altered: %v %v", off, len(b), bad, err)
		}
	}
}

func TestWhatIsNoCopyOfAStoreIsRefused(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.close()
	newer := duplicate(t, l.dir)
	if err := os.WriteFile(filepath.Join(newer, "VERSION"), []byte("edgelog store 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir string
		is  error
	}{{newer, ErrNewer}, {t.TempDir(), ErrMissing}, {filepath.Join(l.dir, "keys"), ErrMissing}, {"/proc", ErrNotStore}} {
		if s, err := OpenCopy(c.dir, testOptions()); !errors.Is(err, c.is) {
			t.Errorf("%s: %v %v", c.dir, s, err)
		}
	}
}

func TestACheckFindsNothingWhileItIsPutMergedAndDestroyed(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "to be destroyed")
	l.merge(joined)
	done := make(chan struct{})
	go func() { // ends with the last merge
		defer close(done)
		for i := range 12 {
			for range 5 {
				l.put(KindSessions, aDay+1, fmt.Sprint("session ", i))
				l.put(KindBindings, aDay+1, "binding")
			}
			l.merge(joined)
			if i == 6 {
				if err := errors.Join(l.s.DestroyKeys(aDay), l.s.DestroyBlocks(aDay)); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	checks := 0
	for going := true; going; checks++ {
		select {
		case <-done:
			going = false
		default:
		}
		if bad, err := l.s.Check(context.Background(), nil); err != nil || len(bad) > 0 {
			t.Errorf("check: %v %v", bad, err)
		}
	}
	t.Logf("%d checks", checks)
}
