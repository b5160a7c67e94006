package delivery

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// The zip is written in one form only (APPNOTE 6.3): for each member in order a
// local header of 30 bytes, the name, the data; then for each the central header
// of 46 bytes and the name; then 22 bytes of the end. No extra fields, comments,
// descriptors, encryption or zip64; all times 1980-01-01 00:00; mode 0644. A
// reader that writes the headers again from what it read and compares has looked
// at every byte, and there is no room for a second directory, another name in
// the local header, or anything before or between.
const (
	localSize, centralSize, endSize = 30, 46, 22

	sigLocal, sigCentral, sigEnd = 0x04034b50, 0x02014b50, 0x06054b50

	methodStored   = 0
	methodDeflated = 8

	zipVersion = 20
	madeByUnix = 3<<8 | zipVersion
	zipDate    = 1<<5 | 1 // 1980-01-01
	fileMode   = 0o100644 << 16
)

// stored is a member as it lies in the zip.
type stored struct {
	name   string
	method uint16
	data   []byte // packed
	crc    uint32 // of the content
	size   uint64 // of the content
	sum    [sha256.Size]byte
}

// pack compresses what write writes.
func pack(name string, write func(io.Writer) error) (stored, error) {
	var out bytes.Buffer
	z, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return stored{}, err
	}
	sum, crc, size := sha256.New(), crc32.NewIEEE(), counter(0)
	w := bufio.NewWriterSize(io.MultiWriter(z, sum, crc, &size), 1<<16)
	if err := write(w); err != nil {
		return stored{}, err
	}
	if err := w.Flush(); err != nil {
		return stored{}, err
	}
	if err := z.Close(); err != nil {
		return stored{}, err
	}
	s := stored{name: name, method: methodDeflated, data: out.Bytes(), crc: crc.Sum32(), size: uint64(size)}
	sum.Sum(s.sum[:0])
	return s, nil
}

// counter counts what is written to it.
type counter uint64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// plainMember is a member that lies in the zip as it is.
func plainMember(name string, b []byte) stored {
	return stored{name: name, method: methodStored, data: b, crc: crc32.ChecksumIEEE(b), size: uint64(len(b)), sum: sha256.Sum256(b)}
}

// shared appends what the local and the central header have in common.
func (s *stored) shared(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, zipVersion)
	b = le.AppendUint16(b, 0) // flags
	b = le.AppendUint16(b, s.method)
	b = le.AppendUint16(b, 0) // time
	b = le.AppendUint16(b, zipDate)
	b = le.AppendUint32(b, s.crc)
	b = le.AppendUint32(b, uint32(len(s.data)))
	b = le.AppendUint32(b, uint32(s.size))
	b = le.AppendUint16(b, uint16(len(s.name)))
	return le.AppendUint16(b, 0) // extra field
}

// local returns the local header and the name.
func (s *stored) local() []byte {
	b := s.shared(binary.LittleEndian.AppendUint32(nil, sigLocal))
	return append(b, s.name...)
}

// directory returns all that stands behind the members.
func directory(list []stored) []byte {
	le := binary.LittleEndian
	var b []byte
	at := 0
	for i := range list {
		s := &list[i]
		b = le.AppendUint32(b, sigCentral)
		b = s.shared(le.AppendUint16(b, madeByUnix))
		b = le.AppendUint16(b, 0) // comment
		b = le.AppendUint16(b, 0) // disk
		b = le.AppendUint16(b, 0) // internal attributes
		b = le.AppendUint32(b, fileMode)
		b = le.AppendUint32(b, uint32(at))
		b = append(b, s.name...)
		at += localSize + len(s.name) + len(s.data)
	}
	size := len(b)
	b = le.AppendUint32(b, sigEnd)
	b = le.AppendUint32(b, 0) // disks
	b = le.AppendUint16(b, uint16(len(list)))
	b = le.AppendUint16(b, uint16(len(list)))
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, uint32(at))
	return le.AppendUint16(b, 0) // comment
}

