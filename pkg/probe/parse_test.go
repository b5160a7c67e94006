package probe

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

const udpAB = "17 10.1.2.3:5000 > 192.0.2.9:53 0s-0s open"

func TestHeadersBeforeIP(t *testing.T) {
	inner := ip(a4, b4, 17, udp(5000, 53))
	inner6 := ip(a6, b6, 17, udp(5000, 53))
	const udp6AB = "17 [2001:db8:1::7]:5000 > [2001:db8:ffff::1]:53 0s-0s open"
	deep := ether(0x8100)
	for range 13 {
		deep = append(deep, vlan(5, 0x8100)...)
	}
	for _, c := range []struct {
		name    string
		frame   []byte
		want    string
		outcome string
	}{
		{"plain Ethernet", frame(ether(0x0800), inner), udpAB, "recorded"},
		{"plain Ethernet, IPv6", frame(ether(0x86dd), inner6), udp6AB, "recorded"},
		{"802.1Q", frame(ether(0x8100), vlan(42, 0x0800), inner), udpAB, "recorded"},
		{"802.1ad with 802.1Q in it", frame(ether(0x88a8), vlan(42, 0x8100), vlan(7, 0x0800), inner), udpAB, "recorded"},
		{"0x9100 with IPv6", frame(ether(0x9100), vlan(42, 0x8100), vlan(7, 0x86dd), inner6), udp6AB, "recorded"},
		{"four tags", frame(ether(0x8100), vlan(1, 0x8100), vlan(2, 0x8100), vlan(3, 0x8100), vlan(4, 0x0800), inner), udpAB, "recorded"},
		{"PPPoE session", frame(ether(0x8864), pppoe(0, 0x21), inner), udpAB, "recorded"},
		{"PPPoE session, IPv6", frame(ether(0x8864), pppoe(0, 0x57), inner6), udp6AB, "recorded"},
		{"PPPoE with a compressed protocol field", frame(ether(0x8864), pppoe(0x21), inner), udpAB, "recorded"},
		{"PPPoE in two tags", frame(ether(0x8100), vlan(1, 0x8100), vlan(2, 0x8864), pppoe(0, 0x21), inner), udpAB, "recorded"},
		{"PPPoE control: LCP", frame(ether(0x8864), pppoe(0xc0, 0x21), inner), "", "not_ip"},
		{"PPPoE discovery", frame(ether(0x8863), inner), "", "not_ip"},
		{"MPLS, one label", frame(ether(0x8847), label(true), inner), udpAB, "recorded"},
		{"MPLS, three labels, IPv6", frame(ether(0x8848), label(false), label(false), label(true), inner6), udp6AB, "recorded"},
		{"MPLS in a tag", frame(ether(0x8100), vlan(9, 0x8847), label(true), inner), udpAB, "recorded"},
		{"MPLS in PPPoE", frame(ether(0x8864), pppoe(0x02, 0x81), label(true), inner), udpAB, "recorded"},
		{"MPLS pseudowire", frame(ether(0x8847), label(true), []byte{0, 0, 0, 0}, inner), "", "not_ip"},
		{"ARP", frame(ether(0x0806), make([]byte, 28)), "", "not_ip"},
		{"802.3 with LLC", frame(ether(0x0026), inner), "", "not_ip"},
		{"more tags than are followed", frame(deep, vlan(1, 0x0800), inner), "", "l2_depth"},
		{"cut in a tag", frame(ether(0x8100), []byte{0, 1}), "", "truncated"},
		{"cut in a PPPoE header", frame(ether(0x8864), []byte{0x11, 0, 0, 7, 0}), "", "truncated"},
		{"cut before the label stack ends", frame(ether(0x8847), label(false)), "", "truncated"},
		{"nothing after the last label", frame(ether(0x8847), label(true)), "", "truncated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, st := play(t, ReplayOptions{}, packet{0, c.frame})
			if c.want == "" {
				expect(t, got)
			} else {
				expect(t, got, c.want)
			}
			if st.In.Outcomes[c.outcome] != 1 {
				t.Errorf("outcome %s, not %s", st.In.Sum(), c.outcome)
			}
		})
	}
}

