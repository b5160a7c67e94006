package probe

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/edgelog/edgelog/pkg/session"
)

const tcpAB = "6 10.1.2.3:40000 > 192.0.2.9:80 "

func TestTheLifeOfATCPSession(t *testing.T) {
	s := time.Second
	out, back := false, true
	for _, c := range []struct {
		name    string
		packets []packet
		want    []string
	}{
		{"opened, used and closed by both sides", each(s, tcp4(out, "S"), tcp4(back, "SA"), tcp4(out, "A"), tcp4(out, "PA"), tcp4(back, "FA"), tcp4(out, "FA"), tcp4(back, "A")),
			[]string{tcpAB + "0s-6s fin"}},
		{"ended by a reset", each(s, tcp4(out, "S"), tcp4(back, "SA"), tcp4(out, "A"), tcp4(back, "R")),
			[]string{tcpAB + "0s-3s rst"}},
		{"refused", each(s, tcp4(out, "S"), tcp4(back, "RA")),
			[]string{tcpAB + "0s-1s rst"}},
		{"never answered", append(each(s, tcp4(out, "S"), tcp4(out, "S")), packet{400 * s, udp4(a4, b4, 1, 2)}),
			[]string{tcpAB + "0s-1s half-open", "17 10.1.2.3:1 > 192.0.2.9:2 6m40s-6m40s open"}},
		{"met in mid-stream", each(s, tcp4(out, "A"), tcp4(back, "A")),
			[]string{tcpAB + "0s-1s open mid-stream"}},
		{"met with its SYN+ACK: who was answered began it", each(s, tcp4(back, "SA"), tcp4(out, "A")),
			[]string{tcpAB + "0s-1s open syn-ack-first"}},
		{"stragglers after the end belong to it", append(each(s, tcp4(out, "S"), tcp4(back, "RA")), packet{200 * s, tcp4(back, "RA")}),
			[]string{tcpAB + "0s-3m20s rst"}},
		{"the tuple is used again after FIN", append(each(s, tcp4(out, "S"), tcp4(back, "SA"), tcp4(out, "FA"), tcp4(back, "FA")), each2(5*s, s, tcp4(out, "S"), tcp4(back, "SA"))...),
			[]string{tcpAB + "0s-3s fin", tcpAB + "5s-6s open"}},
		{"the tuple is used again after one side's FIN", append(each(s, tcp4(out, "S"), tcp4(back, "SA"), tcp4(out, "FA")), packet{5 * s, tcp4(out, "S")}),
			[]string{tcpAB + "0s-2s fin", tcpAB + "5s-5s open"}},
		{"the tuple is used again within the same tick", each(0, tcp4(out, "S"), tcp4(back, "RA"), tcp4(out, "S"), tcp4(back, "RA"), tcp4(out, "S")),
			[]string{tcpAB + "0s-0s rst", tcpAB + "0s-0s rst", tcpAB + "0s-0s open"}},
		{"used again from the other side", append(each(s, tcp4(out, "S"), tcp4(back, "RA")), packet{2 * s, tcp4(back, "S")}),
			[]string{tcpAB + "0s-1s rst", "6 192.0.2.9:80 > 10.1.2.3:40000 2s-2s open"}},
		{"a second SYN without an end between is the same session", each(s, tcp4(out, "S"), tcp4(out, "S"), tcp4(back, "SA")),
			[]string{tcpAB + "0s-2s open"}},
		{"SYN from both sides is one session", each(s, tcp4(out, "S"), tcp4(back, "S"), tcp4(out, "SA"), tcp4(back, "SA")),
			[]string{tcpAB + "0s-3s open"}},
		{"silence of five minutes does not end it", []packet{{0, tcp4(out, "S")}, {300 * s, tcp4(back, "SA")}},
			[]string{tcpAB + "0s-5m0s open"}},
		{"silence of more than five minutes does", []packet{{0, tcp4(out, "SA")}, {300*s + 1, tcp4(back, "A")}},
			[]string{"6 192.0.2.9:80 > 10.1.2.3:40000 0s-0s half-open syn-ack-first", "6 192.0.2.9:80 > 10.1.2.3:40000 5m0.000000001s-5m0.000000001s open mid-stream"}},
		{"a SYN with FIN, again and again", each(s, tcp4(out, "SF"), tcp4(out, "SF")),
			[]string{tcpAB + "0s-0s fin", tcpAB + "1s-1s open"}},
		{"time that runs back does not end it", []packet{{10 * s, tcp4(out, "S")}, {9 * s, tcp4(back, "SA")}, {11 * s, tcp4(out, "A")}},
			[]string{tcpAB + "10s-11s open"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := play(t, ReplayOptions{}, c.packets...)
			expect(t, got, c.want...)
		})
	}
}

