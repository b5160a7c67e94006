package radius

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
)

// material opens a file of the shared test data.
func material(t *testing.T, name string) []byte {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "..", "shared", "testdata", "open", "aaa")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the shared test data is not here")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// datagramsOf returns the payload of each UDP datagram of a capture, over IPv4.
func datagramsOf(t *testing.T, b []byte) (out [][]byte) {
	t.Helper()
	link := map[uint32]int{1: 14, 113: 16}[binary.LittleEndian.Uint32(b[20:])]
	for b = b[24:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[8:])
		ip := b[16+link : 16+n]
		out = append(out, ip[4*int(ip[0]&15)+8:])
		b = b[16+n:]
	}
	return out
}

var (
	tcpdumpPacket = regexp.MustCompile(`^\t\S.* \((\d+)\), id: 0x([0-9a-f]+), Authenticator: ([0-9a-f]+)`)
	tcpdumpAttr   = regexp.MustCompile(`^\t  (\S+) Attribute \((\d+)\), length: (\d+), Value: (.*)`)
)

func TestCapturesDecodeAsTcpdumpSaysThemToBe(t *testing.T) {
	for capture, out := range map[string]string{
		"tcpdump__RADIUS.pcap": "tcpdump__radius-v.out", "tcpdump__RADIUS-RFC4675.pcap": "tcpdump__radius-rfc4675-v.out",
		"tcpdump__RADIUS-RFC5176.pcap": "tcpdump__radius-rfc5176-v.out",
	} {
		t.Run(capture, func(t *testing.T) {
			packets := datagramsOf(t, material(t, capture))
			var attrs codec.Attributes
			seen, left := 0, codec.Attributes{}
			for line := range strings.Lines(string(material(t, out))) {
				line = strings.TrimRight(line, "\n")
				if m := tcpdumpPacket.FindStringSubmatch(line); m != nil {
					p := packets[seen]
					seen++
					if why, ok := form(p); !ok && why != dropCode {
						t.Fatalf("packet %d: %s", seen, reasonWords[why])
					}
					if fmt.Sprint(p[0]) != m[1] || hex.EncodeToString(p[1:2]) != m[2] || hex.EncodeToString(p[4:20]) != m[3] {
						t.Errorf("packet %d begins with %x, want %v", seen, p[:20], m[1:])
					}
					var err error
					if attrs, err = codec.ParseAttributes(p[20:binary.BigEndian.Uint16(p[2:])]); err != nil {
						t.Fatal(err)
					}
					if len(left) > 0 {
						t.Errorf("%d attributes more than tcpdump saw before packet %d", len(left), seen)
					}
					left = attrs
					continue
				}
				m := tcpdumpAttr.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				a := left[0]
				left = left[1:]
				if fmt.Sprint(a.Type) != m[2] || fmt.Sprint(len(a.Attribute)+2) != m[3] {
					t.Errorf("packet %d: attribute %d of %d bytes, want %v", seen, a.Type, len(a.Attribute)+2, m[1:])
				}
				r := reader{attrs: attrs}
				switch a.Type {
				case 1, 30, 31, 32:
					if got := r.text(a.Type); got != m[4] {
						t.Errorf("%s is %q, want %q", m[1], got, m[4])
					}
				case 4:
					if got := r.nasAddress(); got != m[4] {
						t.Errorf("%s is %q, want %q", m[1], got, m[4])
					}
				}
			}
			if seen != len(packets) || len(left) != 0 {
				t.Errorf("%d of %d packets, %d attributes left", seen, len(packets), len(left))
			}
		})
	}
}

// commands are those of FreeRADIUS's unit tests, with what they must give.
func commands(t *testing.T, name string) (out [][2]string) {
	t.Helper()
	var last string
	s := bufio.NewScanner(bytes.NewReader(material(t, name)))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if want, ok := strings.CutPrefix(line, "match"); ok {
			out = append(out, [2]string{last, strings.TrimSpace(want)})
		} else if line != "" && line[0] != '#' {
			last = line
		}
	}
	return out
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		return nil
	}
	return b
}

