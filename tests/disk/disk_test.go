package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func open(t *testing.T) *Disk {
	t.Helper()
	d, err := Open(t.TempDir(), 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// put writes a file, and flushes it if asked to.
func put(t *testing.T, name string, content []byte, sync bool) error {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil || !sync {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func TestWhatWasFlushedOutlivesAPowerCutAndWhatWasNotDoesNot(t *testing.T) {
	d := open(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 20 {
		want := bytes.Repeat([]byte{byte(i + 1)}, 1+rng.IntN(1<<20))
		flushed, loose := filepath.Join(d.Dir(), fmt.Sprintf("flushed%d", i)), filepath.Join(d.Dir(), fmt.Sprintf("loose%d", i))
		if err := put(t, flushed, want, true); err != nil {
			t.Fatal(err)
		}
		if err := put(t, loose, want, false); err != nil {
			t.Fatal(err)
		}
		d.CutPower(rng, 0)
		if err := put(t, filepath.Join(d.Dir(), "late"), want, true); err == nil {
			t.Fatal("a disk without power says that it has flushed")
		}
		if err := d.Power(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(flushed); err != nil || !bytes.Equal(got, want) {
			t.Errorf("round %d: %d bytes were flushed, %d are there: %v", i, len(want), len(got), err)
		}
		if got, err := os.ReadFile(loose); err == nil && bytes.Equal(got, want) {
			t.Errorf("round %d: what was never flushed is there all the same, so this disk proves nothing", i)
		}
	}
}

func TestAStalledDiskFlushesNothingUntilItGoesOn(t *testing.T) {
	d := open(t)
	goOn := d.Stall()
	_, before := d.Counts()
	done := make(chan error, 1)
	go func() { done <- put(t, filepath.Join(d.Dir(), "file"), []byte("late"), true) }()
	for !d.Waiting() && len(done) == 0 {
		runtime.Gosched()
	}
	if len(done) > 0 {
		t.Fatalf("a stalled disk flushed: %v", <-done)
	}
	if _, now := d.Counts(); now != before {
		t.Error("a stalled disk counts a flush")
	}
	goOn()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
