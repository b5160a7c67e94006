package vault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"
)

// Errors of age keys.
var (
	ErrRecipient     = errors.New("recipient is not an age public key")
	ErrSecretInPlace = errors.New("this is a private key, not a public one; it must not be on this machine")
	ErrIdentityFile  = errors.New("file is not an age identity file")
	ErrPassphrase    = errors.New("passphrase is wrong")
	ErrWrongIdentity = errors.New("it was not sealed for any of these keys")
)

const maxIdentityFile = 1 << 20 // bytes

// Recipients are the public keys of those who may read.
type Recipients struct {
	list  []age.Recipient
	names []string
}

// ParseRecipients reads age public keys; a key given twice counts once. For one
// of a plugin (age1yubikey1…) age-plugin-NAME is run, now and for each key that
// is wrapped. The error wraps ErrRecipient, ErrPlugin or ErrSecretInPlace and
// never repeats a private key.
func ParseRecipients(keys []string) (*Recipients, error) {
	r := &Recipients{}
	seen := map[string]bool{}
	for i, k := range keys {
		k = strings.TrimSpace(k)
		if strings.HasPrefix(strings.ToUpper(k), "AGE-SECRET-KEY-") || strings.HasPrefix(strings.ToUpper(k), "AGE-PLUGIN-") {
			return nil, fmt.Errorf("recipient %d: %w; give the key that begins with age1", i+1, ErrSecretInPlace)
		}
		if seen[k] {
			continue
		}
		seen[k] = true
		parsed, err := parseRecipient(k)
		if err != nil {
			return nil, fmt.Errorf("recipient %d, %q: %w: it should look like age1… as age-keygen -y prints it", i+1, k, err)
		}
		r.list, r.names = append(r.list, parsed), append(r.names, k)
	}
	if len(r.list) == 0 {
		return nil, fmt.Errorf("%w: none was given", ErrTooFewRecipients)
	}
	// A trial shows at once whether age accepts this set of keys together.
	if _, err := r.SealTo(nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecipient, err)
	}
	return r, nil
}

func parseRecipient(k string) (age.Recipient, error) {
	list, err := age.ParseRecipients(strings.NewReader(k))
	switch {
	case err != nil:
		return parsePluginRecipient(k)
	case len(list) != 1:
		return nil, ErrRecipient
	}
	return list[0], nil
}

// Len returns the number of different recipients.
func (r *Recipients) Len() int { return len(r.list) }

// Names returns the public keys as they were given.
func (r *Recipients) Names() []string { return append([]string(nil), r.names...) }

// SealTo returns plaintext as an age file that each recipient can open.
func (r *Recipients) SealTo(plaintext []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r.list...)
	if err != nil {
		return nil, fmt.Errorf("seal to %d recipients: %w", len(r.list), err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, fmt.Errorf("seal to %d recipients: %w", len(r.list), err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal to %d recipients: %w", len(r.list), err)
	}
	return out.Bytes(), nil
}

// SealTo returns plaintext as an age file that each of recipients can open.
func SealTo(recipients []string, plaintext []byte) ([]byte, error) {
	r, err := ParseRecipients(recipients)
	if err != nil {
		return nil, err
	}
	return r.SealTo(plaintext)
}

// Identities are private keys.
type Identities struct{ list []age.Identity }

// Unwrap makes Identities an age.Identity of all its keys.
func (ids *Identities) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	for _, id := range ids.list {
		fileKey, err = id.Unwrap(stanzas)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return fileKey, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// OpenSealed returns the plaintext of what SealTo made. The error wraps
// ErrWrongIdentity or ErrPlugin, or ErrDamaged when not one byte may be trusted.
func OpenSealed(sealed []byte, ids *Identities) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), ids.list...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("open sealed data: %w", ErrWrongIdentity)
	}
	if errors.Is(err, ErrPlugin) {
		return nil, fmt.Errorf("open sealed data: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open sealed data: %w: %w", ErrDamaged, err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("open sealed data: %w: %w", ErrDamaged, err)
	}
	return out, nil
}

