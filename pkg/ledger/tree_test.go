package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// mth is the Merkle Tree Hash of RFC 6962 §2.1, written from its text: an
// implementation of its own to hold the package against.
func mth(d [][]byte) [32]byte {
	switch n := len(d); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0x00}, d[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two below n
		left, right := mth(d[:k]), mth(d[k:])
		return sha256.Sum256(append(append([]byte{0x01}, left[:]...), right[:]...))
	}
}

func TestTheSecondImplementationKnowsPublishedHashes(t *testing.T) {
	// Roots of the test tree of RFC 6962's reference implementation.
	leaves := [][]byte{{}, {0x00}, {0x10}, {0x20, 0x21}, {0x30, 0x31}, {0x40, 0x41, 0x42, 0x43},
		[]byte("\x50\x51\x52\x53\x54\x55\x56\x57"), []byte("\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f")}
	want := map[int]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	for n, w := range want {
		h := mth(leaves[:n])
		if got := hex.EncodeToString(h[:]); got != w {
			t.Errorf("root of %d leaves is %s, want %s", n, got, w)
		}
	}
}

// rawEntries takes all bundles of a ledger apart, by FORMAT.md alone.
func rawEntries(t *testing.T, dir string, size int64) [][]byte {
	t.Helper()
	var out [][]byte
	for n := int64(0); n*256 < size; n++ {
		name := fmt.Sprintf("tile/entries/%03d", n)
		if rest := size - n*256; rest < 256 {
			name += fmt.Sprintf(".p/%d", rest)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			k := binary.BigEndian.Uint16(b)
			out = append(out, b[2:2+k])
			b = b[2+k:]
		}
	}
	return out
}

func TestTheRootIsThatOfRFC6962(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for _, step := range []int{1, 1, 1, 1, 3, 8, 1, 100, 139, 1, 1, 254, 1, 1, 40, 256} {
		if got := l.Checkpoint(); got.Root != mth(rawEntries(t, dir, got.Size)) {
			t.Fatalf("the root of %d entries is not that of RFC 6962", got.Size)
		}
		fill(t, l, step)
	}
}

// TestTheFilesAreThoseOfTlogTiles holds the directory against the example in
// C2SP tlog-tiles: which files a tree of 70,000 entries has, how wide, and the
// hashes in them.
func TestTheFilesAreThoseOfTlogTiles(t *testing.T) {
	const size = 70000
	dir := t.TempDir()
	l := mustOpen(t, dir)
	fill(t, l, size)
	want := []string{CheckpointName, KeyName, PublicKeyName, "tile/0/273.p/112", "tile/entries/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"}
	for n := range 273 {
		want = append(want, fmt.Sprintf("tile/0/%03d", n), fmt.Sprintf("tile/entries/%03d", n))
	}
	got, err := l.disk.list()
	must(t, err)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the files of %d entries are\n%q\nwant\n%q", size, got, want)
	}
	entries := rawEntries(t, dir, size)
	if len(entries) != size || mth(entries) != l.Checkpoint().Root {
		t.Fatalf("%d entries, and not the root of RFC 6962", len(entries))
	}
	hashes := func(from, to, each int) []byte {
		var out []byte
		for i := from; i < to; i += each {
			h := mth(entries[i : i+each])
			out = append(out, h[:]...)
		}
		return out
	}
	for name, w := range map[string][]byte{
		"tile/0/000":       hashes(0, 256, 1),
		"tile/0/273.p/112": hashes(273*256, size, 1),
		"tile/1/000":       hashes(0, 65536, 256),
		"tile/1/001.p/17":  hashes(65536, 65536+17*256, 256),
		"tile/2/000.p/1":   hashes(0, 65536, 65536),
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(b, w) {
			t.Errorf("%s does not hold the hashes that tlog-tiles says (%v)", name, err)
		}
	}
	must(t, l.Verify(t.Context()))
	must(t, l.Close())
	must(t, mustOpen(t, dir).Verify(t.Context()))
}

func TestTilePathsAreThoseOfTlogTiles(t *testing.T) {
	for name, want := range map[string]tile{
		"tile/entries/x001/x234/067":      {bundleLevel, 1234067, 256},
		"tile/0/000.p/5":                  {0, 0, 5},
		"tile/7/x001/000.p/255":           {7, 1000, 255},
		"tile/entries/x001/x234/067.p/17": {bundleLevel, 1234067, 17},
	} {
		if want.path() != name {
			t.Errorf("path of %+v is %q, want %q", want, want.path(), name)
		}
		if got, ok := parseTile(name); !ok || got != want {
			t.Errorf("parseTile(%q) = %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "tile", "tile/0", "tile/8/000", "tile/-1/000", "tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256",
		"tile/0/000.p/05", "tile/0/000/001", "tile/00/000", "tile/entries/000.p", "tile/0/x000/001", "checkpoint", "tile/0/000.p/5/6"} {
		if got, ok := parseTile(name); ok {
			t.Errorf("parseTile(%q) = %+v, want it refused", name, got)
		}
	}
}