func each2(from, step time.Duration, frames ...[]byte) []packet {
	p := each(step, frames...)
	for i := range p {
		p[i].after += from
	}
	return p
}

func TestOtherProtocolsEndBySilence(t *testing.T) {
	q, a := udp4(a4, b4, 5000, 53), udp4(b4, a4, 53, 5000)
	ping := frame(ether(0x0800), ip(a4, b4, 1, make([]byte, 8)))
	for _, c := range []struct {
		name    string
		packets []packet
		want    []string
	}{
		{"UDP, answered", each(time.Second, q, a), []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-1s open"}},
		{"UDP, after a minute's silence", []packet{{0, q}, {time.Minute, a}}, []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-1m0s open"}},
		{"UDP, after more", []packet{{0, q}, {time.Minute + 1, a}}, []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-0s idle", "17 192.0.2.9:53 > 10.1.2.3:5000 1m0.000000001s-1m0.000000001s open"}},
		{"ICMP, after more", []packet{{0, ping}, {61 * time.Second, ping}}, []string{"1 10.1.2.3:0 > 192.0.2.9:0 0s-0s idle", "1 10.1.2.3:0 > 192.0.2.9:0 1m1s-1m1s open"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := play(t, ReplayOptions{}, c.packets...)
			expect(t, got, c.want...)
		})
	}
}

func TestFragmentsFindTheirSession(t *testing.T) {
	s := time.Second
	body := append(udp(5000, 53), make([]byte, 52)...) // 64 bytes
	seg := tcp(40000, 80, "S")
	first := fragment4(a4, b4, 9, 17, body, 0, 24, true)
	middle := fragment4(a4, b4, 9, 17, body, 24, 48, true)
	last := fragment4(a4, b4, 9, 17, body, 48, 64, false)
	other := append(udp(6000, 54), make([]byte, 52)...)
	v6 := func(from, to int, more bool) []byte { return fragment6(a6, b6, 9, 17, body, from, to, more) }
	const line6 = "17 [2001:db8:1::7]:5000 > [2001:db8:ffff::1]:53 "
	for _, c := range []struct {
		name    string
		packets []packet
		want    []string
	}{
		{"in order", each(s, first, middle, last), []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-2s open fragments"}},
		{"the first one last: the session began with what overtook it", each(s, last, middle, first), []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-2s open fragments"}},
		{"the first one in the middle", each(s, last, first, middle), []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-2s open fragments"}},
		{"a session that began while its fragment was held", each(s, last, udp4(a4, b4, 5000, 53), first), []string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-2s open fragments"}},
		{"no first one: recorded without ports", each(s, middle, last), []string{"17 10.1.2.3:0 > 192.0.2.9:0 0s-1s open fragments,orphan-fragments"}},
		{"a clock read a tick earlier on another CPU", []packet{{s, first}, {s - 4*time.Millisecond, middle}},
			[]string{"17 10.1.2.3:5000 > 192.0.2.9:53 1s-1s open fragments"}},
		{"a fragment every twenty seconds keeps none waiting for ever",
			[]packet{{0, last}, {20 * s, last}, {40 * s, last}, {60 * s, first}},
			[]string{"17 10.1.2.3:5000 > 192.0.2.9:53 40s-1m0s open fragments", "17 10.1.2.3:0 > 192.0.2.9:0 0s-20s open fragments,orphan-fragments"}},
		{"the first one too late", []packet{{0, last}, {31 * s, first}}, []string{"17 10.1.2.3:5000 > 192.0.2.9:53 31s-31s open fragments", "17 10.1.2.3:0 > 192.0.2.9:0 0s-0s open fragments,orphan-fragments"}},
		{"the same id for another datagram", each(s, first, fragment4(a4, b4, 9, 17, other, 0, 24, true), fragment4(a4, b4, 9, 17, other, 24, 64, false)),
			[]string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-0s open fragments", "17 10.1.2.3:6000 > 192.0.2.9:54 1s-2s open fragments"}},
		{"the same id from the other side is another datagram", each(s, first, fragment4(b4, a4, 9, 17, body, 24, 64, false)),
			[]string{"17 10.1.2.3:5000 > 192.0.2.9:53 0s-0s open fragments", "17 192.0.2.9:0 > 10.1.2.3:0 1s-1s open fragments,orphan-fragments"}},
		{"a TCP header in pieces: ports but no flags", each(s, fragment4(a4, b4, 9, 6, seg, 0, 8, true), fragment4(a4, b4, 9, 6, seg, 8, 16, true), fragment4(a4, b4, 9, 6, seg, 16, 20, false)),
			[]string{tcpAB + "0s-2s open mid-stream,fragments"}},
		{"a protocol without ports need not wait", each(s, fragment4(a4, b4, 9, 47, body, 24, 48, true), fragment4(a4, b4, 9, 47, body, 0, 24, true)),
			[]string{"47 10.1.2.3:0 > 192.0.2.9:0 0s-1s open fragments"}},
		{"IPv6 in order", each(s, v6(0, 24, true), v6(24, 64, false)), []string{line6 + "0s-1s open fragments"}},
		{"IPv6 in reverse", each(s, v6(24, 64, false), v6(0, 24, true)), []string{line6 + "0s-1s open fragments"}},
		{"IPv6 with an extension header only in the first", each(s, fragment6(a6, b6, 9, 60, append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, body...), 32, 72, false), fragment6(a6, b6, 9, 60, append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, body...), 0, 32, true)),
			[]string{line6 + "0s-1s open fragments"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := play(t, ReplayOptions{}, c.packets...)
			expect(t, got, c.want...)
		})
	}
}

func TestOnlyWhatCrossesTheBorderIsRecorded(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	exempt := []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	other4, inner4 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("10.7.7.7")
	group, iptv := netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("10.9.0.5")
	outside6 := netip.MustParseAddr("2001:db8:2::1")
	f6 := func(src, dst netip.Addr) []byte { return frame(ether(0x86dd), ip(src, dst, 17, udp(5000, 53))) }
	for _, c := range []struct {
		name    string
		frame   []byte
		outcome string
	}{
		{"out", udp4(a4, b4, 1, 2), "recorded"},
		{"in", udp4(b4, a4, 2, 1), "recorded"},
		{"between two of ours", udp4(a4, inner4, 1, 2), "not_border"},
		{"between two strangers", udp4(b4, other4, 1, 2), "not_border"},
		{"to a multicast group", udp4(a4, group, 1, 2), "exempt"},
		{"from an exempt prefix inside a local one", udp4(iptv, b4, 1, 2), "exempt"},
		{"IPv6 out", f6(a6, outside6), "recorded"},
		{"IPv6 to an exempt prefix", f6(a6, b6), "exempt"},
		{"IPv6 between strangers", f6(outside6, netip.MustParseAddr("2001:db8:3::1")), "not_border"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Twice: the second answer is the table's, not the prefixes'.
			got, st := play(t, ReplayOptions{Local: local, Exempt: exempt}, packet{0, c.frame}, packet{time.Second, c.frame})
			if n := st.In.Outcomes[c.outcome] + st.Out.Outcomes[c.outcome]; n != 2 {
				t.Errorf("in%s, out%s", st.In.Sum(), st.Out.Sum())
			}
			if want := c.outcome == "recorded"; (len(got) == 1) != want {
				t.Errorf("sessions %v", got)
			}
		})
	}
}

func TestAnIPv6PrefixDoesNotCoverIPv4(t *testing.T) {
	opt := ReplayOptions{Local: []netip.Prefix{netip.PrefixFrom(a4, 32)}, Exempt: []netip.Prefix{netip.MustParsePrefix("::/8")}}
	got, st := play(t, opt, packet{0, udp4(a4, b4, 1, 2)})
	if len(got) != 1 {
		t.Errorf("%v, out%s", got, st.Out.Sum())
	}
}

func TestAnIPv6FrameCannotPassForIPv4(t *testing.T) {
	mapped := netip.AddrFrom16(a4.As16())
	forged := frame(ether(0x86dd), serialize(&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: 17, SrcIP: net.IP(mapped.AsSlice()), DstIP: net.IP(netip.AddrFrom16(b4.As16()).AsSlice())}, rest(udp(5000, 53))))
	got, st := play(t, ReplayOptions{}, packet{0, udp4(a4, b4, 5000, 53)}, packet{time.Second, forged})
	expect(t, got, udpAB)
	if st.In.Outcomes["bad_ip"] != 1 {
		t.Errorf("in%s", st.In.Sum())
	}
}

func TestTheLocalSideIsKnown(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name  string
		frame []byte
		want  session.Side
	}{
		{"when it began the session", udp4(a4, b4, 1, 2), session.SideInitiator},
		{"when it answered", udp4(b4, a4, 2, 1), session.SideResponder},
		{"when it was met answering a SYN", tcp4(false, "SA"), session.SideResponder},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []session.Session
			r, err := OpenReplay(ReplayOptions{Slots: MinSlots, Local: local, Emit: func(s []session.Session) { got = append(got, s...) }})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := r.Packet(c.frame, t0); err != nil {
				t.Fatal(err)
			}
			if err := r.Finish(); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Local != c.want {
				t.Errorf("%+v", got)
			}
			if a, _, ok := got[0].LocalEnd(); !ok || a.Netip() != a4 {
				t.Errorf("local end %v", a)
			}
		})
	}
}

func TestTheSourceProfileNeverKeepsTheFarEnd(t *testing.T) {
	far := netip.MustParseAddr("203.0.113.77")
	local := []netip.Prefix{netip.PrefixFrom(a4, 32)}
	body := append(udp(5000, 443), make([]byte, 24)...)
	var got []string
	r, err := OpenReplay(ReplayOptions{Slots: MinSlots, Local: local, Profile: session.ProfileSource, Emit: func(s []session.Session) {
		for i := range s {
			got = append(got, string(s[i].AppendJSON(nil)))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	packets := []packet{
		{0, udp4(a4, far, 5000, 443)}, {time.Second, udp4(far, a4, 443, 5000)},
		{2 * time.Second, udp4(a4, b4, 5000, 53)}, // the same port to somebody else: the same use
		{3 * time.Second, frame(ether(0x0800), ip(a4, far, 6, tcp(7000, 443, "S")))},
		{4 * time.Second, frame(ether(0x0800), ip(far, a4, 6, tcp(443, 7000, "RA")))},
		{5 * time.Second, fragment4(far, a4, 3, 17, body, 8, 32, false)}, // held
		{6 * time.Second, udp4(far, b4, 1, 2)},                           // not ours
	}
	for _, p := range packets {
		if err := r.Packet(p.data, t0+int64(p.after)); err != nil {
			t.Fatal(err)
		}
	}
	four := far.As4()
	for name, m := range r.maps {
		if b := dump(t, m); bytes.Contains(b, four[:]) {
			t.Errorf("the map %q holds the far address", name)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	balanced(t, r, len(packets))
	expect(t, sorted(got),
		`{"proto":17,"initiator":"10.1.2.3","initiator_port":5000,"start":"2023-11-14T22:13:20.000Z","end":"2023-11-14T22:13:22.000Z","end_reason":"open","local":"initiator","flags":["local-only"]}`,
		`{"proto":6,"initiator":"10.1.2.3","initiator_port":7000,"start":"2023-11-14T22:13:23.000Z","end":"2023-11-14T22:13:24.000Z","end_reason":"open","local":"initiator","flags":["local-only"]}`,
		`{"proto":17,"responder":"10.1.2.3","responder_port":0,"start":"2023-11-14T22:13:25.000Z","end":"2023-11-14T22:13:25.000Z","end_reason":"open","local":"responder","flags":["fragments","orphan-fragments","local-only"]}`,
	)
}

func TestTheAccessProfileRecordsNoSession(t *testing.T) {
	got, st := play(t, ReplayOptions{Profile: session.ProfileAccess}, each(time.Second, tcp4(false, "S"), tcp4(true, "SA"))...)
	if len(got) != 0 || st.In.Outcomes["outside_profile"] != 2 || st.Table.Started != 0 {
		t.Errorf("%v, %s", got, st.In.Sum())
	}
}

func TestVLANsTellAddressSpacesApartOnlyWhenAsked(t *testing.T) {
	tagged := func(id uint16) []byte {
		return frame(ether(0x8100), vlan(id, 0x0800), ip(a4, b4, 17, udp(5000, 53)))
	}
	for overlapping, want := range map[bool]int{false: 1, true: 2} {
		got, _ := play(t, ReplayOptions{OverlappingAddresses: overlapping}, packet{0, tagged(1)}, packet{0, tagged(2)})
		if len(got) != want {
			t.Errorf("overlapping %v: %v", overlapping, got)
		}
	}
}
