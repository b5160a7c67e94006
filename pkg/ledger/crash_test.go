package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var errPower = errors.New("the power is gone")

// outage lets a number of steps of the disk pass and refuses all that follow,
// as a process that is killed does. It remembers what was not synced.
type outage struct {
	d        *disk
	left     int
	steps    []string
	unsynced map[string]bool
	before   []byte // the checkpoint before the rename whose directory was not synced
}

func (o *outage) fault(op, name string) error {
	if o.left == 0 {
		return errPower
	}
	o.left--
	o.steps = append(o.steps, op+" "+name)
	switch op {
	case "write":
		o.unsynced[name] = true
	case "sync":
		delete(o.unsynced, name)
	case "rename":
		delete(o.unsynced, name+tmpSuffix)
		o.before, _ = os.ReadFile(o.d.path(name))
	case "syncdir":
		o.before = nil
	}
	return nil
}

// lose does to the directory what a power cut does: files that were not synced
// are empty, and a rename that was not synced did not happen.
func (o *outage) lose(t *testing.T, before []byte) {
	t.Helper()
	for name := range o.unsynced {
		if err := os.Truncate(o.d.path(name), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if o.before != nil {
		must(t, os.WriteFile(o.d.path(CheckpointName), before, 0o600))
	}
}

// TestAnAppendThatIsCutShortIsThereWhollyOrNotAtAll ends an append after each
// of its steps, by a kill and by a power cut, at sizes where bundles and tiles
// begin, grow and fill.
func TestAnAppendThatIsCutShortIsThereWhollyOrNotAtAll(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256} {
		for _, more := range []int{1, 256} {
			for _, power := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d more after %d, power cut %v", more, size, power), func(t *testing.T) {
					for steps := 0; !cutShort(t, size, more, steps, power); steps++ {
					}
				})
			}
		}
	}
}

// cutShort reports whether the append came to its end.
func cutShort(t *testing.T, size, more, steps int, power bool) bool {
	t.Helper()
	dir := memoryDir(t)
	l := mustOpen(t, dir)
	fill(t, l, size)
	before := l.Checkpoint().Note
	o := &outage{d: l.disk, left: steps, unsynced: map[string]bool{}}
	l.disk.fault = o.fault
	batch := make([]*waiting, more)
	for i := range batch {
		e := testEntry(int64(size + i))
		body, err := l.prepare(&e)
		must(t, err)
		batch[i] = &waiting{body: body}
	}
	_, err := l.commit(batch)
	if err != nil && !errors.Is(err, errPower) {
		t.Fatalf("after %d steps: %v", steps, err)
	}
	must(t, l.Close())
	if power {
		o.lose(t, before)
	}
	l, openErr := Open(dir, testOptions())
	if openErr != nil {
		t.Fatalf("after the steps %q: %v", o.steps, openErr)
	}
	got := l.Size()
	if got != int64(size) && got != int64(size+more) || err == nil && got != int64(size+more) {
		t.Fatalf("after the steps %q there are %d entries, Append said %v", o.steps, got, err)
	}
	checkEntries(t, l, got)
	mustAppend(t, l, 2)
	if err := errors.Join(l.Verify(t.Context()), l.Close()); err != nil {
		t.Fatalf("after the steps %q: %v", o.steps, err)
	}
	return o.left > 0
}

// TestAnInterruptedBeginningIsFinished ends the making of a ledger after each
// of its steps.
func TestAnInterruptedBeginningIsFinished(t *testing.T) {
	for steps := 0; ; steps++ {
		d := &disk{dir: memoryDir(t)}
		o := &outage{d: d, left: steps, unsynced: map[string]bool{}}
		d.fault = o.fault
		l, err := open(d, testOptions())
		if err == nil {
			must(t, l.Close())
			if steps < 8 {
				t.Fatalf("a ledger was made in %d steps: %q", steps, o.steps)
			}
			return
		}
		if !errors.Is(err, errPower) {
			t.Fatalf("after the steps %q: %v", o.steps, err)
		}
		o.lose(t, nil)
		if l, err = Open(d.dir, testOptions()); err != nil {
			t.Fatalf("after the steps %q: %v", o.steps, err)
		}
		mustAppend(t, l, 1)
		must(t, errors.Join(l.Verify(t.Context()), l.Close()))
	}
}

