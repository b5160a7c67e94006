package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// at has do called when the store comes to a failpoint the next time.
func at(t *testing.T, name string, do func()) {
	t.Helper()
	if !slices.Contains(failpoints, name) {
		t.Fatalf("there is no failpoint %q", name)
	}
	old := failpoint
	t.Cleanup(func() { failpoint = old })
	failpoint = func(at string) {
		if at == name {
			failpoint = old
			do()
		}
	}
}

// destroy destroys a day as the agent does.
func (l *lab) destroy(day session.Day) {
	l.t.Helper()
	if err := errors.Join(l.s.DestroyKeys(day), l.s.DestroyBlocks(day)); err != nil {
		l.t.Error(err)
	}
}

// TestAMarkThatIsNotWholeIsNone: the runs that it was to name have no names, and
// were undone.
func TestAMarkThatIsNotWholeIsNone(t *testing.T) {
	for what, text := range map[string]string{"empty": "", "cut within a day": "2026-1", "cut before its end": aDay.String()} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "one")
			m := l.beginMerge(nil)
			if err := m.Abort(); err != nil {
				t.Fatal(err)
			}
			l.close()
			if err := os.WriteFile(filepath.Join(m.from.dir, mergedMark), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			l.open(testOptions())
			l.wantAll("after a start", "one")
			if h := l.s.Health(); h.Blocks != 1 || h.SetAside+h.Lost+h.Broken != 0 {
				t.Errorf("%+v", h)
			}
			l.merge(nil)
			l.wantAll("merged", "one")
		})
	}
}

func TestAMarkThatCannotBeReadKeepsTheStoreShutAndChangesNothing(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	m := l.beginMerge(nil)
	finishRuns(t, m)
	l.close()
	mark := filepath.Join(m.from.dir, mergedMark)
	if err := os.Mkdir(mark, 0o700); err != nil { // reading it fails, as a disk would
		t.Fatal(err)
	}
	if s, err := Open(l.dir, testOptions()); err == nil {
		t.Error(errors.Join(errors.New("opened"), s.Close()))
	}
	if _, err := os.Stat(m.runs[aDay].dir); err != nil {
		t.Errorf("the run that it may name: %v", err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	l.open(testOptions())
	l.wantAll("when it is gone", "one")
}

func TestADayThatIsDestroyedWhileItIsMergedStaysDestroyed(t *testing.T) {
	for _, point := range []string{"", "contents written", "mark written", "merge marked"} {
		t.Run(point, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "one")
			l.put(KindSessions, aDay, "two")
			l.put(KindSessions, aDay+1, "tomorrow")
			rows := l.s.Rows()
			m := l.beginMerge(joined)
			if point == "" {
				l.destroy(aDay)
			} else {
				at(t, point, func() { l.destroy(aDay) })
			}
			runs, err := m.Commit()
			if err != nil { // its directory went before its run was whole; nothing is lost
				runs = l.merge(joined)
			}
			if len(runs) != 1 || runs[0].Day != aDay+1 {
				t.Errorf("runs: %+v", runs)
			}
			if got := l.s.Rows(); got != rows {
				t.Errorf("%d records were put, not %d", got, rows)
			}
			l.onlyTomorrow()
			l.close()
			l.open(testOptions())
			l.onlyTomorrow()
		})
	}
}

func (l *lab) onlyTomorrow() {
	l.t.Helper()
	l.wantAll("what is left", "tomorrow")
	if kept := l.s.Kept(); !slices.Equal(kept, []session.Day{aDay + 1}) {
		l.t.Errorf("kept: %v", kept)
	}
	if _, err := os.Stat(l.s.dayDir(aDay)); !errors.Is(err, fs.ErrNotExist) {
		l.t.Errorf("its directory: %v", err)
	}
	l.check()
}

// TestADayThatWasDestroyedBeforeAKillInAMergeDoesNotKeepTheStoreShut: the mark
// names a run that is not there any more.
func TestADayThatWasDestroyedBeforeAKillInAMergeDoesNotKeepTheStoreShut(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay+1, "tomorrow")
	m := l.beginMerge(joined)
	finishRuns(t, m)
	if err := m.mark(); err != nil {
		t.Fatal(err)
	}
	l.destroy(aDay)
	l.close() // killed here
	l.open(testOptions())
	l.onlyTomorrow()
}

// TestARunThatWentAloneKeepsTheStoreShut: its day has a key, so it was not
// destroyed, and what stands for it must not go.
func TestARunThatWentAloneKeepsTheStoreShut(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	m := l.beginMerge(joined)
	finishRuns(t, m)
	if err := m.mark(); err != nil {
		t.Fatal(err)
	}
	l.close()
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(m.runs[aDay].dir, away); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(l.dir, testOptions()); err == nil {
		t.Error(errors.Join(errors.New("opened"), s.Close()))
	} else if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `remove "fresh/1/MERGED"`) {
		t.Error(err)
	}
	if err := os.Rename(away, m.runs[aDay].dir); err != nil {
		t.Fatal(err)
	}
	l.open(testOptions())
	l.wantAll("when it is back", "one")
}

