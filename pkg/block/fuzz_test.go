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
	seed(f, "testdata/golden/v1-head-*.block")
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

// FuzzMatch asks any bytes for an address; what the head rules out must not be
// found when everything is unpacked first, and nothing else may differ either.
func FuzzMatch(f *testing.F) {
	seed(f, "testdata/golden/v1-head-*.block")
	whole, lazy := NewDecoder(), NewDecoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := whole.Sessions(b)
		if err != nil {
			if s, err := lazy.Look(Whole(b)); err == nil {
				_, _ = s.Match(nil, Query{Address: Exactly(v4(7).Netip()), To: 1 << 62}) // must not panic
			}
			return
		}
		rows := all.Append(nil)
		for _, q := range []Query{{Address: Exactly(v4(7).Netip())}, {Address: Exactly(v4(7).Netip()), Port: 4000}, {Remote: Exactly(rows[0].Responder.Netip())}} {
			q.From, q.To = all.MinStart*1e6, all.MaxEnd*1e6
			s, err := lazy.Look(Whole(b))
			if err != nil {
				t.Fatal(err)
			}
			want, errAll := all.Match(nil, q)
			got, err := s.Match(nil, q)
			if err != nil || errAll != nil || sum(got) != sum(want) {
				t.Fatalf("%+v: %d and %d found, %v, %v", q, len(got), len(want), err, errAll)
			}
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
