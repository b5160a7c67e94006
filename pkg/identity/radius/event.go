package radius

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"
	"layeh.com/radius/rfc4818"
	"layeh.com/radius/rfc6911"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// minPrefix is the shortest IPv6 prefix that a session is believed to hold: a
// wrong length would otherwise give one subscriber all the others' traffic.
const minPrefix = 32

// verdict says what to do with an authentic accounting request.
type verdict uint8

const (
	use         verdict = iota
	acknowledge         // of no use, and no more use when it is sent again
	drop                // it lacks what the RFC says it must have
)

// reader turns attributes into an event, and remembers what was odd.
type reader struct {
	opts   *Options
	tables *tables // nil: none
	client *client // nil: it may name anything
	attrs  codec.Attributes
	notes  [remarks]bool

	lag     time.Duration // from Event-Timestamp to when the request was made, by our clock
	stamped bool          // it has an Event-Timestamp

	blocks []block // of shared addresses that come or go by themselves, beside the session's leases
}

// event reads an accounting request that came from a client at the address
// from, at the time now.
func (r *reader) event(from netip.Addr, now time.Time) (e identity.Event, v verdict, why reason) {
	status, ok := r.number(rfc2866.AcctStatusType_Type)
	if !ok {
		return e, drop, dropNoStatus
	}
	e.Source, e.NAS = session.SourceRADIUS, r.nas(from)
	switch rfc2866.AcctStatusType(status) {
	case rfc2866.AcctStatusType_Value_Start:
		e.Kind = identity.Start
	case rfc2866.AcctStatusType_Value_Stop:
		e.Kind = identity.Stop
	case rfc2866.AcctStatusType_Value_InterimUpdate:
		e.Kind = identity.Interim
	case rfc2866.AcctStatusType_Value_AccountingOn:
		e.Kind = identity.NASOn
	case rfc2866.AcctStatusType_Value_AccountingOff:
		e.Kind = identity.NASOff
	default:
		r.notes[noteOtherStatus] = true
		return e, acknowledge, 0
	}
	if !r.mayName(from) {
		return e, drop, dropNAS
	}
	r.when(&e, now)
	if e.Kind == identity.NASOn || e.Kind == identity.NASOff {
		return e, use, 0
	}
	e.Session = r.text(rfc2866.AcctSessionID_Type)
	if e.Session == "" {
		return e, drop, dropNoSession
	}
	e.Group = r.text(rfc2866.AcctMultiSessionID_Type)
	if t, ok := r.number(rfc2866.AcctSessionTime_Type); ok {
		e.Held, e.HasHeld = time.Duration(t)*time.Second, true
	}
	r.access(&e)
	r.names(&e)
	r.leases(&e)
	r.portBlocks(&e)
	if len(e.Leases) == 0 && len(r.blocks) == 0 {
		r.notes[noteNoAddress] = true
	}
	r.equipment(&e)
	return e, use, 0
}

// nas names the source: NAS-Identifier and NAS address, as far as they are
// there, since many a NAS leaves its factory with the same identifier as all
// others; if neither is, the sender's address.
func (r *reader) nas(from netip.Addr) string {
	id, addr := r.text(rfc2865.NASIdentifier_Type), r.nasAddress()
	switch {
	case id != "" && addr != "":
		return id + "@" + addr
	case id != "":
		return id
	case addr != "":
		return addr
	}
	return from.String()
}

// nasAddress returns NAS-IP-Address or NAS-IPv6-Address, "" when there is none.
func (r *reader) nasAddress() string {
	if a, ok := r.attrs.Lookup(rfc2865.NASIPAddress_Type); ok && len(a) == 4 {
		return netip.AddrFrom4([4]byte(a)).String()
	} else if a, ok := r.attrs.Lookup(rfc3162.NASIPv6Address_Type); ok && len(a) == 16 {
		return netip.AddrFrom16([16]byte(a)).String()
	}
	return ""
}

