package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

func init() { children["write"] = writeForEver }

// writeForEver puts blocks of many sizes, some of them several at once, on two
// days, and says each number when it has been acknowledged.
func writeForEver() error {
	dir, recipient := childArgs()[0], childArgs()[1]
	s, err := Open(dir, testOptions())
	if err != nil {
		return err
	}
	v, err := vault.New([]string{recipient}, vault.Options{Keys: s})
	if err != nil {
		return err
	}
	epoch := s.NewEpoch()
	for i := 0; ; i++ {
		day := aDay + session.Day(i%2)
		var blocks []Sealed
		first := s.NextSeq(KindSessions, day, epoch)
		for j := range uint32(i%3 + 1) {
			p := vault.Place{Gateway: "gw-1", Kind: uint8(KindSessions), Day: int32(day), Epoch: epoch, Seq: first + j, Count: 1}
			b, err := v.Seal(nil, p, bytes.Repeat([]byte{byte(first + j)}, 100+i*977%300_000))
			if err != nil {
				return err
			}
			blocks = append(blocks, b)
		}
		if err := s.Put(blocks...); err != nil {
			return err
		}
		fmt.Println(int32(day), epoch, int(first)+len(blocks))
	}
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	l := newLab(t, filepath.Join(t.TempDir(), "store"), testOptions())
	acked := map[shelf]uint32{}
	for round := range 6 {
		l.check()
		l.close()
		cmd := child("write", l.dir, l.pair.Recipient)
		n := 0
		err := lines(cmd, func(line string) bool {
			var day session.Day
			var epoch uint64
			var next uint32
			if _, err := fmt.Sscan(line, &day, &epoch, &next); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			acked[shelf{KindSessions, day, epoch}] = next
			n++
			return n < 15+round*23
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if n < 15 {
			t.Fatalf("only %d lines before the end", n)
		}
		l.open(testOptions())
		for sh, next := range acked {
			if got := l.s.NextSeq(sh.kind, sh.day, sh.epoch); got < next {
				t.Fatalf("round %d: %d blocks of %s, %d were acknowledged", round, got, sh, next)
			}
		}
	}
	got, err := l.readAll(KindSessions, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range acked {
		total += int(n)
	}
	if len(got) < total {
		t.Errorf("%d blocks opened, %d acknowledged", len(got), total)
	}
	t.Logf("%d blocks acknowledged in %d lives, %d there", total, 6, len(got))
}

// onDisk returns the file of Badger's tables that holds b, and where.
func onDisk(t *testing.T, dir string, b []byte) (file string, at int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "fresh", "*", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, b); at >= 0 {
			return f, at
		}
	}
	t.Fatal("the block is in no table")
	return "", 0
}

func overwrite(t *testing.T, file string, at int, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// problems returns what Check finds, by number of block.
func (l *lab) problems() map[int64]error {
	l.t.Helper()
	bad, err := l.s.Check(context.Background(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[int64]error{}
	for _, p := range bad {
		out[p.Seq] = p
	}
	return out
}

func TestADamagedBlockIsReportedAndAllOthersAreDelivered(t *testing.T) {
	plain := bytes.Repeat([]byte("session "), 40)
	for what, c := range map[string]struct {
		damage func(t *testing.T, l *lab, b []Sealed)
		bad    []int64 // that Check finds
		closed int     // blocks that are delivered but do not open
	}{
		"its beginning": {func(t *testing.T, l *lab, b []Sealed) {
			f, at := onDisk(t, l.dir, b[1])
			overwrite(t, f, at, []byte("X"))
		}, []int64{1}, 0},
		"its number": {func(t *testing.T, l *lab, b []Sealed) {
			f, at := onDisk(t, l.dir, b[1])
			overwrite(t, f, at+21, []byte{9})
		}, []int64{1}, 0},
		"its content": {func(t *testing.T, l *lab, b []Sealed) {
			f, at := onDisk(t, l.dir, b[1])
			overwrite(t, f, at+len(b[1])-40, []byte{b[1][len(b[1])-40] ^ 1})
		}, nil, 1},
		"two swapped": {func(t *testing.T, l *lab, b []Sealed) {
			f0, at0 := onDisk(t, l.dir, b[0])
			f1, at1 := onDisk(t, l.dir, b[1])
			overwrite(t, f0, at0, b[1])
			overwrite(t, f1, at1, b[0])
		}, []int64{0, 1}, 0},
		"two swapped and relabelled": {func(t *testing.T, l *lab, b []Sealed) {
			f0, at0 := onDisk(t, l.dir, b[0])
			f1, at1 := onDisk(t, l.dir, b[1])
			overwrite(t, f0, at0+60, b[1][60:])
			overwrite(t, f1, at1+60, b[0][60:])
		}, nil, 2},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			var blocks []Sealed
			for range 5 {
				blocks = append(blocks, l.put(KindSessions, aDay, string(plain)))
			}
			l.close()
			c.damage(t, l, blocks)
			l.open(testOptions())
			found := l.problems()
			if len(found) != len(c.bad)+1 || !errors.Is(found[-1], errSums) { // the table's sums tell of each of these
				t.Errorf("check found %v", found)
			}
			for _, seq := range c.bad {
				if found[seq] == nil {
					t.Errorf("check did not find block %d: %v", seq, found)
				}
			}
			l.delivered(5-len(c.bad), c.closed)
			l.close() // before the check at the end, which would find it again
		})
	}
}

// delivered scans all blocks and counts those that do not open.
func (l *lab) delivered(want, closed int) {
	l.t.Helper()
	w, err := l.s.WrappedKeys(aDay)
	if err != nil {
		l.t.Fatal(err)
	}
	k, err := vault.OpenKey(w[0].Wrapped, l.ids)
	if err != nil {
		l.t.Fatal(err)
	}
	n, shut := 0, 0
	err = l.s.Scan(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, func(_ vault.Place, b Sealed) error {
		n++
		if _, _, err := k.Open(nil, b); err != nil {
			shut++
		}
		return nil
	})
	if (want < 5) != (err != nil) || n != want || shut != closed {
		l.t.Errorf("%d blocks delivered, %d of them do not open, %v", n, shut, err)
	}
}

func TestAWrappedKeyThatIsGoneIsFound(t *testing.T) {
	for what, harm := range map[string]func(string) error{
		"gone":    os.Remove,
		"cleared": func(f string) error { return os.Truncate(f, 0) },
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, t.TempDir(), testOptions())
			l.put(KindSessions, aDay, "x")
			if err := harm(filepath.Join(l.dir, "keys", keyName{aDay, l.epoch}.file())); err != nil {
				t.Fatal(err)
			}
			if found := l.problems(); len(found) == 0 {
				t.Error("check found nothing")
			}
			l.close()
		})
	}
}

