package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
)

// ErrAbsent means that a frame is not in this part of a block.
var ErrAbsent = errors.New("frame is not in this part of the block")

const nonceSize = 12

// blockKey derives the key of one block: from that of the day, with its whole
// header as the info.
func blockKey(day *secret, salt, header []byte) (k []byte, err error) {
	err = day.use(func(key []byte) error {
		if k, err = hkdf.Key(sha256.New, key, salt, string(header), keySize); err != nil {
			return fmt.Errorf("derive key of the block: %w", err)
		}
		return nil
	})
	return k, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	aead, err := cipher.NewGCM(c)
	if err != nil {
		return nil, fmt.Errorf("set up cipher: %w", err)
	}
	return aead, nil
}

// blockAEAD sets up the cipher of one block.
func blockAEAD(day *secret, salt, header []byte) (cipher.AEAD, error) {
	k, err := blockKey(day, salt, header)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	return newAEAD(k)
}

// nonceOf is the nonce of frame i. It comes once under one key, since the key
// is of one block only.
func nonceOf(i int) (n [nonceSize]byte) {
	binary.BigEndian.PutUint32(n[nonceSize-4:], uint32(i))
	return n
}

// Block is a sealed block with the key that opens it. It is safe for use by
// several goroutines.
type Block struct {
	Place  Place // proven as soon as a frame has been opened
	aead   cipher.AEAD
	frames [][]byte // sealed; nil where absent
}

// Block takes a sealed block, or a part of one, apart and derives its key. It
// opens nothing yet, so that an alteration shows only in Frame. The block keeps
// hold of sealed. The error wraps ErrTruncated, ErrOlder, ErrNewer, ErrDamaged,
// ErrWrongKey or ErrForgotten.
func (k *DayKey) Block(sealed []byte) (*Block, error) {
	p, err := parse(sealed)
	if err != nil {
		return nil, err
	}
	key, err := k.keyOf(&p)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return p.with(key)
}

// BlockKey returns the key of this one block, 32 bytes: whoever has it opens the
// block (OpenWith), whole or in parts, and no other. Errors are those of Block.
func (k *DayKey) BlockKey(sealed []byte) ([]byte, error) {
	p, err := parse(sealed)
	if err != nil {
		return nil, err
	}
	return k.keyOf(&p)
}

// OpenWith is Block with the key of the block alone. That it is another's shows
// only in Frame, as ErrDamaged.
func OpenWith(blockKey, sealed []byte) (*Block, error) {
	p, err := parse(sealed)
	if err != nil {
		return nil, err
	}
	if len(blockKey) != keySize {
		return nil, fmt.Errorf("open block %d of kind %d: %w: its key has %d bytes instead of %d", p.place.Seq, p.place.Kind, ErrWrongKey, len(blockKey), keySize)
	}
	return p.with(blockKey)
}

func (k *DayKey) keyOf(p *parsed) ([]byte, error) {
	if (name{p.place.Day, p.place.Epoch}) != k.of {
		return nil, fmt.Errorf("open block of day %d epoch %d with the key of day %d epoch %d: %w",
			p.place.Day, p.place.Epoch, k.of.day, k.of.epoch, ErrWrongKey)
	}
	header := p.header
	if p.part {
		header = append([]byte(magic), p.header[len(magic):]...)
	}
	key, err := blockKey(k.key, p.salt(), header)
	if err != nil {
		return nil, fmt.Errorf("open block %d of kind %d, day %d, epoch %d: %w", p.place.Seq, p.place.Kind, p.place.Day, p.place.Epoch, err)
	}
	runtime.KeepAlive(k) // its cleanup overwrites the key
	return key, nil
}

func (p *parsed) with(blockKey []byte) (*Block, error) {
	aead, err := newAEAD(blockKey)
	if err != nil {
		return nil, err
	}
	b := &Block{Place: p.place, aead: aead, frames: make([][]byte, p.frames)}
	p.each(func(i int, frame []byte) { b.frames[i] = frame })
	return b, nil
}

// Whole appends the plaintext of all frames to dst, one after the other. The error
// is that of Frame; dst is then returned as it was.
func (b *Block) Whole(dst []byte) (out []byte, err error) {
	out = dst
	for i := range b.frames {
		if out, err = b.Frame(out, i); err != nil {
			clear(out[len(dst):])
			return dst, err
		}
	}
	return out, nil
}

// Frames returns how many frames the block has, absent ones included.
func (b *Block) Frames() int { return len(b.frames) }

// Frame appends the plaintext of frame i, counted from 0, to dst. The error
// wraps ErrAbsent or ErrDamaged; dst is then returned as it was.
func (b *Block) Frame(dst []byte, i int) ([]byte, error) {
	if i < 0 || i >= len(b.frames) || b.frames[i] == nil {
		return dst, fmt.Errorf("open frame %d of %d of block %d: %w", i, len(b.frames), b.Place.Seq, ErrAbsent)
	}
	nonce := nonceOf(i)
	out, err := b.aead.Open(dst, nonce[:], b.frames[i], nil)
	if err != nil {
		p := &b.Place
		return dst, fmt.Errorf("open frame %d of block %d of kind %d, day %d, epoch %d: %w", i, p.Seq, p.Kind, p.Day, p.Epoch, ErrDamaged)
	}
	return out, nil
}

// Open appends the plaintext of all frames of a whole block to dst, one after
// the other, and returns it with its place, which is now proven. The error is
// that of Block and of Frame, or wraps ErrPart; dst is then returned as it was.
func (k *DayKey) Open(dst, sealed []byte) (Place, []byte, error) {
	if _, err := ParsePlace(sealed); err != nil {
		return Place{}, dst, err
	}
	b, err := k.Block(sealed)
	if err != nil {
		return Place{}, dst, err
	}
	out, err := b.Whole(dst)
	if err != nil {
		return Place{}, dst, err
	}
	return b.Place, out, nil
}
