package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
)

// ErrWrongKey means that a block belongs to another day or epoch than the key.
var ErrWrongKey = errors.New("block belongs to another day or epoch than the key")

// The wrapped form of a data key is an age file with this inside:
//
//	 0   4  "EDGK"
//	 4   1  format version, 1
//	 5   4  day, big-endian, two's complement
//	 9   8  epoch, big-endian
//	17  32  key of AES-256
const (
	keyMagic    = "EDGK"
	keyVersion  = 1
	keySize     = 32
	payloadSize = 17 + keySize
)

func putPayload(b []byte, n name, key []byte) {
	copy(b, keyMagic)
	b[4] = keyVersion
	binary.BigEndian.PutUint32(b[5:], uint32(n.day))
	binary.BigEndian.PutUint64(b[9:], n.epoch)
	copy(b[17:], key)
}

// DayKey opens the blocks of one day and epoch. It is safe for use by several
// goroutines.
type DayKey struct {
	of  name
	key *secret
	own bool // the secret is the vault's
}

// OpenKey unwraps a data key. The error wraps ErrWrongIdentity, ErrDamaged or
// ErrNewer.
func OpenKey(wrapped []byte, ids *Identities) (*DayKey, error) {
	b, err := OpenSealed(wrapped, ids)
	if err != nil {
		return nil, fmt.Errorf("open wrapped data key: %w", err)
	}
	defer clear(b)
	of, key, err := parsePayload(b)
	if err != nil {
		return nil, err
	}
	k := &DayKey{of: of, key: newSecret(keySize)}
	copy(k.key.b, key)
	// Who drops a key without closing it leaves nothing behind for long.
	runtime.AddCleanup(k, (*secret).wipe, k.key)
	return k, nil
}

// parsePayload reads what is inside a wrapped data key.
func parsePayload(b []byte) (of name, key []byte, err error) {
	switch {
	case len(b) < 5 || string(b[:4]) != keyMagic:
		return of, nil, fmt.Errorf("open wrapped data key: %w: no data key is inside", ErrDamaged)
	case b[4] != keyVersion:
		return of, nil, fmt.Errorf("open wrapped data key: %w: format %d, this version reads %d", ErrNewer, b[4], keyVersion)
	case len(b) != payloadSize:
		return of, nil, fmt.Errorf("open wrapped data key: %w: %d bytes inside instead of %d", ErrDamaged, len(b), payloadSize)
	}
	return name{int32(binary.BigEndian.Uint32(b[5:])), binary.BigEndian.Uint64(b[9:])}, b[17:], nil
}

// Close overwrites the key, after which no other block is opened with it; a Block
// that was made before has a key of its own. A key that Vault.Own gave is its vault's to close. It is safe to call twice.
func (k *DayKey) Close() {
	if !k.own {
		k.key.wipe()
	}
}

// Day returns the UTC day of the key, counted from 1970-01-01.
func (k *DayKey) Day() int32 { return k.of.day }

// Epoch returns the epoch of the key.
func (k *DayKey) Epoch() uint64 { return k.of.epoch }

// IsSealedKey reports whether b begins like a wrapped data key. It needs no
// private key and proves no more than that.
func IsSealedKey(b []byte) bool { return bytes.HasPrefix(b, []byte("age-encryption.org/v1\n-> ")) }
