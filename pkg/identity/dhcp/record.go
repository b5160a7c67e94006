package dhcp

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/edgelog/edgelog/pkg/identity"
)

// State says what became of a lease.
type State uint8

// The states.
const (
	Active   State = iota // a client holds it until it runs out
	Released              // the client gave it back
	Expired               // its time ran out
	Declined              // the client found it in use by another (RFC 2131 §3.1 step 5), or the server abandoned it
	Deleted               // the server does not know it any more
)

// Record is what a server says of one lease at one moment. Times are seconds
// since 1970, UTC.
type Record struct {
	Kind   identity.LeaseKind
	Prefix netip.Prefix
	State  State

	MAC    [6]byte
	HasMAC bool
	Client string // client identifier or DUID, lower-case hexadecimal with colons; "" when the server has none
	IAID   uint32 // of DHCPv6 (RFC 8415 §12)

	Heard int64 // when the client was last heard of; 0: not said
	Until int64 // when the lease runs out; 0: never
	Ended int64 // when it ended; 0: not said
	Held  int64 // seconds for which the same client had held it at Heard; 0: not said
	First bool  // the server says that the lease began at Heard

	// What relays say of the line; "" when they say nothing. Text where it is
	// printable, else hexadecimal after "0x".
	Circuit    string // circuit-id (RFC 3046 §3.1), interface-id (RFC 8415 §21.18)
	Remote     string // remote-id (RFC 3046 §3.2, RFC 4649 §3)
	Subscriber string // subscriber-id (RFC 3993 §2, RFC 4580 §2)
	Hostname   string
}

// forever is the lifetime that never ends (RFC 2131 §3.3, RFC 8415 §7.7).
const forever = 0xffffffff

// setMAC takes a MAC address in hexadecimal with colons; anything else than six
// bytes is not one.
func (r *Record) setMAC(s []byte) {
	if len(s) != 17 {
		return
	}
	var mac [6]byte
	for i := range mac {
		if i < 5 && s[3*i+2] != ':' {
			return
		}
		hi, lo := unhex(s[3*i]), unhex(s[3*i+1])
		if hi > 15 || lo > 15 {
			return
		}
		mac[i] = hi<<4 | lo
	}
	if mac != [6]byte{} {
		r.MAC, r.HasMAC = mac, true
	}
}

// macOfDUID takes the MAC address out of a DUID-LLT or DUID-LL of Ethernet
// (RFC 8415 §11.2, §11.4) if the server said none. It is only what the client
// once had, but who changes it changes the DUID's meaning for himself.
func (r *Record) macOfDUID(d []byte) {
	if r.HasMAC || len(d) < 4 || binary.BigEndian.Uint16(d[2:]) != 1 {
		return
	}
	switch kind := binary.BigEndian.Uint16(d); {
	case kind == 1 && len(d) == 14:
		r.MAC, r.HasMAC = [6]byte(d[8:]), true
	case kind == 3 && len(d) == 10:
		r.MAC, r.HasMAC = [6]byte(d[4:]), true
	}
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// maxID bounds what a client or relay says of itself, in bytes: an option of
// DHCPv4 has at most 255, a DUID 130 (RFC 8415 §11.1).
const maxID = 255

// maxHex bounds what is read as hexadecimal, in digits: the options of some
// relays.
const maxHex = 1 << 14

// fromHex reads hexadecimal with or without colons and "0x". Parts between
// colons may have one digit. It returns nil for anything else.
func fromHex(s string) []byte {
	s = strings.TrimPrefix(s, "0x")
	if s == "" || len(s) > maxHex {
		return nil
	}
	if !strings.Contains(s, ":") {
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	out := make([]byte, 0, len(s)/3+1)
	for part := range strings.SplitSeq(s, ":") {
		switch len(part) {
		case 1:
			part = "0" + part
		case 2:
		default:
			return nil
		}
		hi, lo := unhex(part[0]), unhex(part[1])
		if hi > 15 || lo > 15 {
			return nil
		}
		out = append(out, hi<<4|lo)
	}
	return out
}

// colons returns b in hexadecimal with colons.
func colons(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// words returns what a relay inserted as text if it is printable, else in
// hexadecimal.
func words(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if !utf8.Valid(b) {
		return "0x" + hex.EncodeToString(b)
	}
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return "0x" + hex.EncodeToString(b)
		}
	}
	return string(b)
}

// Sub-options of the relay agent information option (RFC 3046 §2.0, RFC 3993 §2).
const (
	subCircuit    = 1
	subRemote     = 2
	subSubscriber = 6
)

// relayInfo takes the content of option 82. What does not fit its own lengths
// is left out.
func (r *Record) relayInfo(b []byte) {
	for len(b) >= 2 {
		n := int(b[1])
		if len(b) < 2+n {
			return
		}
		v := b[2 : 2+n]
		switch b[0] {
		case subCircuit:
			r.Circuit = words(v)
		case subRemote:
			r.Remote = words(v)
		case subSubscriber:
			r.Subscriber = words(v)
		}
		b = b[2+n:]
	}
}

// Options of a DHCPv6 relay (RFC 8415 §21.18, RFC 4649 §3, RFC 4580 §2).
const (
	optInterfaceID  = 18
	optRemoteID     = 37
	optSubscriberID = 38
)

// relayOptions takes the options of one DHCPv6 relay; what a relay nearer to
// the client said stays.
func (r *Record) relayOptions(b []byte) {
	set := func(to *string, v []byte) {
		if *to == "" && len(v) <= maxID {
			*to = words(v)
		}
	}
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return
		}
		v := b[4 : 4+n]
		switch binary.BigEndian.Uint16(b) {
		case optInterfaceID:
			set(&r.Circuit, v)
		case optRemoteID:
			if n > 4 { // after the enterprise number
				set(&r.Remote, v[4:])
			}
		case optSubscriberID:
			set(&r.Subscriber, v)
		}
		b = b[4+n:]
	}
}

// shortest prefixes that a lease may be of: a wrong length would give one
// client the traffic of all others.
const minDelegated = 24

// setPrefix sets kind and prefix: an address of either family, or with bits a
// delegated prefix. It reports whether that can be a lease.
func (r *Record) setPrefix(a netip.Addr, delegated bool, bits int) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		return false
	}
	switch {
	case delegated:
		if !a.Is6() || bits < minDelegated || bits > 128 {
			return false
		}
		r.Kind, r.Prefix = identity.DelegatedPrefix, netip.PrefixFrom(a, bits).Masked()
	case a.Is4():
		r.Kind, r.Prefix = identity.IPv4Address, netip.PrefixFrom(a, 32)
	default:
		r.Kind, r.Prefix = identity.IPv6Address, netip.PrefixFrom(a, 128)
	}
	return true
}