// change returns a copy with one byte set.
func change(b []byte, at int, v byte) []byte {
	b = slices.Clone(b)
	b[at] = v
	return b
}

func TestIPv4Headers(t *testing.T) {
	plain := ip(a4, b4, 17, udp(5000, 53))
	options := serialize(ipLayer(a4, b4, 17, []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}), rest(udp(5000, 53)))
	for _, c := range []struct {
		name    string
		packet  []byte
		want    []string
		outcome string
	}{
		{"router alert option", options, []string{udpAB}, "recorded"},
		{"a length of 0, as a large GSO buffer has", change(change(plain, 2, 0), 3, 0), []string{udpAB}, "recorded"},
		{"padding behind the packet is not read", append(slices.Clone(ip(a4, b4, 17, nil)), udp(5000, 53)...), nil, "truncated"},
		{"version 5", change(plain, 0, 0x55), nil, "bad_ip"},
		{"header of 16 bytes", change(plain, 0, 0x44), nil, "bad_ip"},
		{"length below the header", change(change(plain, 2, 0), 3, 19), nil, "bad_ip"},
		{"cut in the header", plain[:19], nil, "truncated"},
		{"cut before the ports", plain[:22], nil, "truncated"},
		{"cut behind the ports", plain[:24], []string{udpAB}, "recorded"},
		{"a protocol without ports, cut behind the header", change(plain, 9, 47)[:20], []string{"47 10.1.2.3:0 > 192.0.2.9:0 0s-0s open"}, "recorded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, st := play(t, ReplayOptions{}, packet{0, frame(ether(0x0800), c.packet)})
			expect(t, got, c.want...)
			if st.In.Outcomes[c.outcome] != 1 {
				t.Errorf("outcome %s, not %s", st.In.Sum(), c.outcome)
			}
		})
	}
}

func TestIPv6ExtensionHeaders(t *testing.T) {
	ext := func(next uint8, units int) []byte {
		return append([]byte{next, byte(units)}, make([]byte, 6+8*units)...)
	}
	body := udp(5000, 53)
	line := func(proto, sp, dp string) string {
		return proto + " [2001:db8:1::7]:" + sp + " > [2001:db8:ffff::1]:" + dp + " 0s-0s open"
	}
	many := []byte{}
	for range 12 {
		many = append(many, ext(60, 0)...)
	}
	for _, c := range []struct {
		name string
		next uint8
		body []byte
		want string
	}{
		{"hop-by-hop", 0, frame(ext(17, 0), body), line("17", "5000", "53")},
		{"hop-by-hop, routing, destination options", 0, frame(ext(43, 1), ext(60, 2), ext(17, 0), body), line("17", "5000", "53")},
		{"an atomic fragment", 44, frame([]byte{17, 0, 0, 0, 0, 0, 0, 1}, body), line("17", "5000", "53")},
		{"mobility header that carries nothing", 135, ext(59, 0), line("135", "0", "0")},
		{"authentication header ends the walk", 51, frame(ext(17, 1), body), line("51", "0", "0")},
		{"encrypted payload ends the walk", 50, body, line("50", "0", "0")},
		{"no next header", 59, nil, line("59", "0", "0")},
		{"more extension headers than are followed", 60, frame(many, ext(17, 0), body), line("60", "0", "0")},
		{"cut in an extension header", 0, []byte{17, 0, 0}, line("0", "0", "0")},
		{"ICMPv6", 58, []byte{128, 0, 0, 0, 0, 1, 0, 1}, line("58", "0", "0")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := play(t, ReplayOptions{}, packet{0, frame(ether(0x86dd), ip(a6, b6, c.next, c.body))})
			expect(t, got, c.want)
		})
	}
}

