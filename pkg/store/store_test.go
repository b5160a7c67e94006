package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

const (
	aDay   = session.Day(20778)
	anHour = int64(3600_000)
)

func testOptions() Options {
	o := DefaultOptions()
	o.Create, o.MinFree, o.LowFree, o.Ballast = true, 1<<20, 2<<20, 1<<20
	o.Log = slog.New(slog.DiscardHandler)
	o.Now = func() time.Time { return time.UnixMilli(1763720000000) }
	return o
}

// lab is a store with a vault and a custodian.
type lab struct {
	t     testing.TB
	dir   string
	s     *Store
	v     *vault.Vault
	ids   *vault.Identities
	pair  vault.KeyPair
	epoch uint64
}

func newLab(t testing.TB, dir string, o Options) *lab {
	t.Helper()
	kp, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := vault.ParseIdentities(bytes.NewReader(kp.File()))
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: dir, ids: ids, pair: kp}
	l.open(o)
	t.Cleanup(func() { l.check(); l.close() })
	return l
}

// open opens the store, and a new epoch with it.
func (l *lab) open(o Options) {
	l.t.Helper()
	s, err := Open(l.dir, o)
	if err != nil {
		l.t.Fatal(err)
	}
	v, err := vault.New([]string{l.pair.Recipient}, vault.Options{Keys: s})
	if err != nil {
		l.t.Fatal(err)
	}
	l.s, l.v, l.epoch = s, v, s.NewEpoch()
}

func (l *lab) close() {
	l.t.Helper()
	if err := l.s.Close(); err != nil {
		l.t.Error(err)
	}
}

// check runs the consistency check, as after every test.
func (l *lab) check() {
	l.t.Helper()
	if l.s.closed {
		return
	}
	bad, err := l.s.Check(context.Background(), nil)
	if err != nil || len(bad) > 0 {
		l.t.Errorf("check: %v %v", bad, err)
	}
}

func (l *lab) place(kind Kind, day session.Day) vault.Place {
	from := int64(day) * 24 * anHour
	return vault.Place{Gateway: "gw-1", Kind: uint8(kind), Day: int32(day), Epoch: l.epoch,
		Seq: l.s.NextSeq(kind, day, l.epoch), From: from, To: from + anHour, Count: 3}
}

func (l *lab) seal(p vault.Place, plain []byte) Sealed {
	l.t.Helper()
	b, err := l.v.Seal(nil, p, plain)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func (l *lab) put(kind Kind, day session.Day, plain string) Sealed {
	l.t.Helper()
	b := l.seal(l.place(kind, day), []byte(plain))
	if err := l.s.Put(b); err != nil {
		l.t.Fatal(err)
	}
	return b
}

// readAll opens every block of kind in the window with the custodian's key.
func (l *lab) readAll(kind Kind, from, to int64) (out []string, err error) {
	l.t.Helper()
	keys := l.keys()
	err = l.s.Scan(context.Background(), kind, from, to, func(p vault.Place, b Sealed) error {
		_, plain, err := keys[keyName{session.Day(p.Day), p.Epoch}].Open(nil, b)
		if err != nil {
			return err
		}
		out = append(out, string(plain))
		return nil
	})
	return out, err
}

func TestWhatWasPutIsReadAfterAReopenWithTheCustodiansKey(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "one")
	l.put(KindSessions, aDay, "two")
	l.put(KindBindings, aDay, "binding")
	l.put(KindSessions, aDay+1, "three")
	first := l.epoch
	l.check()
	l.close()
	l.open(testOptions())
	if l.epoch <= first {
		t.Errorf("epoch %d after %d", l.epoch, first)
	}
	l.put(KindSessions, aDay, "four")
	got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
	if want := []string{"one", "two", "four", "three"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v", got, err)
	}
	got, err = l.readAll(KindBindings, math.MinInt64, math.MaxInt64)
	if want := []string{"binding"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v", got, err)
	}
	h := l.s.Health()
	if h.State != StateOK || h.Blocks != 5 || h.Rows != 15 || h.Oldest != aDay || h.Newest != aDay+1 || h.Keys != 3 || h.Ballast != 1<<20 || h.Err != nil {
		t.Errorf("health %+v", h)
	}
	if days := l.s.Days(KindSessions); !slices.Equal(days, []session.Day{aDay, aDay + 1}) {
		t.Errorf("days %v", days)
	}
	if w, err := l.s.WrappedKeys(aDay); err != nil || len(w) != 2 {
		t.Errorf("%d wrapped keys of the day, %v", len(w), err)
	}
}

