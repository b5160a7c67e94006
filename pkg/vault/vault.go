package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
)

// KeySaver keeps wrapped data keys. SaveKey must not return before the key is
// durable, and must refuse a (day, epoch) that it already has.
type KeySaver interface {
	SaveKey(day int32, epoch uint64, wrapped []byte) error
}

// Errors of the sealing side.
var (
	ErrTooFewRecipients = errors.New("too few recipients")
	ErrForgotten        = errors.New("the key of this day and epoch was given up")
	ErrExhausted        = errors.New("the key of this day and epoch has sealed as many blocks as it may")
	ErrClosed           = errors.New("vault is closed")
)

// maxSeals bounds the random nonces under one key: NIST SP 800-38D §8.3.
const maxSeals = 1 << 32

// Options of a Vault.
type Options struct {
	// MinRecipients is the least number of different recipients that a key must
	// be wrapped for; 0 means 1.
	MinRecipients int
	// Keys keeps the wrapped keys; required.
	Keys KeySaver
}

// DefaultOptions returns the options for one recipient; Keys must still be set.
func DefaultOptions() Options { return Options{MinRecipients: 1} }

// Vault seals. It is safe for use by several goroutines.
type Vault struct {
	recipients *Recipients
	saver      KeySaver

	mu     sync.Mutex
	keys   map[name]*sealer
	gone   map[name]bool // given up during this life; never given a second key
	closed bool
}

type name struct {
	day   int32
	epoch uint64
}

type sealer struct {
	aead  cipher.AEAD
	seals uint64
}

// New returns a Vault that wraps its keys for recipients, age public keys
// ("age1…"). The error wraps ErrRecipient or ErrTooFewRecipients.
func New(recipients []string, o Options) (*Vault, error) {
	if o.Keys == nil {
		return nil, errors.New("make vault: no place to save wrapped keys was given")
	}
	r, err := ParseRecipients(recipients)
	if err != nil {
		return nil, fmt.Errorf("make vault: %w", err)
	}
	if least := max(o.MinRecipients, 1); r.Len() < least {
		return nil, fmt.Errorf("make vault: %w: %d different, at least %d wanted; add the public keys of more custodians",
			ErrTooFewRecipients, r.Len(), least)
	}
	return &Vault{recipients: r, saver: o.Keys, keys: map[name]*sealer{}, gone: map[name]bool{}}, nil
}

// Seal appends to dst the place p and plaintext sealed under the key of p.Day
// and p.Epoch. The first call for a day and epoch makes the key and saves its
// wrapped form before it returns; if that fails, nothing is sealed and the next
// call tries again with another key.
func (v *Vault) Seal(dst []byte, p Place, plaintext []byte) ([]byte, error) {
	aead, err := v.take(name{p.Day, p.Epoch})
	if err != nil {
		return dst, fmt.Errorf("seal block of day %d epoch %d: %w", p.Day, p.Epoch, err)
	}
	start := len(dst)
	out, err := p.append(dst, len(plaintext))
	if err != nil {
		return dst, fmt.Errorf("seal block: %w", err)
	}
	end := len(out)
	// Seal prepends its nonce and may move out; the associated data stays readable in the old array.
	return aead.Seal(out, nil, plaintext, out[start:end:end]), nil
}

// take returns the cipher of n for one more block.
func (v *Vault) take(n name) (cipher.AEAD, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, ErrClosed
	}
	s := v.keys[n]
	if s == nil {
		if v.gone[n] {
			return nil, ErrForgotten
		}
		aead, err := v.makeKey(n)
		if err != nil {
			return nil, err
		}
		s = &sealer{aead: aead}
		v.keys[n] = s
	}
	if s.seals >= maxSeals {
		return nil, ErrExhausted
	}
	s.seals++
	return s.aead, nil
}

// makeKey makes the key of n, has its wrapped form saved, and returns its
// cipher. The key's bytes do not outlive the call.
func (v *Vault) makeKey(n name) (cipher.AEAD, error) {
	m := newSecret(keySize)
	defer m.wipe()
	if _, err := rand.Read(m.b); err != nil {
		return nil, fmt.Errorf("make data key: %w", err)
	}
	aead, err := newAEAD(m.b)
	if err != nil {
		return nil, err
	}
	payload := newSecret(payloadSize)
	defer payload.wipe()
	putPayload(payload.b, n, m.b)
	wrapped, err := v.recipients.SealTo(payload.b)
	if err != nil {
		return nil, fmt.Errorf("wrap data key: %w", err)
	}
	if err := v.saver.SaveKey(n.day, n.epoch, wrapped); err != nil {
		return nil, fmt.Errorf("save wrapped data key: %w", err)
	}
	return aead, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	return aead, nil
}

// Forget gives up every key of day. Blocks of that day can be sealed again only
// under another epoch.
func (v *Vault) Forget(day int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n := range v.keys {
		if n.day == day {
			v.gone[n] = true
			delete(v.keys, n)
		}
	}
}

// Days returns the days for which keys are held, in no order.
func (v *Vault) Days() []int32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := map[int32]bool{}
	var out []int32
	for n := range v.keys {
		if !seen[n.day] {
			seen[n.day] = true
			out = append(out, n.day)
		}
	}
	return out
}

// Close gives up every key. It is safe to call twice.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	clear(v.keys)
	return nil
}