func TestAMergeThatCannotBeMarkedIsGivenUpAndTheStoreGoesOn(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	m := l.beginMerge(joined)
	inTheWay := filepath.Join(m.from.dir, mergedMark+".new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil { // writing it fails, as on a full disk
		t.Fatal(err)
	}
	if runs, err := m.Commit(); err == nil {
		t.Errorf("merged: %v", runs)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, daysDir, "*", unfinished+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	l.put(KindSessions, aDay, "two")
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	l.merge(joined)
	l.merge(joined)
	l.wantAll("merged", "one", "two")
}

func TestADiskThatHangsWhileRunsGetTheirNamesIsReported(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	m := l.beginMerge(joined)
	var h Health
	at(t, "run named", func() { h = l.s.Health() })
	if _, err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	if h.Busy.IsZero() {
		t.Error("nothing is said to wait for the disk")
	}
	if h := l.s.Health(); !h.Busy.IsZero() {
		t.Errorf("afterwards: %v", h.Busy)
	}
}

// TestANameThatIsThereIsMadeDurableToo takes all file descriptors away, so that
// what cannot be synced is an error.
func TestANameThatIsThereIsMadeDurableToo(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.merge(nil)
	l.close() // nothing else opens a file now
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err := l.s.nameRun(aDay, 1)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("it was not synced: %v", err)
	}
	if err := l.s.nameRun(aDay, 1); err != nil {
		t.Error(err)
	}
}

// TestADiskThatFailsForAMomentLosesNothing: it does so while it is merged, and
// what is merged goes.
func TestADiskThatFailsForAMomentLosesNothing(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	text := strings.Repeat("session ", 40)
	b := l.put(KindSessions, aDay, text)
	l.put(KindSessions, aDay, "another")
	l.close()
	l.open(testOptions()) // it lies in a table now
	f, off := onDisk(t, l.dir, b)
	overwrite(t, f, off, []byte("X"))
	m, err := l.s.Merge()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Blocks(t.Context(), func(_ vault.Place, b Sealed) error { return m.Put(slices.Clone(b)) }); !errors.Is(err, ErrDamaged) {
		t.Errorf("while it fails: %v", err)
	}
	if err := m.Abort(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, f, off, b[:1])
	l.merge(nil)
	l.wantAll("afterwards", text, "another")
	if h := l.s.Health(); h.Lost != 0 {
		t.Errorf("%+v", h)
	}
}

func TestADayWhoseBlocksAreAllLostIsKeptUntilItIsDestroyed(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.put(KindSessions, aDay, strings.Repeat("session ", 40))
	l.close()
	f, off := onDisk(t, l.dir, b)
	overwrite(t, f, off, []byte("X"))
	l.open(testOptions())
	l.merge(nil)
	for k := range l.s.keys { // as after a kill between its keys and its blocks
		if err := os.Remove(filepath.Join(l.s.keysDir(), k.file())); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	l.open(testOptions())
	if kept := l.s.Kept(); !slices.Equal(kept, []session.Day{aDay}) {
		t.Errorf("kept: %v", kept)
	}
	if bad, err := l.s.Check(context.Background(), nil); err != nil || !slices.ContainsFunc(bad, func(p Problem) bool { return p.Seq == 0 && errors.Is(p, ErrDamaged) }) {
		t.Errorf("check: %v %v", bad, err)
	}
	if days := l.s.Expired((aDay + 9).Start(), 3); !slices.Equal(days, []session.Day{aDay}) {
		t.Errorf("expired: %v", days)
	}
	l.destroy(aDay)
	if _, err := os.Stat(l.s.dayDir(aDay)); !errors.Is(err, fs.ErrNotExist) || len(l.s.Kept()) > 0 {
		t.Errorf("%v %v", l.s.Kept(), err)
	}
}

func TestAFreshDatabaseThatCannotBeBegunLeavesNothingAndTheOldOneGoesOn(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	away := filepath.Join(t.TempDir(), "away")
	for _, c := range []struct {
		point string
		harm  func(dir string) error
	}{
		{"fresh directory made", func(dir string) error { return os.Mkdir(filepath.Join(dir, "MANIFEST"), 0o700) }},
		{"fresh database made", func(dir string) error { return os.Rename(dir, away) }},
	} {
		at(t, c.point, func() {
			if err := c.harm(l.s.freshPath(l.s.number)); err != nil {
				t.Error(err)
			}
		})
		if n, err := l.s.Turn(Ripe{}); err == nil || n != 0 {
			t.Errorf("%s: %d %v", c.point, n, err)
		}
		if left, err := numbers(l.s.freshDir()); err != nil || len(left) != 1 {
			t.Errorf("%s: left %v %v", c.point, left, err)
		}
	}
	f, err := os.Open(away)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), f.Close()); err != nil {
		t.Errorf("it is still open: %v", err)
	}
	l.put(KindSessions, aDay, "two")
	l.merge(nil)
	l.wantAll("in the end", "one", "two")
}

