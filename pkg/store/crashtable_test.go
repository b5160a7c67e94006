package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

func init() { children["live"] = liveForEver }

// liveForEver does all that a store does, for ever: it puts, begins fresh
// databases, merges, and destroys the oldest of its days; it makes holds, and
// destroys the oldest of these. It says what it has been promised: "put day epoch
// number", "destroyed day", "held number" and "released number". With a failpoint it
// kills itself there the n-th time that it comes to it.
func liveForEver() error {
	a := childArgs()
	dir, recipient := a[0], a[1]
	if len(a) > 3 {
		name, left := a[2], 0
		if _, err := fmt.Sscan(a[3], &left); err != nil {
			return err
		}
		name = string(bytes.ReplaceAll([]byte(name), []byte("_"), []byte(" ")))
		failpoint = func(at string) {
			if at == name {
				if left--; left < 0 {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
		}
	}
	s, err := Open(dir, testOptions())
	if err != nil {
		return err
	}
	v, err := vault.New([]string{recipient}, vault.Options{Keys: s})
	if err != nil {
		return err
	}
	fmt.Println("open")
	w := &liver{s: s, v: v, recipient: recipient, epoch: s.NewEpoch()}
	for i := 0; ; i++ {
		if err := errors.Join(w.turn(i), w.hold(i)); err != nil {
			return err
		}
	}
}

type liver struct {
	s     *Store
	v     *vault.Vault
	epoch uint64

	recipient string
}

// hold makes a hold now and then, and destroys the oldest of more than two.
func (w *liver) hold(i int) error {
	switch list, _ := w.s.Holds(); {
	case i%9 == 3:
		id := w.epoch*1000 + uint64(i)
		key, blocks, err := sealHold(w.recipient, id, KindHold, KindHoldSessions)
		if err == nil {
			_, err = w.s.AddHold(id, key, blocks)
		}
		if err != nil {
			return err
		}
		fmt.Println("held", id)
	case i%9 == 8 && len(list) > 2:
		if err := w.s.DestroyHold(list[0].ID); err != nil {
			return err
		}
		fmt.Println("released", list[0].ID)
	}
	return nil
}

func (w *liver) turn(i int) error {
	newest := aDay
	if kept := w.s.Kept(); len(kept) > 0 {
		newest = kept[len(kept)-1]
	}
	if i%12 == 11 {
		newest++
	}
	for _, day := range []session.Day{newest, max(newest-1, aDay)} {
		p := vault.Place{Gateway: "gw-1", Kind: uint8(KindSessions), Day: int32(day), Epoch: w.epoch, Seq: w.s.NextSeq(KindSessions, day, w.epoch), Count: 1}
		b, err := w.v.Seal(nil, p, bytes.Repeat([]byte{byte(p.Seq)}, 100+i*977%30_000))
		switch {
		case errors.Is(err, ErrExpired), errors.Is(err, vault.ErrForgotten):
			continue
		case err != nil:
			return err
		}
		if err := w.s.Put(b); err != nil {
			return err
		}
		fmt.Println("put", int32(day), w.epoch, p.Seq)
	}
	if i%5 == 4 {
		if _, err := w.s.Turn(Ripe{}); err != nil {
			return err
		}
		if err := w.copyOver(); err != nil {
			return err
		}
	}
	if i%7 == 6 { // the same key once more: what is inside is not asked here
		keys, err := w.s.WrappedKeys()
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := w.s.ReplaceKey(keys[0], sha256.Sum256(keys[0].Wrapped)); err != nil {
			return err
		}
	}
	if kept := w.s.Kept(); len(kept) > 3 {
		day := kept[0]
		w.v.Forget(int32(day))
		if err := errors.Join(w.s.DestroyKeys(day), w.s.DestroyBlocks(day)); err != nil {
			return err
		}
		fmt.Println("destroyed", int32(day))
	}
	return nil
}

// copyOver takes over what waits, as it is.
func (w *liver) copyOver() error {
	for {
		m, err := w.s.Merge()
		if errors.Is(err, ErrNothing) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := m.Blocks(context.Background(), func(_ vault.Place, b Sealed) error { return m.Put(slices.Clone(b)) }); err != nil {
			return errors.Join(err, m.Abort())
		}
		if _, err := m.Commit(); err != nil {
			return err
		}
	}
}

// promises are what a store said that it had done.
type promises struct {
	put       map[shelf]map[uint32]bool
	destroyed map[session.Day]bool
	holds     map[uint64]bool // whether they are to be there
}

func newPromises() *promises {
	return &promises{map[shelf]map[uint32]bool{}, map[session.Day]bool{}, map[uint64]bool{}}
}

func (p *promises) hear(t *testing.T, line string) {
	t.Helper()
	var day session.Day
	var epoch uint64
	var seq uint32
	if line == "open" {
		return
	}
	if n, _ := fmt.Sscanf(line, "put %d %d %d", &day, &epoch, &seq); n == 3 {
		sh := shelf{KindSessions, day, epoch}
		if p.put[sh] == nil {
			p.put[sh] = map[uint32]bool{}
		}
		p.put[sh][seq] = true
		return
	}
	if n, _ := fmt.Sscanf(line, "held %d", &epoch); n == 1 {
		p.holds[epoch] = true
		return
	}
	if n, _ := fmt.Sscanf(line, "released %d", &epoch); n == 1 {
		p.holds[epoch] = false
		return
	}
	if n, _ := fmt.Sscanf(line, "destroyed %d", &day); n != 1 {
		t.Fatalf("the child says %q", line)
	}
	p.destroyed[day] = true
}

// kept checks that the promises were kept, and that the store is consistent.
func (p *promises) kept(t *testing.T, l *lab) {
	t.Helper()
	oldest := session.Day(0)
	if kept := l.s.Kept(); len(kept) > 0 {
		oldest = kept[0] // those before it were destroyed, whether that could be said or not
	}
	l.check()
	have := map[shelf]map[uint32]int{}
	keys := l.keys()
	err := l.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(at vault.Place, b Sealed) error {
		if _, _, err := keys[keyName{session.Day(at.Day), at.Epoch}].Open(nil, b); err != nil {
			return err
		}
		sh := shelfOf(at)
		if have[sh] == nil {
			have[sh] = map[uint32]int{}
		}
		have[sh][at.Seq]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for sh, list := range p.put {
		for seq := range list {
			switch n := have[sh][seq]; {
			case p.destroyed[sh.day] && n > 0:
				t.Errorf("block %d of %s is there, and its day was destroyed", seq, sh)
			case !p.destroyed[sh.day] && n != 1 && sh.day >= oldest:
				t.Errorf("block %d of %s is there %d times", seq, sh, n)
			}
		}
	}
}

// held checks the promises about holds. The oldest may have been destroyed although
// that could not be said.
func (p *promises) held(t *testing.T, l *lab) {
	t.Helper()
	list, bad := l.s.Holds()
	if len(bad) > 0 {
		t.Errorf("holds that cannot be read: %v", bad)
	}
	there := map[uint64]bool{}
	for i := range list {
		there[list[i].ID] = true
		if kept, said := p.holds[list[i].ID]; said && !kept {
			t.Errorf("hold %d is there, and was destroyed", list[i].ID)
		}
	}
	for id, kept := range p.holds {
		if kept && !there[id] {
			if len(list) < 2 || id > list[0].ID {
				t.Errorf("hold %d is not there", id)
			}
			p.holds[id] = false
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, trashDir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// killed runs the child until stop says so, or it kills itself.
func (p *promises) killed(t *testing.T, l *lab, args []string, stop func(lines int) bool) {
	t.Helper()
	cmd := child("live", append([]string{l.dir, l.pair.Recipient}, args...)...)
	n := 0
	if err := lines(cmd, func(line string) bool {
		p.hear(t, line)
		n++
		return !stop(n)
	}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	err := cmd.Wait()
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		t.Fatalf("the child failed: %v", err)
	}
}

// goOn opens the store again and finishes the destruction that may have been
// broken off, as the agent does at its start.
func (p *promises) goOn(t *testing.T, l *lab) {
	t.Helper()
	l.open(testOptions())
	for kept := l.s.Kept(); len(kept) > 3; kept = l.s.Kept() {
		if err := errors.Join(l.s.DestroyKeys(kept[0]), l.s.DestroyBlocks(kept[0])); err != nil {
			t.Fatal(err)
		}
		p.destroyed[kept[0]] = true
	}
	p.kept(t, l)
	p.held(t, l)
}

func TestAKillAtEachFailpointKeepsAllPromises(t *testing.T) {
	for _, name := range failpoints {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, filepath.Join(t.TempDir(), "store"), testOptions())
			p := newPromises()
			for round := range 2 {
				l.close()
				died := true
				p.killed(t, l, []string{string(bytes.ReplaceAll([]byte(name), []byte(" "), []byte("_"))), fmt.Sprint(round * 2)},
					func(lines int) bool { died = lines < 400; return !died })
				if !died {
					t.Fatal("it never came to the failpoint")
				}
				p.goOn(t, l)
			}
		})
	}
}

func TestAKillAtRandomMomentsKeepsAllPromises(t *testing.T) {
	rounds := 25
	if os.Getenv("EDGELOG_LONG") != "" {
		rounds = 1000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	l := newLab(t, filepath.Join(t.TempDir(), "store"), testOptions())
	p := newPromises()
	for range rounds {
		l.close()
		after := 1 + r.IntN(40)
		p.killed(t, l, nil, func(lines int) bool { return lines >= after })
		p.goOn(t, l)
	}
	total := 0
	for _, list := range p.put {
		total += len(list)
	}
	t.Logf("%d kills, %d blocks promised, %d days destroyed", rounds, total, len(p.destroyed))
}
