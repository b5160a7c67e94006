package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func theFile(t testing.TB, dir, ext string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "bindings-*"+ext))
	if err != nil || len(names) != 1 {
		t.Fatalf("files %q: %v, %v", ext, names, err)
	}
	return names[0]
}

func TestWhatWasInForceIsThereAfterARestart(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{}
	opts := Options{Sink: sink}
	b := openTest(t, dir, opts)
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1", "2001:db8::/56"), ev(Start, "b", "bo", 20, "192.0.2.2"),
		ev(Stop, "b", "bo", 30, "192.0.2.2"), ev(Interim, "c", "carl", 40, "192.0.2.3"))
	before := b.everything()
	b.Close()

	b = openTest(t, dir, opts)
	want(t, "from the log", b.everything(), strings.Split(show(before), "\n")...)
	if n := b.Stats().NotSealed; n != len(before) {
		t.Errorf("%d bindings wait for the sink, want all %d", n, len(before))
	}
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, "handed over", sink.got(), strings.Split(show(before), "\n")...)
	b.Close()

	b = openTest(t, dir, opts)
	want(t, "after the hand-over only what is in force", b.everything(),
		"anna 192.0.2.1/32 10..-", "anna 2001:db8::/56 10..-", "carl 192.0.2.3/32 40~..-")
	if n := b.Stats().NotSealed; n != 0 {
		t.Errorf("%d bindings would be handed over again", n)
	}
	apply(t, b, ev(Start, "b", "bo", 20, "192.0.2.2"))
	want(t, "a repetition of a start that was answered before the restart", b.InForce(),
		"anna 192.0.2.1/32 10..-", "anna 2001:db8::/56 10..-", "carl 192.0.2.3/32 40~..-")
	apply(t, b, ev(Start, "c", "carl", 35, "192.0.2.3"), ev(Stop, "a", "anna", 50, "192.0.2.1", "2001:db8::/56"))
	want(t, "it goes on as if nothing had been", b.InForce(), "carl 192.0.2.3/32 35..-")
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, "the sealed record", NewReader(sink.got()).everything(), "anna 192.0.2.1/32 10..50", "anna 2001:db8::/56 10..50",
		"bo 192.0.2.2/32 20..30", "carl 192.0.2.3/32 35..-")
}

