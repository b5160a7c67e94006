package session

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Addr is an IPv6 address in network byte order; an IPv4 address is kept in
// its IPv4-mapped form, ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). It has no pointer,
// so that millions of sessions cost the garbage collector nothing.
type Addr [16]byte

// AddrFrom converts a to its 16-byte form. The zone is dropped; the zero
// netip.Addr gives the unspecified address.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return a.As16()
}

// Netip returns a as a netip.Addr, IPv4-mapped addresses as IPv4.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Is4 reports whether a is an IPv4 address in IPv4-mapped form.
func (a Addr) Is4() bool {
	return binary.BigEndian.Uint64(a[:8]) == 0 && binary.BigEndian.Uint32(a[8:12]) == 0xffff
}

// String returns the address as users write it.
func (a Addr) String() string { return a.Netip().String() }

// Side names one of the two endpoints of a session.
type Side uint8

// The sides. The numbers are stored in blocks and never reused.
const (
	SideUnknown   Side = 0 // neither or both endpoints are in a local prefix
	SideInitiator Side = 1 // the endpoint that sent the initiating packet
	SideResponder Side = 2 // the other endpoint
)

// Flags are remarks on how a session was seen. The bits are stored in blocks
// and never reused.
type Flags uint8

// The remarks.
const (
	MidStream Flags = 1 << 0 // TCP without its SYN: the first packet seen was in mid-stream
	SynAck    Flags = 1 << 1 // TCP that began with SYN+ACK: the peer of its sender is the initiator
	Fragments Flags = 1 << 2 // at least one packet came in fragments
	Orphan    Flags = 1 << 3 // fragments whose first fragment was never seen: ports are unknown and 0
	Sampled   Flags = 1 << 4 // a sample record (BEK 988/2006 § 5 stk. 4): one packet, not a session; its sender is the initiator
	Open      Flags = 1 << 5 // still open when it was written; a later record of the same ID has its end
	LocalOnly Flags = 1 << 6 // profile "source": the far endpoint was never recorded and is zero
)

// TCP flag bits as they stand in the header (RFC 9293 §3.1).
const (
	FIN uint8 = 0x01
	SYN uint8 = 0x02
	RST uint8 = 0x04
	ACK uint8 = 0x10
)

// IP protocol numbers (IANA) that have ports, and the two ICMPs.
const (
	ICMP    uint8 = 1
	TCP     uint8 = 6
	UDP     uint8 = 17
	DCCP    uint8 = 33
	ICMPv6  uint8 = 58
	SCTP    uint8 = 132
	UDPLite uint8 = 136
)

// Session is one internet session: all packets of one transport protocol
// between two endpoints (address and port), both directions, from the
// initiating packet to the terminating packet (BEK 988/2006 § 5 stk. 1).
//
// A field that the profile in force does not permit is zero: with the profile
// "source" the remote endpoint is never known here at all.
type Session struct {
	Start int64 // first packet, UTC, nanoseconds since 1970
	End   int64 // last packet seen, UTC, nanoseconds since 1970

	Initiator     Addr
	Responder     Addr
	InitiatorPort uint16 // host byte order; 0 for protocols without ports
	ResponderPort uint16

	Proto        uint8 // IP protocol number (IANA)
	InitiatorTCP uint8 // TCP flags that the initiator sent, or-ed together; 0 unless Proto is TCP
	ResponderTCP uint8 // the same of the responder
	Reuse        uint8 // how often the tuple was taken into use again in the same table slot; part of ID

	Local     Side // which endpoint is the end user's
	Flags     Flags
	EndReason EndReason

	Subscriber string // id of the subscriber the local address was bound to at Start; "" when not known

	// Inside is the end user's own address behind a translation (NAT), where the
	// local endpoint is what the address was translated to; zero when no
	// translation is known. InsidePort is 0 for protocols without ports.
	Inside     Addr   `json:",omitzero"`
	InsidePort uint16 `json:",omitzero"`
}

