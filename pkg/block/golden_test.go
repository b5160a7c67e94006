package block

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

var newGolden = flag.Bool("new-golden", false, "write golden files of what is written at present; those of what was written before are never written again")

// golden is what a golden block holds, in a form that no codec of ours touches.
type golden struct {
	Header   Header
	Sessions []session.Session `json:",omitempty"`
	Bindings []session.Binding `json:",omitempty"`
	Register []Subscriber      `json:",omitempty"`
	Of       *Directory        `json:",omitempty"`

	Communications []session.Communication `json:",omitempty"`
}

func read(t *testing.T, file string) golden {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{Header: h}
	switch h.Kind {
	case KindSessions:
		_, g.Sessions, err = DecodeSessions(b)
		mayMatchAll(t, b, g.Sessions)
	case KindBindings:
		_, g.Bindings, err = DecodeBindings(b)
	case KindRegister:
		g.Register, err = NewDecoder().Register(b)
	case KindDirectory:
		g.Of, err = NewDecoder().Directory(b)
	case KindCommunications:
		_, g.Communications, err = DecodeCommunications(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// mayMatchAll checks that the head of a block rules out nothing that is in it.
func mayMatchAll(t *testing.T, b []byte, list []session.Session) {
	t.Helper()
	s, err := NewDecoder().Look(unsealed(b))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		x := &list[i]
		q := Query{Subscriber: x.Subscriber, From: s.MinStart * 1e6, To: s.MaxEnd * 1e6}
		if a, _, ok := x.LocalEnd(); ok {
			q.Address = Exactly(a.Netip())
		}
		if a, _, ok := x.RemoteEnd(); ok {
			q.Remote = Exactly(a.Netip())
		}
		if !s.MayMatch(q) {
			t.Fatalf("the head rules out row %d", i)
		}
	}
}

// TestOldBlocksAreReadForEver reads every golden block and compares it with the
// JSON beside it.
func TestOldBlocksAreReadForEver(t *testing.T) {
	if *newGolden {
		writeGolden(t)
	}
	files, err := filepath.Glob("testdata/golden/*.block")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d golden blocks, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			got, err := json.MarshalIndent(read(t, f), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(f, ".block") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(append(got, '\n'), want) {
				t.Errorf("it reads differently now")
			}
		})
	}
}

func aDirectory() *Directory {
	return &Directory{Imported: 1763700000e9, From: 1763600000e9, Rows: 4, File: [32]byte{1, 31: 255}, First: []string{"a", "b"}}
}

func enoughForFilters() []session.Session {
	many := make([]session.Session, minFiltered+44)
	for i := range many {
		many[i] = session.Session{Start: int64(i) * 1e6, End: int64(i) * 2e6, Proto: session.UDP, Initiator: v4(uint32(i % 9)), Local: session.SideInitiator,
			Responder: v4(uint32(scatter(uint64(i)))), ResponderPort: 53, Subscriber: fmt.Sprintf("line-%d", i), EndReason: session.EndIdle}
	}
	return many
}

// viaOthers are bindings that are held by means of others.
func viaOthers() []session.Binding {
	shared := netip.MustParsePrefix("203.0.113.7/32")
	return []session.Binding{
		{Prefix: shared, FirstPort: 1024, LastPort: 2047, From: 1e9, To: 9e9, Subscriber: "one", Source: session.SourceRADIUS, Identity: "one@example.net"},
		{Prefix: shared, FirstPort: 2048, LastPort: 3071, From: 1e9, To: 8e9, Source: session.SourceNAT, Via: netip.MustParseAddr("100.64.0.9")},
		{Prefix: netip.MustParsePrefix("203.0.113.8/29"), LastPort: 65535, From: 1e9, To: session.Forever, Source: session.SourceNAT, Rule: "a rule"},
		{Prefix: netip.MustParsePrefix("192.0.2.4/32"), LastPort: 65535, From: 2e9, To: 7e9, Source: session.SourceLeases, Via: session.EquipmentAddr([6]byte{2, 0, 0, 0, 0, 1})},
	}
}

