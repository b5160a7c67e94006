package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// testClock returns a clock that moves on by one millisecond each time it is
// read.
func testClock() func() time.Time {
	var mu sync.Mutex
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Millisecond)
		return now
	}
}

// reverse is a stand-in for encryption that a test can see through.
func reverse(b []byte) ([]byte, error) {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c ^ 0xff
	}
	return out, nil
}

// clock goes on when a ledger is opened again.
var clock = testClock()

func testOptions() Options {
	return Options{Origin: "ledger.example.net/gw1", Clock: clock, Seal: reverse}
}

// memoryDir returns a directory on a file system in memory, for the tests that
// write thousands of times and are about the order of steps, not the disk.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "edgelog-ledger-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func mustOpen(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func testEntry(i int64) Entry {
	return Entry{Kind: Intent, Fields: map[string]string{"number": fmt.Sprint(i)}, Payload: fmt.Appendf(nil, "payload %d", i)}
}

func mustAppend(t testing.TB, l *Ledger, n int) {
	t.Helper()
	for range n {
		want := l.Size()
		got, err := l.Append(t.Context(), testEntry(want))
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("Append returned index %d, want %d", got, want)
		}
	}
}

// fill appends n entries in batches, as n goroutines at once would.
func fill(t testing.TB, l *Ledger, n int) {
	t.Helper()
	for n > 0 {
		k := min(n, maxBatch)
		batch := make([]*waiting, k)
		for i := range batch {
			e := testEntry(l.Size() + int64(i))
			body, err := l.prepare(&e)
			if err != nil {
				t.Fatal(err)
			}
			batch[i] = &waiting{body: body}
		}
		l.turn <- struct{}{}
		_, err := l.commit(batch)
		<-l.turn
		if err != nil {
			t.Fatal(err)
		}
		n -= k
	}
}

// checkEntries demands that entries 0 to n-1 are the ones of testEntry.
func checkEntries(t testing.TB, l *Ledger, n int64) {
	t.Helper()
	records, err := l.Entries(t.Context(), 0, n)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(records)) != n {
		t.Fatalf("got %d entries, want %d", len(records), n)
	}
	for i, r := range records {
		e := testEntry(int64(i))
		sealed, _ := reverse(e.Payload)
		if r.Index != int64(i) || r.Kind != e.Kind || r.Fields["number"] != e.Fields["number"] || !bytes.Equal(r.Sealed, sealed) {
			t.Fatalf("entry %d came back as %+v", i, r)
		}
		if i > 0 && !r.Time.After(records[i-1].Time) {
			t.Fatalf("entry %d has time %v, the one before it %v", i, r.Time, records[i-1].Time)
		}
	}
}

