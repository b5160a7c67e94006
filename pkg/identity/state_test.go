package identity

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
	want(t, "the sealed record", NewReader(sink.got(), ReaderOptions{}).everything(), "anna 192.0.2.1/32 10..50", "anna 2001:db8::/56 10..50",
		"bo 192.0.2.2/32 20..30", "carl 192.0.2.3/32 35..-")
}

// What the snapshot leaves out is written whole when it changes after all.
func TestASessionThatChangesAfterItsSnapshot(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{}
	b := openTest(t, dir, Options{Sink: sink, MaxLog: 1})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Stop, "a", "anna", 20, "192.0.2.1"))
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(b.absent) != 1 {
		t.Fatalf("%d sessions are left out", len(b.absent))
	}
	apply(t, b, ev(Interim, "a", "anna", 15, "192.0.2.1", "2001:db8::1"))
	want(t, "before", b.everything(), "anna 192.0.2.1/32 10..20", "anna 2001:db8::1/128 15~..20~")
	b.Close()
	b = openTest(t, dir, Options{Sink: sink})
	want(t, "after the restart", b.everything(), "anna 192.0.2.1/32 10..20", "anna 2001:db8::1/128 15~..20~")
}

func TestARestartReportedAfterTheSnapshot(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{}
	b := openTest(t, dir, Options{Sink: sink, MaxLog: 1})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Stop, "a", "anna", 20, "192.0.2.1"))
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	apply(t, b, on(15))
	b.Close()
	b = openTest(t, dir, Options{Sink: sink})
	want(t, "after the restart", b.everything(), "anna 192.0.2.1/32 10..15~", "anna 192.0.2.1/32 20~..20")
	if n := b.Stats().NotSealed; n != 2 {
		t.Errorf("%d corrected bindings wait for the sink", n)
	}
}

// reentrantSink has an event come in while it works.
type reentrantSink struct {
	testSink
	do func()
}

func (s *reentrantSink) PutBindings(ctx context.Context, b []session.Binding) error {
	if do := s.do; do != nil {
		s.do = nil
		do()
	}
	return s.testSink.PutBindings(ctx, b)
}

func TestWhatChangesDuringAHandOverIsHandedOverLater(t *testing.T) {
	dir, sink := t.TempDir(), &reentrantSink{}
	b := openTest(t, dir, Options{Sink: sink})
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"))
	sink.do = func() { apply(t, b, ev(Stop, "a", "anna", 20, "192.0.2.1")) }
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b = openTest(t, dir, Options{Sink: sink})
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, "handed over", sink.got(), "anna 192.0.2.1/32 10..-", "anna 192.0.2.1/32 10..20")
}

// A session that lost one of its prefixes to another does not get it back when
// only the other is left out of the snapshot.
func TestALostPrefixStaysLostAfterARestart(t *testing.T) {
	dir, sink := t.TempDir(), &testSink{}
	opts := Options{Sink: sink, MaxLog: 1}
	b := openTest(t, dir, opts)
	apply(t, b, ev(Start, "b", "bo", 5, "192.0.2.1", "2001:db8::/56"), ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Stop, "a", "anna", 20, "192.0.2.1"))
	for range 3 {
		if err := b.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.Close()
		b = openTest(t, dir, opts)
		want(t, "after a restart", b.InForce(), "bo 2001:db8::/56 5..-")
	}
}

// whileSnapshot calls do once when a snapshot is begun.
type whileSnapshot struct {
	osFiles
	do func()
}

func (w *whileSnapshot) create(path string, header []byte) (file, error) {
	if strings.HasSuffix(path, extTmp) && w.do != nil {
		do := w.do
		w.do = nil
		do()
	}
	return w.osFiles.create(path, header)
}

func TestEventsThatComeWhileASnapshotIsWritten(t *testing.T) {
	dir, files, sink := t.TempDir(), &whileSnapshot{}, &testSink{}
	clock := &testClock{}
	clock.set(1000)
	b, err := open(dir, Options{Sink: sink, MaxLog: 1, Clock: clock.Now}, files)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, b, ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Start, "c", "carl", 10, "192.0.2.3"))
	files.do = func() {
		apply(t, b, ev(Stop, "a", "anna", 20, "192.0.2.1"), ev(Start, "b", "bo", 30, "192.0.2.2"))
	}
	if err := b.Flush(context.Background()); err != nil || files.do != nil {
		t.Fatalf("%v; the snapshot was not written", err)
	}
	b.Close()
	b = openTest(t, dir, Options{Sink: sink})
	want(t, "after the restart", b.everything(), "anna 192.0.2.1/32 10..20", "bo 192.0.2.2/32 30..-", "carl 192.0.2.3/32 10..-")
	if err := b.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, "the sealed record", NewReader(sink.got(), ReaderOptions{}).everything(), "anna 192.0.2.1/32 10..20", "bo 192.0.2.2/32 30..-", "carl 192.0.2.3/32 10..-")
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
				if x, ok := b.At(addr(ip), 0, sec(11)); !ok || x.Subscriber() != name {
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
	for _, x := range NewReader(sink.got(), ReaderOptions{}).everything() {
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
