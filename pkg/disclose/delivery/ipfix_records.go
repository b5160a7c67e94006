package delivery

import (
	"net"
	"net/netip"

	"github.com/edgelog/edgelog/pkg/session"
)

// reasonOf is flowEndReason (RFC 5102) of each end: 1 idle, 2 active
// timeout, 3 end of flow detected, 4 forced, 5 lack of resources. A sample has
// none.
var reasonOf = map[session.EndReason]uint8{
	session.EndFIN: 3, session.EndRST: 3, session.EndIdle: 1, session.EndHalfOpen: 1,
	session.EndShutdown: 4, session.EndEvicted: 5, session.EndOpen: 2,
}

const (
	fromInitiator  = 1  // biflowDirection (RFC 5103 §6.3): the source began it
	portBlockGiven = 16 // natEvent (RFC 8158): a block of ports was allocated
)

// sessionRecord makes r a bidirectional flow (RFC 5103), its source the
// initiator. Where the end user's address was translated, the elements are those
// of the translation (RFC 8158): source, or for a session from outside
// postNATDestination, is his own address.
func sessionRecord(r *record, s *session.Session) {
	r.reset()
	r.milli(elStart, s.Start)
	r.milli(elEnd, s.End)
	r.u8(elProtocol, s.Proto)
	ports := session.HasPorts(s.Proto)
	port := func(e element, v uint16) {
		if ports {
			r.u16(e, v)
		}
	}
	inside := s.Inside != (session.Addr{})
	has := func(side session.Side) bool { return s.Flags&session.LocalOnly == 0 || s.Local == side }
	if has(session.SideInitiator) {
		a, p := s.Initiator, s.InitiatorPort
		if inside && s.Local == session.SideInitiator {
			r.addr(elNATSource4, elNATSource6, a.Netip())
			port(elNATSourcePort, p)
			a, p = s.Inside, s.InsidePort
		}
		r.addr(elSource4, elSource6, a.Netip())
		port(elSourcePort, p)
	}
	if has(session.SideResponder) {
		r.addr(elDest4, elDest6, s.Responder.Netip())
		port(elDestPort, s.ResponderPort)
		if inside && s.Local == session.SideResponder {
			r.addr(elNATDest4, elNATDest6, s.Inside.Netip())
			port(elNATDestPort, s.InsidePort)
		}
	}
	if s.Proto == session.TCP {
		r.u16(elTCPFlags, uint16(s.InitiatorTCP))
		r.u16(elReverseTCP, uint16(s.ResponderTCP))
	}
	if why, ok := reasonOf[s.EndReason]; ok {
		r.u8(elEndReason, why)
	}
	if s.Flags&session.Sampled != 0 { // one packet in 500 (RFC 5477)
		r.u32(elSampleInterval, 1)
		r.u32(elSampleSpace, 499)
	} else {
		r.u8(elDirection, fromInitiator)
	}
	if s.Subscriber != "" {
		r.text(elUser, s.Subscriber)
	}
}

// bindingRecord makes r an access record. Of a translation, source is the
// inside and postNATSource the outside address, as an allocation of ports says
// it (RFC 8158).
func bindingRecord(r *record, b *session.Binding, subscriber string) {
	r.reset()
	if b.From > 0 {
		r.milli(elStart, b.From)
	}
	if b.To != session.Forever {
		r.milli(elEnd, b.To)
	}
	held, via := b.Prefix.Addr(), b.Via
	mac, err := net.ParseMAC(b.Equipment)
	if err != nil || len(mac) != 6 {
		mac = nil
	}
	for _, a := range []netip.Addr{held, via} { // an address that stands for equipment
		if a.IsValid() && session.IsEquipment(a) {
			raw := a.As16()
			mac = raw[10:]
		}
	}
	switch {
	case session.IsEquipment(held):
	case via.IsValid() && !session.IsEquipment(via):
		if b.From > 0 {
			r.milli(elObserved, b.From)
		}
		r.u8(elNATEvent, portBlockGiven)
		r.addr(elSource4, elSource6, via)
		r.addr(elNATSource4, elNATSource6, held)
	case b.Prefix.IsSingleIP():
		r.addr(elSource4, elSource6, held)
	default:
		r.addr(elSource4Prefix, elSource6Prefix, held)
		if held.Is4() {
			r.u8(elSource4Bits, uint8(b.Prefix.Bits()))
		} else {
			r.u8(elSource6Bits, uint8(b.Prefix.Bits()))
		}
	}
	if !session.IsEquipment(held) {
		r.u16(elFirstPort, b.FirstPort)
		r.u16(elLastPort, b.LastPort)
	}
	if mac != nil {
		r.bytes(elMAC, mac)
	}
	if subscriber != "" {
		r.text(elUser, subscriber)
	}
}
