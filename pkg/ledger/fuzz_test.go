package ledger

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

func FuzzRecord(f *testing.F) {
	e := testEntry(7)
	body, err := e.encode(e.Payload)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stamp(time.Unix(1700000000, 0), body))
	f.Add([]byte(`{"time":"2026-01-01T00:00:00.000Z","kind":"start"}`))
	f.Add([]byte(`{"time":"2026-01-01T00:00:00.000Z","kind":"start"} {}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(1, data)
		if err != nil {
			return
		}
		e := Entry{Kind: r.Kind, Fields: r.Fields}
		if e.check() != nil {
			return // a form that Append would not have written
		}
		body, err := e.encode(r.Sealed)
		if err != nil {
			return
		}
		again, err := parseRecord(1, stamp(r.Time, body))
		if err != nil || again.Kind != r.Kind || !again.Time.Equal(r.Time) || !bytes.Equal(again.Sealed, r.Sealed) || len(again.Fields) != len(r.Fields) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add(appendBundle(appendBundle(nil, []byte("one")), nil), uint8(2))
	f.Add([]byte{0, 5, 'c', 'u', 't'}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, want uint8) {
		entries, err := splitBundle(data, int(want))
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = appendBundle(again, e)
		}
		if len(entries) != int(want) || !bytes.Equal(again, data) {
			t.Fatalf("%d entries, %x came back as %x", len(entries), data, again)
		}
	})
}

func FuzzTilePath(f *testing.F) {
	for _, name := range []string{"tile/0/000", "tile/entries/x001/234.p/7", "tile/entries/000.p/0", "checkpoint"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got, ok := parseTile(name); ok && got.path() != name {
			t.Fatalf("%q was read as %+v, which is %q", name, got, got.path())
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s := fuzzSigner(f)
	c, err := s.checkpoint(42, [32]byte{1, 2, 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Note)
	f.Add(bytes.Replace(c.Note, []byte("\n42\n"), []byte("\n43\n"), 1))
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, err := parseCheckpoint(msg, s.verify)
		if err == nil && !slices.Equal(got.Note, msg) {
			t.Fatalf("%q was accepted as %q", msg, got.Note)
		}
		if err == nil && (got.Size != 42 || got.Root != [32]byte{1, 2, 3}) {
			t.Fatalf("a checkpoint that was never signed was accepted: %q", msg)
		}
	})
}

func FuzzSigner(f *testing.F) {
	f.Add(fuzzSigner(f).key + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSigner(text); err == nil && s.key+"\n" != text {
			t.Fatalf("%q was accepted as %q", text, s.key)
		}
	})
}

// fuzzSigner makes the same key each time: the seed is all zeroes.
func fuzzSigner(f *testing.F) *signer {
	key, _, err := note.GenerateKey(zeroes{}, "ledger.example.net/gw1")
	if err != nil {
		f.Fatal(err)
	}
	s, err := parseSigner(key + "\n")
	if err != nil {
		f.Fatal(err)
	}
	return s
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }
