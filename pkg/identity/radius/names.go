package radius

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc4372"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// DSL Forum attributes (RFC 4679 §3.3.1, §3.3.2), in attribute 26.
const (
	vendorADSLForum = 3561
	adslCircuitID   = 1
	adslRemoteID    = 2
)

// framedPPP is the Framed-Protocol of RFC 2865 §5.7 by which what a session
// holds is assigned within it.
const framedPPP = 1

// names sets the subscriber and the identity assigned to him: User-Name, or
// Chargeable-User-Identity (RFC 4372) where the name is the outer one of EAP
// that hides him, or the MAC address of equipment that logs on by itself. A MAC
// address is no person: it names a subscriber only where Options.MACSubscriber
// says so.
func (r *reader) names(e *identity.Event) {
	name, cui := r.text(rfc2865.UserName_Type), r.text(rfc4372.ChargeableUserIdentity_Type)
	hidden := name == "" || strings.HasPrefix(name, "@") || strings.HasPrefix(strings.ToLower(name), "anonymous")
	mac, isMAC := macName(name, e.Equipment)
	if isMAC && !r.opts.MACSubscriber {
		hidden = true
		if e.Equipment == "" {
			e.Equipment = mac
		}
		r.notes[noteMACName] = cui == ""
	}
	switch {
	case cui != "" && (hidden || r.opts.PreferCUI):
		e.Subscriber, e.Identity = cui, name
	case isMAC && !r.opts.MACSubscriber:
		e.Identity = name
	default:
		e.Subscriber, e.Identity = name, cui
	}
	if e.Identity == e.Subscriber {
		e.Identity = ""
	}
}

// macName reports whether a User-Name is a MAC address. Twelve digits without
// a letter may be a telephone number or a customer's: they are a MAC address
// only if the equipment is known to have it.
func macName(name, equipment string) (string, bool) {
	if mac, ok := identity.ParseMAC(name); ok {
		return mac, true
	}
	return equipment, len(name) == 12 && equipment != "" && strings.EqualFold(name, strings.ReplaceAll(equipment, ":", ""))
}

// access sets line, equipment and place.
func (r *reader) access(e *identity.Event) {
	var line []string
	if calling := r.text(rfc2865.CallingStationID_Type); calling != "" {
		if mac, ok := identity.ParseMAC(calling); ok {
			e.Equipment = mac
		} else {
			line = append(line, calling)
		}
	}
	circuit, remote := r.adsl()
	for _, s := range [...]string{circuit, remote} {
		if s != "" {
			line = append(line, s)
		}
	}
	e.Line = strings.Join(line, "; ")
	e.Place = r.place()
}

// adsl returns Agent-Circuit-Id and Agent-Remote-Id.
func (r *reader) adsl() (circuit, remote string) {
	if _, ok := r.attrs.Lookup(rfc2865.VendorSpecific_Type); !ok {
		return "", ""
	}
	eachVendor(r.attrs, func(vendor, kind uint32, value []byte) {
		switch {
		case vendor != vendorADSLForum:
		case kind == adslCircuitID:
			circuit = clean(value)
		case kind == adslRemoteID:
			remote = clean(value)
		}
	}, func() { r.notes[noteBadAttribute] = true })
	return circuit, remote
}

// equipment adds the lease of the session's MAC address, by which a DHCP lease
// finds who is logged on. Within PPP no address comes by DHCP and MAC.
func (r *reader) equipment(e *identity.Event) {
	mac, ok := macBytes(e.Equipment)
	if p, isFramed := r.number(rfc2865.FramedProtocol_Type); !ok || isFramed && p == framedPPP {
		return
	}
	e.Leases = append(e.Leases, identity.Lease{Kind: identity.Equipment, Prefix: netip.PrefixFrom(session.EquipmentAddr(mac), 128)})
}

// macBytes reads the form of Binding.Equipment. A MAC address of all zeros or of
// a group is nobody's.
func macBytes(s string) (mac [6]byte, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != 6 {
		return mac, false
	}
	mac = [6]byte(b)
	return mac, mac != [6]byte{} && mac[0]&1 == 0
}
