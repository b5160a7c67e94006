package tests

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
)

// asWhoMay runs a command: as the custodian what is for nobody else, as root all
// other.
func asWhoMay(ctx context.Context, g *gateway.Gateway, command string, args ...string) (string, error) {
	has := func(word string) bool { return slices.Contains(args, word) }
	if at := slices.Index(args, "--config"); at >= 0 && (has("--identity") || has("release")) {
		return g.RunAs(ctx, g.Office.Custodian, append([]string{command}, slices.Delete(slices.Clone(args), at, at+2)...)...)
	}
	return g.Bare(ctx, command, args...)
}

// says fails the test unless a command ends as it should and says a text.
func says(t *testing.T, g *gateway.Gateway, well bool, text, command string, args ...string) {
	t.Helper()
	out, err := asWhoMay(limited(t), g, command, args...)
	if err != nil {
		out += err.Error()
	}
	if (err == nil) != well || !strings.Contains(out, text) {
		t.Errorf("edgelog %s %v: %v, and should have said %q:\n%s", command, args, err, text, out)
	}
}

// aRun returns a file of Badger's tables in the store, the largest.
func aRun(t *testing.T, store string) (name string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(store, "days", "*", "*", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no runs in %s: %v", store, err)
	}
	size := int64(-1)
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil && fi.Size() > size {
			name, size = f, fi.Size()
		}
	}
	return name
}

func flipByte(t *testing.T, name string, at int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		b[at] ^= 1
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestABackupBringsBackWhatWasDamagedAndVerifySaysWhat(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	caseOf(t, g, 3)
	store, dir := filepath.Join(g.DataDir(), "store"), filepath.Join(g.Dir, "backup")
	config, key := []string{"--config", g.Config}, []string{"--identity", g.Identity}
	conf := func(args ...string) []string { return slices.Concat(args, config) }
	before, sessions, err := g.Sessions(ctx, "--subscriber", "anna")
	if err != nil || len(sessions) != 3 {
		t.Fatalf("%d sessions, %v", len(sessions), err)
	}
	says(t, g, true, "all is well", "verify", config...)
	says(t, g, true, "6 sessions", "verify", conf(key...)...)
	says(t, g, true, "0 were there", "backup", conf(dir)...)
	says(t, g, true, "0 runs and holds copied", "backup", conf(dir)...)
	keys := filepath.Join(g.Dir, "keys.json")
	says(t, g, true, "written", "backup", conf("--keys", keys)...)
	says(t, g, false, "there already", "backup", conf("--keys", keys)...)
	says(t, g, true, "no wrapped keys", "verify", "--store", dir)
	says(t, g, false, "no wrapped keys", "verify", "--store", dir, "--identity", g.Identity)
	says(t, g, false, "systemctl stop", "restore", dir, "--to", store)

	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	run := aRun(t, store)
	day := filepath.Base(filepath.Dir(filepath.Dir(run)))
	flipByte(t, run, 300)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "BAD   "+day, "verify", config...)
	says(t, g, false, "BAD   "+day, "verify", conf(key...)...)
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "BAD   "+day, "restore", dir, "--to", store) // the bad one is in the way
	if err := os.RemoveAll(filepath.Dir(run)); err != nil {
		t.Fatal(err)
	}
	says(t, g, true, "1 runs and holds restored", "restore", dir, "--to", store)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	says(t, g, true, "all is well", "verify", conf(key...)...)
	if after, _, err := g.Sessions(ctx, "--subscriber", "anna"); err != nil || !slices.Equal(before, after) {
		t.Errorf("restored: %v, %q", err, after)
	}
	loseAll(t, g, dir, keys, before)
	restoreElsewhere(t, g, dir, keys)
}

// loseAll leaves nothing of the store but its backup and the keys apart from it.
func loseAll(t *testing.T, g *gateway.Gateway, dir, keys string, before []string) {
	t.Helper()
	ctx, store := limited(t), filepath.Join(g.DataDir(), "store")
	if err := errors.Join(g.Stop(ctx), os.RemoveAll(store)); err != nil {
		t.Fatal(err)
	}
	says(t, g, true, "all is well", "restore", dir, "--to", store, "--keys", keys)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if after, _, err := g.Sessions(ctx, "--subscriber", "anna"); err != nil || !slices.Equal(before, after) {
		t.Errorf("all restored: %v, %q", err, after)
	}
}

// restoreElsewhere restores into a new directory, and tries what must not be.
func restoreElsewhere(t *testing.T, g *gateway.Gateway, dir, keys string) {
	t.Helper()
	elsewhere := filepath.Join(g.Dir, "elsewhere", "store")
	says(t, g, true, "all is well", "restore", dir, "--to", elsewhere, "--keys", keys)
	says(t, g, true, "6 sessions", "verify", "--store", elsewhere, "--identity", g.Identity)
	stranger := filepath.Join(g.Dir, "stranger")
	says(t, g, true, "", "init", "--dir", stranger, "--gateway", "other", "--provider", "x", "--uplink", "lo", "--local", "192.0.2.0/24")
	theirs := filepath.Join(stranger, "custodians", "custodian.key")
	says(t, g, false, "custodian who was configured", "verify", "--store", elsewhere, "--identity", theirs)
	cut := filepath.Join(g.Dir, "cut.json")
	text, err := os.ReadFile(keys)
	if err == nil {
		err = os.WriteFile(cut, text[:len(text)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "cut short", "restore", dir, "--to", filepath.Join(g.Dir, "third", "store"), "--keys", cut)
	manifest := filepath.Join(dir, "manifest.json")
	text, err = os.ReadFile(manifest)
	if err == nil {
		err = os.WriteFile(manifest, []byte(strings.Replace(string(text), `"gateway": "lab"`, `"gateway": "other"`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "another gateway", "restore", dir, "--to", elsewhere)
	says(t, g, false, "another gateway", "backup", dir, "--config", g.Config)
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(text), `"format": 1`, `"format": 9`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, g, false, "upgrade edgelog", "restore", dir, "--to", elsewhere)
}