// ID names a session: two records with the same ID are one session, written
// twice; the one with the later End, or without the Open flag, holds.
// Start is in whole milliseconds, as blocks keep it.
type ID struct {
	StartMilli                   int64
	Initiator, Responder         Addr
	InitiatorPort, ResponderPort uint16
	Proto, Reuse                 uint8
}

// ID returns the name of s.
func (s *Session) ID() ID {
	return ID{
		StartMilli: floorMilli(s.Start),
		Initiator:  s.Initiator, Responder: s.Responder,
		InitiatorPort: s.InitiatorPort, ResponderPort: s.ResponderPort,
		Proto: s.Proto, Reuse: s.Reuse,
	}
}

// Supersedes reports whether s, a record with the same ID as old, says more
// than old: it is closed where old was still open, or it ends later.
func (s *Session) Supersedes(old *Session) bool {
	if (s.Flags^old.Flags)&Open != 0 {
		return old.Flags&Open != 0
	}
	return s.End > old.End
}

// LocalEnd returns address and port of the end user's side; ok is false when
// neither side is known to be local.
func (s *Session) LocalEnd() (a Addr, port uint16, ok bool) {
	switch s.Local {
	case SideInitiator:
		return s.Initiator, s.InitiatorPort, true
	case SideResponder:
		return s.Responder, s.ResponderPort, true
	}
	return Addr{}, 0, false
}

// UserEnd returns address and port that the end user himself had: those behind
// the translation where one is known, else the local end. ok is false when
// neither side is known to be local.
func (s *Session) UserEnd() (a Addr, port uint16, ok bool) {
	if a, port, ok = s.LocalEnd(); ok && s.Inside != (Addr{}) {
		return s.Inside, s.InsidePort, true
	}
	return a, port, ok
}

// RemoteEnd returns address and port of the far side; ok is false when neither
// side is known to be local.
func (s *Session) RemoteEnd() (a Addr, port uint16, ok bool) {
	switch s.Local {
	case SideInitiator:
		return s.Responder, s.ResponderPort, true
	case SideResponder:
		return s.Initiator, s.InitiatorPort, true
	}
	return Addr{}, 0, false
}

// Endpoint returns one side as users write it: address and port, the address
// alone for protocols without ports, "-" where the profile does not record it.
func (s *Session) Endpoint(side Side) string {
	if s.Flags&LocalOnly != 0 && s.Local != side {
		return "-"
	}
	a, port := s.Initiator, s.InitiatorPort
	if side == SideResponder {
		a, port = s.Responder, s.ResponderPort
	}
	if !HasPorts(s.Proto) {
		return a.String()
	}
	return netip.AddrPortFrom(a.Netip(), port).String()
}

// InsideEnd returns the end user's own address and port as users write them,
// "" where no translation is known.
func (s *Session) InsideEnd() string {
	switch {
	case s.Inside == (Addr{}):
		return ""
	case !HasPorts(s.Proto):
		return s.Inside.String()
	}
	return netip.AddrPortFrom(s.Inside.Netip(), s.InsidePort).String()
}

// Day is a UTC day, counted from 1970-01-01. Retention is counted in days from
// the end of a session.
type Day int32

// DayOf returns the UTC day of a time in nanoseconds since 1970.
func DayOf(ns int64) Day {
	const perDay = int64(24 * time.Hour)
	d := ns / perDay
	if ns%perDay < 0 {
		d--
	}
	return Day(d)
}

// Start returns the first instant of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*24*3600, 0).UTC() }

// String returns the day as YYYY-MM-DD.
func (d Day) String() string { return d.Start().Format("2006-01-02") }

// FormatTime prints a time in the one format that edgelog uses everywhere:
// RFC 3339, UTC, milliseconds, Z. Fractions of a millisecond are cut off.
func FormatTime(ns int64) string {
	return time.Unix(0, ns).UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
}

func floorMilli(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}
