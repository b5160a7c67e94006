package store

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/vault"
)

// keep makes a hold of two blocks of sessions and one of bindings.
func (l *lab) keep(id uint64) Hold {
	l.t.Helper()
	key, blocks := l.sealHold(id, KindHold, KindHoldSessions, KindHoldSessions, KindHoldBindings)
	h, err := l.s.AddHold(id, key, blocks)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

type keyTaker struct{ key []byte }

func (k *keyTaker) SaveKey(_ int32, _ uint64, wrapped []byte) error { k.key = wrapped; return nil }

// sealHold seals blocks of these kinds under a key of their own.
func (l *lab) sealHold(id uint64, kinds ...Kind) (key []byte, blocks []Sealed) {
	l.t.Helper()
	key, blocks, err := sealHold(l.pair.Recipient, id, kinds...)
	if err != nil {
		l.t.Fatal(err)
	}
	return key, blocks
}

func sealHold(recipient string, id uint64, kinds ...Kind) (key []byte, blocks []Sealed, err error) {
	taker := &keyTaker{}
	v, err := vault.New([]string{recipient}, vault.Options{Keys: taker})
	if err != nil {
		return nil, nil, err
	}
	defer v.Close() //nolint:errcheck // a test's
	for i, k := range kinds {
		from := int64(aDay) * 24 * anHour
		b, err := v.Seal(nil, vault.Place{Gateway: "gw-1", Kind: uint8(k), Day: int32(aDay), Epoch: id, Seq: uint32(i), From: from, To: from + 24*anHour - 1, Count: 2}, []byte("row"))
		if err != nil {
			return nil, nil, err
		}
		blocks = append(blocks, b)
	}
	return taker.key, blocks, nil
}

// held returns how many blocks of holds are delivered, and the error.
func (l *lab) held() (n int, err error) {
	holds, _ := l.s.Holds()
	for i := range holds {
		err = errors.Join(err, l.s.ScanHold(context.Background(), &holds[i], func(vault.Place, Sealed) error { n++; return nil }, KindHold, KindHoldSessions, KindHoldBindings))
	}
	return n, err
}

func TestAHoldOutlivesItsDayAndIsDestroyedKeyFirst(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.put(KindSessions, aDay, "a session")
	l.merge(joined)
	h := l.keep(7)
	if h.Sessions != 4 || h.Bindings != 2 || h.First != aDay.String() || h.Last != aDay.String() {
		t.Errorf("%+v", h)
	}
	if err := errors.Join(l.s.DestroyKeys(aDay), l.s.DestroyBlocks(aDay)); err != nil {
		t.Fatal(err)
	}
	l.close()
	l.open(testOptions())
	if n, err := l.held(); n != 4 || err != nil {
		t.Errorf("%d blocks, %v", n, err)
	}
	list, _ := l.s.Holds()
	if len(list) != 1 || list[0].Hash() != h.Hash() {
		t.Errorf("%+v", list)
	}
	if err := l.s.DestroyHold(7); err != nil {
		t.Fatal(err)
	}
	if err := l.s.DestroyHold(7); !errors.Is(err, ErrMissing) {
		t.Errorf("destroyed twice: %v", err)
	}
	if _, err := l.s.HoldKey(7); !errors.Is(err, ErrMissing) {
		t.Errorf("its key: %v", err)
	}
	l.close()
	l.open(testOptions())
	if list, bad := l.s.Holds(); len(list)+len(bad) > 0 {
		t.Errorf("after a start: %v %v", list, bad)
	}
}

func TestAHoldThatWasAlteredIsFound(t *testing.T) {
	other := func(l *lab) []byte {
		_, blocks := l.sealHold(8, KindHold, KindHoldSessions)
		return blocks[1]
	}
	write := func(name string, b []byte) error { return os.WriteFile(name, b, 0o600) }
	for what, c := range map[string]struct {
		damage func(l *lab, dir string) error
		left   int // blocks that are still delivered
	}{
		"a bit of a block": {func(l *lab, dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "1.block"))
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 1
			return write(filepath.Join(dir, "1.block"), b)
		}, 3},
		"a block is cut":    {func(l *lab, dir string) error { return os.Truncate(filepath.Join(dir, "2.block"), 60) }, 3},
		"a block is gone":   {func(l *lab, dir string) error { return os.Remove(filepath.Join(dir, "3.block")) }, 3},
		"the first is gone": {func(l *lab, dir string) error { return os.Remove(filepath.Join(dir, "0.block")) }, 3},
		"blocks are swapped": {func(l *lab, dir string) error {
			one, two := filepath.Join(dir, "1.block"), filepath.Join(dir, "2.block")
			return errors.Join(os.Rename(one, one+"x"), os.Rename(two, one), os.Rename(one+"x", two))
		}, 2},
		"one of another hold":    {func(l *lab, dir string) error { return write(filepath.Join(dir, "1.block"), other(l)) }, 3},
		"one too many":           {func(l *lab, dir string) error { return write(filepath.Join(dir, "4.block"), other(l)) }, 4},
		"its key is gone":        {func(l *lab, dir string) error { return os.Remove(filepath.Join(dir, holdKey)) }, 4},
		"its key is noise":       {func(l *lab, dir string) error { return write(filepath.Join(dir, holdKey), []byte("noise")) }, 4},
		"its facts are gone":     {func(l *lab, dir string) error { return os.Remove(filepath.Join(dir, holdFile)) }, 0},
		"its facts are cut":      {func(l *lab, dir string) error { return os.Truncate(filepath.Join(dir, holdFile), 100) }, 0},
		"it has another number":  {func(l *lab, dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), "9")) }, 0},
		"it is of a newer store": {func(l *lab, dir string) error { return write(filepath.Join(dir, holdFile), []byte(`{"format":2}`)) }, 0},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "a session")
			l.keep(7)
			l.close()
			if err := c.damage(l, l.s.holdDir(7)); err != nil {
				t.Fatal(err)
			}
			l.open(testOptions())
			if bad, err := l.s.Check(context.Background(), nil); err != nil || len(bad) == 0 {
				t.Errorf("check: %v %v", bad, err)
			}
			n, err := l.held()
			if n != c.left || err != nil && !errors.Is(err, ErrDamaged) || err == nil && n != 4 && n != 0 {
				t.Errorf("%d blocks are delivered, %v", n, err)
			}
			l.wantAll("beside it", "a session")
			l.close()
		})
	}
}

