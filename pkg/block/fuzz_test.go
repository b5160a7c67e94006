package block

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func seed(f *testing.F, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzSessions reads any bytes; what can be read must survive another turn.
func FuzzSessions(f *testing.F) {
	seed(f, "testdata/golden/v1-sessions-edge.block")
	seed(f, "testdata/golden/v1-sessions-nat.block")
	small, err := EncodeSessions(nil, aHeader(), newMix(1, 5, time.Second).sessions())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, s, err := DecodeSessions(b)
		if err != nil {
			return
		}
		again, err := EncodeSessions(nil, h, s)
		if err != nil {
			t.Fatal(err)
		}
		_, s2, err := DecodeSessions(again)
		if err != nil {
			t.Fatal(err)
		}
		if sum(s) != sum(s2) {
			t.Fatal("came back changed")
		}
	})
}

// FuzzBindings does the same for bindings.
func FuzzBindings(f *testing.F) {
	small, err := EncodeBindings(nil, aHeader(), newMix(1, 5, time.Second).bindings())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, list, err := DecodeBindings(b)
		if err != nil {
			return
		}
		again, err := EncodeBindings(nil, h, list)
		if err != nil {
			t.Fatal(err)
		}
		_, list2, err := DecodeBindings(again)
		if err != nil {
			t.Fatal(err)
		}
		sameBindings(t, list, list2)
	})
}