// Each name that an import knows is, in what FreeRADIUS decodes, the attribute
// that we take it for.
func TestPacketsDecodeAsFreeRADIUSSays(t *testing.T) {
	checked, refused := 0, 0
	for _, file := range []string{"radius-packet_radius", "radius-packet_rfc4675", "radius-packet_rfc5176", "radius-errors"} {
		for _, c := range commands(t, "freeradius__"+file+".txt") {
			text, ok := strings.CutPrefix(c[0], "decode-proto ")
			b := unhex(text)
			if !ok || b == nil {
				continue
			}
			if reason, isError := strings.CutPrefix(c[1], "ERROR: "); isError {
				refused++
				if accepted(b) {
					t.Errorf("%s: accepted, but: %s", text, reason)
				}
				continue
			}
			attrs, err := codec.ParseAttributes(b[20:])
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			for _, pair := range strings.Split(c[1], ", ") {
				name, value, _ := strings.Cut(pair, " = ")
				n, known := detailNames[name]
				if !known || n.vendor != 0 || n.tlv {
					continue
				}
				value, err := unquote(strings.TrimPrefix(value, "::"))
				if err != nil {
					t.Fatal(err)
				}
				want, err := n.encode(value)
				got, _ := attrs.Lookup(codec.Type(n.kind))
				if err != nil || n.form != asDate && !bytes.Equal(got, want) {
					t.Errorf("%s: %x is not %s (%x), %v", text, got, pair, want, err)
				}
				checked++
			}
		}
	}
	if checked < 15 || refused < 15 {
		t.Errorf("%d attributes and %d refusals were there to be checked", checked, refused)
	}
}

// accepted reports whether a server would answer this datagram if it were
// authentic.
func accepted(b []byte) bool {
	if _, ok := form(b); !ok {
		return false
	}
	req, _, ok := open(b, &client{Client: Client{Secret: []byte(secret)}})
	return ok && req.attrs != nil
}

func TestVendorAttributesDecodeAsFreeRADIUSSays(t *testing.T) {
	for text, want := range map[string]string{
		"1a 0d 00 00 1f e4 00 02 00 07 66 6f 6f":                         `8164.2="foo"`,
		"1a 0e 00 00 01 ad 00 00 bf be 00 00 04 d2":                      `429.49086="\x00\x00\x04\xd2"`,
		"1a 15 00 00 4e 20 01 0f 6c 69 74 68 69 61 73 70 72 69 6e 67 73": `20000.1="lithiasprings"`,
	} {
		found := false
		for _, c := range commands(t, "freeradius__radius-vendor.txt") {
			found = found || strings.Contains(c[0]+c[1], text)
		}
		if !found {
			t.Errorf("%s is not in the file", text)
		}
		attrs, err := codec.ParseAttributes(unhex(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		eachVendor(attrs, func(vendor, kind uint32, value []byte) { got += fmt.Sprintf("%d.%d=%q", vendor, kind, value) },
			func() { t.Errorf("%s is taken for malformed", text) })
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestTheDetailFileOfFreeRADIUSsOwnTests(t *testing.T) {
	book := &testBook{}
	s, err := New(book, nil, Options{Clock: func() time.Time { return time.Unix(1554226681, 0).Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	im, err := s.Import(context.Background(), bytes.NewReader(material(t, "freeradius__detail-one.txt")))
	if err != nil || im.Taken != 1 || im.Entries != 1 {
		t.Fatalf("%+v, %v", im, err)
	}
	e := book.got()[0]
	if e.Kind != identity.Start || e.At != 1554226681e9 || e.Subscriber != "bob" || e.NAS != "10.10.0.179" || e.Session != "ed8119f6919c6f6f" || e.Line != "0123456789" {
		t.Errorf("%+v", e)
	}
}
