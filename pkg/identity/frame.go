package identity

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A state file is a header and frames, each sealed with the key of its
// generation. Numbers are little endian.
//
//	header  | "edgelogB" | version u8 | 'L' log or 'S' snapshot u8 | 0 u16 | generation u64 | crc32c of all before u32 |
//	frame   | "Efr1" | number u64 | sealed bytes u32 | crc32c of all before u32 | nonce 12 | ciphertext | tag 16 |
//
// AES-256-GCM binds each frame to the header and to its own number, so that no
// frame can be moved, repeated or left out unseen. Each frame is written and
// synced before the next one, so that after a crash only the last may be torn.
// The checksum in the frame's own header tells a torn tail from damage: frames
// that follow a broken one prove that it had been whole.
const (
	fileMagic   = "edgelogB"
	frameMagic  = "Efr1"
	version     = 1
	kindLog     = 'L'
	kindSnap    = 'S'
	headerLen   = 8 + 1 + 1 + 2 + 8 + 4
	frameHeader = 4 + 8 + 4 + 4
	sealOver    = 12 + 16 // nonce and tag

	keyMagic = "edgelogK"
	keyLen   = 8 + 8 + 32 + 4
)

// maxFrame bounds the plain text of a frame, in bytes.
const maxFrame = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendHeader(b []byte, kind byte, gen uint64) []byte {
	n := len(b)
	b = append(b, fileMagic...)
	b = append(b, version, kind, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, gen)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[n:], castagnoli))
}

// newKey returns the contents of a new key file.
func newKey(gen uint64) []byte {
	b := append(make([]byte, 0, keyLen), keyMagic...)
	b = binary.LittleEndian.AppendUint64(b, gen)
	b = append(b, make([]byte, 32)...)
	rand.Read(b[16:48]) // never fails: it ends the program instead
	return sumKey(b)
}

// sumKey appends the checksum of a key file.
func sumKey(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var (
	errKeyBroken = errors.New("it is not a key file of this book, or was cut short or changed")
	errHeader    = errors.New("its header is not that of this file")
	errDamaged   = errors.New("it is damaged: a sealed frame does not open")
	errCut       = errors.New("it ends before its end mark")
)

// openKey returns the cipher of the key file contents b.
func openKey(b []byte, gen uint64) (cipher.AEAD, error) {
	if len(b) != keyLen || string(b[:8]) != keyMagic || binary.LittleEndian.Uint64(b[8:]) != gen ||
		crc32.Checksum(b[:48], castagnoli) != binary.LittleEndian.Uint32(b[48:]) {
		return nil, errKeyBroken
	}
	block, err := aes.NewCipher(b[16:48])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// frameWriter appends frames to a file.
type frameWriter struct {
	f      file
	aead   cipher.AEAD
	header []byte // of the file; bound into each frame
	next   uint64 // number of the next frame
	size   int64
	buf    []byte
}

// file is what a frameWriter needs of an *os.File; tests put a failing one.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// write seals plain as one frame. It does not sync.
func (w *frameWriter) write(plain []byte) error {
	if len(plain) > maxFrame {
		return fmt.Errorf("a frame of %d bytes: at most %d are possible", len(plain), maxFrame)
	}
	b := append(w.buf[:0], frameMagic...)
	b = binary.LittleEndian.AppendUint64(b, w.next)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(plain)+sealOver))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = w.aead.Seal(b, nil, plain, frameAAD(w.header, b[:frameHeader]))
	w.buf = b
	if cap(w.buf) > 4<<20 {
		w.buf = nil
	}
	n, err := w.f.Write(b)
	w.size += int64(n)
	if err != nil {
		return err
	}
	w.next++
	return nil
}

func frameAAD(header, frame []byte) []byte {
	aad := make([]byte, 0, headerLen+frameHeader)
	return append(append(aad, header...), frame...)
}

// frameReader reads the frames of one file from memory.
type frameReader struct {
	data []byte // the whole file
	aead cipher.AEAD
	off  int
	next uint64
	torn int // bytes of a torn tail, 0 when there is none
}

func newFrameReader(data []byte, aead cipher.AEAD, kind byte, gen uint64) (*frameReader, error) {
	if len(data) < headerLen {
		return nil, fmt.Errorf("%w: it has only %d bytes", errHeader, len(data))
	}
	if !bytes.Equal(data[:headerLen], appendHeader(nil, kind, gen)) {
		if string(data[:8]) == fileMagic && data[8] > version {
			return nil, fmt.Errorf("%w: it is of the newer format %d", errHeader, data[8])
		}
		return nil, errHeader
	}
	return &frameReader{data: data, aead: aead, off: headerLen}, nil
}

// read returns the plain text of the next frame, or io.EOF at the end. A torn
// tail is an end too, see torn; damage before the end is errDamaged.
func (r *frameReader) read() ([]byte, error) {
	rest := r.data[r.off:]
	if len(rest) == 0 {
		return nil, io.EOF
	}
	n, ok := frameSize(rest, r.next)
	if ok && n <= len(rest) {
		plain, err := r.aead.Open(nil, nil, rest[frameHeader:n], frameAAD(r.data[:headerLen], rest[:frameHeader]))
		if err == nil {
			r.off += n
			r.next++
			return plain, nil
		}
	}
	short := len(rest) < frameHeader || ok && n > len(rest)
	if r.frameFollows(rest) || !short && !unwritten(rest) {
		return nil, fmt.Errorf("%w (frame %d at byte %d)", errDamaged, r.next, r.off)
	}
	r.torn = len(rest)
	r.off = len(r.data)
	return nil, io.EOF
}

// frameSize returns the size of the frame that b begins with, if its header is
// whole and has the number next.
func frameSize(b []byte, next uint64) (int, bool) {
	if len(b) < frameHeader || string(b[:4]) != frameMagic || binary.LittleEndian.Uint64(b[4:]) != next ||
		crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if n < sealOver || n > maxFrame+sealOver {
		return 0, false
	}
	return frameHeader + int(n), true
}

// frameFollows reports whether a later frame begins somewhere in rest.
func (r *frameReader) frameFollows(rest []byte) bool {
	for i := 1; ; {
		j := bytes.Index(rest[min(i, len(rest)):], []byte(frameMagic))
		if j < 0 {
			return false
		}
		i += j
		if len(rest)-i >= frameHeader {
			n := binary.LittleEndian.Uint64(rest[i+4:])
			if _, ok := frameSize(rest[i:], n); ok && n > r.next {
				return true
			}
		}
		i++
	}
}

// unwritten reports whether b has a run of zeros that sealed bytes never have:
// the file had grown, but the crash came before all of it was written.
func unwritten(b []byte) bool { return bytes.Contains(b, make([]byte, 24)) }

// createFile makes a file that must not exist, with its header, synced.
func createFile(path string, header []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(header); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
