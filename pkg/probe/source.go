package probe

import (
	"encoding/binary"
	"net/netip"
)

// sourceAddr finds the source address of the outermost IP header behind
// Ethernet, VLAN tags, a PPPoE session header and MPLS labels. It serves only
// to tell the direction of a replayed frame.
func sourceAddr(frame []byte, rawIP bool) (netip.Addr, bool) {
	const (
		ip4, ip6             = 0x0800, 0x86dd
		vlan, qinq, qinqOld  = 0x8100, 0x88a8, 0x9100
		mplsUnicast, mplsAny = 0x8847, 0x8848
		pppoe                = 0x8864
	)
	if rawIP {
		return sourceOfIP(frame)
	}
	if len(frame) < 14 {
		return netip.Addr{}, false
	}
	kind, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for {
		switch kind {
		case ip4, ip6:
			return sourceOfIP(rest)
		case vlan, qinq, qinqOld:
			if len(rest) < 4 {
				return netip.Addr{}, false
			}
			kind, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
		case mplsUnicast, mplsAny:
			if len(rest) < 5 {
				return netip.Addr{}, false
			}
			if rest[2]&1 != 0 {
				return sourceOfIP(rest[4:])
			}
			rest = rest[4:]
		case pppoe:
			if len(rest) < 8 {
				return netip.Addr{}, false
			}
			if rest[6]&1 != 0 {
				return sourceOfIP(rest[7:])
			}
			return sourceOfIP(rest[8:])
		default:
			return netip.Addr{}, false
		}
	}
}

func sourceOfIP(b []byte) (netip.Addr, bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[8:24])), true
	}
	return netip.Addr{}, false
}
