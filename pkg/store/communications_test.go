package store

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestCallsAndMailAreKeptBackedUpAndDestroyedLikeAllElse(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	for _, kind := range []Kind{KindCalls, KindMail} {
		if m, ok := kind.Merged(); ok || kind.Of() != kind || !kind.fresh() || !kind.known() || kind.held() {
			t.Errorf("kind %d is merged to %d", kind, m)
		}
		l.put(kind, aDay, "first")
		l.put(kind, aDay, "second")
		l.put(kind, aDay+1, "third")
	}
	l.put(KindSessions, aDay, "a session")
	l.put(KindSessions, aDay+1, "another")
	rows := l.s.Rows()
	want := func(s *lab, what string, want ...string) {
		t.Helper()
		for _, kind := range []Kind{KindCalls, KindMail} {
			if got, err := s.readAll(kind, math.MinInt64, math.MaxInt64); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, kind %d: %q, %v; want %q", what, kind, got, err, want)
			}
		}
	}
	want(l, "fresh", "first", "second", "third")
	l.merge(joined)
	want(l, "merged", "first", "second", "third")
	if l.s.Rows() != rows {
		t.Errorf("%d records, want %d", l.s.Rows(), rows)
	}
	if b, err := l.s.Block(KindMail, aDay, l.epoch, 1); err != nil || len(b) == 0 {
		t.Error(err)
	}
	to := t.TempDir() + "/backup"
	l.backUp(to)
	if err := errors.Join(l.s.DestroyKeys(aDay), l.s.DestroyBlocks(aDay)); err != nil {
		t.Fatal(err)
	}
	want(l, "a day later", "third")
	if err := l.s.SaveKey(int32(aDay), l.epoch+1, []byte("a wrapped key")); !errors.Is(err, ErrExpired) {
		t.Errorf("a day that was destroyed gets a key: %v", err)
	}
	if _, err := l.s.Block(KindCalls, aDay, l.epoch, 0); !errors.Is(err, ErrMissing) {
		t.Errorf("a block that was destroyed: %v", err)
	}
	for k := range l.keys() {
		if k.day == aDay {
			t.Error("a key of the day is left")
		}
	}
	l.close()
	l.open(testOptions())
	want(l, "after a restart", "third")
	l.put(KindCalls, aDay+1, "more")
	if got, err := l.readAll(KindCalls, math.MinInt64, math.MaxInt64); err != nil || !slices.Equal(got, []string{"third", "more"}) {
		t.Errorf("%q, %v", got, err)
	}
}
