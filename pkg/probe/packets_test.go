package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/edgelog/edgelog/pkg/session"
)

// The packet tables of the datapath tests: frames written the way a network
// engineer speaks of them, run through the real programs.

const (
	t0     = int64(1_700_000_000_000_000_000)
	second = int64(time.Second)
)

var (
	a4, b4 = netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.9")
	a6, b6 = netip.MustParseAddr("2001:db8:1::7"), netip.MustParseAddr("2001:db8:ffff::1")
)

// packet is one frame at a time after t0.
type packet struct {
	after time.Duration
	data  []byte
}

func frame(parts ...[]byte) []byte { return slices.Concat(parts...) }

func ether(kind uint16) []byte {
	return []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, byte(kind >> 8), byte(kind)}
}

func vlan(id, kind uint16) []byte {
	return []byte{0x60 | byte(id>>8), byte(id), byte(kind >> 8), byte(kind)}
}

func label(bottom bool) []byte {
	if bottom {
		return []byte{0, 0x10, 0x11, 64}
	}
	return []byte{0, 0x20, 0x10, 64}
}

func pppoe(protocol ...byte) []byte {
	return append([]byte{0x11, 0, 0, 7, 0, 60}, protocol...)
}

// ip builds an IP packet; change may alter the header bytes afterwards.
func ip(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	return serialize(ipLayer(src, dst, proto, nil), gopacket.Payload(payload))
}

func ipLayer(src, dst netip.Addr, proto uint8, opt []layers.IPv4Option) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 77, Protocol: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), Options: opt}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
		panic(err) // a mistake in a test's own table
	}
	return slices.Clone(buf.Bytes())
}

func ports(src, dst uint16, rest ...byte) []byte {
	return append([]byte{byte(src >> 8), byte(src), byte(dst >> 8), byte(dst)}, rest...)
}

func udp(src, dst uint16) []byte { return ports(src, dst, 0, 12, 0, 0, 'd', 'a', 't', 'a') }

func tcp(src, dst uint16, flags string) []byte {
	var f byte
	for _, c := range flags {
		f |= map[rune]byte{'F': 1, 'S': 2, 'R': 4, 'P': 8, 'A': 16, 'U': 32}[c]
	}
	return ports(src, dst, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, f, 0xff, 0xff, 0, 0, 0, 0)
}

// tcp4 is a whole frame from a to b, or from b to a when back.
func tcp4(back bool, flags string) []byte {
	if back {
		return frame(ether(0x0800), ip(b4, a4, 6, tcp(80, 40000, flags)))
	}
	return frame(ether(0x0800), ip(a4, b4, 6, tcp(40000, 80, flags)))
}

func udp4(src, dst netip.Addr, sp, dp uint16) []byte {
	return frame(ether(0x0800), ip(src, dst, 17, udp(sp, dp)))
}

// fragment4 cuts an IPv4 payload: offset and length in bytes.
func fragment4(src, dst netip.Addr, id uint16, proto uint8, payload []byte, from, to int, more bool) []byte {
	h := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: id, Protocol: layers.IPProtocol(proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), FragOffset: uint16(from / 8)}
	if more {
		h.Flags = layers.IPv4MoreFragments
	}
	return frame(ether(0x0800), serialize(h, gopacket.Payload(payload[from:to])))
}

func fragment6(src, dst netip.Addr, id uint32, next uint8, payload []byte, from, to int, more bool) []byte {
	off := uint16(from)
	if more {
		off |= 1
	}
	h := []byte{next, 0, byte(off >> 8), byte(off), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	return frame(ether(0x86dd), ip(src, dst, 44, append(h, payload[from:to]...)))
}

// play runs packets through a Replay and returns the sessions in short form,
// and the counters, which must add up.
func play(t testing.TB, opt ReplayOptions, packets ...packet) ([]string, ReplayStatus) {
	t.Helper()
	var got []string
	opt.Slots = MinSlots
	opt.Emit = func(s []session.Session) {
		for i := range s {
			got = append(got, short(&s[i]))
		}
	}
	r, err := OpenReplay(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, p := range packets {
		if err := r.Packet(p.data, t0+int64(p.after)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	st := balanced(t, r, len(packets))
	slices.Sort(got)
	return got, st
}

// balanced is the check after every test: each packet has one outcome, each
// session one end, and nothing is left in the table.
func balanced(t testing.TB, r *Replay, packets int) ReplayStatus {
	t.Helper()
	st, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !st.In.Balanced() || !st.Out.Balanced() || !st.Table.Balanced || int(st.In.Seen+st.Out.Seen+st.Runts) != packets {
		t.Fatalf("the counters do not add up: %+v", st)
	}
	if st.Table.Open+st.Table.Closed != 0 {
		t.Fatalf("%d sessions are left in the table", st.Table.Open+st.Table.Closed)
	}
	return st
}

// short writes a session as "6 10.1.2.3:40000 > 192.0.2.9:80 0s-1s fin".
func short(s *session.Session) string {
	at := func(ns int64) time.Duration { return time.Duration(ns - t0) }
	out := fmt.Sprintf("%d %s > %s %v-%v %s", s.Proto, netip.AddrPortFrom(s.Initiator.Netip(), s.InitiatorPort),
		netip.AddrPortFrom(s.Responder.Netip(), s.ResponderPort), at(s.Start), at(s.End), s.EndReason)
	if w := s.Flags.Words(); len(w) > 0 {
		out += " " + strings.Join(w, ",")
	}
	return out
}

func expect(t testing.TB, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// at places frames at equal times one after another.
func each(step time.Duration, frames ...[]byte) []packet {
	var out []packet
	for i, f := range frames {
		out = append(out, packet{time.Duration(i) * step, f})
	}
	return out
}