// when sets the time of the event: Event-Timestamp (RFC 2869 §5.3), or else
// the arrival less Acct-Delay-Time (RFC 2866 §5.2). A NAS whose clock is
// plainly wrong is dated by the arrival too, and the event is marked.
func (r *reader) when(e *identity.Event, now time.Time) {
	arrival := now.UnixNano()
	if d, ok := r.number(rfc2866.AcctDelayTime_Type); ok && time.Duration(d)*time.Second <= r.opts.MaxAge {
		arrival -= int64(d) * int64(time.Second)
	}
	e.At = arrival
	stamp, ok := r.number(rfc2869.EventTimestamp_Type)
	if !ok {
		return
	}
	at := time.Unix(int64(stamp), 0)
	r.lag, r.stamped = time.Duration(arrival-at.UnixNano()), true
	switch {
	case at.After(now.Add(r.opts.MaxAhead)):
		r.notes[noteFuture], e.Doubtful = true, true
	case at.Before(now.Add(-r.opts.MaxAge)):
		r.notes[noteOld], e.Doubtful = true, true
	default:
		e.At = at.UnixNano()
	}
}

// leases sets what the session holds.
func (r *reader) leases(e *identity.Event) {
	iid, hasIID := r.attrs.Lookup(rfc3162.FramedInterfaceID_Type)
	if hasIID && len(iid) != 8 {
		r.notes[noteBadAttribute], hasIID = true, false
	}
	add := func(kind identity.LeaseKind, p netip.Prefix) {
		if !r.mayHold(p) {
			return
		}
		e.Leases = append(e.Leases, identity.Lease{Kind: kind, Prefix: p})
	}
	for _, a := range r.attrs {
		switch a.Type {
		case rfc2865.FramedIPAddress_Type:
			if len(a.Attribute) != 4 {
				r.notes[noteBadAttribute] = true
				continue
			}
			// RFC 2865 §5.8: 255.255.255.255 and .254 let user or NAS choose;
			// some send 0.0.0.0 while there is none.
			if v := binary.BigEndian.Uint32(a.Attribute); v != 0 && v < 0xfffffffe {
				add(identity.IPv4Address, netip.PrefixFrom(netip.AddrFrom4([4]byte(a.Attribute)), 32))
			}
		case rfc6911.FramedIPv6Address_Type:
			if len(a.Attribute) != 16 {
				r.notes[noteBadAttribute] = true
			} else if v := netip.AddrFrom16([16]byte(a.Attribute)); !v.IsUnspecified() {
				add(identity.IPv6Address, netip.PrefixFrom(v, 128))
			}
		case rfc3162.FramedIPv6Prefix_Type:
			p, ok := r.prefix(a.Attribute)
			if !ok {
				continue
			}
			add(identity.FramedPrefix, p)
			if hasIID && p.Bits() == 64 {
				v := p.Addr().As16()
				copy(v[8:], iid)
				add(identity.IPv6Address, netip.PrefixFrom(netip.AddrFrom16(v), 128))
			}
		case rfc4818.DelegatedIPv6Prefix_Type:
			if p, ok := r.prefix(a.Attribute); ok {
				add(identity.DelegatedPrefix, p)
			}
		}
	}
}

// prefix reads the value of Framed-IPv6-Prefix (RFC 3162 §2.3) or
// Delegated-IPv6-Prefix (RFC 4818 §3): a zero byte, the length in bits, and as
// many bytes as the length needs, or more.
func (r *reader) prefix(a []byte) (netip.Prefix, bool) {
	if len(a) < 2 || len(a) > 18 || int(a[1]) > 8*(len(a)-2) || a[1] < minPrefix {
		r.notes[noteBadAttribute] = true
		return netip.Prefix{}, false
	}
	var v [16]byte
	copy(v[:], a[2:])
	return netip.PrefixFrom(netip.AddrFrom16(v), int(a[1])).Masked(), true
}

// number returns an attribute of four bytes.
func (r *reader) number(t codec.Type) (uint32, bool) {
	a, ok := r.attrs.Lookup(t)
	if !ok {
		return 0, false
	}
	if len(a) != 4 {
		r.notes[noteBadAttribute] = true
		return 0, false
	}
	return binary.BigEndian.Uint32(a), true
}

func (r *reader) text(t codec.Type) string { return clean(r.attrs.Get(t)) }

// clean returns b as text: without zeros at its end, and as hexadecimal digits
// if it is not printable.
func clean(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	plain := true // as nearly all are
	for _, c := range b {
		plain = plain && c >= ' ' && c < 0x7f
	}
	if plain {
		return string(b)
	}
	if !utf8.Valid(b) {
		return "0x" + hex.EncodeToString(b)
	}
	for _, c := range string(b) {
		if !unicode.IsPrint(c) {
			return "0x" + hex.EncodeToString(b)
		}
	}
	return string(b)
}