func TestScanDeliversTheBlocksWhoseTimeMeetsTheWindow(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	day := func(d int) int64 { return (int64(aDay) + int64(d)) * 24 * anHour }
	for _, c := range []struct {
		name     string
		filed    int
		from, to int64
	}{
		{"morning", 0, day(0), day(0) + 9*anHour},
		{"noon", 0, day(0) + 9*anHour, day(0) + 15*anHour},
		{"long", 5, day(-30), day(5) + anHour}, // sessions that lasted for weeks
		{"late", 5, day(5), day(5) + anHour},
	} {
		p := l.place(KindSessions, aDay+session.Day(c.filed))
		p.From, p.To = c.from, c.to
		if err := l.s.Put(l.seal(p, []byte(c.name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what     string
		from, to int64
		want     []string
	}{
		{"everything", math.MinInt64, math.MaxInt64, []string{"morning", "noon", "long", "late"}},
		{"an instant in the morning", day(0) + anHour, day(0) + anHour, []string{"morning", "long"}},
		{"the instant where two meet", day(0) + 9*anHour, day(0) + 9*anHour, []string{"morning", "noon", "long"}},
		{"weeks before", day(-29), day(-28), []string{"long"}},
		{"before everything", day(-40), day(-30) - 1, nil},
		{"after everything", day(5) + anHour + 1, math.MaxInt64, nil},
		{"the last instant", day(5) + anHour, math.MaxInt64, []string{"long", "late"}},
	} {
		if got, err := l.readAll(KindSessions, c.from, c.to); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", c.what, got, err)
		}
	}
	if got, err := l.readAll(KindBindings, math.MinInt64, math.MaxInt64); err != nil || got != nil {
		t.Errorf("another kind: %q, %v", got, err)
	}
}

func TestScanStopsWhenItIsTold(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	for i := range 5 {
		l.put(KindSessions, aDay, fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := l.s.Scan(ctx, KindSessions, math.MinInt64, math.MaxInt64, func(vault.Place, Sealed) error {
		if n++; n == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 2 {
		t.Errorf("%d blocks, %v", n, err)
	}
	enough := errors.New("enough")
	if err := l.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(vault.Place, Sealed) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	// A scan sees what was there when it began, and does not hold up writing.
	n = 0
	err = l.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(vault.Place, Sealed) error {
		n++
		l.put(KindSessions, aDay, "more")
		return nil
	})
	if err != nil || n != 5 {
		t.Errorf("%d blocks, %v", n, err)
	}
}

func TestBlocksThatAreRefused(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "there")
	next := func(change func(*vault.Place)) vault.Place {
		p := l.place(KindSessions, aDay)
		change(&p)
		return p
	}
	big := make([]byte, MaxPlaintext)
	other := next(func(p *vault.Place) { p.Epoch += 7 })
	foreign := newLab(t, t.TempDir(), testOptions())
	foreign.epoch = other.Epoch
	for what, c := range map[string]struct {
		blocks []Sealed
		want   error
	}{
		"the same number again":    {[]Sealed{l.seal(next(func(p *vault.Place) { p.Seq = 0 }), nil)}, ErrTurn},
		"a part of a block":        {[]Sealed{aPart(t, l.seal(next(func(*vault.Place) {}), nil))}, ErrBlock},
		"a gap":                    {[]Sealed{l.seal(next(func(p *vault.Place) { p.Seq++ }), nil)}, ErrTurn},
		"two with one number":      {[]Sealed{l.seal(next(func(*vault.Place) {}), nil), l.seal(next(func(*vault.Place) {}), nil)}, ErrTurn},
		"a kind that is not known": {[]Sealed{l.seal(next(func(p *vault.Place) { p.Kind = 9 }), nil)}, ErrBlock},
		"kind 0":                   {[]Sealed{l.seal(next(func(p *vault.Place) { p.Kind = 0 }), nil)}, ErrBlock},
		"no block at all":          {[]Sealed{[]byte("EDGS?")}, ErrBlock},
		"a block cut short":        {[]Sealed{l.seal(next(func(*vault.Place) {}), nil)[:60]}, ErrBlock},
		"a key that was not saved": {[]Sealed{foreign.seal(other, nil)}, ErrNoKey},
		"one that is too large":    {[]Sealed{l.seal(next(func(p *vault.Place) { p.Gateway = string(make([]byte, 255)) }), make([]byte, MaxSealed))}, ErrTooLarge},
		"nothing":                  {nil, nil},
	} {
		if err := l.s.Put(c.blocks...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var many []Sealed
	for i := range 3 {
		many = append(many, l.seal(next(func(p *vault.Place) { p.Seq += uint32(i) }), big))
	}
	if err := l.s.Put(many...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("three large blocks: %v", err)
	}
	if l.s.Health().Err == nil {
		t.Error("health does not say what went wrong")
	}
	if n := l.s.NextSeq(KindSessions, aDay, l.epoch); n != 1 {
		t.Fatalf("%d blocks are counted: a refused one was written", n)
	}
	if err := l.s.Put(many[:2]...); err != nil {
		t.Fatalf("two blocks of the largest size: %v", err)
	}
	if h := l.s.Health(); h.Err != nil || h.Blocks != 3 {
		t.Errorf("health %+v", h)
	}
	// A day that is not one is refused by the key already.
	if _, err := l.v.Seal(nil, next(func(p *vault.Place) { p.Day = -1 }), nil); !errors.Is(err, ErrBlock) {
		t.Errorf("a negative day: %v", err)
	}
}

func TestWrappedKeysAreNeverOverwritten(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "x")
	if err := l.s.SaveKey(int32(aDay), l.epoch, []byte("another")); !errors.Is(err, ErrKeyKnown) {
		t.Errorf("%v", err)
	}
	entries, err := os.ReadDir(filepath.Join(l.dir, "keys"))
	if err != nil || len(entries) != 1 || entries[0].Name() != fmt.Sprintf("2026-11-21-%d.age", l.epoch) {
		t.Errorf("keys/ holds %v, %v", entries, err)
	}
	if got, err := l.readAll(KindSessions, 0, math.MaxInt64); err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
}

func TestNamesOfKeyFiles(t *testing.T) {
	for _, k := range []keyName{{0, 0}, {aDay, 1763720000123}, {lastDay, math.MaxUint64}} {
		if got, ok := parseKeyFile(k.file()); !ok || got != k {
			t.Errorf("%q is read as %+v", k.file(), got)
		}
	}
	for _, name := range []string{"", ".age", "2026-11-21-.age", "2026-11-21-1", "2026-11-21-01.age", "2026-13-21-1.age", "2026-11-21_1.age", "1969-12-31-1.age", "2026-11-21--1.age"} {
		if k, ok := parseKeyFile(name); ok {
			t.Errorf("%q is read as %+v", name, k)
		}
	}
	if lastDay.String() != "9999-12-31" {
		t.Errorf("the last day is %s", lastDay)
	}
}

func TestStoresThatAreNotOpened(t *testing.T) {
	whole := t.TempDir()
	l := newLab(t, whole, testOptions())
	l.put(KindSessions, aDay, "x")
	write := func(t *testing.T, name, text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	may, mayNot := testOptions(), testOptions()
	mayNot.Create = false
	for _, c := range []struct {
		what string
		dir  string
		o    Options
		want error
	}{
		{"a store that is open", whole, may, ErrInUse},
		{"no directory", filepath.Join(t.TempDir(), "none"), mayNot, ErrMissing},
		{"an empty directory", t.TempDir(), mayNot, ErrMissing},
		{"somebody's documents", write(t, "thesis.txt", "x"), may, ErrNotStore},
		{"a file", filepath.Join(write(t, "f", "x"), "f"), may, fs.ErrInvalid},
		{"a newer store", write(t, "VERSION", "edgelog store 3\n"), may, ErrNewer},
		{"a strange VERSION", write(t, "VERSION", "7\n"), may, ErrNotStore},
		{"a VERSION and nothing else", write(t, "VERSION", versionText), may, ErrDamaged},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := tree(t, c.dir)
			s, err := Open(c.dir, c.o)
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			if c.want != fs.ErrInvalid && !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
			if after := tree(t, c.dir); !slices.Equal(before, after) {
				t.Errorf("it was changed: %q, before %q", after, before)
			}
		})
	}
}

func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			names = append(names, p)
		}
		return nil
	})
	return names
}

