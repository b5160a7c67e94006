package ledger

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

// TestAnotherImplementationAcceptsEveryProof has the proofs of entries, and those of
// older checkpoints, judged by transparency-dev/merkle, with hashes of its own over
// the bytes on the disk.
func TestAnotherImplementationAcceptsEveryProof(t *testing.T) {
	dir := memoryDir(t)
	l, notes := grown(t, dir, 1, 1, 3, 250, 1, 1, 255, 300)
	r := mustRead(t, dir, l.VerifierKey())
	size := r.Size()
	root := r.Checkpoint().Root
	h := rfc6962.DefaultHasher
	for i, entry := range rawEntries(t, dir, size) {
		p, err := r.Prove(int64(i))
		must(t, err)
		if !bytes.Equal(p.Entry, entry) {
			t.Fatalf("the proof of entry %d holds another", i)
		}
		leaf := h.HashLeaf(entry)
		must(t, proof.VerifyInclusion(h, uint64(i), uint64(size), leaf, p.Hashes, root[:]))
		leaf[7] ^= 1
		if proof.VerifyInclusion(h, uint64(i), uint64(size), leaf, p.Hashes, root[:]) == nil {
			t.Fatalf("another entry %d is accepted", i)
		}
	}
	for _, n := range notes[:len(notes)-1] {
		old, err := parseCheckpoint(n, r.verify)
		must(t, err)
		path, err := tlog.ProveTree(size, old.Size, r.hashes())
		must(t, err)
		var hashes [][]byte
		for _, p := range path {
			hashes = append(hashes, p[:])
		}
		must(t, proof.VerifyConsistency(h, uint64(old.Size), uint64(size), hashes, old.Root[:], root[:]))
		mine, err := r.RootAt(old.Size)
		if err != nil || mine != old.Root {
			t.Errorf("root of %d entries: %x, %v", old.Size, mine, err)
		}
	}
}

// script runs the verifier that knows nothing of this package.
func script(t *testing.T, dir, key string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "python3", filepath.Join("..", "..", "scripts", "verify-ledger.py"), dir, key).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestAScriptOfAnotherLanguageVerifiesALedger(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 257, 700} {
		dir, key := closedLedger(t, size)
		if out, err := script(t, dir, key); err != nil || out != fmt.Sprintf("the ledger is whole: entries %d", size) {
			t.Errorf("%d entries: %v: %s", size, err, out)
		}
	}
}

func TestTheScriptFindsABitThatChangedInEachFile(t *testing.T) {
	dir, key := closedLedger(t, 600)
	names, err := (&disk{dir: dir}).list()
	must(t, err)
	for _, name := range names {
		if name == KeyName {
			continue // nothing that is verified
		}
		file := filepath.Join(dir, name)
		good, err := os.ReadFile(file)
		must(t, err)
		bad := bytes.Clone(good)
		bad[len(bad)*2/3] ^= 1 << 2
		must(t, os.WriteFile(file, bad, 0o600))
		out, err := script(t, dir, key)
		if err == nil || !strings.HasPrefix(out, "verify-ledger: ") {
			t.Errorf("%s changed, and the script says %v: %s", name, err, out)
		}
		must(t, os.WriteFile(file, good, 0o600))
		must(t, os.Rename(file, file+".away"))
		if out, err := script(t, dir, key); err == nil && name != PublicKeyName {
			t.Errorf("%s gone, and the script says %s", name, out)
		}
		must(t, os.Rename(file+".away", file))
	}
	if out, err := script(t, dir, key); err != nil {
		t.Errorf("the ledger was put back as it was: %s", out)
	}
	_, other := closedLedger(t, 1)
	if out, err := script(t, dir, other); err == nil || !strings.Contains(out, "checkpoint") {
		t.Errorf("with another's key: %v: %s", err, out)
	}
}
