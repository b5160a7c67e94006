package session

import (
	"math"
	"net/netip"
	"time"
)

// Forever is the To of a binding that is still in force.
const Forever int64 = math.MaxInt64

// NearBy is how far behind a window a binding may begin that must be known to
// judge what is said about the window: clocks differ.
const NearBy = time.Minute

// Source says where a binding was learnt. The numbers are stored in blocks and
// never reused.
type Source uint8

// The sources.
const (
	SourceUnknown Source = 0
	SourceRADIUS  Source = 1 // RADIUS accounting (RFC 2866)
	SourceDHCP    Source = 2 // a DHCP server's own report of a lease (hook or script)
	SourceStatic  Source = 3 // a table in the configuration
	SourceNAT     Source = 4 // a translator: ctnetlink, IPFIX (RFC 8158), or a deterministic rule
	SourceLeases  Source = 5 // a DHCP server's list of leases: a file, or an answer on its control socket
)

var sources = [...]string{"unknown", "radius", "dhcp", "static", "nat", "leases"}

// String returns the word that answers use.
func (s Source) String() string {
	if int(s) < len(sources) {
		return sources[s]
	}
	return "source-" + ProtoName(uint8(s))
}

// ParseSource returns the source of that word.
func ParseSource(word string) (Source, bool) {
	for i, w := range sources {
		if w == word && i > 0 {
			return Source(i), true
		}
	}
	return SourceUnknown, false
}

// Certainty says how the ends of a binding are known. The bits are stored in
// blocks and never reused.
type Certainty uint8

// A binding without any of these bits began and ended at the times that its
// source reported.
const (
	FromInferred Certainty = 1 << 0 // no start was seen; the binding may have begun before From
	ToInferred   Certainty = 1 << 1 // no stop was seen; the binding may have ended before To
)

// Binding says that a subscriber held an address or prefix, or a range of its
// ports, from From until just before To. It is the access record of
// BEK 988/2006 § 5 stk. 2.
type Binding struct {
	Prefix    netip.Prefix // masked; /32 and /128 for one address
	FirstPort uint16       // 0..65535 for all ports
	LastPort  uint16

	From int64 // UTC, nanoseconds since 1970
	To   int64 // UTC, nanoseconds since 1970, not included; Forever while in force

	Subscriber string // the provider's id of the subscriber, as its source gives it (RADIUS User-Name or CUI)
	Line       string // phone or line id: RADIUS Calling-Station-Id, DHCP circuit-id
	Equipment  string // MAC address, lower case with colons
	Place      string // RADIUS Called-Station-Id or NAS port: where access was given

	// Identity is the identity assigned to the user (§ 5 stk. 2 no. 1) where the
	// source gives one beside Subscriber: RADIUS User-Name beside a
	// Chargeable-User-Identity, DHCP client-id or DUID.
	Identity string `json:",omitempty"`

	// Via, when it is valid, says that whoever holds this address at the time
	// holds the binding: the inside address of a translation, or the
	// EquipmentAddr of what an address was leased to. A Subscriber beside it is
	// what is believed when nobody is known to hold Via.
	Via netip.Addr `json:",omitzero"`

	// Rule is a deterministic translation (RFC 7422): it says for each address
	// of Prefix and each port what Via is. "" for none.
	Rule string `json:",omitempty"`

	Source     Source
	SourceName string // which server or NAS said so
	SourceKey  string // the source's own key for it: RADIUS NAS and Acct-Session-Id
	Certainty  Certainty
}

// Covers reports whether the binding holds for address a and port at time ns.
func (b *Binding) Covers(a netip.Addr, port uint16, ns int64) bool {
	return ns >= b.From && ns < b.To && port >= b.FirstPort && port <= b.LastPort && b.Prefix.Contains(a)
}

// equipmentPrefix is the discard-only prefix 100::/64 (RFC 6666): no packet
// comes from there.
var equipmentPrefix = netip.MustParseAddr("100::")

// EquipmentAddr returns the address that stands for a MAC address in the book
// of bindings: 100:: with the MAC address in its low 48 bits. Who is logged on
// with equipment but without an address is bound to it.
func EquipmentAddr(mac [6]byte) netip.Addr {
	a := equipmentPrefix.As16()
	copy(a[10:], mac[:])
	return netip.AddrFrom16(a)
}

// IsEquipment reports whether a is an EquipmentAddr.
func IsEquipment(a netip.Addr) bool {
	b, e := a.As16(), equipmentPrefix.As16()
	return a.Is6() && [10]byte(b[:10]) == [10]byte(e[:10])
}
