package store

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/vault"
)

// heads returns what Heads delivers of all blocks of sessions, of two frames.
func (l *lab) heads() (out [][]byte) {
	l.t.Helper()
	err := l.s.Heads(context.Background(), KindSessions, math.MinInt64, math.MaxInt64, zoneFrames, func(_ vault.Place, b []byte) error {
		out = append(out, bytes.Clone(b))
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func TestTheZonesOfARunAreWhatItsBlocksSay(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	var want [][]byte
	for i := range 3 {
		p := l.place(KindSessions, aDay)
		b, err := l.v.Seal(nil, p, []byte("header"), bytes.Repeat([]byte{byte(i)}, 50), make([]byte, 2*smallBlock))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.s.Put(b); err != nil {
			t.Fatal(err)
		}
		part, err := vault.Part(nil, b, func(i int) bool { return i < zoneFrames })
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, part)
	}
	l.put(KindSessions, aDay, "a small one")
	same := func(what string) {
		t.Helper()
		got := l.heads()
		if len(got) != 4 {
			t.Fatalf("%s: %d heads", what, len(got))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s: head %d is another", what, i)
			}
		}
	}
	same("fresh")
	l.merge(nil)
	file := filepath.Join(l.s.runDir(aDay, 1), zonesFile)
	zones, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	same("in a run")
	for what, b := range map[string][]byte{"cut": zones[:len(zones)-7], "empty": nil, "noise": bytes.Repeat([]byte("noise"), 100)} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		same(what)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	same("gone")
}