func TestWhatIsNoHoldIsNotKept(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.keep(7)
	key, blocks := l.sealHold(8, KindHold, KindHoldSessions)
	for what, c := range map[string]struct {
		id     uint64
		key    []byte
		blocks []Sealed
		is     error
	}{
		"of another number": {9, key, blocks, ErrTurn},
		"out of order":      {8, key, []Sealed{blocks[1], blocks[0]}, ErrTurn},
		"the first missing": {8, key, blocks[1:], ErrTurn},
		"without sessions":  {8, key, blocks[:1], ErrBlock},
		"without blocks":    {8, key, nil, ErrBlock},
		"without a key":     {8, nil, blocks, ErrNoKey},
		"a block of a day":  {8, key, []Sealed{blocks[0], l.seal(l.place(KindSessions, aDay), nil)}, ErrTurn},
		"until after 9999":  {8, key, []Sealed{blocks[0], until(l, 1<<58)}, ErrBlock},
		"until for ever":    {8, key, []Sealed{blocks[0], until(l, math.MaxInt64)}, ErrBlock},
	} {
		if _, err := l.s.AddHold(c.id, c.key, c.blocks); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", what, err)
		}
	}
	key, blocks = l.sealHold(7, KindHold, KindHoldSessions)
	if _, err := l.s.AddHold(7, key, blocks); !errors.Is(err, ErrKeyKnown) {
		t.Errorf("one that is there: %v", err)
	}
	if list, bad := l.s.Holds(); len(list) != 1 || len(bad) > 0 {
		t.Errorf("%v %v", list, bad)
	}
}

// until returns a block of sessions that end when nobody can write down.
func until(l *lab, ms int64) Sealed {
	l.t.Helper()
	v, err := vault.New([]string{l.pair.Recipient}, vault.Options{Keys: &keyTaker{}})
	if err != nil {
		l.t.Fatal(err)
	}
	defer v.Close() //nolint:errcheck // a test's
	b, err := v.Seal(nil, vault.Place{Gateway: "gw-1", Kind: uint8(KindHoldSessions), Day: int32(aDay), Epoch: 8, Seq: 1, From: 0, To: ms, Count: 2}, []byte("row"))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func TestAHoldThatWasBrokenOffIsNone(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.keep(7)
	l.keep(8)
	l.close()
	// A kill before the last step of making one, and behind the first of destroying one.
	if err := os.Rename(l.s.holdDir(7), filepath.Join(l.dir, holdsDir, unfinished+"7")); err != nil {
		t.Fatal(err)
	}
	trash := filepath.Join(l.dir, trashDir)
	if err := errors.Join(os.MkdirAll(trash, 0o700), os.Rename(l.s.holdDir(8), filepath.Join(trash, "holds-8"))); err != nil {
		t.Fatal(err)
	}
	l.open(testOptions())
	if list, bad := l.s.Holds(); len(list)+len(bad) > 0 {
		t.Errorf("%v %v", list, bad)
	}
	for _, pattern := range []string{"holds/*", "holds/.*", "trash/*"} {
		if left, _ := filepath.Glob(filepath.Join(l.dir, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	l.keep(7)
}

// TestADestructionOfAHoldThatFailsCanBeSaidAgain makes its key one that cannot be
// overwritten, as a disk would.
func TestADestructionOfAHoldThatFailsCanBeSaidAgain(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.keep(7)
	key := filepath.Join(l.s.holdDir(7), holdKey)
	if err := errors.Join(os.Remove(key), os.Mkdir(key, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := l.s.DestroyHold(7); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("the first time: %v", err)
	}
	if err := l.s.DestroyHold(7); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("it still fails: %v", err)
	}
	if err := os.Remove(filepath.Join(l.dir, trashDir, "holds-7", holdKey)); err != nil {
		t.Fatal(err)
	}
	if err := l.s.DestroyHold(7); err != nil {
		t.Errorf("the third time: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, trashDir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if list, bad := l.s.Holds(); len(list)+len(bad) > 0 {
		t.Errorf("%v %v", list, bad)
	}
	if err := l.s.DestroyHold(7); !errors.Is(err, ErrMissing) {
		t.Errorf("the fourth time: %v", err)
	}
}

// TestTheNextStartOverwritesTheKeyOfAHoldToo looks at the bytes under a second name.
func TestTheNextStartOverwritesTheKeyOfAHoldToo(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	l.keep(7)
	l.close()
	trash, second := filepath.Join(l.dir, trashDir), filepath.Join(l.dir, holdsDir, "second")
	if err := errors.Join(os.Link(filepath.Join(l.s.holdDir(7), holdKey), second), os.MkdirAll(trash, 0o700),
		os.Rename(l.s.holdDir(7), filepath.Join(trash, "holds-7"))); err != nil {
		t.Fatal(err)
	}
	l.open(testOptions())
	b, err := os.ReadFile(second)
	if err != nil || len(b) == 0 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("%d bytes %q, %v", len(b), b, err)
	}
}
