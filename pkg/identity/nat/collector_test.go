package nat

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// writer puts datagrams together, of IPFIX or NetFlow version 9.
type writer struct {
	version  uint16
	sequence uint32
	sets     []byte
}

func (w *writer) set(id uint16, body ...byte) {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	w.sets = binary.BigEndian.AppendUint16(w.sets, id)
	w.sets = binary.BigEndian.AppendUint16(w.sets, uint16(setHeader+len(body)))
	w.sets = append(w.sets, body...)
}

// template puts a template of elements and their lengths; an element of an
// enterprise has its bit set.
func (w *writer) template(id uint16, fields ...uint16) {
	body := binary.BigEndian.AppendUint16(nil, id)
	body = binary.BigEndian.AppendUint16(body, uint16(len(fields)/2))
	for i := 0; i < len(fields); i += 2 {
		body = binary.BigEndian.AppendUint16(body, fields[i])
		body = binary.BigEndian.AppendUint16(body, fields[i+1])
		if fields[i]&enterprise != 0 {
			body = binary.BigEndian.AppendUint32(body, 29305)
		}
	}
	set := uint16(setTemplates)
	if w.version == v9Version {
		set = setV9Templates
	}
	w.set(set, body...)
}

// datagram ends one; records is how many it holds.
func (w *writer) datagram(records uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, w.version)
	at := uint32(noon.Unix())
	if w.version == v9Version {
		b = binary.BigEndian.AppendUint16(b, uint16(max(records, 2))) // templates count too
		b = binary.BigEndian.AppendUint32(b, 1000)
		b = binary.BigEndian.AppendUint32(b, at)
		records = 1
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(ipfixHeader+len(w.sets)))
		b = binary.BigEndian.AppendUint32(b, at)
	}
	b = binary.BigEndian.AppendUint32(b, w.sequence)
	b = binary.BigEndian.AppendUint32(b, 7)
	b = append(b, w.sets...)
	w.sequence += records
	w.sets = nil
	return b
}

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// join puts values together.
func join(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case uint8:
			b = append(b, p)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(p))
		}
	}
	return b
}

const (
	blocks   = 256
	sessions = 257
)

// templates of a translator's events.
func (w *writer) templates() {
	fields := []uint16{ieTimeMillis, 8, ieNATEvent, 1, ieSrc4, 4, iePostSrc4, 4, iePortStart, 2, iePortEnd, 2}
	if w.version == ipfixVersion {
		fields = append(fields, ieUserName, variable, enterprise|1, 8)
	}
	w.template(blocks, fields...)
	w.template(sessions, ieTimeMillis, 8, ieNATEvent, 1, ieSrc4, 4, iePostSrc4, 4, ieProto, 1, ieSrcPort, 2, iePostSrcPort, 2, ieDst4, 4, ieDstPort, 2)
}

func (w *writer) block(event uint8, at float64, inside, public string, first, last uint16, user string) {
	b := join(sec(at)/1e6, event, ip(inside), ip(public), first, last)
	if w.version == ipfixVersion {
		b = append(join(b, uint8(len(user)), []byte(user)), make([]byte, 8)...)
	}
	w.set(blocks, b...)
}

func (w *writer) session(event uint8, at float64, inside string, port uint16, public string, publicPort uint16) {
	w.set(sessions, join(sec(at)/1e6, event, ip(inside), ip(public), uint8(session.TCP), port, publicPort, ip("198.51.100.9"), uint16(443))...)
}

// samples are datagrams of all that is read.
func samples(version uint16) [][]byte {
	w := &writer{version: version}
	w.templates()
	first := w.datagram(0)
	w.block(natBlockCreate, -10, "100.64.0.1", "192.0.2.1", 1024, 2047, "anna")
	w.session(nat44Create, -5, "100.64.0.2", 4000, "192.0.2.1", 40000)
	second := w.datagram(2)
	w.session(nat44Delete, -3, "100.64.0.2", 4000, "192.0.2.1", 40000)
	w.block(natBlockDelete, -1, "100.64.0.1", "192.0.2.1", 1024, 2047, "anna")
	return [][]byte{first, second, w.datagram(2)}
}

func TestBlocksAndSessionsOfAnotherTranslatorAreTaken(t *testing.T) {
	for name, version := range map[string]uint16{"IPFIX": ipfixVersion, "NetFlow 9": v9Version} {
		for _, order := range [][]int{{0, 1, 2}, {1, 2, 0}} { // or the templates come last
			book := &memory{}
			c := collectInto(book)
			for _, i := range order {
				c.Take(exporter, samples(version)[i])
			}
			c.Flush(t.Context())
			s := c.Stats()
			if s.Blocks != 2 || s.Sessions != 2 || s.Applied != 2 || s.Templates != 2 || s.Malformed+s.Unusable+s.Waiting != 0 {
				t.Errorf("%s: %+v", name, s)
			}
			if len(book.events) != 2 {
				t.Fatalf("%s: %+v", name, book.events)
			}
			e, l := book.events[0], book.events[0].Leases[0]
			if e.Kind != identity.Start || e.At != sec(-10) || l.Kind != identity.PortBlock || l.Prefix.String() != "192.0.2.1/32" ||
				l.FirstPort != 1024 || l.LastPort != 2047 || l.Via.String() != "100.64.0.1" || version == ipfixVersion && e.Subscriber != "anna" {
				t.Errorf("%s: %+v", name, e)
			}
			if e2 := book.events[1]; e2.Kind != identity.Stop || e2.SourceKey() != e.SourceKey() || e2.At != sec(-1) {
				t.Errorf("%s: %+v", name, e2)
			}
			inside, port, a := c.o.Table.Find(seen("192.0.2.1:40000", -4.5, -3.5))
			if a != Found || inside != addr("100.64.0.2") || port != 4000 {
				t.Errorf("%s: %v %v %v", name, inside, port, a)
			}
		}
	}
}