func TestNothingOfWhatIsOverStaysOnDisk(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{Sink: &testSink{}, MaxLog: 1})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Stop, "a", "anna", 20, "192.0.2.1"), ev(Start, "b", "bo", 20, "192.0.2.2"))
	oldKey, err := os.ReadFile(theFile(t, dir, extKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(theFile(t, dir, extKey))
	if err != nil || bytes.Equal(key, oldKey) {
		t.Fatalf("the key is still the old one: %v", err)
	}
	st, err := os.Stat(theFile(t, dir, extKey))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v, %v", st.Mode(), err)
	}
	gens, err := b.generations()
	if err != nil || len(gens) != 1 {
		t.Fatalf("%v, %v", gens, err)
	}
	aead, err := openKey(key, gens[0].gen)
	if err != nil {
		t.Fatal(err)
	}
	var plain []byte
	for ext, kind := range map[string]byte{extSnap: kindSnap, extLog: kindLog} {
		if _, _, err := readFrames(theFile(t, dir, ext), aead, kind, gens[0].gen, func(d *decoder) error {
			plain = append(plain, d.b...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Contains(plain, []byte("anna")) || bytes.Contains(plain, []byte{192, 0, 2, 1}) {
		t.Error("the ended binding is still stored")
	}
	if !bytes.Contains(plain, []byte("bo")) {
		t.Error("the binding in force is not stored")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil || bytes.Contains(data, []byte("nas")) {
			t.Errorf("%s is not sealed (%v)", name, err)
		}
	}
}

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

func TestASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	b := openTest(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	b.Close()
	openTest(t, dir, Options{})
}

func TestAfterClose(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(context.Background(), []Event{ev(Start, "a", "anna", 10)}); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if err := b.Flush(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush: %v", err)
	}
}

// faulty fails the n-th operation on files from now on, and all after it until
// it is mended. With crash the failing write leaves half of its bytes.
type faulty struct {
	mu    sync.Mutex
	n     int // 0: nothing fails
	lasts int // how many fail; 0: all
	ops   int
}

var errDisk = errors.New("no space left on device")

func (f *faulty) op() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	if f.n == 0 || f.ops < f.n || f.lasts > 0 && f.ops >= f.n+f.lasts {
		return nil
	}
	return errDisk
}

func (f *faulty) from(n, lasts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.n, f.lasts = 0, n, lasts
}

func (f *faulty) create(path string, header []byte) (file, error) {
	if err := f.op(); err != nil {
		return nil, err
	}
	g, err := createFile(path, header)
	if err != nil {
		return nil, err
	}
	return &faultyFile{g, f}, nil
}

type faultyFile struct {
	*os.File
	f *faulty
}

func (g *faultyFile) Write(b []byte) (int, error) {
	if err := g.f.op(); err != nil {
		n, _ := g.File.Write(b[:len(b)/2])
		return n, err
	}
	return g.File.Write(b)
}

func (g *faultyFile) Sync() error {
	if err := g.f.op(); err != nil {
		return err
	}
	return g.File.Sync()
}

// At every operation on the disk it fails, once or for good, or the program
// dies there. What Apply has confirmed is there afterwards; what it has not
// confirmed is confirmed when the source sends it again.
func TestTheDiskFailsAtEveryPoint(t *testing.T) {
	events := []Event{
		ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Start, "b", "bo", 20, "192.0.2.2"), ev(Start, "c", "carl", 30, "192.0.2.1"),
		ev(Stop, "b", "bo", 40, "192.0.2.2"), ev(Start, "d", "dora", 50, "192.0.2.4"),
	}
	wanted := []string{"anna 192.0.2.1/32 10..30~", "bo 192.0.2.2/32 20..40", "carl 192.0.2.1/32 30..-", "dora 192.0.2.4/32 50..-"}
	for _, lasts := range []int{0, 1, 2} {
		for n := 1; ; n++ {
			disk, sink, dir := &faulty{}, &testSink{}, t.TempDir()
			clock := &testClock{}
			opts := Options{Sink: sink, MaxLog: 400, Clock: clock.Now}
			b, err := open(dir, opts, disk)
			if err != nil {
				t.Fatal(err)
			}
			disk.from(n, lasts)
			confirmed := make([]bool, len(events))
			for i, e := range events {
				confirmed[i] = b.Apply(context.Background(), []Event{e}) == nil
				clock.set(float64(100 * (i + 1)))
				b.Flush(context.Background()) // fails with the disk
			}
			reached := disk.ops >= n
			crashed := copyDir(t, dir)
			disk.from(0, 0)

			// The program died here: what was confirmed is known, or is with
			// the sink.
			os.Remove(filepath.Join(crashed, "lock"))
			c, err := Open(crashed, opts)
			if err != nil {
				t.Fatalf("operation %d fails %d times, after the crash: %v", n, lasts, err)
			}
			all := NewReader(append(c.everything(), sink.got()...))
			for i, ok := range confirmed {
				if x, found := all.At(addr(events[i].Leases[0].Prefix.Addr().String()), 0, events[i].At-1); ok && events[i].Kind == Start {
					x, found = all.At(addr(events[i].Leases[0].Prefix.Addr().String()), 0, events[i].At)
					if !found || x.Subscriber != events[i].Subscriber {
						t.Errorf("operation %d fails %d times: event %d was confirmed and is lost", n, lasts, i)
					}
				} else if ok && (!found || x.Certainty != 0 || x.To != events[i].At) {
					t.Errorf("operation %d fails %d times: stop %d was confirmed and is lost", n, lasts, i)
				}
			}
			c.Close()

			// It did not die, and the disk is mended.
			for i, e := range events {
				if err := b.Apply(context.Background(), []Event{e}); err != nil {
					t.Errorf("operation %d fails %d times, event %d again: %v", n, lasts, i, err)
				}
			}
			clock.set(1000)
			if err := b.Flush(context.Background()); err != nil {
				t.Errorf("operation %d fails %d times, flush on the mended disk: %v", n, lasts, err)
			}
			want(t, "in memory", b.everything(), wanted...)
			b.Close()
			c = openTest(t, dir, opts)
			want(t, "after the restart", NewReader(append(c.everything(), sink.got()...)).everything(), wanted...)
			c.Close()
			if t.Failed() || !reached {
				break
			}
		}
	}
}

func TestAFailingSinkLosesNothing(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{fail: io.ErrClosedPipe}
	b := openTest(t, dir, Options{Sink: sink, MaxLog: 1})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Stop, "a", "anna", 20, "192.0.2.1"))
	for range 3 {
		if err := b.Flush(context.Background()); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("got %v", err)
		}
	}
	if s := b.Stats(); s.NotSealed != 1 || s.SinkErrors != 3 {
		t.Errorf("stats: %+v", s)
	}
	b.Close()
	sink.fail = nil
	b = openTest(t, dir, Options{Sink: sink, MaxLog: 1})
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, "handed over after the restart", sink.got(), "anna 192.0.2.1/32 10..20")
	if s := b.Stats(); s.NotSealed != 0 || s.HandedOver != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestSnapshotsByAge(t *testing.T) {
	clock := &testClock{}
	clock.set(0)
	b := openTest(t, t.TempDir(), Options{Clock: clock.Now, MaxLogAge: time.Minute})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	for _, at := range []float64{30, 59, 61, 62} {
		clock.set(at)
		if err := b.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		want := uint64(1) // the one that Open makes
		if at > 60 {
			want = 2
		}
		if n := b.Stats().Snapshots; n != want {
			t.Errorf("at %v: %d snapshots, want %d", at, n, want)
		}
	}
}

