package identity

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

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

// At every operation on the disk it fails, once, twice or for good, or the
// program dies there. What Apply has confirmed is there afterwards; what it has
// not confirmed is confirmed when the source sends it again.
func TestTheDiskFailsAtEveryPoint(t *testing.T) {
	for _, lasts := range []int{0, 1, 2} {
		for n := 1; failAt(t, n, lasts) && !t.Failed(); n++ {
		}
	}
}

var diskEvents = []Event{
	ev(Start, "a", "anna", 10, "192.0.2.1"), ev(Start, "b", "bo", 20, "192.0.2.2"), ev(Start, "c", "carl", 30, "192.0.2.1"),
	ev(Stop, "b", "bo", 40, "192.0.2.2"), ev(Start, "d", "dora", 50, "192.0.2.4"),
}

// failAt has the disk fail from its n-th operation on, lasts times (0: until it
// is mended), and reports whether there were so many.
func failAt(t *testing.T, n, lasts int) bool {
	t.Helper()
	wanted := []string{"anna 192.0.2.1/32 10..30~", "bo 192.0.2.2/32 20..40", "carl 192.0.2.1/32 30..-", "dora 192.0.2.4/32 50..-"}
	disk, sink, clock, dir := &faulty{}, &testSink{}, &testClock{}, t.TempDir()
	opts := Options{Sink: sink, MaxLog: 400, Clock: clock.Now}
	b, err := open(dir, opts, disk)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	disk.from(n, lasts)
	confirmed := make([]bool, len(diskEvents))
	for i, e := range diskEvents {
		confirmed[i] = b.Apply(context.Background(), []Event{e}) == nil
		clock.set(float64(100 * (i + 1)))
		b.Flush(context.Background()) // fails with the disk
	}
	reached := disk.ops >= n
	disk.from(0, 0)

	// The program died here: what was confirmed is known, or is with the sink.
	c := openTest(t, copyDir(t, dir), opts)
	checkConfirmed(t, confirmed, NewReader(append(c.everything(), sink.got()...), ReaderOptions{}))
	c.Close()

	// It did not die, and the disk is mended.
	for i, e := range diskEvents {
		if err := b.Apply(context.Background(), []Event{e}); err != nil {
			t.Errorf("event %d again: %v", i, err)
		}
	}
	c = openTest(t, copyDir(t, dir), opts)
	want(t, "confirmed in the end, and then a crash", c.InForce(), wanted[2:]...)
	c.Close()
	clock.set(1000)
	if err := b.Flush(context.Background()); err != nil {
		t.Errorf("flush on the mended disk: %v", err)
	}
	want(t, "in memory", b.everything(), wanted...)
	b.Close()
	c = openTest(t, dir, opts)
	want(t, "after the restart", NewReader(append(c.everything(), sink.got()...), ReaderOptions{}).everything(), wanted...)
	c.Close()
	if t.Failed() {
		t.Errorf("operation %d failed %d times (0: until mended)", n, lasts)
	}
	return reached
}

// checkConfirmed fails when the reader does not know a start or stop that was
// confirmed.
func checkConfirmed(t *testing.T, confirmed []bool, r *Reader) {
	t.Helper()
	for i, e := range diskEvents {
		if !confirmed[i] {
			continue
		}
		a := addr(e.Leases[0].Prefix.Addr().String())
		if x, ok := bindingAt(r, a, 0, e.At); e.Kind == Start && (!ok || x.Subscriber != e.Subscriber) {
			t.Errorf("start %d was confirmed and is lost", i)
		}
		if x, ok := bindingAt(r, a, 0, e.At-1); e.Kind == Stop && (!ok || x.To != e.At || x.Certainty&session.ToInferred != 0) {
			t.Errorf("stop %d was confirmed and is lost", i)
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