func TestWhatIsMissingInTheSequenceIsCounted(t *testing.T) {
	for version, want := range map[uint16]uint64{ipfixVersion: 2, v9Version: 1} {
		c := collectInto(&memory{})
		var told uint64
		c.o.Gap = func(_ string, _, _ time.Time, n uint64) { told += n }
		d := samples(version)
		c.Take(exporter, d[0])
		c.Take(exporter, d[2])
		c.Flush(t.Context())
		c.Take(exporter, d[1]) // it was only overtaken
		c.Flush(t.Context())
		if s := c.Stats(); s.Lost != want || s.Reordered != 1 || s.Gaps != 1 || told != want {
			t.Errorf("version %d: %+v, told %d", version, s, told)
		}
	}
}

func TestOnlyExportersAreHeardAndBadDatagramsHarmNothing(t *testing.T) {
	c := collectInto(&memory{})
	c.Take(netip.MustParseAddr("192.0.2.78"), samples(ipfixVersion)[0])
	for _, b := range [][]byte{nil, {0, 10}, make([]byte, 16), samples(ipfixVersion)[0][:40]} {
		c.Take(exporter, b)
	}
	for _, d := range samples(ipfixVersion) {
		c.Take(exporter, d)
	}
	c.Flush(t.Context())
	if s := c.Stats(); s.Strangers != 1 || s.Malformed != 4 || s.Applied != 2 {
		t.Errorf("%+v", s)
	}
	for i := range 2 * maxDomains { // each datagram of another domain
		d := samples(ipfixVersion)[1]
		binary.BigEndian.PutUint32(d[12:], uint32(1000+i))
		c.Take(exporter, d)
	}
	c.Flush(t.Context())
	if s := c.Stats(); s.Crowded != maxDomains+1 {
		t.Errorf("%+v", s)
	}
}

func TestBlocksWaitForABookThatFails(t *testing.T) {
	book := &memory{err: errors.New("no room")}
	c := collectInto(book)
	for _, d := range samples(ipfixVersion) {
		c.Take(exporter, d)
	}
	c.Flush(t.Context())
	if s := c.Stats(); s.Owed != 2 || s.Applied != 0 {
		t.Errorf("%+v", s)
	}
	book.err = nil
	c.Flush(t.Context())
	if s := c.Stats(); s.Owed != 0 || s.Applied != 2 || len(book.events) != 2 {
		t.Errorf("%+v", s)
	}
}

func TestPortsOfABlock(t *testing.T) {
	for _, c := range []struct {
		name string
		r    record
		want [][2]uint16
	}{
		{"first and last", record{hasPorts: true, first: 1024, last: 2047}, [][2]uint16{{1024, 2047}}},
		{"first and number", record{hasPorts: true, first: 1024, num: 64}, [][2]uint16{{1024, 1087}}},
		{"first, step and number", record{hasPorts: true, first: 1000, step: 10, num: 3}, [][2]uint16{{1000, 1000}, {1010, 1010}, {1020, 1020}}},
		{"backwards", record{hasPorts: true, first: 2000, last: 1000}, nil},
		{"beyond the last port", record{hasPorts: true, first: 65000, num: 1000}, nil},
		{"too many apart", record{hasPorts: true, first: 1024, step: 2, num: 1000}, nil},
		{"none", record{}, nil},
	} {
		got := c.r.ranges()
		if len(got) != len(c.want) {
			t.Errorf("%s: %v", c.name, got)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v", c.name, got)
			}
		}
	}
}

// TestTheSamplesMeanToAnotherDecoderWhatTheyMeanHere has tshark read them.
func TestTheSamplesMeanToAnotherDecoderWhatTheyMeanHere(t *testing.T) {
	for version, name := range map[uint16]string{ipfixVersion: "ipfix", v9Version: "v9"} {
		file := filepath.Join(t.TempDir(), name+".pcap")
		pcap := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 228, 0, 0, 0} // LINKTYPE_IPV4
		for _, d := range samples(version) {
			n := 28 + len(d)
			head := join([]byte{0x45, 0}, uint16(n), []byte{0, 0, 0, 0, 64, 17, 0, 0}, ip("192.0.2.77"), ip("192.0.2.78"), uint16(5000), uint16(4739), uint16(8+len(d)), uint16(0))
			pcap = append(pcap, make([]byte, 8)...)
			pcap = binary.LittleEndian.AppendUint32(pcap, uint32(n))
			pcap = binary.LittleEndian.AppendUint32(pcap, uint32(n))
			pcap = append(append(pcap, head...), d...)
		}
		if err := os.WriteFile(file, pcap, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tshark", "-r", file, "-d", "udp.port==4739,cflow", "-V").CombinedOutput()
		if err != nil {
			t.Fatalf("tshark: %v: %s", err, out)
		}
		want := []string{"SrcAddr: 100.64.0.1", "Post NAT Source IPv4 Address: 192.0.2.1", "Port Range Start: 1024", "Port Range End: 2047",
			"Port block allocation", "NAT44 session create", "NAT44 session delete", "Post NAPT Source Transport Port: 40000", "SrcPort: 4000", "DstAddr: 198.51.100.9"}
		if version == ipfixVersion {
			want = append(want, "User Name: anna")
		}
		for _, w := range want {
			if !strings.Contains(strings.ToLower(string(out)), strings.ToLower(w)) {
				t.Errorf("%s: tshark does not say %q:\n%s", name, w, out)
			}
		}
	}
}
