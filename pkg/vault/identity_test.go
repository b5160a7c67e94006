package vault

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

func hybrid(t testing.TB) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

// protect writes what age -p would, with a low work factor.
func protect(t *testing.T, inside []byte, word string, armored bool) []byte {
	t.Helper()
	r, err := age.NewScryptRecipient(word)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	var out bytes.Buffer
	var dst io.Writer = &out
	var a io.WriteCloser
	if armored {
		a = armor.NewWriter(&out)
		dst = a
	}
	w, err := age.Encrypt(dst, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(inside); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if a != nil {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestIdentityFilesOfEveryForm(t *testing.T) {
	kp, _ := pair(t)
	sealed, err := SealTo([]string{kp.Recipient}, []byte("entry 1"))
	if err != nil {
		t.Fatal(err)
	}
	right := func() (string, error) { return "open sesame", nil }
	wrong := func() (string, error) { return "open barley", nil }
	noTTY := errors.New("no terminal")
	nobody := func() (string, error) { return "", noTTY }
	empty := func() (string, error) { return "", nil }
	for _, c := range []struct {
		what string
		file []byte
		ask  func() (string, error)
		want error
	}{
		{"plain", kp.File(), nil, nil},
		{"plain with other lines", append([]byte("# mine\n\n"), kp.File()...), nil, nil},
		{"protected", protect(t, kp.File(), "open sesame", false), right, nil},
		{"protected, armored", protect(t, kp.File(), "open sesame", true), right, nil},
		{"protected, wrong passphrase", protect(t, kp.File(), "open sesame", false), wrong, ErrPassphrase},
		{"protected, empty passphrase", protect(t, kp.File(), "open sesame", false), empty, ErrPassphrase},
		{"protected, nobody to ask", protect(t, kp.File(), "open sesame", true), nil, ErrPassphrase},
		{"protected, asking fails", protect(t, kp.File(), "open sesame", true), nobody, noTTY},
		{"protected, nothing inside", protect(t, nil, "open sesame", false), right, ErrIdentityFile},
		{"cut short", []byte(kp.Secret[:40]), nil, ErrIdentityFile},
		{"protected, cut short", protect(t, kp.File(), "open sesame", false)[:150], right, ErrIdentityFile},
		{"a public key", []byte(kp.Recipient), nil, ErrIdentityFile},
		{"a sealed message, not protected keys", sealed, right, ErrIdentityFile},
		{"empty", nil, nil, ErrIdentityFile},
		{"endless", bytes.Repeat([]byte("#\n"), maxIdentityFile), nil, ErrIdentityFile},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			ids, err := OpenIdentities(path, c.ask)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				if strings.Contains(err.Error(), kp.Secret[20:30]) {
					t.Fatal("the error repeats a private key")
				}
				return
			}
			if got, err := OpenSealed(sealed, ids); err != nil || string(got) != "entry 1" {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
	if _, err := OpenIdentities(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestSealedEntriesAreForTheirReadersOnly(t *testing.T) {
	a, ids := pair(t)
	_, stranger := pair(t)
	sealed, err := SealTo([]string{a.Recipient}, bytes.Repeat([]byte("evidence"), 20000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSealed(sealed, stranger); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("stranger: %v", err)
	}
	if got, err := OpenSealed(sealed, ids); err != nil || len(got) != 160000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, i := range []int{0, 30, 150, 500, 70000, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if got, err := OpenSealed(bad, ids); err == nil || got != nil {
			t.Errorf("byte %d altered: %d bytes came out", i, len(got))
		}
		if got, err := OpenSealed(sealed[:i], ids); !errors.Is(err, ErrDamaged) || got != nil {
			t.Errorf("cut to %d: %d bytes, %v", i, len(got), err)
		}
	}
	post, err := SealTo([]string{hybrid(t)}, []byte("x"))
	if err != nil {
		t.Fatalf("post-quantum recipient: %v", err)
	}
	if _, err := OpenSealed(post, ids); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("X25519 key for a post-quantum message: %v", err)
	}
}

func FuzzIdentities(f *testing.F) {
	kp, _ := pair(f)
	f.Add(kp.File())
	f.Fuzz(func(t *testing.T, b []byte) {
		if ids, err := ParseIdentities(bytes.NewReader(b)); err == nil && len(ids.list) == 0 {
			t.Fatal("no keys and no error")
		}
	})
}
