package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// backUp brings a backup up to date.
func (l *lab) backUp(dir string, destroyed ...string) *Backed {
	l.t.Helper()
	c := l.s.Catalogue()
	c.Gateway, c.RetentionDays, c.Destroyed = "gw-1", 365, destroyed
	b, err := Backup(context.Background(), c, dir, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// restoredAt restores at a time, and returns the store as a copy.
func restoredAt(t *testing.T, from, to string, now time.Time, keys *KeysBackup) (*Backed, *Store) {
	t.Helper()
	b, err := Restore(context.Background(), from, to, RestoreOptions{Now: func() time.Time { return now }, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return b, openCopy(t, to)
}

// twoRuns is a store with a run of each of two days, and a hold.
func twoRuns(t *testing.T) *lab {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay+1, "two")
	l.merge(joined)
	l.keep(7)
	return l
}

func TestABackupIsBroughtUpToDateAndForgetsWhatWasDestroyed(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	if b := l.backUp(dir); len(b.Copied) != 3 || b.Present != 0 {
		t.Errorf("%+v", b)
	}
	for _, key := range []string{"keys", "holds/7/key.age", "fresh"} {
		if _, err := os.Stat(filepath.Join(dir, key)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is in the backup: %v", key, err)
		}
	}
	l.put(KindSessions, aDay+1, "three")
	l.merge(joined)
	if b := l.backUp(dir); len(b.Copied) != 1 || b.Present != 3 {
		t.Errorf("the second time: %+v", b)
	}
	// Lost, not destroyed: the backup is all that there is of it.
	lost := l.s.runs[0]
	l.s.runs = l.s.runs[1:]
	if b := l.backUp(dir); len(b.Kept) != 1 || len(b.Removed) != 0 {
		t.Errorf("what was lost: %+v", b)
	}
	l.s.runs = append(l.s.runs, lost)
	if err := errors.Join(l.s.DestroyKeys(aDay), l.s.DestroyBlocks(aDay)); err != nil {
		t.Fatal(err)
	}
	if b := l.backUp(dir, aDay.String()); len(b.Removed) != 1 || len(b.Kept) != 0 {
		t.Errorf("what was destroyed: %+v", b)
	}
	if _, err := os.Stat(filepath.Join(dir, "days", aDay.String())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a destroyed day is in the backup: %v", err)
	}
	if bad, err := openCopy(t, dir).Check(context.Background(), nil); err != nil || !onlyKeys(bad) {
		t.Errorf("the backup: %v %v", bad, err)
	}
}

// onlyKeys reports whether all that is wrong is that there are no wrapped keys.
func onlyKeys(bad []Problem) bool {
	return !slices.ContainsFunc(bad, func(p Problem) bool { return !errors.Is(p, ErrNoKey) })
}

func TestABackupThatWasBrokenOffIsGoneOnWith(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	l.backUp(dir)
	for _, harm := range []func(run string) error{
		func(run string) error { return os.Rename(run, filepath.Join(filepath.Dir(run), ".new-1")) },
		func(run string) error { return os.Truncate(filepath.Join(run, "000001.sst"), 100) },
		func(run string) error { return os.Remove(filepath.Join(run, "MANIFEST")) },
	} {
		if err := harm(filepath.Join(dir, "days", aDay.String(), "1")); err != nil {
			t.Fatal(err)
		}
		if b := l.backUp(dir); len(b.Copied) != 1 || b.Present != 2 {
			t.Errorf("%+v", b)
		}
	}
	if bad, err := openCopy(t, dir).Check(context.Background(), nil); err != nil || !onlyKeys(bad) {
		t.Errorf("the backup: %v %v", bad, err)
	}
}

func TestRestoringPutsBackWhatIsMissingAndNothingElse(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	l.backUp(dir)
	keys, err := l.s.BackUpKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys.Gateway = "gw-1"
	now := (aDay + 1).Start()
	to := filepath.Join(t.TempDir(), "data", "store")
	b, s := restoredAt(t, dir, to, now, keys)
	if len(b.Copied) != 3 || b.Keys != 3 {
		t.Errorf("into nothing: %+v", b)
	}
	if bad, err := s.Check(context.Background(), nil); err != nil || len(bad) > 0 {
		t.Errorf("check: %v %v", bad, err)
	}
	before := fingerprint(t, to)
	if b, _ := restoredAt(t, dir, to, now, keys); b.Present != 3 || len(b.Copied)+b.Keys != 0 || fingerprint(t, to) != before {
		t.Errorf("again: %+v", b)
	}
	// A day whose time is over, by the clock or by what the ledger says, stays away.
	b, s = restoredAt(t, dir, filepath.Join(t.TempDir(), "store"), (aDay + 366).Start(), keys)
	if b.Expired != 1 || len(b.Copied) != 2 || len(s.Kept()) != 1 || b.Keys != 2 {
		t.Errorf("a year later: %+v, kept %v", b, s.Kept())
	}
	late := filepath.Join(t.TempDir(), "store")
	b, err = Restore(context.Background(), dir, late, RestoreOptions{Destroyed: []session.Day{aDay, aDay + 1}, Released: []uint64{7}, Keys: keys, Now: func() time.Time { return now }})
	if err != nil || b.Expired != 3 || len(b.Copied)+b.Keys != 0 {
		t.Errorf("destroyed: %+v, %v", b, err)
	}
}

func TestRestoringRefusesWhatIsNotWholeOrInTheWay(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	l.backUp(dir)
	now := (aDay + 1).Start()
	// A file of the backup that was altered is not put into a store.
	b, err := os.ReadFile(filepath.Join(dir, "days", aDay.String(), "1", "000001.sst"))
	if err != nil {
		t.Fatal(err)
	}
	b[20] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "days", aDay.String(), "1", "000001.sst"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "store")
	done, s := restoredAt(t, dir, to, now, nil)
	if len(done.Copied) != 1 || len(done.Refused) != 2 || !strings.Contains(strings.Join(done.Refused, " "), "--keys") || len(s.Runs()) != 1 {
		t.Errorf("%+v, %v", done, s.Runs())
	}
	// What lies there under the same number is not written over, nor what is fresh.
	if err := os.WriteFile(filepath.Join(to, "days", (aDay+1).String(), "1", contentsFile), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, to)
	if done, _ := restoredAt(t, dir, to, now, nil); len(done.Copied) != 0 || len(done.Refused) != 3 || fingerprint(t, to) != before {
		t.Errorf("%+v", done)
	}
	other := newLab(t, t.TempDir(), testOptions())
	other.put(KindSessions, aDay, "not merged yet")
	other.close()
	if done, _ := restoredAt(t, dir, other.dir, now, nil); len(done.Copied) != 0 || !strings.Contains(strings.Join(done.Refused, " "), "same number") {
		t.Errorf("%+v", done)
	}
	if _, err := Restore(context.Background(), dir, l.dir, RestoreOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("an open store: %v", err)
	}
	if _, err := Restore(context.Background(), dir, to, RestoreOptions{Gateway: "gw-2"}); !errors.Is(err, ErrOther) {
		t.Errorf("another gateway's: %v", err)
	}
	if _, err := Restore(context.Background(), t.TempDir(), to, RestoreOptions{}); !errors.Is(err, ErrNotStore) {
		t.Errorf("no backup: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"format":1,"parts":{"days/../../x/1":{}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(context.Background(), dir, to, RestoreOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a manifest that leads elsewhere: %v", err)
	}
}

func TestABackupToWhereItCannotBeIsRefused(t *testing.T) {
	l := twoRuns(t)
	c := l.s.Catalogue()
	c.Gateway = "gw-1"
	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(context.Background(), c, strange, nil); !errors.Is(err, ErrNotStore) {
		t.Errorf("a directory of something else: %v", err)
	}
	dir := t.TempDir()
	l.backUp(dir)
	c.Gateway = "gw-2"
	if _, err := Backup(context.Background(), c, dir, nil); !errors.Is(err, ErrOther) {
		t.Errorf("another gateway's: %v", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() //nolint:errcheck // a test's
	c.Gateway = "gw-1"
	if _, err := Backup(context.Background(), c, dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("two at once: %v", err)
	}
}

func TestWhatGoesWhileABackupIsMadeIsLeftOut(t *testing.T) {
	l := twoRuns(t)
	c := l.s.Catalogue()
	c.Gateway = "gw-1"
	if err := errors.Join(l.s.DestroyKeys(aDay), l.s.DestroyBlocks(aDay), l.s.DestroyHold(7)); err != nil {
		t.Fatal(err)
	}
	b, err := Backup(context.Background(), c, filepath.Join(t.TempDir(), "backup"), nil)
	if err != nil || len(b.Gone) != 2 || len(b.Copied) != 1 {
		t.Errorf("%+v %v", b, err)
	}
}

func TestAReleasedHoldGoesFromTheBackup(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	l.backUp(dir)
	if err := l.s.DestroyHold(7); err != nil {
		t.Fatal(err)
	}
	c := l.s.Catalogue()
	c.Gateway, c.Released = "gw-1", []uint64{7}
	b, err := Backup(context.Background(), c, dir, nil)
	if err != nil || !slices.Equal(b.Removed, []string{"holds/7"}) {
		t.Errorf("%+v %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "holds", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzManifest(f *testing.F) {
	for _, s := range []string{"", "{}", `{"format":1,"parts":{"days/2026-11-21/1":{"sha256":"00","files":{"a":{"size":1}}}}}`, `{"format":1,"parts":{"holds/../1":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		const dir = "/a/store"
		for name := range m.Parts { // none leads out of a store
			if at := filepath.Join(dir, name); !strings.HasPrefix(at, filepath.Join(dir, daysDir)+"/") && !strings.HasPrefix(at, filepath.Join(dir, holdsDir)+"/") {
				t.Errorf("%q", name)
			}
		}
	})
}

func FuzzHold(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":7,"first_day":"2026-11-21","last_day":"2026-11-21","blocks":["00"]}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHold(text)
		if err != nil {
			return
		}
		if first, last := h.Days(); first < 0 || last < 0 || len(h.Blocks) == 0 {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzKeysBackup(f *testing.F) {
	f.Add([]byte(`{"format":1,"gateway":"gw-1","keys":[{"day":"2026-11-21","epoch":1,"wrapped":"YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IA=="}]}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ParseKeysBackup(text)
		if err != nil {
			return
		}
		for _, k := range b.Keys {
			if _, ok := parseDay(k.Day); !ok && k.Hold == 0 {
				t.Errorf("%+v", k)
			}
		}
	})
}
