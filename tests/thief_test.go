package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/gateway"
)

// TestAThiefOfTheGatewayFindsNobody copies every file of a gateway, its
// configuration and its secrets, and looks for people in them. What may be found
// stands in the README: access records in force, those that ended since the state
// was rotated last, and what the operator wrote into the configuration.
func TestAThiefOfTheGatewayFindsNobody(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	giveNames(ctx, t, g)
	web := netip.AddrPortFrom(g.Server4, 80)
	if err := g.Internet.ServeHTTP(web, "hello"); err != nil {
		t.Fatal(err)
	}
	visitOften(ctx, t, g, web, 20)
	if _, err := g.Ask(ctx, "lookup", "--reference", "case-4711-secret", "--remote", web.Addr().String(),
		"--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "--to", "now"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Stop(ctx), g.Start(ctx)); err != nil { // what was fresh is in runs now
		t.Fatal(err)
	}
	visitOften(ctx, t, g, web, 20)
	g.Kill()
	stolen := t.TempDir()
	custodians := filepath.Join(g.Dir, "gw", "custodians")
	files := steal(t, filepath.Join(g.Dir, "gw"), stolen, custodians)
	for what, needles := range map[string][][]byte{
		"the far end":       needlesOf(web.Addr()),
		"a name":            {[]byte("Hemmelig"), []byte("Skjulevej"), []byte("alice@secret")},
		"the case asked in": {[]byte("4711-secret")},
		"a number":          {[]byte("4520114711"), []byte("20114711"), []byte("30471199"), []byte("3512345047"), []byte("Skjulemast")},
		"a mail address":    {[]byte("afsender@"), []byte("gemt.example")},
	} {
		for _, n := range needles {
			for path, b := range files {
				if bytes.Contains(b, n) {
					t.Errorf("%s (%q) stands in %s", what, n, path)
				}
			}
		}
	}
	readAsAThief(t, filepath.Join(stolen, "data", "store"))
}

// visitOften has a subscriber ask a server n times, and waits until that is stored.
func visitOften(ctx context.Context, t *testing.T, g *gateway.Gateway, web netip.AddrPort, n uint64) {
	t.Helper()
	for range n {
		if _, _, err := g.Subscribers[0].GetHTTP(ctx, "http://"+web.String()+"/"); err != nil {
			t.Fatal(err)
		}
	}
	until(ctx, t, g, "the sessions are stored", func(s *recorder.Status) bool { return s.Sessions.Stored >= n })
}

// giveNames imports what names people, and removes the files.
func giveNames(ctx context.Context, t *testing.T, g *gateway.Gateway) {
	t.Helper()
	at := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	for _, file := range []struct{ command, what, text string }{
		{"subscribers", "import", "id,name,address,services\nalice@secret.example,Alice Hemmelig,Skjulevej 7,fibre\n"},
		{"import", "calls", "start,end,from,to,imei,place\n" + at + ",,+4520114711,+4530471199,351234504711777,Skjulemast 9\n"},
		{"import", "mail", "start,end,from,to\n" + at + ",,afsender@gemt.example,modtager@gemt.example\n"},
	} {
		given := filepath.Join(g.Dir, "given.csv")
		if err := os.WriteFile(given, []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Run(ctx, file.command, file.what, given); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(given); err != nil {
			t.Fatal(err)
		}
	}
}

// needlesOf are the forms in which an address may lie in a file.
func needlesOf(a netip.Addr) [][]byte {
	b := a.As4()
	le := []byte{b[3], b[2], b[1], b[0]}
	mapped := a.As16()
	return [][]byte{[]byte(a.String()), b[:], le, mapped[:], []byte(fmt.Sprintf("%x", b[:]))}
}

// steal copies all files of dir but the custodians' keys, which an operator takes
// away, and returns their contents.
func steal(t *testing.T, dir, to, but string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, but) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[rel] = b
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files stolen, %v", len(files), err)
	}
	return files
}

// readAsAThief uses the project's own reader on the copy, with a key of the
// thief's own.
func readAsAThief(t *testing.T, dir string) {
	t.Helper()
	st, err := store.Open(dir, store.Options{MinFree: 1 << 20, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close() //nolint:errcheck // a copy
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	own, err := vault.ParseIdentities(bytes.NewReader(pair.File()))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := st.WrappedKeys()
	if err != nil || len(keys) == 0 || st.Rows() < 40 {
		t.Fatalf("%d keys, %d records, %v", len(keys), st.Rows(), err)
	}
	for _, k := range keys {
		if _, err := vault.OpenKey(k.Wrapped, own); err == nil {
			t.Error("a wrapped key opens with the thief's own key")
		}
	}
}
