package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

const toyStanza = "toy"

// TestMain makes the test binary an age plugin where it is called by the name
// of one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "age-plugin-toy" {
		os.Exit(m.Run())
	}
	p, err := plugin.New("toy")
	if err != nil {
		panic(err)
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return &toy{p, data}, nil })
	p.HandleIdentity(func(data []byte) (age.Identity, error) { return &toy{p, data}, nil })
	os.Exit(p.Main())
}

// toy is the age plugin of a token that guards the data of its identity and
// asks for the PIN 1234 before it uses it. It protects nothing.
type toy struct {
	p   *plugin.Plugin
	key []byte // 16 bytes
}

func (t *toy) mask(b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= t.key[i%len(t.key)]
	}
	return out
}

// Wrap is age's.
func (t *toy) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	if t.key[0] == 'A' { // a token that wants a touch even to wrap
		if _, err := t.p.RequestValue("touch", false); err != nil {
			return nil, err
		}
	}
	return []*age.Stanza{{Type: toyStanza, Args: []string{string(t.key[:4])}, Body: t.mask(fileKey)}}, nil
}

// Unwrap is age's.
func (t *toy) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != toyStanza || s.Args[0] != string(t.key[:4]) {
			continue
		}
		pin, err := t.p.RequestValue("PIN of the token", true)
		if err != nil {
			return nil, err
		}
		if pin != "1234" {
			return nil, errors.New("the PIN is wrong")
		}
		return t.mask(s.Body), nil
	}
	return nil, age.ErrIncorrectIdentity
}

// installToy makes the toy the only program in PATH.
func installToy(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "age-plugin-toy")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func toyUI(pin string, asked *int) *plugin.ClientUI {
	return &plugin.ClientUI{RequestValue: func(_, prompt string, secret bool) (string, error) {
		*asked++
		if prompt != "PIN of the token" || !secret {
			return "", errors.New("another question than was expected")
		}
		return pin, nil
	}}
}

func writeKeys(t *testing.T, inside string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(inside), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACustodiansKeyMayLieOnATokenWithItsPlugin(t *testing.T) {
	installToy(t)
	key := []byte("0123456789abcdef")
	kp, ids := pair(t)
	m := &memory{}
	v := newVault(t, m, plugin.EncodeRecipient("toy", key), kp.Recipient)
	p := aPlace()
	sealed := seal(t, v, p, "x")
	wrapped := m.keys[name{p.Day, p.Epoch}]
	if !IsSealedKey(wrapped) {
		t.Error("the wrapped key does not look like one")
	}
	if _, err := OpenKey(wrapped, ids); err != nil {
		t.Errorf("the custodian without a token: %v", err)
	}
	token := writeKeys(t, "# on my key ring\n"+plugin.EncodeIdentity("toy", key)+"\n")
	stranger := writeKeys(t, plugin.EncodeIdentity("toy", []byte("another key is this")[:16]))
	other, _ := pair(t)
	both := writeKeys(t, other.Secret+"\n"+plugin.EncodeIdentity("toy", key)+"\n")
	asked := 0
	for _, c := range []struct {
		what, path, pin string
		want            error
		asks            int
	}{
		{"right PIN", token, "1234", nil, 1},
		{"wrong PIN", token, "4321", ErrPlugin, 1},
		{"another token", stranger, "1234", ErrWrongIdentity, 0},
		{"a token, and a plain key that does not fit", both, "1234", nil, 1},
	} {
		asked = 0
		ids, err := OpenIdentitiesWith(c.path, nil, toyUI(c.pin, &asked))
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		k, err := OpenKey(wrapped, ids)
		if !errors.Is(err, c.want) || asked != c.asks {
			t.Errorf("%s: %v, asked %d times", c.what, err, asked)
		}
		if err != nil {
			continue
		}
		if _, got, err := k.Open(nil, sealed); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", c.what, got, err)
		}
	}
	ids, err := OpenIdentitiesWith(token, nil, &plugin.ClientUI{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(wrapped, ids); !errors.Is(err, ErrPlugin) {
		t.Errorf("a UI that answers nothing: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := OpenKey(wrapped, ids); !errors.Is(err, ErrPlugin) || !strings.Contains(err.Error(), "age-plugin-toy is not in PATH") {
		t.Errorf("the plugin is gone: %v", err)
	}
}

func TestKeysOfPluginsThatAreRefused(t *testing.T) {
	key := []byte("0123456789abcdef")
	secret := plugin.EncodeIdentity("toy", key)
	if _, err := ParseIdentities(strings.NewReader(secret)); !errors.Is(err, ErrPlugin) || strings.Contains(err.Error(), secret) {
		t.Errorf("nobody to ask: %v", err)
	}
	if _, err := parseIdentities(strings.NewReader(secret[:30]), &plugin.ClientUI{}); !errors.Is(err, ErrIdentityFile) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := parseIdentities(strings.NewReader(secret+"\nnonsense"), &plugin.ClientUI{}); !errors.Is(err, ErrIdentityFile) {
		t.Errorf("with a line that is nothing: %v", err)
	}
	if _, err := ParseRecipients([]string{secret}); !errors.Is(err, ErrSecretInPlace) {
		t.Errorf("a private key in the configuration: %v", err)
	}
	installToy(t)
	if _, err := ParseRecipients([]string{plugin.EncodeRecipient("toy", []byte("A touch is wanted"))}); !errors.Is(err, ErrPlugin) {
		t.Errorf("a plugin that asks while it wraps: %v", err)
	}
	if _, err := ParseRecipients([]string{plugin.EncodeRecipient("none", key)}); !errors.Is(err, ErrPlugin) || !strings.Contains(err.Error(), "install it") {
		t.Errorf("a plugin that is not installed: %v", err)
	}
}