// Many goroutines apply and ask while snapshots are made: every confirmed event
// is there after a restart, and no answer is of another subscriber.
func TestManyAtOnce(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{}
	b := openTest(t, dir, Options{Sink: sink, MaxLog: 4096})
	const workers, each = 8, 60
	var wg, flusher sync.WaitGroup
	stop := make(chan struct{})
	flusher.Go(func() { // ends when stop is closed
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := b.Flush(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				name, ip := fmt.Sprintf("sub-%d-%d", w, i), fmt.Sprintf("10.0.%d.%d", w, i)
				if err := b.Apply(context.Background(), []Event{ev(Start, name, name, 10, ip)}); err != nil {
					t.Error(err)
				}
				if x, ok := b.At(addr(ip), 0, sec(11)); !ok || x.Subscriber != name {
					t.Errorf("%s: %v", name, x)
				}
				if i%2 == 0 {
					if err := b.Apply(context.Background(), []Event{ev(Stop, name, name, 20, ip)}); err != nil {
						t.Error(err)
					}
				}
				b.Stats()
			}
		})
	}
	wg.Wait()
	close(stop)
	flusher.Wait()
	b.Close()
	b = openTest(t, dir, Options{Sink: sink})
	if n := len(b.InForce()); n != workers*each/2 {
		t.Errorf("%d in force after the restart, want %d", n, workers*each/2)
	}
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	closed := 0
	for _, x := range NewReader(sink.got()).everything() {
		if x.To != session.Forever && x.Certainty == 0 {
			closed++
		}
	}
	if closed != workers*each/2 {
		t.Errorf("%d ended bindings sealed, want %d", closed, workers*each/2)
	}
}

func TestApplyGivesUpWaitingWithItsContext(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{})
	b.token <- struct{}{} // somebody writes to a slow disk
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e := []Event{ev(Start, "a", "anna", 10, "192.0.2.1")}
	if err := b.Apply(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The same event again changes nothing, but must not be confirmed either.
	if err := b.Apply(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("the repetition was confirmed before the event was durable: %v", err)
	}
	<-b.token
	apply(t, b, e...)
}