// TestAFailedWriteLeavesTheLedgerUsable fails each step of an append once.
func TestAFailedWriteLeavesTheLedgerUsable(t *testing.T) {
	for fail := 0; ; fail++ {
		dir := memoryDir(t)
		l := mustOpen(t, dir)
		fill(t, l, 254)
		n, failed := 0, ""
		l.disk.fault = func(op, name string) error {
			n++
			if n-1 == fail {
				failed = op + " " + name
				return errPower
			}
			return nil
		}
		_, err := l.Append(t.Context(), testEntry(254))
		if failed == "" {
			if err != nil || fail < 6 {
				t.Fatalf("%d steps, %v", fail, err)
			}
			return
		}
		if strings.HasPrefix(failed, "remove") {
			must(t, err) // the entry was written before
		} else if !errors.Is(err, ErrNotWritten) || !errors.Is(err, errPower) {
			t.Fatalf("%s failed: got %v, want ErrNotWritten with its cause", failed, err)
		}
		if errors.Is(err, ErrFailed) {
			if _, err := l.Append(t.Context(), testEntry(254)); !errors.Is(err, ErrFailed) {
				t.Fatalf("%s failed: the next append says %v, want ErrFailed", failed, err)
			}
			must(t, l.Close())
			l = mustOpen(t, dir)
		}
		for l.Size() < 260 {
			mustAppend(t, l, 1)
		}
		must(t, l.Verify(t.Context()))
		checkEntries(t, l, 260)
		must(t, l.Close())
	}
}

// TestNothingIsSignedBeforeItIsOnTheDisk reads the order of the steps.
func TestNothingIsSignedBeforeItIsOnTheDisk(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	fill(t, l, 255)
	o := &outage{d: l.disk, left: -1, unsynced: map[string]bool{}}
	dirs := map[string]bool{} // with names that were not synced
	l.disk.fault = func(op, name string) error {
		switch op {
		case "write", "mkdir":
			dirs[filepath.Dir(name)] = true
		case "syncdir":
			delete(dirs, name)
		case "rename":
			delete(dirs, ".") // that of the new checkpoint, synced after the rename
			if len(o.unsynced) > 0 || len(dirs) > 0 {
				t.Errorf("the checkpoint is put in place while these are not on the disk: %v, names in %v", o.unsynced, dirs)
			}
		}
		return o.fault(op, name)
	}
	mustAppend(t, l, 2)
	if got := strings.Join(o.steps, "\n"); !strings.Contains(got, "rename checkpoint\nsyncdir .\n") {
		t.Fatalf("no synced rename among the steps\n%s", got)
	}
}

const childDir = "EDGELOG_TEST_LEDGER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendForEver(dir)
	}
	m.Run()
}

// appendForEver prints the index of each entry that was acknowledged.
func appendForEver(dir string) {
	l, err := Open(dir, testOptions())
	if err != nil {
		panic(err)
	}
	for {
		at := make(chan int64)
		for range 3 {
			go func() {
				i, err := l.Append(context.Background(), Entry{Kind: Outcome})
				if err != nil {
					panic(err)
				}
				at <- i
			}()
		}
		for range 3 {
			fmt.Println(<-at)
		}
	}
}

func TestEntriesThatWereAcknowledgedSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 8 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childDir+"="+dir)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		last := int64(-1)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			i, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				break // the line was cut by the kill
			}
			last = max(last, i)
			if n == 40+17*round {
				must(t, c.Process.Kill())
			}
		}
		_ = c.Wait() // killed
		l, err := Open(dir, testOptions())
		must(t, err)
		if l.Size() <= last {
			t.Fatalf("entry %d was acknowledged, but there are only %d", last, l.Size())
		}
		must(t, errors.Join(l.Verify(t.Context()), l.Close()))
	}
}
