package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// closedLedger makes a ledger of n entries, closes it, and returns its
// directory and its public key.
func closedLedger(t *testing.T, n int) (dir, key string) {
	t.Helper()
	dir = memoryDir(t)
	l := mustOpen(t, dir)
	fill(t, l, n)
	must(t, l.Close())
	return dir, l.VerifierKey()
}

// examine opens a ledger and verifies it, as its owner does, and without
// opening it, as an outsider does. Both have to find the same fault, but for
// those that only the owner can see or that stop Open.
func examine(t *testing.T, dir, key string) (owner, outsider error) {
	t.Helper()
	_, outsider = VerifyDir(context.Background(), dir, key)
	l, err := Open(dir, testOptions())
	if err != nil {
		return err, outsider
	}
	return errors.Join(l.Verify(context.Background()), l.Close()), outsider
}

// where returns the file that an error names.
func where(err error) string {
	var b *BrokenError
	if errors.As(err, &b) {
		return b.File
	}
	return ""
}

// flipEach changes one bit at a time in all files of a ledger, and demands
// that each change is found and that the outsider names the very file.
func flipEach(t *testing.T, dir, key string, bits []int, step int) {
	t.Helper()
	names, err := (&disk{dir: dir}).list()
	must(t, err)
	if owner, outsider := examine(t, dir, key); owner != nil || outsider != nil {
		t.Fatalf("the ledger is broken before anything was changed: %v, %v", owner, outsider)
	}
	for _, name := range names {
		file := filepath.Join(dir, name)
		good, err := os.ReadFile(file)
		must(t, err)
		for i := 0; i < len(good); i += step {
			for _, bit := range bits {
				bad := []byte(string(good))
				bad[i] ^= 1 << bit
				must(t, os.WriteFile(file, bad, 0o600))
				if _, err := VerifyDir(context.Background(), dir, key); name != KeyName && where(err) != name {
					t.Fatalf("%s: byte %d, bit %d changed, and the outsider's verification says %v", name, i, bit, err)
				}
				if name != KeyName && bit != bits[i%len(bits)] {
					continue // the owner's way is the same but for Open; one bit of each byte is enough
				}
				if owner, _ := examine(t, dir, key); owner == nil {
					t.Fatalf("%s: byte %d, bit %d changed, and the owner's verification is content", name, i, bit)
				}
			}
		}
		must(t, os.WriteFile(file, good, 0o600))
	}
}

func TestAnyBitThatChangesIsFoundAndNamed(t *testing.T) {
	dir, key := closedLedger(t, 5)
	flipEach(t, dir, key, []int{0, 1, 2, 3, 4, 5, 6, 7}, 1)
}

func TestAWrittenByteInTheEmptyBundleIsFound(t *testing.T) {
	dir, key := closedLedger(t, 256)
	name := "tile/entries/001.p/0"
	must(t, os.WriteFile(filepath.Join(dir, name), []byte{0}, 0o600))
	if owner, outsider := examine(t, dir, key); owner == nil || where(outsider) != name {
		t.Fatalf("owner: %v; outsider: %v; want %s named", owner, outsider, name)
	}
}

func TestAChangeInAFullTileIsFoundAndNamed(t *testing.T) {
	dir, key := closedLedger(t, 2*256+3)
	flipEach(t, dir, key, []int{3}, 211)
}

func TestAChangedEntryIsNamed(t *testing.T) {
	dir, key := closedLedger(t, 300)
	file := filepath.Join(dir, "tile/entries/001.p/44")
	b, err := os.ReadFile(file)
	must(t, err)
	i := strings.Index(string(b), `"number":"290"`)
	b[i+len(`"number":"29`)] = '1'
	must(t, os.WriteFile(file, b, 0o600))
	_, err = VerifyDir(t.Context(), dir, key)
	var at *BrokenError
	if !errors.As(err, &at) || at.File != "tile/entries/001.p/44" || at.Entry != 290 {
		t.Fatalf("got %v, want entry 290 named", err)
	}
}

func TestAForgedEntryWithForgedTilesIsFound(t *testing.T) {
	dir, key := closedLedger(t, 300)
	forged := memoryDir(t)
	opt := testOptions()
	l, err := Open(forged, opt)
	must(t, err)
	fill(t, l, 299)
	_, err = l.Append(t.Context(), Entry{Kind: Stop})
	must(t, errors.Join(err, l.Close()))
	// The forger has everything but the key: entries and tiles agree.
	must(t, os.RemoveAll(filepath.Join(dir, tileDir)))
	must(t, os.Rename(filepath.Join(forged, tileDir), filepath.Join(dir, tileDir)))
	owner, outsider := examine(t, dir, key)
	if !errors.Is(owner, ErrBroken) || where(outsider) != CheckpointName {
		t.Fatalf("owner: %v; outsider: %v; want the checkpoint to disagree", owner, outsider)
	}
	// With a key of its own, the forger still is not the ledger.
	must(t, os.Rename(filepath.Join(forged, CheckpointName), filepath.Join(dir, CheckpointName)))
	if _, err := VerifyDir(t.Context(), dir, key); where(err) != CheckpointName {
		t.Fatalf("outsider: %v; want the signature refused", err)
	}
}

