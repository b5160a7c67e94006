package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var when = time.Date(2026, 5, 4, 3, 2, 1, 123456789, time.UTC)

// write makes a file in a temporary directory.
func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pcap(t testing.TB, link layers.LinkType, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: when, CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func pcapng(t testing.TB, link layers.LinkType, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, link)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: when, CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll returns copies of all frames.
func readAll(t testing.TB, path string) (frames []Frame, err error) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		f.Data = bytes.Clone(f.Data)
		frames = append(frames, f)
	}
}

var (
	ip4 = append([]byte{0x45, 0, 0, 20}, make([]byte, 16)...)
	ip6 = append([]byte{0x60}, make([]byte, 39)...)
)

func TestFramesOfEveryLinkBecomeEthernet(t *testing.T) {
	eth := append(append(make([]byte, 12), 8, 0), ip4...)
	sll := append(append(make([]byte, 14), 0x86, 0xdd), ip6...)
	sll2 := append(append([]byte{8, 0}, make([]byte, 18)...), ip4...)
	for _, c := range []struct {
		name  string
		link  layers.LinkType
		frame []byte
		kind  uint16
		rest  []byte
	}{
		{"Ethernet", layers.LinkTypeEthernet, eth, 0x0800, ip4},
		{"raw IPv4", layers.LinkTypeRaw, ip4, 0x0800, ip4},
		{"raw IPv6", layers.LinkTypeRaw, ip6, 0x86dd, ip6},
		{"BSD loopback", linkNull, append([]byte{2, 0, 0, 0}, ip4...), 0x0800, ip4},
		{"Linux cooked", layers.LinkTypeLinuxSLL, sll, 0x86dd, ip6},
		{"Linux cooked, version 2", linkSLL2, sll2, 0x0800, ip4},
		{"an empty raw frame", layers.LinkTypeRaw, nil, 0, nil},
		{"a cooked frame cut short", layers.LinkTypeLinuxSLL, sll[:9], 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, file := range [][]byte{pcap(t, c.link, c.frame), pcapng(t, c.link, c.frame)} {
				frames, err := readAll(t, write(t, file))
				if err != nil || len(frames) != 1 {
					t.Fatal(len(frames), err)
				}
				f := frames[0]
				if f.At != when.UnixNano() {
					t.Errorf("at %v", time.Unix(0, f.At).UTC())
				}
				if k := binary.BigEndian.Uint16(f.Data[12:]); k != c.kind || !bytes.Equal(f.Data[14:], c.rest) {
					t.Errorf("type %#x, % x", k, f.Data[14:])
				}
			}
		})
	}
}

func TestACaptureThatWasCutShortGivesItsWholeFrames(t *testing.T) {
	whole := pcap(t, layers.LinkTypeRaw, ip4, ip6)
	for cut := len(whole) - 1; cut > len(whole)-len(ip6); cut-- {
		frames, err := readAll(t, write(t, whole[:cut]))
		if len(frames) != 1 || !errors.Is(err, ErrCutShort) {
			t.Fatalf("cut at %d: %d frames, %v", cut, len(frames), err)
		}
	}
}

func TestAFrameLongerThanPromisedIsRead(t *testing.T) {
	file := pcap(t, layers.LinkTypeRaw, append(bytes.Clone(ip4), make([]byte, 500)...))
	binary.LittleEndian.PutUint32(file[16:], 96) // the snapshot length of the file header
	if frames, err := readAll(t, write(t, file)); len(frames) != 1 || err != nil {
		t.Error(len(frames), err)
	}
}

func TestWhatIsNoCaptureIsRefusedWithAReason(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"an empty file":       {nil, ErrFormat},
		"a text":              {[]byte("this is no capture at all, but a text"), ErrFormat},
		"only a file header":  {pcap(t, layers.LinkTypeRaw)[:20], ErrFormat},
		"a link not known":    {pcap(t, layers.LinkTypeIEEE802_11, ip4), ErrLinkType},
		"pcapng, header only": {pcapng(t, layers.LinkTypeRaw)[:12], ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readAll(t, write(t, c.file)); !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzOpen: any bytes are read to an end or an error, in bounded memory.
func FuzzOpen(f *testing.F) {
	f.Add(pcap(f, layers.LinkTypeRaw, ip4, ip6))
	f.Add(pcapng(f, layers.LinkTypeLinuxSLL, ip4, ip6))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, _ := readAll(t, write(t, b))
		for _, fr := range frames {
			if len(fr.Data) > maxFrame+14 {
				t.Fatalf("a frame of %d bytes from %d", len(fr.Data), len(b))
			}
		}
	})
}
