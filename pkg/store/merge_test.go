package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// merge takes what is fresh over into runs: as it is, or, with join, the blocks
// of each kind, day and epoch as one whose plaintext join makes of theirs.
func (l *lab) merge(join func(plain []string) string) []Run {
	l.t.Helper()
	m := l.beginMerge(join)
	runs, err := m.Commit()
	if err != nil {
		l.t.Fatal(err)
	}
	return runs
}

// beginMerge does everything up to Commit.
func (l *lab) beginMerge(join func(plain []string) string) *Merge {
	l.t.Helper()
	if _, err := l.s.Turn(Ripe{}); err != nil {
		l.t.Fatal(err)
	}
	m, err := l.s.Merge()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := m.Blocks(context.Background(), func(vault.Place, Sealed) error { return nil }); err != nil && !errors.Is(err, ErrDamaged) {
		l.t.Fatal(err) // what is damaged is left out the second time
	}
	keys := l.keys()
	texts, order := map[shelf][]string{}, []vault.Place{}
	joinAll := func() {
		for _, p := range order {
			plain := join(texts[shelfOf(p)])
			kind, _ := Kind(p.Kind).Merged()
			p.Seq, p.Kind = m.NextSeq(kind, session.Day(p.Day), p.Epoch), uint8(kind)
			if err := m.Put(l.seal(p, []byte(plain))); err != nil {
				l.t.Fatal(err)
			}
		}
		order = nil
	}
	err = m.Blocks(context.Background(), func(p vault.Place, b Sealed) error {
		if len(order) > 0 && order[0].Day != p.Day {
			joinAll()
		}
		if _, ok := Kind(p.Kind).Merged(); !ok || join == nil {
			return m.Put(slices.Clone(b))
		}
		_, plain, err := keys[keyName{session.Day(p.Day), p.Epoch}].Open(nil, b)
		if len(texts[shelfOf(p)]) == 0 {
			order = append(order, p)
		}
		texts[shelfOf(p)] = append(texts[shelfOf(p)], string(plain))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	joinAll()
	return m
}

func (l *lab) keys() map[keyName]*vault.DayKey {
	l.t.Helper()
	wrapped, err := l.s.WrappedKeys()
	if err != nil {
		l.t.Fatal(err)
	}
	keys := map[keyName]*vault.DayKey{}
	for _, w := range wrapped {
		k, err := vault.OpenKey(w.Wrapped, l.ids)
		if err != nil {
			l.t.Fatal(err)
		}
		if k.Day() != int32(w.Day) || k.Epoch() != w.Epoch {
			l.t.Fatalf("key of day %d epoch %d under the name of %s %d", k.Day(), k.Epoch(), w.Day, w.Epoch)
		}
		keys[keyName{w.Day, w.Epoch}] = k
	}
	return keys
}

func (l *lab) wantAll(what string, want ...string) {
	l.t.Helper()
	got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
	if err != nil || !slices.Equal(got, want) {
		l.t.Errorf("%s: %q, %v; want %q", what, got, err, want)
	}
}

func joined(plain []string) string { return strings.Join(plain, "+") }

func TestWhatIsMergedStandsInThePlaceOfWhatWasFresh(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	for i := range 4 {
		l.put(KindSessions, aDay, fmt.Sprint("s", i))
		l.put(KindRegister, aDay, fmt.Sprint("r", i))
	}
	l.put(KindSessions, aDay+1, "tomorrow")
	rows := l.s.Rows()
	runs := l.merge(joined)
	l.wantAll("merged", "s0+s1+s2+s3", "tomorrow")
	if len(runs) != 2 || runs[0].Day != aDay || runs[0].Blocks != 5 || runs[1].Blocks != 1 {
		t.Errorf("runs: %+v", runs)
	}
	if left, _ := numbers(l.s.freshDir()); len(left) != 1 || l.s.Waiting() != 0 {
		t.Errorf("fresh: %v, waiting %d", left, l.s.Waiting())
	}
	l.put(KindSessions, aDay, "s4")
	l.wantAll("and more", "s0+s1+s2+s3", "s4", "tomorrow")
	if got := l.s.Rows(); got != rows+3 {
		t.Errorf("%d records, want %d", got, rows+3)
	}
	l.check()
	l.close()
	l.open(testOptions())
	l.wantAll("after a new start", "s0+s1+s2+s3", "s4", "tomorrow")
	if got := l.s.NextSeq(KindSessions, aDay, l.epoch-1); got != 5 {
		t.Errorf("the next number is %d", got)
	}
	if b, err := l.s.Block(KindRegister, aDay, l.epoch-1, 2); err != nil || b == nil {
		t.Errorf("a page of the register: %v", err)
	}
	l.merge(nil) // of the epoch before, as it is
	l.wantAll("copied", "s0+s1+s2+s3", "s4", "tomorrow")
}

func TestAMergeThatLosesABlockIsRefused(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	a, b := l.put(KindSessions, aDay, "a"), l.put(KindSessions, aDay, "b")
	c := l.put(KindBindings, aDay, "c")
	if _, err := l.s.Turn(Ripe{}); err != nil {
		t.Fatal(err)
	}
	for what, puts := range map[string][]Sealed{
		"nothing": nil, "one of two": {a, c}, "one kind": {a, b}, "out of order": {b, a, c},
	} {
		m, err := l.s.Merge()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range puts {
			err = errors.Join(err, m.Put(x))
		}
		_, committed := m.Commit()
		if err == nil && committed == nil {
			t.Errorf("%s: nobody minded", what)
		}
		l.wantAll(what, "a", "b")
		l.check()
	}
	m, err := l.s.Merge()
	if err != nil {
		t.Fatal(err)
	}
	p := l.place(KindSessions, aDay)
	if err := m.Put(l.seal(p, []byte("new"))); !errors.Is(err, ErrBlock) {
		t.Errorf("a block that was not there: %v", err)
	}
	p.Kind, p.Seq = uint8(KindSessionsMerged), 1
	if err := m.Put(l.seal(p, []byte("new"))); !errors.Is(err, ErrTurn) {
		t.Errorf("a number out of turn: %v", err)
	}
	if err := m.Abort(); err != nil {
		t.Error(err)
	}
	if err := l.s.Put(l.seal(p, []byte("merged"))); !errors.Is(err, ErrBlock) {
		t.Errorf("a merged block that was put: %v", err)
	}
}

// TestAKillAnywhereInAMergeLosesNothing cuts a merge off at each of its steps,
// as they lie on the disk, and starts again.
func TestAKillAnywhereInAMergeLosesNothing(t *testing.T) {
	for _, c := range []struct {
		what string
		cut  func(t *testing.T, l *lab, m *Merge)
	}{
		{"before the runs are whole", func(*testing.T, *lab, *Merge) {}},
		{"when they are whole", func(t *testing.T, l *lab, m *Merge) { finishRuns(t, m) }},
		{"when the fresh one is marked", func(t *testing.T, l *lab, m *Merge) {
			finishRuns(t, m)
			mark(t, m)
		}},
		{"when one of two has its name", func(t *testing.T, l *lab, m *Merge) {
			finishRuns(t, m)
			mark(t, m)
			if err := l.s.nameRun(aDay, m.from.number); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "a")
			l.put(KindSessions, aDay, "b")
			l.put(KindSessions, aDay+1, "c")
			m := l.beginMerge(joined)
			c.cut(t, l, m)
			l.close()
			for _, w := range m.runs {
				if w.db != nil {
					w.out.Cancel()
					if err := w.db.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.open(testOptions())
			got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
			if err != nil || strings.Join(got, "+") != "a+b+c" {
				t.Errorf("%q %v", got, err)
			}
			if left, err := filepath.Glob(filepath.Join(l.dir, "days", "*", ".new-*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func finishRuns(t *testing.T, m *Merge) {
	t.Helper()
	if err := m.account(); err != nil {
		t.Fatal(err)
	}
	for _, w := range m.runs {
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
	}
}

func mark(t *testing.T, m *Merge) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.from.dir, mergedMark), []byte(aDay.String()+"\n"+(aDay+1).String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABlockThatCannotBeReadWhenItIsMergedIsListedAsLost(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	var blocks []Sealed
	for i := range 4 {
		blocks = append(blocks, l.put(KindSessions, aDay, strings.Repeat(fmt.Sprint(i), 200)))
	}
	l.close()
	f, at := onDisk(t, l.dir, blocks[0])
	overwrite(t, f, at, []byte("X"))
	f, at = onDisk(t, l.dir, blocks[2])
	overwrite(t, f, at, []byte("X"))
	l.open(testOptions())
	l.merge(nil) // the second try
	got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
	if !errors.Is(err, ErrDamaged) || len(got) != 2 || got[0][0] != '1' || got[1][0] != '3' {
		t.Errorf("%.9q %v", got, err)
	}
	if found := l.problems(); found[0] == nil || found[2] == nil || len(found) != 2 {
		t.Errorf("check: %v", found)
	}
	l.close()
	l.open(testOptions())
	if h := l.s.Health(); h.Lost != 2 {
		t.Errorf("health: %+v", h)
	}
	l.close()
}

func TestAReaderGoesOnWhileItIsMerged(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	for i := range 3 {
		l.put(KindSessions, aDay, fmt.Sprint(i))
	}
	n := 0
	merged := make(chan error, 1)
	err := l.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(_ vault.Place, b Sealed) error {
		if n++; n == 1 {
			m := l.beginMerge(joined)
			go func() { // ends when the scan has
				_, err := m.Commit()
				merged <- err
			}()
			for l.s.Waiting() > 0 {
				runtime.Gosched()
			}
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("%d blocks, %v", n, err)
	}
	if err := <-merged; err != nil {
		t.Error(err)
	}
	l.wantAll("after it", "0+1+2")
}

func TestFreshDatabasesAreTurnedWhenTheyAreRipe(t *testing.T) {
	now := time.UnixMilli(1763720000000)
	o := testOptions()
	o.Now = func() time.Time { return now }
	l := newLab(t, t.TempDir(), o)
	turn := func(want int) {
		t.Helper()
		if n, err := l.s.Turn(Ripe{Records: 1000, Age: time.Hour}); n != want || err != nil {
			t.Errorf("%d wait, %v; want %d", n, err, want)
		}
	}
	turn(0)
	l.put(KindSessions, aDay, "x")
	now = now.Add(time.Hour - 1)
	turn(0)
	now = now.Add(1)
	turn(1)
	p := l.place(KindSessions, aDay)
	p.Count = 1000
	if err := l.s.Put(l.seal(p, []byte("many"))); err != nil {
		t.Fatal(err)
	}
	turn(2)
	for range 2 * mostWaiting {
		l.put(KindSessions, aDay, "x")
		if _, err := l.s.Turn(Ripe{}); err != nil {
			t.Fatal(err)
		}
	}
	turn(mostWaiting)
	for range mostWaiting {
		l.merge(nil)
	}
	l.merge(nil)
	turn(0)
}

func TestAMergeWritesOneDayAfterTheOther(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	var want []string
	for i := range 40 {
		day := aDay + session.Day(i%20)
		l.put(KindSessions, day, fmt.Sprint("s", i))
		l.put(KindCalls, day, fmt.Sprint("c", i))
		want = append(want, fmt.Sprint("c", i))
	}
	if _, err := l.s.Turn(Ripe{}); err != nil {
		t.Fatal(err)
	}
	m, err := l.s.Merge()
	if err != nil {
		t.Fatal(err)
	}
	last, first := session.Day(0), Sealed(nil)
	err = m.Blocks(t.Context(), func(p vault.Place, b Sealed) error {
		if session.Day(p.Day) < last {
			t.Errorf("a block of %s comes after those of %s", session.Day(p.Day), last)
		}
		if last = session.Day(p.Day); first == nil {
			first = slices.Clone(b)
		}
		err := m.Put(slices.Clone(b))
		open := 0
		for _, w := range m.runs {
			if w.db != nil {
				open++
			}
		}
		if open != 1 {
			t.Errorf("%d databases are open", open)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Put(first); !errors.Is(err, ErrTurn) {
		t.Errorf("a block of a day that is over: %v", err)
	}
	if runs, err := m.Commit(); err != nil || len(runs) != 20 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	got, err := l.readAll(KindCalls, math.MinInt64, math.MaxInt64)
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