// ParseIdentities reads a file of age private keys as age-keygen writes it. The
// error wraps ErrIdentityFile, or ErrPlugin for a key that lies with a plugin,
// and never repeats what it read.
func ParseIdentities(r io.Reader) (*Identities, error) { return parseIdentities(r, nil) }

func parseIdentities(r io.Reader, ui *plugin.ClientUI) (*Identities, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxIdentityFile+1))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	defer clear(b)
	if len(b) > maxIdentityFile {
		return nil, fmt.Errorf("read identities: %w: longer than %d bytes", ErrIdentityFile, maxIdentityFile)
	}
	list, err := parseIdentityLines(b, ui)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	return &Identities{list: list}, nil
}

// OpenIdentities reads an age identity file, plain or protected with a
// passphrase (age -p, binary or armored). passphrase is asked only for the
// latter; nil means that there is nobody to ask. The error wraps the file
// system's, ErrIdentityFile, ErrPassphrase, or ErrPlugin for a key that lies
// with a plugin: OpenIdentitiesWith takes those.
func OpenIdentities(path string, passphrase func() (string, error)) (*Identities, error) {
	return OpenIdentitiesWith(path, passphrase, nil)
}

// OpenIdentitiesWith is OpenIdentities for files that may name keys of age
// plugins too, lines AGE-PLUGIN-…. ui is how a plugin asks for a PIN or a touch
// whenever it opens something (plugin.NewTerminalUI, for one).
func OpenIdentitiesWith(path string, passphrase func() (string, error), ui *plugin.ClientUI) (*Identities, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open identity file: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, 2*maxIdentityFile))
	head, _ := r.Peek(len(armor.Header))
	var src io.Reader
	switch {
	case bytes.HasPrefix(head, []byte("age-encryption.org/")):
		src = r
	case string(head) == armor.Header:
		src = armor.NewReader(r)
	default:
		ids, err := parseIdentities(r, ui)
		if err != nil {
			return nil, fmt.Errorf("identity file %q: %w", path, err)
		}
		return ids, nil
	}
	ids, err := openProtected(src, passphrase, ui)
	if err != nil {
		return nil, fmt.Errorf("identity file %q: %w", path, err)
	}
	return ids, nil
}

func openProtected(src io.Reader, passphrase func() (string, error), ui *plugin.ClientUI) (*Identities, error) {
	if passphrase == nil {
		return nil, fmt.Errorf("%w: it is protected and there is nobody to ask for the passphrase", ErrPassphrase)
	}
	word, err := passphrase()
	if err != nil {
		return nil, fmt.Errorf("ask for passphrase: %w", err)
	}
	id, err := age.NewScryptIdentity(word)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPassphrase, err)
	}
	plain, err := age.Decrypt(src, id)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none) && len(none.StanzaTypes) == 1 && none.StanzaTypes[0] == "scrypt":
		return nil, ErrPassphrase
	case err != nil:
		return nil, fmt.Errorf("%w: it is not an identity file protected with a passphrase", ErrIdentityFile)
	}
	return parseIdentities(plain, ui)
}

// KeyPair is a fresh age key pair, X25519.
type KeyPair struct {
	Secret    string // AGE-SECRET-KEY-1…: for the custodian alone
	Recipient string // age1…: for the configuration
}

// GenerateIdentity makes a key pair that every version of age can use.
func GenerateIdentity() (KeyPair, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return KeyPair{}, fmt.Errorf("make key pair: %w", err)
	}
	return KeyPair{Secret: id.String(), Recipient: id.Recipient().String()}, nil
}

// File returns the pair as the identity file that age-keygen would write.
func (k KeyPair) File() []byte {
	return []byte("# public key: " + k.Recipient + "\n" + k.Secret + "\n")
}
