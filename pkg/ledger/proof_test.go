package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestAProofHoldsForItsEntryAndForNothingElse(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Origin: "edgelog/test"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing is written any more
	for _, size := range []int64{1, 2, 255, 256, 257, 700} {
		for l.Size() < size {
			if _, err := l.Append(context.Background(), Entry{Kind: Gap, Fields: map[string]string{"n": fmt.Sprint(l.Size())}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range []int64{0, size / 2, size - 1} {
			p, err := l.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.Check(l.VerifierKey())
			if err != nil || r.Fields["n"] != fmt.Sprint(i) || r.Index != i {
				t.Fatalf("entry %d of %d: %+v, %v", i, size, r, err)
			}
			for _, spoil := range []func(){
				func() { p.Index++ }, func() { p.Entry[len(p.Entry)/2] ^= 1 }, func() { p.Checkpoint = "x" + p.Checkpoint },
				func() { p.Hashes = append(p.Hashes, make([]byte, 32)) }, func() { p.Hashes = append(p.Hashes, []byte{1}) },
			} {
				bad := *p
				p.Entry = append([]byte(nil), p.Entry...)
				spoil()
				if _, err := p.Check(l.VerifierKey()); !errors.Is(err, ErrProof) {
					t.Fatalf("a spoiled proof of entry %d of %d: %v", i, size, err)
				}
				*p = bad
			}
		}
	}
	if _, err := l.Prove(700); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}
