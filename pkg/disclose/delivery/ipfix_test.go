package delivery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// program fails the test of an outside reader where that is not installed.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; \"scripts/setup.sh lab\" installs it", err)
	}
	return path
}

// put writes a file that an outside program reads.
func put(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTsharkShowsEveryElement compares what tshark says of each record, line by
// line, with what was checked by hand against helper_test.go.
func TestTsharkShowsEveryElement(t *testing.T) {
	tshark := program(t, "tshark")
	for kind, d := range kinds(t) {
		if kind == kindCommunications {
			continue // it has none
		}
		t.Run(kind, func(t *testing.T) {
			file := put(t, kind+".ipfix", member(t, d.zip(), kind+".ipfix"))
			cmd := exec.Command(tshark, "-n", "-r", file, "-T", "text", "-O", "cflow")
			cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8")
			text, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", "tshark-"+kind+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), flows(string(text))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if strings.Contains(string(text), "Malformed") || strings.Contains(string(text), "Expert Info") {
				t.Errorf("tshark complains:\n%s", text)
			}
		})
	}
}

// flows keeps of tshark's text the elements of records, one a line.
func flows(text string) string {
	var b strings.Builder
	in := false
	for line := range strings.Lines(text) {
		word := strings.TrimLeft(line, " ")
		depth := len(line) - len(word)
		switch {
		case depth == 8 && strings.HasPrefix(word, "Flow "):
			in = true
			b.WriteString("flow\n")
		case depth < 12:
			in = false
		case in && (depth == 12 || strings.HasPrefix(word, "StartTime") || strings.HasPrefix(word, "EndTime")) && word[0] != '[':
			b.WriteString("  " + word)
		}
	}
	return b.String()
}

// split takes the messages of an IPFIX file apart.
func split(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < messageHead || n > len(b) || n > messageLimit {
			t.Fatalf("a message of %d bytes", n)
		}
		out, b = append(out, b[:n]), b[n:]
	}
	return out
}

// decode has goflow2 read an IPFIX file. It returns the records of sessions and
// access records as text, element=value.
func decode(t *testing.T, file []byte) []map[string][]byte {
	t.Helper()
	templates := netflow.CreateTemplateSystem()
	var out []map[string][]byte
	for _, m := range split(t, file) {
		var p netflow.IPFIXPacket
		if err := netflow.DecodeMessageVersion(bytes.NewBuffer(m), templates, nil, &p); err != nil {
			t.Fatal(err)
		}
		if p.SequenceNumber != uint32(len(out)) && p.SequenceNumber != uint32(len(out)+1) { // the option is a record too
			t.Fatalf("sequence %d behind %d records", p.SequenceNumber, len(out))
		}
		for _, set := range p.FlowSets {
			data, ok := set.(netflow.DataFlowSet)
			if !ok {
				continue
			}
			for _, r := range data.Records {
				row := map[string][]byte{}
				for _, v := range r.Values {
					row[fmt.Sprintf("%d/%d", v.Pen, v.Type)] = v.Value.([]byte)
				}
				out = append(out, row)
			}
		}
	}
	return out
}

// TestAnotherDecoderReadsBackWhatWasWritten makes sessions by chance, and makes
// of the records that goflow2 reads sessions again.
func TestAnotherDecoderReadsBackWhatWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	hits := make([]disclose.Hit, 3000)
	for i := range hits {
		hits[i].Session = randomSession(rng)
	}
	f := takeSessions(&disclose.Answer{Hits: hits}, len(hits))
	var b bytes.Buffer
	if err := f.ipfix(&b, at(0)); err != nil {
		t.Fatal(err)
	}
	rows := decode(t, b.Bytes())
	if len(rows) != len(hits) {
		t.Fatalf("%d of %d records", len(rows), len(hits))
	}
	for i, row := range rows {
		want := hits[i].Session
		want.Flags &= session.LocalOnly // no element has the others
		want.EndReason = 0
		if d := cmp.Diff(want, readBack(row, &hits[i].Session)); d != "" {
			t.Fatalf("record %d: %v\n(-want +got):\n%s", i, row, d)
		}
		if why, ok := reasonOf[hits[i].EndReason]; ok != (row["0/136"] != nil) || ok && row["0/136"][0] != why {
			t.Fatalf("record %d: flowEndReason %v of %v", i, row["0/136"], hits[i].EndReason)
		}
	}
}