func TestAStartThatWasBrokenOffIsGoneOnWith(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"keys", "fresh"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "VERSION.new"), []byte("edge"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, dir, testOptions())
	l.put(KindSessions, aDay, "x")
	l.close()
	if err := os.WriteFile(filepath.Join(dir, "keys", ".new-2026-11-21-5.age"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.open(testOptions())
	if got := len(tree(t, filepath.Join(dir, "keys"))); got != 2 {
		t.Errorf("%d names under keys/", got)
	}
}

func TestNothingIsDoneAfterClose(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	b := l.put(KindSessions, aDay, "x")
	l.close()
	l.close()
	if err := l.s.Put(b); !errors.Is(err, ErrTurn) && !errors.Is(err, ErrClosed) {
		t.Errorf("put: %v", err)
	}
	if err := l.s.SaveKey(1, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("save key: %v", err)
	}
	if err := l.s.Scan(context.Background(), KindSessions, 0, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("scan: %v", err)
	}
	if _, err := l.s.Check(context.Background(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("check: %v", err)
	}
	if h := l.s.Health(); h.State != StateStopped {
		t.Errorf("health %+v", h)
	}
}

func TestAfterAFailedFsyncNothingIsWrittenAndTheStateDoesNotSpeakOfSpace(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "x")
	good := l.s.fresh.names
	l.s.fresh.names, l.s.synced = os.NewFile(^uintptr(0)>>1, "gone"), time.Time{}
	b := l.seal(l.place(KindSessions, aDay), []byte("y"))
	if err := l.s.Put(b); err == nil {
		t.Fatal("a directory that cannot be synced was taken for synced")
	}
	l.s.fresh.names = good
	if err := l.s.Put(b); !errors.Is(err, ErrFailed) || strings.Contains(err.Error(), "check") {
		t.Errorf("put: %v", err)
	}
	if h := l.s.Health(); h.State != StateFailed || h.Err == nil || errors.Is(h.Err, ErrNoSpace) {
		t.Errorf("health %+v", h)
	}
	l.close()
	l.open(testOptions())
	if h := l.s.Health(); h.State == StateFailed || h.Err != nil {
		t.Errorf("after a new start: %+v", h)
	}
}

func TestKindsHaveTheNumbersOfTheBlocks(t *testing.T) {
	if uint8(KindSessions) != uint8(block.KindSessions) || uint8(KindBindings) != uint8(block.KindBindings) ||
		uint8(KindRegister) != uint8(block.KindRegister) || uint8(KindDirectory) != uint8(block.KindDirectory) {
		t.Error("the kinds of block and store differ")
	}
}

func TestDue(t *testing.T) {
	at := func(d session.Day, after time.Duration) time.Time { return d.Start().Add(after) }
	days := []session.Day{aDay, aDay - 1, aDay - 365, aDay - 366, aDay - 400, aDay - 400}
	for _, c := range []struct {
		what string
		now  time.Time
		keep int
		want []session.Day
	}{
		{"a year", at(aDay, 0), 365, []session.Day{aDay - 400, aDay - 366}},
		{"the last instant before midnight", at(aDay, 24*time.Hour-1), 365, []session.Day{aDay - 400, aDay - 366}},
		{"midnight", at(aDay+1, 0), 365, []session.Day{aDay - 400, aDay - 366, aDay - 365}},
		{"one day", at(aDay, 0), 1, []session.Day{aDay - 400, aDay - 366, aDay - 365}},
		{"no retention is no order to destroy", at(aDay, 0), 0, nil},
		{"nor is a negative one", at(aDay, 0), -1, nil},
		{"for ever", at(aDay, 0), math.MaxInt, nil},
		{"a clock that stands at 1970", time.Unix(0, 0), 365, nil},
	} {
		got := Due(days, c.now, c.keep)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
