package nat

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/edgelog/edgelog/pkg/session"
)

// Events of a translator (IANA, NAT Event Type; RFC 8158 §4.3, §8.2). The
// numbers 1 and 2 are of an older draft and stand for nothing that is sure.
const (
	natAddressesExhausted = 3
	nat44Create           = 4
	nat44Delete           = 5
	nat64Create           = 6
	nat64Delete           = 7
	natPortsExhausted     = 12
	natQuota              = 13
	natBlockCreate        = 16
	natBlockDelete        = 17
	natThreshold          = 18
)

// set takes a field of a record over, if it is one that is read.
func (r *record) set(id uint16, v []byte) {
	switch id {
	case ieProto:
		r.proto = uint8(number(v))
	case ieNATEvent:
		r.event = uint8(number(v))
	case ieSrc4, ieSrc6:
		address(&r.src.addr, v)
	case ieDst4, ieDst6:
		address(&r.dst.addr, v)
	case iePostSrc4, iePostSrc6:
		r.hasPostSrc = address(&r.postSrc.addr, v) || r.hasPostSrc
	case iePostDst4, iePostDst6:
		r.hasPostDst = address(&r.postDst.addr, v) || r.hasPostDst
	case ieSrcPort:
		r.src.port = uint16(number(v))
	case ieDstPort:
		r.dst.port = uint16(number(v))
	case iePostSrcPort:
		r.postSrc.port = uint16(number(v))
	case iePostDstPort:
		r.postDst.port = uint16(number(v))
	case iePortStart:
		r.first, r.hasPorts = uint16(number(v)), true
	case iePortEnd:
		r.last = uint16(number(v))
	case iePortStep:
		r.step = uint16(number(v))
	case iePortNum:
		r.num = uint16(number(v))
	case ieUserName:
		if s := string(v[:min(len(v), maxUserName)]); utf8.ValidString(s) {
			r.user = strings.TrimRight(s, "\x00")
		}
	default:
		r.time(id, v)
	}
}

// time takes the best time that there is.
func (r *record) time(id uint16, v []byte) {
	n := number(v)
	switch {
	case id == ieTimeMillis && n < math.MaxInt64/1_000_000, id == ieFlowStart && r.at == 0 && n < math.MaxInt64/1_000_000:
		r.at = int64(n) * 1e6
	case id == ieTimeSeconds && r.at == 0 && n < math.MaxInt64/1_000_000_000:
		r.at = int64(n) * 1e9
	}
}

// number reads an unsigned number, which may be sent in fewer bytes than its
// type has (RFC 7011 §6.2).
func number(v []byte) (n uint64) {
	if len(v) > 8 {
		return 0
	}
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	return n
}

// address keeps what was there when v is none, or the unspecified one.
func address(to *session.Addr, v []byte) bool {
	var a session.Addr
	switch len(v) {
	case 4:
		a = session.Addr{10: 0xff, 11: 0xff, 12: v[0], 13: v[1], 14: v[2], 15: v[3]}
		if a == (session.Addr{10: 0xff, 11: 0xff}) {
			return false
		}
	case 16:
		if a = session.Addr(v); a == (session.Addr{}) {
			return false
		}
	default:
		return false
	}
	*to = a
	return true
}

// translation returns what a session event says; ok is false when it does not
// say enough.
func (r *record) translation() (t Translation, k kind, ok bool) {
	switch r.event {
	case nat44Create, nat64Create:
		k = began
	case nat44Delete, nat64Delete:
		k = ended
	default:
		return t, 0, false
	}
	far := r.dst
	if r.hasPostDst {
		far = r.postDst
		if far.port == 0 {
			far.port = r.dst.port
		}
	}
	ok = r.hasPostSrc && r.src.addr != (session.Addr{}) && far.addr != (session.Addr{}) && r.proto != 0
	return Translation{
		Proto: r.proto, Public: r.postSrc.addr, PublicPort: r.postSrc.port, Inside: r.src.addr, InsidePort: r.src.port,
		Far: far.addr, FarPort: far.port,
	}, k, ok
}

// maxSpread bounds the ports of a block that do not lie side by side.
const maxSpread = 256

// ranges returns the ports of a block; none when it does not say, or they are
// too many to be told.
func (r *record) ranges() (list [][2]uint16) {
	if !r.hasPorts {
		return nil
	}
	step, first, last := max(int(r.step), 1), int(r.first), int(r.last)
	if r.last == 0 {
		if r.num == 0 {
			return nil
		}
		last = first + (int(r.num)-1)*step
	}
	switch {
	case last < first || last > math.MaxUint16 || last == 0:
		return nil
	case step == 1:
		return [][2]uint16{{r.first, uint16(last)}}
	case (last-first)/step >= maxSpread:
		return nil
	}
	for p := first; p <= last && (r.num == 0 || len(list) < int(r.num)); p += step {
		list = append(list, [2]uint16{uint16(p), uint16(p)})
	}
	return list
}