func TestLostOldAndForeignFilesAreFound(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, dir string)
		at   string // the file named; "" where Open or Verify may choose
	}{
		{"the growing bundle is gone", remove("tile/entries/001.p/44"), "tile/entries/001.p/44"},
		{"a full bundle is gone", remove("tile/entries/000"), "tile/entries/000"},
		{"a full tile is gone", remove("tile/0/000"), "tile/0/000"},
		{"an upper tile is gone", remove("tile/1/000.p/1"), "tile/1/000.p/1"},
		{"the checkpoint is gone", remove("checkpoint"), "checkpoint"},
		{"the growing bundle is cut", cut("tile/entries/001.p/44"), "tile/entries/001.p/44"},
		{"a full bundle is cut", cut("tile/entries/000"), "tile/entries/000"},
		{"a full tile is cut", cut("tile/0/000"), "tile/0/000"},
		{"the checkpoint is cut", cut("checkpoint"), "checkpoint"},
		{"a file that is not ours", add("tile/0/notes.txt"), "tile/0/notes.txt"},
		{"a tile far beyond the checkpoint", add("tile/0/007"), ""},
		{"a full bundle replaced by a link", func(t *testing.T, dir string) {
			f := filepath.Join(dir, "tile/entries/000")
			t.Cleanup(func() { must(t, os.Remove(dir+".away")) })
			must(t, os.Rename(f, dir+".away"))
			must(t, os.Symlink(dir+".away", f))
		}, "tile/entries/000"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir, key := closedLedger(t, 300)
			c.do(t, dir)
			owner, outsider := examine(t, dir, key)
			if !errors.Is(owner, ErrBroken) || !errors.Is(outsider, ErrBroken) {
				t.Fatalf("owner: %v; outsider: %v; want both to find it", owner, outsider)
			}
			if c.at != "" && where(outsider) != c.at {
				t.Fatalf("outsider: %v; want %s named", outsider, c.at)
			}
		})
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, name))) }
}

func cut(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		f := filepath.Join(dir, name)
		info, err := os.Stat(f)
		must(t, err)
		must(t, os.Truncate(f, info.Size()/2))
	}
}

func add(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600)) }
}

// TestAnOldCheckpointDoesNotOpenANewerLedger puts back each earlier checkpoint
// in turn, the last one included: the tiles give it away, and nothing of what
// came after may be removed as if it had never been acknowledged.
func TestAnOldCheckpointDoesNotOpenANewerLedger(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	var old [][]byte
	for _, n := range []int{1, 1, 5, 248, 1, 1, 3, 251, 17, 239, 256, 200} {
		old = append(old, l.Checkpoint().Note)
		fill(t, l, n)
	}
	now := l.Checkpoint().Note
	must(t, l.Close())
	for _, c := range old {
		must(t, os.WriteFile(filepath.Join(dir, CheckpointName), c, 0o600))
		if owner, outsider := examine(t, dir, l.VerifierKey()); !errors.Is(owner, ErrBroken) || !errors.Is(outsider, ErrBroken) {
			t.Fatalf("owner: %v; outsider: %v; want both to refuse %q", owner, outsider, c)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, CheckpointName), now, 0o600))
	if owner, outsider := examine(t, dir, l.VerifierKey()); owner != nil || outsider != nil {
		t.Fatalf("something was lost in the attempts: %v, %v", owner, outsider)
	}
}

func TestEntriesAreCheckedWhenTheyAreRead(t *testing.T) {
	dir, _ := closedLedger(t, 600)
	for _, name := range []string{"tile/entries/000", "tile/0/000"} {
		file := filepath.Join(dir, name)
		good, err := os.ReadFile(file)
		must(t, err)
		bad := []byte(string(good))
		bad[100] ^= 4
		must(t, os.WriteFile(file, bad, 0o600))
		l, err := Open(dir, testOptions())
		must(t, err)
		if _, err := l.Entries(t.Context(), 0, 3); !errors.Is(err, ErrBroken) {
			t.Errorf("%s changed: got %v, want ErrBroken", name, err)
		}
		if _, err := l.Entries(t.Context(), 300, 303); err != nil {
			t.Errorf("%s changed: entries elsewhere: %v", name, err)
		}
		must(t, l.Close())
		must(t, os.WriteFile(file, good, 0o600))
	}
}

// TestFewNewerEntriesAreNotTakenForATornBatch puts back a checkpoint that is
// older by less than one batch, at each place in a bundle that matters.
func TestFewNewerEntriesAreNotTakenForATornBatch(t *testing.T) {
	for _, size := range []int{0, 1, 3, 255, 256, 257, 512} {
		dir := t.TempDir()
		l := mustOpen(t, dir)
		fill(t, l, size)
		old := l.Checkpoint().Note
		mustAppend(t, l, 2)
		must(t, l.Close())
		now := l.Checkpoint().Note
		must(t, os.WriteFile(filepath.Join(dir, CheckpointName), old, 0o600))
		if _, err := Open(dir, testOptions()); !errors.Is(err, ErrBroken) {
			t.Errorf("%d entries: got %v, want ErrBroken", size, err)
		}
		must(t, os.WriteFile(filepath.Join(dir, CheckpointName), now, 0o600))
		if owner, _ := examine(t, dir, l.VerifierKey()); owner != nil {
			t.Errorf("%d entries: the newer ones did not survive: %v", size, owner)
		}
	}
}
