package session

import "strconv"

var protoNames = map[uint8]string{
	ICMP: "icmp", 2: "igmp", TCP: "tcp", UDP: "udp", DCCP: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
	ICMPv6: "icmpv6", SCTP: "sctp", UDPLite: "udplite",
}

// ProtoName returns the usual name of an IP protocol number, or the number.
func ProtoName(p uint8) string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return strconv.Itoa(int(p))
}

// HasPorts reports whether edgelog records ports for the protocol.
func HasPorts(p uint8) bool {
	switch p {
	case TCP, UDP, DCCP, SCTP, UDPLite:
		return true
	}
	return false
}