func writeZip(w io.Writer, list []stored) error {
	total := 0
	for i := range list {
		if list[i].size > math.MaxUint32 {
			return fmt.Errorf("%w: %q has more than 4 GiB", ErrInput, list[i].name)
		}
		total += localSize + len(list[i].name) + len(list[i].data)
	}
	if total > math.MaxUint32 {
		return fmt.Errorf("%w: it has more than 4 GiB", ErrInput)
	}
	for i := range list {
		for _, b := range [][]byte{list[i].local(), list[i].data} {
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("write package: %w", err)
			}
		}
	}
	if _, err := w.Write(directory(list)); err != nil {
		return fmt.Errorf("write package: %w", err)
	}
	return nil
}

// What a package may hold; more than any has.
const (
	mostMembers = 16
	longestName = 32
	mostContent = 2 << 30 // bytes of all members together, unpacked
)

// errZip is wrapped by errors about the zip itself.
var errZip = errors.New("its zip is not as edgelog writes one")

// readZip takes a zip apart. It accepts only what writeZip writes. The data are
// not unpacked; sums are not known yet.
func readZip(b []byte) ([]stored, error) {
	le := binary.LittleEndian
	var list []stored
	var total uint64
	at := 0
	for len(b)-at >= localSize && le.Uint32(b[at:]) == sigLocal {
		h := b[at:]
		packed, size, name := int(le.Uint32(h[18:])), le.Uint32(h[22:]), int(le.Uint16(h[26:]))
		if len(list) == mostMembers {
			return nil, fmt.Errorf("%w: it has more than %d members", errZip, mostMembers)
		}
		if name > longestName || len(h) < localSize+name || len(h)-localSize-name < packed {
			return nil, fmt.Errorf("%w: member %d, at byte %d: its header or its data are cut off, or a length in it is wrong", errZip, len(list)+1, at)
		}
		s := stored{
			name: string(h[localSize : localSize+name]), method: le.Uint16(h[8:]), crc: le.Uint32(h[14:]), size: uint64(size),
			data: h[localSize+name : localSize+name+packed],
		}
		if !bytes.Equal(s.local(), h[:localSize+name]) {
			return nil, fmt.Errorf("%w: member %q: its header, at byte %d", errZip, s.name, at)
		}
		if !plainName(s.name) {
			return nil, fmt.Errorf("%w: member %q, at byte %d: its name is not one of a file of this directory", errZip, s.name, at)
		}
		if total += s.size; total > mostContent {
			return nil, fmt.Errorf("%w: member %q: it says that more than %d bytes come out of it", errZip, s.name, int64(mostContent))
		}
		if slices.ContainsFunc(list, func(o stored) bool { return o.name == s.name }) {
			return nil, fmt.Errorf("%w: member %q, at byte %d: there are two of that name", errZip, s.name, at)
		}
		list = append(list, s)
		at += localSize + name + packed
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: it does not begin with a member", errZip)
	}
	want := directory(list)
	if got := b[at:]; !bytes.Equal(got, want) {
		n := 0
		for n < len(got) && n < len(want) && got[n] == want[n] {
			n++
		}
		return nil, fmt.Errorf("%w: its directory, at byte %d", errZip, at+n)
	}
	return list, nil
}

// plainName reports whether a program that unpacks the zip writes it into the
// directory it was told to.
func plainName(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '.' && s[0] != '-'
}

// unpack writes the content of a member to w, and no more than it says that it
// has; it checks size and CRC-32, and sets sum.
func (s *stored) unpack(w io.Writer) error {
	in := bytes.NewReader(s.data)
	var r io.Reader = in
	switch s.method {
	case methodStored:
	case methodDeflated:
		r = flate.NewReader(in)
	default:
		return fmt.Errorf("it is packed by method %d", s.method)
	}
	sum, crc := sha256.New(), crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(w, sum, crc), io.LimitReader(r, int64(s.size)+1))
	switch {
	case err != nil:
		return fmt.Errorf("it cannot be unpacked: %w", err)
	case uint64(n) != s.size:
		return errors.New("it has not the size that its header says")
	case in.Len() > 0:
		return errors.New("something lies behind its packed data")
	case crc.Sum32() != s.crc:
		return errors.New("it has not the check sum that its header says")
	}
	sum.Sum(s.sum[:0])
	return nil
}
