package radius

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	codec "layeh.com/radius"
)

// valueForm is how a value is written in a detail file.
type valueForm uint8

const (
	asText valueForm = iota
	asNumber
	asAddress // IPv4
	asAddress6
	asPrefix6
	asInterface // four groups of hexadecimal digits
	asDate
	asOctets
)

// named is an attribute as it is called in FreeRADIUS's dictionaries: an
// attribute of RFCs, one of a vendor, or a TLV of 241.6.
type named struct {
	kind   uint32
	vendor uint32
	tlv    bool
	form   valueForm
}

var detailNames = map[string]named{
	"User-Name": {kind: 1}, "NAS-IP-Address": {kind: 4, form: asAddress}, "Framed-Protocol": {kind: 7, form: asNumber},
	"Framed-IP-Address": {kind: 8, form: asAddress}, "Called-Station-Id": {kind: 30}, "Calling-Station-Id": {kind: 31},
	"NAS-Identifier": {kind: 32}, "Acct-Status-Type": {kind: 40, form: asNumber}, "Acct-Delay-Time": {kind: 41, form: asNumber},
	"Acct-Session-Id": {kind: 44}, "Acct-Session-Time": {kind: 46, form: asNumber}, "Acct-Multi-Session-Id": {kind: 50},
	"Event-Timestamp": {kind: 55, form: asDate}, "NAS-Port-Id": {kind: 87}, "Chargeable-User-Identity": {kind: 89},
	"NAS-IPv6-Address": {kind: 95, form: asAddress6}, "Framed-Interface-Id": {kind: 96, form: asInterface},
	"Framed-IPv6-Prefix": {kind: 97, form: asPrefix6}, "Delegated-IPv6-Prefix": {kind: 123, form: asPrefix6},
	"Operator-Name": {kind: 126}, "Location-Information": {kind: 127, form: asOctets}, "Location-Data": {kind: 128, form: asOctets},
	"Framed-IPv6-Address": {kind: 168, form: asAddress6},

	"ADSL-Agent-Circuit-Id": {kind: 1, vendor: vendorADSLForum}, "ADSL-Agent-Remote-Id": {kind: 2, vendor: vendorADSLForum},
	"Alc-Nat-Port-Range": {kind: 121, vendor: 6527}, "Alc-Nat-Outside-Ip-Addr": {kind: 141, vendor: 6527, form: asAddress},
	"Huawei-NAT-Public-Address": {kind: 161, vendor: 2011, form: asAddress}, "Huawei-NAT-Start-Port": {kind: 162, vendor: 2011, form: asNumber},
	"Huawei-NAT-End-Port": {kind: 163, vendor: 2011, form: asNumber}, "Huawei-NAT-Port-Range-Update": {kind: 165, vendor: 2011, form: asNumber},
	"H3C-NAT-IP-Address": {kind: 32, vendor: 25506, form: asAddress}, "H3C-NAT-Start-Port": {kind: 33, vendor: 25506, form: asNumber},
	"H3C-NAT-End-Port": {kind: 34, vendor: 25506, form: asNumber}, "NetElastic-NAT-Public-Address": {kind: 161, vendor: 54268, form: asAddress},
	"NetElastic-NAT-Start-Port": {kind: 162, vendor: 54268, form: asNumber}, "NetElastic-NAT-End-Port": {kind: 163, vendor: 54268, form: asNumber},
	"TP-NAT-IP-Address": {kind: 16, vendor: 18681, form: asAddress}, "TP-NAT-Port-Start": {kind: 28, vendor: 18681, form: asNumber},
	"TP-NAT-Port-End": {kind: 29, vendor: 18681, form: asNumber}, "VasExperts-NAT-IP": {kind: 21, vendor: 43823, form: asAddress},

	"IP-Port-Range-Ext-IPv4-Addr": {kind: tlvExtIPv4, tlv: true, form: asAddress}, "IP-Port-Range-Int-IPv4-Addr": {kind: tlvIntIPv4, tlv: true, form: asAddress},
	"IP-Port-Range-Alloc": {kind: tlvAlloc, tlv: true, form: asNumber}, "IP-Port-Range-Range-Start": {kind: tlvRangeStart, tlv: true, form: asNumber},
	"IP-Port-Range-Range-End": {kind: tlvRangeEnd, tlv: true, form: asNumber},
}

// detailWords are the words that stand for numbers. One that is not known is a
// number that means nothing here.
var detailWords = map[string]uint32{
	"Start": 1, "Stop": 2, "Interim-Update": 3, "Alive": 3, "Accounting-On": 7, "Accounting-Off": 8,
	"PPP": framedPPP, "Allocation": allocated, "Deallocation": deallocated, "Reserved": 0,
}

const otherWord = 0xffff

// attributes gathers those of an entry in the form that they had on the wire.
type attributes struct {
	list codec.Attributes
	tlvs []byte // of one IP-Port-Range
	seen []byte // their types

	unique string // FreeRADIUS's own key of the session, for those without Acct-Session-Id
}

// add takes one line of an entry.
func (a *attributes) add(e *entry, line string) error {
	name, raw, ok := splitPair(line)
	if !ok {
		return errors.New("it is not \"Name = value\"")
	}
	value, err := unquote(raw)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	switch name {
	case "Timestamp", "Donestamp":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n <= 0 || n > 1<<40 {
			return fmt.Errorf("attribute %s is no number of seconds", name)
		}
		if name == "Timestamp" || e.at.IsZero() {
			e.at = time.Unix(n, 0)
		}
		return nil
	case "Client-IP-Address", "Packet-Src-IP-Address", "Packet-Src-IPv6-Address":
		if e.from, err = netip.ParseAddr(value); err != nil {
			return fmt.Errorf("attribute %s is no address", name)
		}
		return nil
	case "Acct-Unique-Session-Id":
		a.unique = value
		return nil
	case "Packet-Type":
		e.other = value != "Accounting-Request" && value != "4"
		return nil
	}
	name, _, _ = strings.Cut(name, ":") // the tag of RFC 2868
	n, known := detailNames[name]
	if !known {
		return a.raw(name, value)
	}
	b, err := n.encode(value)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	if b != nil {
		a.put(n, b)
	}
	return nil
}