func TestTransportProtocols(t *testing.T) {
	for _, c := range []struct {
		name  string
		proto uint8
		body  []byte
		want  string
	}{
		{"UDP", 17, udp(1, 2), "17 10.1.2.3:1 > 192.0.2.9:2 0s-0s open"},
		{"UDP-Lite", 136, udp(1, 2), "136 10.1.2.3:1 > 192.0.2.9:2 0s-0s open"},
		{"SCTP", 132, ports(1, 2, 0, 0, 0, 0, 0, 0, 0, 0), "132 10.1.2.3:1 > 192.0.2.9:2 0s-0s open"},
		{"DCCP", 33, ports(1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "33 10.1.2.3:1 > 192.0.2.9:2 0s-0s open"},
		{"ICMP has no ports", 1, []byte{8, 0, 0, 0, 0, 1, 0, 1}, "1 10.1.2.3:0 > 192.0.2.9:0 0s-0s open"},
		{"GRE", 47, make([]byte, 8), "47 10.1.2.3:0 > 192.0.2.9:0 0s-0s open"},
		{"IPv6 in IPv4 by its outer header", 41, ip(a6, b6, 17, udp(9, 9)), "41 10.1.2.3:0 > 192.0.2.9:0 0s-0s open"},
		{"an unknown protocol", 253, nil, "253 10.1.2.3:0 > 192.0.2.9:0 0s-0s open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := play(t, ReplayOptions{}, packet{0, frame(ether(0x0800), ip(a4, b4, c.proto, c.body))})
			expect(t, got, c.want)
		})
	}
}

func TestFramesWithoutEthernet(t *testing.T) {
	got, st := play(t, ReplayOptions{RawIP: true},
		packet{0, ip(a4, b4, 17, udp(5000, 53))}, packet{0, ip(a6, b6, 17, udp(5000, 53))}, packet{0, make([]byte, 20)})
	expect(t, got, udpAB, "17 [2001:db8:1::7]:5000 > [2001:db8:ffff::1]:53 0s-0s open")
	if st.In.Outcomes["not_ip"] != 1 {
		t.Errorf("outcomes %s", st.In.Sum())
	}
}

func TestAFrameInSeveralBuffersIsReadLikeAnyOther(t *testing.T) {
	big := frame(ether(0x8864), pppoe(0, 0x21), ip(a4, b4, 17, append(udp(5000, 53), make([]byte, 8800)...)))
	got, _ := play(t, ReplayOptions{}, packet{0, big})
	expect(t, got, udpAB)
}

// TestBothDirectionsAreReadAlike runs every kind of frame out as well as in.
func TestBothDirectionsAreReadAlike(t *testing.T) {
	local := []netip.Prefix{netip.PrefixFrom(a4, 32), netip.PrefixFrom(a6, 128)}
	for name, f := range map[string][]byte{
		"IPv4": udp4(a4, b4, 5000, 53), "IPv6": frame(ether(0x86dd), ip(a6, b6, 17, udp(5000, 53))),
		"tag": frame(ether(0x8100), vlan(1, 0x0800), ip(a4, b4, 17, udp(5000, 53))), "PPPoE": frame(ether(0x8864), pppoe(0, 0x21), ip(a4, b4, 17, udp(5000, 53))),
		"label": frame(ether(0x8847), label(true), ip(a4, b4, 17, udp(5000, 53))),
	} {
		t.Run(name, func(t *testing.T) {
			got, st := play(t, ReplayOptions{Local: local}, packet{0, f})
			if len(got) != 1 || st.Out.Outcomes["recorded"] != 1 || st.In.Seen != 0 {
				t.Errorf("%v, out %s", got, st.Out.Sum())
			}
		})
	}
}

// TestNoContentIsKept looks for a payload in every byte of every map.
func TestNoContentIsKept(t *testing.T) {
	secret := []byte("the content of a communication")
	r, err := OpenReplay(ReplayOptions{Slots: MinSlots})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	long := append(udp(5000, 53), bytes.Repeat(secret, 8)...)
	for _, f := range [][]byte{
		frame(ether(0x0800), ip(a4, b4, 17, long)),
		frame(ether(0x0800), ip(a4, b4, 6, append(tcp(1, 2, "S"), secret...))),
		frame(ether(0x8864), pppoe(0, 0x21), ip(a4, b4, 253, secret)),
		fragment4(a4, b4, 9, 17, long, 0, 64, true), fragment4(a4, b4, 9, 17, long, 64, 128, true),
	} {
		if err := r.Packet(f, t0); err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range r.maps {
		if bytes.Contains(dump(t, m), secret[:8]) {
			t.Errorf("the map %q holds content", name)
		}
	}
}