// TestABlockWhoseDatabaseGoesBetweenFindingAndReadingItIsLookedForAgain holds a
// reader up between the two, and has its database merged.
func TestABlockWhoseDatabaseGoesBetweenFindingAndReadingItIsLookedForAgain(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.put(KindRegister, aDay, "page")
	m := l.beginMerge(nil)
	finishRuns(t, m)
	if err := m.mark(); err != nil {
		t.Fatal(err)
	}
	m.over = true
	l.s.shelves.mu.Lock()
	found := make(chan error, 1)
	go func() { // ends when it may read
		got, err := l.s.Block(KindRegister, aDay, l.epoch, 0)
		if err == nil && !bytes.Equal(got, b) {
			err = errors.New("it is another one")
		}
		found <- err
	}()
	for stacks := make([]byte, 1<<20); !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "shelves).pin"); {
		runtime.Gosched()
	}
	err := m.swap()
	m.from.gone = true
	l.s.shelves.close(m.from)
	l.s.shelves.mu.Unlock()
	if err := errors.Join(err, <-found, l.s.removeDir(m.from.dir)); err != nil {
		t.Error(err)
	}
}

func TestAStartThatWasBrokenOffInBadgersFirstWriteIsNoDamage(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.close()
	dir := l.s.freshPath(99)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"LOCK": "1\n", "MANIFEST-REWRITE": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.open(testOptions())
	if h := l.s.Health(); h.SetAside != 0 || h.Waiting != 1 || len(l.s.Harm(math.MinInt64, math.MaxInt64)) > 0 {
		t.Errorf("%+v %v", h, l.s.Harm(math.MinInt64, math.MaxInt64))
	}
	l.wantAll("beside it", "one")
}

func TestAFirstStartThatFailedAnywhereCanBeMadeAgain(t *testing.T) {
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "VERSION.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil { // the last step fails
		t.Fatal(err)
	}
	o := testOptions()
	if s, err := Open(dir, o); err == nil {
		t.Fatal(errors.Join(errors.New("opened"), s.Close()))
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	// What a restore that is broken off makes before VERSION.
	for _, name := range []string{holdsDir, coverDir, trashDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l := newLab(t, dir, o)
	l.put(KindSessions, aDay, "one")
	l.wantAll("the second start", "one")
}

func TestAKeyWhoseFileIsGoneDoesNotKeepTheOthers(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay+1, "two")
	l.keep(7)
	l.keep(8)
	for _, name := range []string{filepath.Join(l.s.keysDir(), keyName{aDay, l.epoch}.file()), filepath.Join(l.s.holdDir(7), holdKey)} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := l.s.WrappedKeys(); err != nil || len(w) != 1 || w[0].Day != aDay+1 {
		t.Errorf("%+v %v", w, err)
	}
	if b, err := l.s.BackUpKeys(); err != nil || len(b.Keys) != 2 || b.Keys[1].Hold != 8 {
		t.Errorf("%+v %v", b, err)
	}
	if f, err := l.s.Day(aDay); err != nil || len(f.Keys) != 1 || !f.Keys[0].Unreadable {
		t.Errorf("%+v %v", f, err)
	}
	l.close() // before the check, which would find them
}

// TestWhatABackupThatWasBrokenOffLeftOfADestroyedDayGoes: it is in no manifest.
func TestWhatABackupThatWasBrokenOffLeftOfADestroyedDayGoes(t *testing.T) {
	l, dir := twoRuns(t), filepath.Join(t.TempDir(), "backup")
	l.backUp(dir)
	left := filepath.Join(dir, daysDir, aDay.String(), unfinished+"9")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	l.destroy(aDay)
	if b := l.backUp(dir, aDay.String()); len(b.Removed) != 1 {
		t.Errorf("%+v", b)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// TestARunWhoseDirectoryGoesWhileItIsOpenedIsAnErrorAndNoPanic: its day is destroyed.
func TestARunWhoseDirectoryGoesWhileItIsOpenedIsAnErrorAndNoPanic(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	at(t, "run opened", func() {
		if err := os.RemoveAll(l.s.dayDir(aDay)); err != nil {
			t.Error(err)
		}
	})
	w, err := l.s.newRun(aDay, 1)
	if err == nil {
		_ = w.close()
		t.Fatal("a run without a directory")
	}
	l.put(KindSessions, aDay, "one")
	l.close()
}