func randomSession(rng *rand.Rand) session.Session {
	address := func(six bool) session.Addr {
		if six {
			return addr(fmt.Sprintf("2001:db8::%x", 1+rng.IntN(60000)))
		}
		return session.AddrFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + rng.IntN(250))}))
	}
	s := session.Session{
		Start: at(0) - rng.Int64N(1e12)/1e6*1e6, Proto: []uint8{session.TCP, session.UDP, session.ICMP, session.SCTP, 47}[rng.IntN(5)],
		Initiator: address(rng.IntN(2) > 0), Responder: address(rng.IntN(2) > 0), Local: session.Side(1 + rng.IntN(2)),
		EndReason: session.EndReason(rng.IntN(9)), Subscriber: strings.Repeat("ø", rng.IntN(300)),
	}
	s.End = s.Start + rng.Int64N(1e9)*1e6/1e3
	s.End -= s.End % 1e6
	ports := session.HasPorts(s.Proto)
	if ports {
		s.InitiatorPort, s.ResponderPort = uint16(rng.Uint32()), uint16(rng.Uint32())
	}
	if s.Proto == session.TCP {
		s.InitiatorTCP, s.ResponderTCP = uint8(rng.Uint32()), uint8(rng.Uint32())
	}
	switch rng.IntN(3) {
	case 0:
		s.Inside = address(rng.IntN(2) > 0)
		if ports {
			s.InsidePort = uint16(rng.Uint32())
		}
	case 1:
		s.Flags = session.LocalOnly
		if s.Local == session.SideInitiator {
			s.Responder, s.ResponderPort = session.Addr{}, 0
		} else {
			s.Initiator, s.InitiatorPort = session.Addr{}, 0
		}
	}
	return s
}

// readBack makes a session of a record, by RFC 5103 and 8158 alone. Which end is
// the end user's is taken from the original where no element says it.
func readBack(row map[string][]byte, original *session.Session) session.Session {
	one := func(keys ...string) (session.Addr, bool) {
		for _, k := range keys {
			if v, ok := row[k]; ok {
				a, _ := netip.AddrFromSlice(v)
				return session.AddrFrom(a), true
			}
		}
		return session.Addr{}, false
	}
	number := func(k string) (n uint64) {
		for _, b := range row[k] {
			n = n<<8 | uint64(b)
		}
		return n
	}
	s := session.Session{
		Start: int64(number("0/152")) * 1e6, End: int64(number("0/153")) * 1e6, Proto: uint8(number("0/4")), Subscriber: string(row["0/371"]),
		InitiatorTCP: uint8(number("0/6")), ResponderTCP: uint8(number("29305/6")), Local: original.Local,
		InitiatorPort: uint16(number("0/7")), ResponderPort: uint16(number("0/11")),
	}
	source, hasSource := one("0/8", "0/27")
	dest, hasDest := one("0/12", "0/28")
	s.Initiator, s.Responder = source, dest
	if a, ok := one("0/225", "0/281"); ok {
		s.Local, s.Inside, s.InsidePort, s.Initiator, s.InitiatorPort = session.SideInitiator, source, s.InitiatorPort, a, uint16(number("0/227"))
	}
	if a, ok := one("0/226", "0/282"); ok {
		s.Local, s.Inside, s.InsidePort = session.SideResponder, a, uint16(number("0/228"))
	}
	if !hasSource || !hasDest {
		s.Flags = session.LocalOnly
	}
	return s
}
