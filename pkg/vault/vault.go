package vault

import (
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

// maxSeals bounds the blocks of one day and epoch. Each has a key of its own as
// long as no other one has both its header and its random salt of 128 bits: the
// chance that two of 2^32 salts are the same is 2^-65.
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
	key   *secret
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

// Seal appends to dst the place p and the frames, sealed under a key derived
// from that of p.Day and p.Epoch. The first call for a day and epoch makes the
// key and saves its wrapped form before it returns; if that fails, nothing is
// sealed and the next call tries again with another key. A block has 1 to
// MaxFrames frames; one may be empty. The error wraps ErrPlace, ErrForgotten,
// ErrExhausted, ErrClosed or the KeySaver's; dst is then returned as it was.
func (v *Vault) Seal(dst []byte, p Place, frames ...[]byte) ([]byte, error) {
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: without randomness it ends the process
	start := len(dst)
	out, err := p.append(dst, salt, frames)
	if err != nil {
		return dst, fmt.Errorf("seal block: %w", err)
	}
	key, err := v.take(name{p.Day, p.Epoch})
	if err != nil {
		return dst, fmt.Errorf("seal block of day %d epoch %d: %w", p.Day, p.Epoch, err)
	}
	aead, err := blockAEAD(key, salt[:], out[start:])
	if err != nil {
		return dst, fmt.Errorf("seal block of day %d epoch %d: %w", p.Day, p.Epoch, err)
	}
	for i, f := range frames {
		nonce := nonceOf(i)
		out = aead.Seal(out, nonce[:], f, nil)
	}
	return out, nil
}

// take returns the key of n for one more block.
func (v *Vault) take(n name) (*secret, error) {
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
		key, err := v.makeKey(n)
		if err != nil {
			return nil, err
		}
		s = &sealer{key: key}
		v.keys[n] = s
	}
	if s.seals >= maxSeals {
		return nil, ErrExhausted
	}
	s.seals++
	return s.key, nil
}

// makeKey makes the key of n and has its wrapped form saved.
func (v *Vault) makeKey(n name) (*secret, error) {
	key := newSecret(keySize)
	_, _ = rand.Read(key.b) // never fails: without randomness it ends the process
	if err := v.saveKey(n, key.b); err != nil {
		key.wipe()
		return nil, err
	}
	return key, nil
}

func (v *Vault) saveKey(n name, key []byte) error {
	payload := newSecret(payloadSize)
	defer payload.wipe()
	putPayload(payload.b, n, key)
	wrapped, err := v.recipients.SealTo(payload.b)
	if err != nil {
		return fmt.Errorf("wrap data key: %w", err)
	}
	if err := v.saver.SaveKey(n.day, n.epoch, wrapped); err != nil {
		return fmt.Errorf("save wrapped data key: %w", err)
	}
	return nil
}

// Own returns the key of a day and epoch that this vault made itself and still
// holds, so that blocks which are not given up yet can be merged. Once
// the vault has forgotten the day or is closed, its Block gives ErrForgotten.
func (v *Vault) Own(day int32, epoch uint64) (*DayKey, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := name{day, epoch}
	s := v.keys[n]
	if s == nil {
		return nil, false
	}
	return &DayKey{of: n, key: s.key, own: true}, true
}

// Forget overwrites every key of day. Blocks of that day can be sealed again only
// under another epoch.
func (v *Vault) Forget(day int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n, s := range v.keys {
		if n.day == day {
			s.key.wipe()
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

// Close overwrites every key. It is safe to call twice.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for _, s := range v.keys {
		s.key.wipe()
	}
	clear(v.keys)
	return nil
}