func writeGolden(t *testing.T) {
	mixed := newMix(20261121, 40, 10*time.Second).sessions()
	edge := []session.Session{
		{},
		{Start: -1e6, End: -2e6, Local: session.SideResponder, Flags: 0xff, EndReason: 0xff, Proto: 0xff, Reuse: 0xff, InitiatorTCP: 0xff, ResponderTCP: 0xff,
			InitiatorPort: 0xffff, ResponderPort: 0xffff, Initiator: v6(1<<63, 1), Responder: v4(0xffffffff), Subscriber: "Ærø \x00"},
		{Start: MaxMilli * 1e6, End: MaxMilli * 1e6, Subscriber: strings.Repeat("long ", 800)},
		{Start: 1e6, End: 5e6, Initiator: v4(7), Local: session.SideInitiator, Flags: session.LocalOnly, Subscriber: "one"},
		{Start: 2e6, End: 2e6, Initiator: v4(7), Local: session.SideInitiator, Flags: session.LocalOnly, Subscriber: "two"},
	}
	sampled := []session.Session{ // of one packet each, among whole sessions
		{Start: 1e9, End: 9e9, Proto: session.TCP, Initiator: v4(7), InitiatorPort: 4000, Responder: v4(9), ResponderPort: 443, InitiatorTCP: session.SYN | session.ACK, Local: session.SideInitiator, EndReason: session.EndIdle, Subscriber: "one"},
		{Start: 2e9, End: 2e9, Proto: session.TCP, Initiator: v4(9), InitiatorPort: 50, Responder: v4(7), ResponderPort: 443, InitiatorTCP: session.SYN, Reuse: 1, Local: session.SideResponder, Flags: session.Sampled, EndReason: session.EndSample, Subscriber: "one"},
		{Start: 2e9, End: 2e9, Proto: session.UDP, Initiator: v6(5, 1), InitiatorPort: 53, Responder: v6(6, 1), ResponderPort: 5353, Reuse: 255, Local: session.SideInitiator, Flags: session.Sampled | session.Fragments, EndReason: session.EndSample},
		{Start: 3e9, End: 3e9, Proto: session.UDP, Initiator: v4(7), InitiatorPort: 4000, Local: session.SideInitiator, Flags: session.Sampled | session.LocalOnly, EndReason: session.EndSample, Subscriber: "one"},
	}
	nat := []session.Session{ // two subscribers behind one address, one of them with another port, and one without translation
		{Start: 1e9, End: 9e9, Proto: session.TCP, Initiator: v4(7), InitiatorPort: 4000, Responder: v4(9), ResponderPort: 443, Local: session.SideInitiator, EndReason: session.EndFIN, Subscriber: "one", Inside: v4(0x64400005), InsidePort: 4000},
		{Start: 2e9, End: 3e9, Proto: session.UDP, Initiator: v4(9), InitiatorPort: 53, Responder: v4(7), ResponderPort: 1024, Local: session.SideResponder, EndReason: session.EndIdle, Subscriber: "two", Inside: v4(0x64400006), InsidePort: 65535},
		{Start: 3e9, End: 3e9, Proto: session.ICMP, Initiator: v4(7), Responder: v4(9), Local: session.SideInitiator, EndReason: session.EndIdle, Inside: v4(0x64400005)},
		{Start: 4e9, End: 4e9, Proto: session.UDP, Initiator: v4(7), InitiatorPort: 4000, Responder: v4(9), ResponderPort: 53, Local: session.SideInitiator, EndReason: session.EndIdle},
		{Start: 4e9, End: 4e9, Proto: session.UDP, Initiator: v6(1, 2), InitiatorPort: 4000, Responder: v6(5, 9), ResponderPort: 53, Local: session.SideInitiator, EndReason: session.EndIdle, Inside: v6(3, 4), InsidePort: 4001},
	}
	bindings := newMix(20261121, 200, time.Hour).bindings()
	bindings = append(bindings, session.Binding{From: 1, To: 2, Source: 0xff, Certainty: 0xff})
	for name, make := range map[string]func() ([]byte, error){
		"v1-head-sessions":      func() ([]byte, error) { return EncodeSessions(nil, aHeader(), mixed) },
		"v1-head-edge":          func() ([]byte, error) { return EncodeSessions(nil, Header{}, edge) },
		"v1-head-sampled":       func() ([]byte, error) { return EncodeSessions(nil, aHeader(), sampled) },
		"v1-head-nat":           func() ([]byte, error) { return EncodeSessions(nil, aHeader(), nat) },
		"v1-head-filters":       func() ([]byte, error) { return EncodeSessions(nil, aHeader(), enoughForFilters()) },
		"v1-bindings":           func() ([]byte, error) { return EncodeBindings(nil, aHeader(), bindings) },
		"v1-bindings-via":       func() ([]byte, error) { return EncodeBindings(nil, aHeader(), viaOthers()) },
		"v1-register":           func() ([]byte, error) { return NewEncoder().Register(nil, aHeader(), someSubscribers()) },
		"v1-register-directory": func() ([]byte, error) { return NewEncoder().Directory(nil, aHeader(), aDirectory()) },
		"v1-calls":              func() ([]byte, error) { return EncodeCommunications(nil, aHeader(), someCalls(60)) },
		"v1-mail":               func() ([]byte, error) { return EncodeCommunications(nil, aHeader(), edgeCommunications()) },
	} {
		b, err := make()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata/golden", name)
		if err := os.WriteFile(file+".block", b, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := json.MarshalIndent(read(t, file+".block"), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".json", append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
