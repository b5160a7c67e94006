package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestOneLedgerIsOpenOnce(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
}

func TestTheKeyIsMadeWithTheLedgerAndOnlyThen(t *testing.T) {
	dir, key := filepath.Join(t.TempDir(), "ledger"), filepath.Join(t.TempDir(), "own.key")
	opt := testOptions()
	opt.KeyFile = key
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 2)
	verifier := l.VerifierKey()
	if err := errors.Join(l.Verify(t.Context()), l.Close()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("key file has mode %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := note.NewVerifier(verifier); err != nil {
		t.Fatalf("verifier key %q: %v", verifier, err)
	}
	if c, err := VerifyDir(t.Context(), dir, verifier); err != nil || c.Size != 2 {
		t.Fatalf("VerifyDir = %+v, %v", c, err)
	}
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, opt); !errors.Is(err, ErrNoKey) {
		t.Fatalf("without its key: got %v, want ErrNoKey", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Fatal("a new key was made for an old ledger")
	}
}

func TestKeysThatCannotBeTrustedAreRefused(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, key string, opt *Options)
		want error
		say  string
	}{
		{"readable by others", func(t *testing.T, key string, _ *Options) { must(t, os.Chmod(key, 0o640)) }, ErrKey, "chmod 600"},
		{"of another origin", func(_ *testing.T, _ string, o *Options) { o.Origin = "other" }, ErrKey, "belongs to the ledger"},
		{"malformed", func(t *testing.T, key string, _ *Options) { must(t, os.WriteFile(key, []byte("hello\n"), 0o600)) }, ErrKey, "restore it from a backup"},
		{"another key", func(t *testing.T, key string, o *Options) {
			must(t, os.Remove(key))
			must(t, createSigner(&disk{}, key, o.Origin))
		}, ErrBroken, "checkpoint"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, mustOpen(t, dir).Close())
			opt := testOptions()
			c.do(t, filepath.Join(dir, KeyName), &opt)
			if _, err := Open(dir, opt); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
				t.Fatalf("got %v, want %v with %q", err, c.want, c.say)
			}
		})
	}
}

func TestAnOriginThatCannotNameAKeyIsRefused(t *testing.T) {
	for _, origin := range []string{"two words", "a+b", "line\nend"} {
		opt := testOptions()
		opt.Origin = origin
		dir := t.TempDir()
		if _, err := Open(dir, opt); !errors.Is(err, ErrKey) {
			t.Errorf("origin %q: got %v, want ErrKey", origin, err)
		}
		if _, err := os.Stat(filepath.Join(dir, KeyName)); err == nil {
			t.Errorf("origin %q: a key was left behind", origin)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