// raw takes an attribute that FreeRADIUS had no name for: Attr-1.2.3 = 0x…
func (a *attributes) raw(name, value string) error {
	path, ok := strings.CutPrefix(name, "Attr-")
	if !ok {
		return nil // of no use here
	}
	var p []uint32
	for s := range strings.SplitSeq(path, ".") {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil
		}
		p = append(p, uint32(n))
	}
	b, err := octets(value)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	switch {
	case len(p) == 1 && p[0] > 0 && p[0] <= 255:
		a.put(named{kind: p[0]}, b)
	case len(p) == 3 && p[0] == 26:
		a.put(named{kind: p[2], vendor: p[1]}, b)
	case len(p) == 2 && p[0] >= firstExtended && p[0] < firstLong && p[1] <= 255:
		a.put(named{kind: p[0]}, append([]byte{byte(p[1])}, b...))
	case len(p) == 3 && p[0] == firstExtended && p[1] == portRangeKind && p[2] <= 255:
		a.put(named{kind: p[2], tlv: true}, b)
	}
	return nil
}

// put appends an attribute as it would be sent.
func (a *attributes) put(n named, b []byte) {
	switch {
	case n.tlv:
		if slices.Contains(a.seen, byte(n.kind)) { // the next IP-Port-Range
			a.flush()
		}
		if len(a.tlvs)+len(b)+2 <= 252 {
			a.seen = append(a.seen, byte(n.kind))
			a.tlvs = append(append(a.tlvs, byte(n.kind), byte(2+len(b))), b...)
		}
	case n.vendor != 0:
		l, special := vendorLayouts[n.vendor]
		if !special {
			l = vendorLayout{1, 1}
		}
		head := l.kind + l.length
		if len(b)+4+head > 253 {
			return
		}
		v := binary.BigEndian.AppendUint32(nil, n.vendor)
		v = append(v, binary.BigEndian.AppendUint32(nil, n.kind)[4-l.kind:]...)
		v = append(v, binary.BigEndian.AppendUint32(nil, uint32(head+len(b)))[4-l.length:]...)
		a.list = append(a.list, &codec.AVP{Type: 26, Attribute: append(v, b...)})
	case len(b) <= 253:
		a.list = append(a.list, &codec.AVP{Type: codec.Type(n.kind), Attribute: b})
	}
}

func (a *attributes) flush() {
	if len(a.tlvs) > 0 {
		a.list = append(a.list, &codec.AVP{Type: firstExtended, Attribute: append([]byte{portRangeKind}, a.tlvs...)})
	}
	a.tlvs, a.seen = nil, nil
}

func (a *attributes) done() codec.Attributes {
	a.flush()
	return a.list
}

// encode returns the value as it would be sent, nil when it cannot be known.
func (n *named) encode(s string) ([]byte, error) {
	if b, err := octets(s); n.form != asText && strings.HasPrefix(s, "0x") && err == nil {
		return b, nil
	}
	switch n.form {
	case asText:
		if b, err := octets(s); strings.HasPrefix(s, "0x") && err == nil {
			return b, nil
		}
		return []byte(s), nil
	case asNumber:
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			word, known := detailWords[s]
			if v = uint64(word); !known {
				v = otherWord
			}
		}
		return codec.NewInteger(uint32(v)), nil
	case asAddress, asAddress6:
		a, err := netip.ParseAddr(s)
		if err != nil || a.Is4() != (n.form == asAddress) {
			return nil, errors.New("it is no address of its kind")
		}
		return a.AsSlice(), nil
	case asPrefix6:
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is6() {
			return nil, errors.New("it is no IPv6 prefix")
		}
		return append([]byte{0, byte(p.Bits())}, p.Addr().AsSlice()...), nil
	case asInterface:
		return interfaceID(s)
	case asDate:
		return date(s)
	}
	return octets(s)
}

func octets(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		return nil, errors.New("it is not written as hexadecimal digits")
	}
	return b, nil
}

func interfaceID(s string) ([]byte, error) {
	groups := strings.Split(s, ":")
	var b []byte
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 16, 16)
		if err != nil || len(groups) != 4 {
			return nil, errors.New("it is no interface id")
		}
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b, nil
}

// zones are the abbreviations that mean one offset wherever FreeRADIUS may
// write them; in hours from UTC.
var zones = map[string]int{
	"UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "EDT": -4, "CDT": -5, "MDT": -6, "PDT": -7,
}

// date reads a time as FreeRADIUS prints it, such as "Nov 27 2026 17:04:51 UTC",
// or seconds since 1970. In a zone that is not known for sure it is left out:
// then the time of receipt counts, less the delay.
func date(s string) ([]byte, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return codec.NewInteger(uint32(n)), nil
	}
	at := strings.LastIndexByte(s, ' ')
	if at < 0 {
		return nil, errors.New("it is no time")
	}
	t, err := time.Parse("Jan _2 2006 15:04:05", s[:at])
	if err != nil {
		return nil, errors.New("it is no time")
	}
	hours, known := zones[s[at+1:]]
	sec := t.Add(-time.Duration(hours) * time.Hour).Unix()
	if !known || sec <= 0 || sec > 1<<32-1 {
		return nil, nil
	}
	return codec.NewInteger(uint32(sec)), nil
}
