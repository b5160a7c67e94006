package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The log is cut at every byte: what had been confirmed before that byte was
// written is there, and the torn rest is counted.
func TestALogCutAtEveryByteLosesNothingConfirmed(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{})
	log := theFile(t, dir, extLog)
	type point struct {
		size  int64
		state string
	}
	points := []point{{b.Stats().LogBytes, ""}}
	for i, e := range []Event{
		ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Start, "b", "bo", 20, "192.0.2.1"), on(30), ev(Stop, "b", "bo", 25, "192.0.2.1"),
	} {
		apply(t, b, e)
		points = append(points, point{b.Stats().LogBytes, show(b.everything())})
		if st, err := os.Stat(log); err != nil || st.Size() != points[i+1].size {
			t.Fatalf("size %v, %v", st.Size(), err)
		}
	}
	copied := copyDir(t, dir)
	b.Close()
	data, err := os.ReadFile(theFile(t, copied, extLog))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(data) + 1 {
		dir := copyDir(t, copied)
		if err := os.Truncate(theFile(t, dir, extLog), int64(n)); err != nil {
			t.Fatal(err)
		}
		b, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", n, len(data), err)
		}
		last := points[0]
		for _, p := range points {
			if p.size <= int64(n) {
				last = p
			}
		}
		if got := show(b.everything()); got != last.state {
			t.Errorf("cut at %d of %d:\n%s\nwant:\n%s", n, len(data), got, last.state)
		}
		torn := int64(n) - last.size
		if n < headerLen {
			torn = int64(n)
		}
		if got := b.Stats().TornBytes; got != uint64(torn) {
			t.Errorf("cut at %d: %d torn bytes counted, want %d", n, got, torn)
		}
		b.Close()
	}
}

func TestATailOfZerosIsTorn(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	b.Close()
	f, err := os.OpenFile(theFile(t, dir, extLog), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 5000))
	f.Close()
	b = openTest(t, dir, Options{})
	want(t, "after the crash", b.InForce(), "anna 192.0.2.1/32 10..-")
	if b.Stats().TornBytes != 5000 {
		t.Errorf("torn bytes: %d", b.Stats().TornBytes)
	}
}

// Every byte of every file is changed, one at a time: the book either opens
// with all it had, or says which file is broken and leaves all files alone.
func TestEveryChangedByteIsNoticed(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{Sink: &testSink{}, MaxLog: 1})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	apply(t, b, ev(Start, "b", "bo", 10, "192.0.2.2"))
	apply(t, b, ev(Start, "c", "carl", 10, "192.0.2.3"))
	b.Close()
	for _, ext := range []string{extKey, extSnap, extLog} {
		data, err := os.ReadFile(theFile(t, dir, ext))
		if err != nil {
			t.Fatal(err)
		}
		work := copyDir(t, dir)
		name := theFile(t, work, ext)
		for i := range data {
			bad := slices.Clone(data)
			bad[i] ^= 0x41
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(work, Options{})
			if !errors.Is(err, ErrState) {
				t.Fatalf("byte %d of %s changed: %v", i, name, err)
			}
			if s := err.Error(); !strings.Contains(s, name) || !strings.Contains(s, "move all files") {
				t.Fatalf("the error does not name the file and the remedy: %s", s)
			}
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(work, Options{})
		if err != nil {
			t.Fatalf("the right %s is back: %v", ext, err)
		}
		if n := len(b.InForce()); n != 3 {
			t.Errorf("%d bindings in force after the repair of %s", n, ext)
		}
		b.Close()
	}
}

func TestMissingAndForeignFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	b.Close()
	other := t.TempDir()
	openTest(t, other, Options{}).Close()
	for _, c := range []struct {
		name string
		do   func(dir string) (file string, err error)
	}{
		{"no key", func(d string) (string, error) { f := theFile(t, d, extKey); return f, os.Remove(f) }},
		{"no log", func(d string) (string, error) { f := theFile(t, d, extLog); return f, os.Remove(f) }},
		{"no snapshot", func(d string) (string, error) { return theFile(t, d, extLog), os.Remove(theFile(t, d, extSnap)) }},
		{"empty key", func(d string) (string, error) { f := theFile(t, d, extKey); return f, os.Truncate(f, 0) }},
		{"the key of another book", func(d string) (string, error) {
			f := theFile(t, d, extKey)
			k, err := os.ReadFile(theFile(t, other, extKey))
			return f, errors.Join(err, os.WriteFile(f, k, 0o600))
		}},
		{"a snapshot cut short", func(d string) (string, error) { f := theFile(t, d, extSnap); return f, os.Truncate(f, headerLen) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := copyDir(t, dir)
			file, err := c.do(d)
			if err != nil {
				t.Fatal(err)
			}
			before := listing(t, d)
			_, err = Open(d, Options{})
			if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v", err)
			}
			if after := listing(t, d); after != before {
				t.Errorf("files changed:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var sb strings.Builder
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sb, "%s %x\n", n, data)
	}
	return sb.String()
}

func TestAHoleOfZerosBeforeOtherFramesIsDamage(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	end := b.Stats().LogBytes
	apply(t, b, ev(Start, "b", "bo", 10, "192.0.2.2"))
	b.Close()
	name := theFile(t, dir, extLog)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[headerLen:end])
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrState) {
		t.Errorf("got %v: a confirmed event would be lost unsaid", err)
	}
}