func TestABookThatIsDamagedIsNotBelieved(t *testing.T) {
	sh, b := shelf{KindSessions, aDay, 7}, book{first: 1, next: 3, bytes: 5, rows: 9, from: -1, to: 1}
	key := sh.bookKey()
	good := b.encode(key)
	if s2, b2, err := parseBook(key, good); err != nil || s2 != sh || b2 != b {
		t.Fatalf("%v %v %v", s2, b2, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 4
		if _, _, err := parseBook(key, bad); err == nil {
			t.Errorf("byte %d altered: believed", i)
		}
		if _, _, err := parseBook(key, good[:i]); err == nil {
			t.Errorf("cut to %d bytes: believed", i)
		}
	}
	if _, _, err := parseBook(shelf{KindSessions, aDay, 8}.bookKey(), good); err == nil {
		t.Error("the book of another epoch: believed")
	}
}

func FuzzBook(f *testing.F) {
	sh := shelf{KindSessions, aDay, 7}
	b := book{next: 1}
	f.Add(sh.bookKey(), b.encode(sh.bookKey()))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		sh, b, err := parseBook(key, value)
		if err == nil && (!bytes.Equal(sh.bookKey(), key) || !bytes.Equal(b.encode(key), value)) {
			t.Fatal("read something else than was written")
		}
	})
}

func FuzzContents(f *testing.F) {
	c := contents{day: aDay, number: 3, entries: []entry{{shelf: shelf{KindSessions, aDay, 7}, seq: 4, rows: 2, size: 100, from: -5, to: 9}},
		merged: []stretch{{shelf{KindBindings, aDay, 7}, 0, 9, 12}}, lost: []entry{{shelf: shelf{KindLate, aDay, 7}}}}
	f.Add(c.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseContents(b)
		if err == nil && !bytes.Equal(c.encode(), b) {
			t.Fatal("read something else than was written")
		}
	})
}

func TestAListOfContentsThatIsDamagedIsNotBelieved(t *testing.T) {
	c := contents{day: aDay, number: 3, entries: []entry{{shelf: shelf{KindSessions, aDay, 7}, seq: 4, rows: 2, size: 100, from: -5, to: 9}},
		merged: []stretch{{shelf{KindBindings, aDay, 7}, 0, 9, 12}}}
	good := c.encode()
	if got, err := parseContents(good); err != nil || len(got.entries) != 1 || got.entries[0] != c.entries[0] || got.merged[0] != c.merged[0] {
		t.Fatalf("%+v %v", got, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 4
		if _, err := parseContents(bad); err == nil {
			t.Errorf("byte %d altered: believed", i)
		}
		if _, err := parseContents(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: believed", i)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add(keyName{aDay, 5}.file())
	f.Fuzz(func(t *testing.T, name string) {
		if k, ok := parseKeyFile(name); ok && k.file() != name {
			t.Fatalf("%q is written %q", name, k.file())
		}
	})
}
