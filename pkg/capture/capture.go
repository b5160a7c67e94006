package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Errors of this package; all that Open and Next return wrap one of them, or
// an error of the operating system.
var (
	ErrFormat   = errors.New("not a pcap or pcapng capture")
	ErrLinkType = errors.New("link type not supported")
	ErrCutShort = errors.New("capture is cut short")
)

const maxFrame = 1 << 18 // bytes; the largest snapshot length that capture tools use

// Frame is one captured frame. Data is valid until the next call of Next.
type Frame struct {
	Data []byte // begins with an Ethernet header
	At   int64  // ns since 1970
}

// Reader reads one capture.
type Reader struct {
	file   *os.File
	source interface {
		ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	}
	linkType func(gopacket.CaptureInfo) layers.LinkType
	buf      []byte
	frames   int
}

// Open opens a capture for reading.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the capture: %w", err)
	}
	r := &Reader{file: f}
	if err := r.start(bufio.NewReaderSize(f, 1<<20)); err != nil {
		_ = f.Close() // the first error says why
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return r, nil
}

func (r *Reader) start(in *bufio.Reader) error {
	magic, err := in.Peek(4)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: shorter than a file header", ErrFormat)
	}
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(magic) == 0x0a0d0d0a {
		ng, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		r.source = ng
		r.linkType = func(ci gopacket.CaptureInfo) layers.LinkType {
			if i, err := ng.Interface(ci.InterfaceIndex); err == nil {
				return i.LinkType
			}
			return ng.LinkType()
		}
		return nil
	}
	p, err := pcapgo.NewReader(in)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	p.SetSnaplen(maxFrame) // some writers put more into a frame than they promise
	r.source = p
	r.linkType = func(gopacket.CaptureInfo) layers.LinkType { return p.LinkType() }
	return nil
}

// Next returns the next frame, io.EOF after the last one.
func (r *Reader) Next() (Frame, error) {
	data, ci, err := r.source.ReadPacketData()
	switch {
	case errors.Is(err, io.EOF):
		return Frame{}, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Frame{}, fmt.Errorf("%w after frame %d", ErrCutShort, r.frames)
	case err != nil:
		return Frame{}, fmt.Errorf("%w: frame %d: %w", ErrFormat, r.frames+1, err)
	}
	r.frames++
	frame, err := r.asEthernet(data, r.linkType(ci))
	if err != nil {
		return Frame{}, fmt.Errorf("frame %d: %w", r.frames, err)
	}
	return Frame{Data: frame, At: ci.Timestamp.UnixNano()}, nil
}

// Link-layer headers: www.tcpdump.org/linktypes.html.
const (
	linkNull   = layers.LinkType(0)
	linkRawBSD = layers.LinkType(12)
	linkLoop   = layers.LinkType(108)
	linkIPv4   = layers.LinkType(228)
	linkIPv6   = layers.LinkType(229)
	linkSLL2   = layers.LinkType(276)
)

func (r *Reader) asEthernet(data []byte, link layers.LinkType) ([]byte, error) {
	switch link {
	case layers.LinkTypeEthernet:
		return data, nil
	case layers.LinkTypeRaw, linkRawBSD, linkIPv4, linkIPv6:
		return r.prepend(data, 0, versionType(data)), nil
	case linkNull, linkLoop:
		return r.prepend(data, 4, versionType(cut(data, 4))), nil
	case layers.LinkTypeLinuxSLL:
		return r.prepend(data, 16, typeAt(data, 14)), nil
	case linkSLL2:
		return r.prepend(data, 20, typeAt(data, 0)), nil
	}
	return nil, fmt.Errorf("%w: %v (use a capture of Ethernet, raw IP, BSD loopback or Linux \"any\")", ErrLinkType, link)
}

// prepend puts an Ethernet header of that type where the first skip bytes were.
func (r *Reader) prepend(data []byte, skip int, ethertype uint16) []byte {
	r.buf = append(r.buf[:0], make([]byte, 12)...)
	r.buf = binary.BigEndian.AppendUint16(r.buf, ethertype)
	r.buf = append(r.buf, cut(data, skip)...)
	return r.buf
}

func cut(b []byte, n int) []byte {
	if len(b) < n {
		return nil
	}
	return b[n:]
}

// versionType is the Ethernet type of a bare IP header; 0 where there is none.
func versionType(ip []byte) uint16 {
	if len(ip) == 0 {
		return 0
	}
	switch ip[0] >> 4 {
	case 4:
		return uint16(layers.EthernetTypeIPv4)
	case 6:
		return uint16(layers.EthernetTypeIPv6)
	}
	return 0
}

func typeAt(b []byte, at int) uint16 {
	if len(b) < at+2 {
		return 0
	}
	return binary.BigEndian.Uint16(b[at:])
}

// Close closes the file. It may be called twice.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return fmt.Errorf("close the capture: %w", err)
	}
	return nil
}
