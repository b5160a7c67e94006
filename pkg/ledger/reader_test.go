package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustRead(t testing.TB, dir, key string) *Reader {
	t.Helper()
	r, err := OpenReader(dir, key)
	must(t, err)
	return r
}

func TestAReaderNeedsNeitherTheLockNorTheSignerKey(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	fill(t, l, 700)
	must(t, os.Rename(filepath.Join(dir, KeyName), filepath.Join(dir, "..", "away.key"))) // the agent has it in memory
	r := mustRead(t, dir, l.VerifierKey())
	if r.Size() != 700 || !r.Checkpoint().Same(l.Checkpoint()) {
		t.Fatalf("it stands at %+v", r.Checkpoint())
	}
	list, err := r.Entries(t.Context(), 250, 700)
	if err != nil || len(list) != 450 || list[449].Fields["number"] != "699" {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	p, err := r.Prove(300)
	must(t, err)
	if e, err := p.Check(l.VerifierKey()); err != nil || e.Fields["number"] != "300" {
		t.Fatalf("%+v, %v", e, err)
	}
	report, err := r.Verify(t.Context())
	if err != nil || report.Checkpoint.Size != 700 || !report.First.Equal(mustEntry(t, r, 0).Time) || !report.Last.Equal(list[449].Time) || len(report.Back) != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, size := range []int64{0, 1, 255, 256, 257, 699, 700} {
		root, err := r.RootAt(size)
		if err != nil || root != mth(rawEntries(t, dir, 700)[:size]) {
			t.Errorf("root of %d entries: %v", size, err)
		}
	}
	if _, err := r.RootAt(701); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

func mustEntry(t *testing.T, r *Reader, i int64) Record {
	t.Helper()
	e, err := r.Entries(t.Context(), i, i+1)
	must(t, err)
	return e[0]
}

func TestALiveLedgerIsReadAndVerifiedWhileItGrows(t *testing.T) {
	dir := memoryDir(t)
	l := mustOpen(t, dir)
	fill(t, l, 250)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := l.Append(t.Context(), testEntry(l.Size())); err != nil {
				done <- err
				return
			}
		}
	}()
	for l.Size() < 800 {
		r := mustRead(t, dir, l.VerifierKey())
		if _, err := r.Verify(t.Context()); err != nil {
			t.Error(err)
			break
		}
		if n := r.Size(); mustEntry(t, r, n-1).Fields["number"] != fmt.Sprint(n-1) {
			t.Errorf("entry %d is not the last one", n-1)
		}
	}
	close(stop)
	must(t, <-done)
}

// replaced has a checkpoint that is one append older than its tiles, as a reader
// sees it between two reads, the first time it is asked.
type replaced struct {
	Files
	old   []byte
	times int
}

func (f *replaced) ReadFile(name string) ([]byte, error) {
	if name == CheckpointName && f.times > 0 {
		f.times--
		return f.old, nil
	}
	return f.Files.ReadFile(name)
}

func TestAnAppendBetweenTwoReadsIsNoticed(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for range 260 {
		old := l.Checkpoint().Note
		mustAppend(t, l, 1)
		r, err := NewReader(&replaced{Dir(dir), old, 1}, l.VerifierKey())
		if err != nil || r.Size() != l.Size() {
			t.Fatalf("of %d entries: %v", l.Size(), err)
		}
		if _, err := NewReader(&replaced{Dir(dir), old, 1 << 30}, l.VerifierKey()); !errors.Is(err, ErrBroken) {
			t.Fatalf("an old checkpoint for good, of %d entries: %v", l.Size(), err)
		}
	}
}

func TestAReaderIsGivenNothingButTheFilesOfALedger(t *testing.T) {
	dir, _ := closedLedger(t, 3)
	for _, name := range []string{KeyName, "../" + filepath.Base(dir) + "/checkpoint", "/etc/passwd", "tile/../signer.key", "tile/0/000.p/3/..", "", "."} {
		if b, err := Dir(dir).ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{CheckpointName, PublicKeyName, "tile/0/000.p/3", "tile/entries/000.p/3"} {
		if _, err := Dir(dir).ReadFile(name); err != nil {
			t.Error(err)
		}
	}
	must(t, os.Remove(filepath.Join(dir, CheckpointName)))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, CheckpointName)))
	if _, err := Dir(dir).ReadFile(CheckpointName); !errors.Is(err, ErrBroken) {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestAReaderWithAnotherKeyReadsNothing(t *testing.T) {
	dir, _ := closedLedger(t, 3)
	_, other := closedLedger(t, 3)
	if _, err := OpenReader(dir, other); where(err) != CheckpointName {
		t.Error(err)
	}
	if _, err := OpenReader(dir, "nonsense"); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

func TestEntriesOfADamagedLedgerAreNotRead(t *testing.T) {
	dir, key := closedLedger(t, 600)
	for _, name := range []string{"tile/entries/000", "tile/entries/002.p/88", "tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"} {
		file := filepath.Join(dir, name)
		good, err := os.ReadFile(file)
		must(t, err)
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 4
		must(t, os.WriteFile(file, bad, 0o600))
		r := mustRead(t, dir, key)
		_, err = r.Entries(t.Context(), 0, 600)
		_, verified := r.Verify(t.Context())
		if !errors.Is(err, ErrBroken) || where(verified) != name {
			t.Errorf("%s changed: %v; verified: %v", name, err, verified)
		}
		must(t, os.WriteFile(file, good, 0o600))
	}
	if _, err := mustRead(t, dir, key).Entries(t.Context(), 0, 600); err != nil {
		t.Error(err)
	}
}

func TestATimeThatGoesBackIsTold(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	opt := testOptions()
	opt.Clock = func() time.Time { return now }
	dir := t.TempDir()
	l, err := Open(dir, opt)
	must(t, err)
	defer l.Close() //nolint:errcheck // nothing is written any more
	add := func(k Kind, step time.Duration) {
		t.Helper()
		now = now.Add(step)
		_, err := l.Append(t.Context(), Entry{Kind: k})
		must(t, err)
	}
	add(Intent, 0)
	add(Intent, -time.Second) // within the tolerance
	add(Intent, time.Hour)
	add(Intent, -2*time.Second) // 3: told
	for range 100 {
		add(Gap, time.Millisecond)
	}
	add(Intent, -time.Minute) // 104: told, and explained
	add(ClockStep, time.Second)
	add(Start, -time.Hour) // 106: told, and explained
	report, err := mustRead(t, dir, l.VerifierKey()).Verify(t.Context())
	must(t, err)
	var got []string
	for _, b := range report.Back {
		got = append(got, fmt.Sprint(b.Index, b.From.Sub(b.To), b.Explained))
	}
	if want := "3 2s false, 104 1m0s true, 106 1h0m0s true"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