func TestEntriesComeBackAsTheyWereAppended(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	if l.Size() != 0 {
		t.Fatalf("a new ledger has %d entries", l.Size())
	}
	mustAppend(t, l, 5)
	checkEntries(t, l, 5)
	fill(t, l, 600)
	checkEntries(t, l, 605)
	before := l.Checkpoint()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir)
	if got := l.Checkpoint(); got.Size != 605 || got.Root != before.Root || got.Origin != "ledger.example.net/gw1" {
		t.Fatalf("after opening again the checkpoint is %+v, want %+v", got, before)
	}
	if len(l.Repaired()) != 0 {
		t.Fatalf("Open repaired %q after a good end", l.Repaired())
	}
	mustAppend(t, l, 3)
	some, err := l.Entries(t.Context(), 254, 259)
	if err != nil || len(some) != 5 || some[0].Index != 254 || some[4].Fields["number"] != "258" {
		t.Fatalf("Entries(254, 259) = %v, %v", some, err)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTimesAreWholeMillisecondsInUTC(t *testing.T) {
	opt := testOptions()
	opt.Clock = func() time.Time {
		return time.Date(2026, 7, 1, 12, 0, 0, 123999999, time.FixedZone("CEST", 7200))
	}
	dir := t.TempDir()
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAppend(t, l, 1)
	raw, err := os.ReadFile(filepath.Join(dir, "tile/entries/000.p/1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"time":"2026-07-01T10:00:00.123Z","kind":"intent",`; !strings.HasPrefix(string(raw[2:]), want) {
		t.Fatalf("the entry on the disk is %q, want it to begin %q", raw[2:], want)
	}
}

func TestWhatNamesPeopleIsSealedBeforeItIsWritten(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	secret := []byte("case 4711 about a certain person")
	if _, err := l.Append(t.Context(), Entry{Kind: Intent, Payload: secret}); err != nil {
		t.Fatal(err)
	}
	names, err := l.disk.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, secret) {
			t.Errorf("%s holds the payload in the clear", name)
		}
	}
	r, err := l.Entries(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if opened, _ := reverse(r[0].Sealed); !bytes.Equal(opened, secret) {
		t.Fatalf("the sealed payload opens to %q", opened)
	}
}

func TestEntriesThatCannotBeKeptAreRefused(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	tooMany := map[string]string{}
	for i := range MaxFields + 1 {
		tooMany[fmt.Sprint("f", i)] = ""
	}
	unsealed := testOptions()
	unsealed.Seal = nil
	broke := testOptions()
	broke.Seal = func([]byte) ([]byte, error) { return nil, errors.New("no entropy") }
	cases := []struct {
		name  string
		opt   *Options
		entry Entry
		want  error
	}{
		{"no kind", nil, Entry{}, ErrInvalid},
		{"a kind that is not known", nil, Entry{Kind: "gossip"}, ErrInvalid},
		{"a field without a name", nil, Entry{Kind: Start, Fields: map[string]string{"": "x"}}, ErrInvalid},
		{"a field name with a space", nil, Entry{Kind: Start, Fields: map[string]string{"a b": "x"}}, ErrInvalid},
		{"a value that is not UTF-8", nil, Entry{Kind: Start, Fields: map[string]string{"a": "\xff"}}, ErrInvalid},
		{"too many fields", nil, Entry{Kind: Start, Fields: tooMany}, ErrInvalid},
		{"a payload of 64 KiB", nil, Entry{Kind: Start, Payload: make([]byte, 1<<16)}, ErrTooLarge},
		{"a payload and nothing to seal it with", &unsealed, Entry{Kind: Start, Payload: []byte("x")}, ErrSeal},
		{"a payload that cannot be sealed", &broke, Entry{Kind: Start, Payload: []byte("x")}, ErrSeal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := l
			if c.opt != nil {
				var err error
				if l, err = Open(t.TempDir(), *c.opt); err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			if _, err := l.Append(t.Context(), c.entry); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if l.Size() != 0 {
				t.Fatal("it is in the ledger all the same")
			}
		})
	}
}

func TestTheLargestEntryFits(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	empty := stamp(time.Time{}, mustEncode(t, &Entry{Kind: Start, Fields: map[string]string{"a": ""}}))
	e := Entry{Kind: Start, Fields: map[string]string{"a": strings.Repeat("x", MaxEntry-len(empty))}}
	if _, err := l.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	e.Fields["a"] += "x"
	if _, err := l.Append(t.Context(), e); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("one byte more: got %v, want ErrTooLarge", err)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustEncode(t *testing.T, e *Entry) []byte {
	t.Helper()
	b, err := e.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppendsAtTheSameTimeAreWrittenTogether(t *testing.T) {
	const writers, each = 40, 10
	l := mustOpen(t, t.TempDir())
	checkpoints := 0 // written under the turn
	l.disk.fault = func(op, name string) error {
		if op == "rename" {
			checkpoints++
		}
		return nil
	}
	l.turn <- struct{}{} // nobody writes until all wait
	var wg sync.WaitGroup
	seen := make([]bool, writers*each)
	var mu sync.Mutex
	for range writers {
		wg.Go(func() {
			for range each {
				i, err := l.Append(t.Context(), Entry{Kind: Gap})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[i] {
					t.Errorf("index %d was given twice", i)
				}
				seen[i] = true
				mu.Unlock()
			}
		})
	}
	waitForQueue(l, writers)
	<-l.turn
	wg.Wait()
	if l.Size() != writers*each {
		t.Fatalf("size is %d, want %d", l.Size(), writers*each)
	}
	if checkpoints > writers*each-writers+1 {
		t.Fatalf("%d checkpoints for %d entries, of which the first %d waited together", checkpoints, writers*each, writers)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitForQueue returns when n appends are waiting.
func waitForQueue(l *Ledger, n int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		l.mu.Lock()
		have := len(l.queue)
		l.mu.Unlock()
		if have >= n {
			return
		}
	}
}

func TestAnAppendThatIsCancelledWhileItWaitsIsNotWritten(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	l.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		_, err := l.Append(ctx, Entry{Kind: Start})
		got <- err
	}()
	waitForQueue(l, 1)
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	<-l.turn
	mustAppend(t, l, 1)
	checkEntries(t, l, 1)
}

func TestVerifyRunsBesideAppends(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	fill(t, l, 500)
	done := make(chan error)
	go func() {
		for range 60 {
			if _, err := l.Append(t.Context(), testEntry(l.Size())); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		if err := l.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkEntries(t, l, l.Size())
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			checkEntries(t, l, 560)
			return
		default:
		}
	}
}

func TestEntriesOutsideTheLedgerAreAnError(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	mustAppend(t, l, 3)
	for _, c := range [][2]int64{{-1, 2}, {0, 4}, {2, 1}} {
		if _, err := l.Entries(t.Context(), c[0], c[1]); !errors.Is(err, ErrRange) {
			t.Errorf("Entries(%d, %d): got %v, want ErrRange", c[0], c[1], err)
		}
	}
	if r, err := l.Entries(t.Context(), 3, 3); err != nil || len(r) != 0 {
		t.Errorf("Entries(3, 3) = %v, %v", r, err)
	}
}

func TestAClosedLedgerTakesNothing(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(t.Context(), Entry{Kind: Start}); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
}
