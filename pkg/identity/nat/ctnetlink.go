package nat

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// Numbers of linux/netfilter/nfnetlink_conntrack.h that x/sys does not have.
const (
	ctNew    = 0 // IPCTNL_MSG_CT_NEW
	ctGet    = 1 // IPCTNL_MSG_CT_GET
	ctDelete = 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaTimestamp  = 20
	ctaEventTime  = 27 // since Linux 6.14

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIP4Src = 1
	ctaIP4Dst = 2
	ctaIP6Src = 3
	ctaIP6Dst = 4

	ctaProtoNum    = 1
	ctaProtoSrc    = 2
	ctaProtoDst    = 3
	ctaProtoICMPID = 4
	ctaProtoICMP6  = 7 // the id of ICMPv6

	ctaTimeStart = 1
	ctaTimeStop  = 2
)

const (
	nlHeader  = 16 // struct nlmsghdr
	nfHeader  = 4  // struct nfgenmsg
	nlaHeader = 4  // struct nlattr
	nlaType   = 0x3fff
)

// errMessage says that bytes are not what the kernel would send.
var errMessage = errors.New("not a message of ctnetlink")

// end is one end of a tuple; the port is the id for ICMP.
type end struct {
	addr session.Addr
	port uint16
}

// conn is an entry of the kernel's table.
type conn struct {
	src, dst           end // as its first packet came
	replySrc, replyDst end // as answers come
	proto              uint8
	id                 uint32
	start, stop, event int64 // UTC, ns; 0: not told
}

// message is one message of the kernel's.
type message struct {
	kind uint8 // ctNew, ctDelete
	done bool  // the end of a dump
	err  error // an answer of the kernel's instead
	conn
}

// next takes the first message off b. The rest is returned; ok is false when b
// is damaged, and nothing more can be told of it.
func (m *message) next(b []byte) (rest []byte, ok bool) {
	*m = message{}
	if len(b) < nlHeader {
		return nil, false
	}
	size := binary.NativeEndian.Uint32(b)
	if size < nlHeader || uint64(size) > uint64(len(b)) {
		return nil, false
	}
	body := b[nlHeader:size]
	kind := binary.NativeEndian.Uint16(b[4:])
	rest = b[min(len(b), int(align(size))):]
	switch {
	case kind == unix.NLMSG_DONE: // with what kept a dump from being whole
		m.done, m.err = true, errno(body)
	case kind == unix.NLMSG_ERROR:
		m.done, m.err = true, errno(body)
	case kind>>8 != unix.NFNL_SUBSYS_CTNETLINK || len(body) < nfHeader:
		m.err = errMessage
	default:
		m.kind = uint8(kind)
		if !m.read(body[nfHeader:]) {
			m.err = errMessage
		}
	}
	return rest, true
}

// errno reads a negative error number, 0 for none.
func errno(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(b)); n != 0 {
		return unix.Errno(-n)
	}
	return nil
}

func align(n uint32) uint32 { return (n + 3) &^ 3 }

// attr takes the first attribute off b; ok is false at the end, and at damage,
// of which *bad is set.
func attr(b []byte, bad *bool) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < nlaHeader {
		*bad = *bad || len(b) > 0
		return 0, nil, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b))
	if size < nlaHeader || size > len(b) {
		*bad = true
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) & nlaType, b[nlaHeader:size], b[min(len(b), int(align(uint32(size)))):], true
}

// read takes what is needed of an entry; it wants both tuples.
func (c *conn) read(b []byte) bool {
	bad := false
	var have int
	for kind, v, rest, ok := attr(b, &bad); ok; kind, v, rest, ok = attr(rest, &bad) {
		switch kind {
		case ctaTupleOrig:
			bad = !c.tuple(v, &c.src, &c.dst, false) || bad
			have |= 1
		case ctaTupleReply:
			bad = !c.tuple(v, &c.replySrc, &c.replyDst, true) || bad
			have |= 2
		case ctaID:
			if len(v) >= 4 {
				c.id = binary.BigEndian.Uint32(v)
			}
		case ctaTimestamp:
			c.times(v, &bad)
		case ctaEventTime:
			if len(v) >= 8 {
				c.event = int64(binary.BigEndian.Uint64(v))
			}
		}
	}
	return !bad && have == 3
}

func (c *conn) times(b []byte, bad *bool) {
	for kind, v, rest, ok := attr(b, bad); ok; kind, v, rest, ok = attr(rest, bad) {
		if len(v) < 8 {
			continue
		}
		at := int64(binary.BigEndian.Uint64(v))
		switch kind {
		case ctaTimeStart:
			c.start = at
		case ctaTimeStop:
			c.stop = at
		}
	}
}

func (c *conn) tuple(b []byte, src, dst *end, reply bool) bool {
	bad := false
	for kind, v, rest, ok := attr(b, &bad); ok; kind, v, rest, ok = attr(rest, &bad) {
		switch kind {
		case ctaTupleIP:
			addresses(v, src, dst, &bad)
		case ctaTupleProto:
			c.ports(v, src, dst, reply, &bad)
		}
	}
	return !bad
}

func addresses(b []byte, src, dst *end, bad *bool) {
	for kind, v, rest, ok := attr(b, bad); ok; kind, v, rest, ok = attr(rest, bad) {
		to := src
		if kind == ctaIP4Dst || kind == ctaIP6Dst {
			to = dst
		}
		switch {
		case (kind == ctaIP4Src || kind == ctaIP4Dst) && len(v) == 4:
			to.addr = session.Addr{10: 0xff, 11: 0xff, 12: v[0], 13: v[1], 14: v[2], 15: v[3]}
		case (kind == ctaIP6Src || kind == ctaIP6Dst) && len(v) == 16:
			to.addr = session.Addr(v)
		}
	}
}

// ports reads protocol and ports. The id of an ICMP question stands on the side
// of the one who asked, which is what a translator changes.
func (c *conn) ports(b []byte, src, dst *end, reply bool, bad *bool) {
	for kind, v, rest, ok := attr(b, bad); ok; kind, v, rest, ok = attr(rest, bad) {
		switch {
		case kind == ctaProtoNum && len(v) >= 1:
			c.proto = v[0]
		case len(v) < 2:
		case kind == ctaProtoSrc:
			src.port = binary.BigEndian.Uint16(v)
		case kind == ctaProtoDst:
			dst.port = binary.BigEndian.Uint16(v)
		case kind == ctaProtoICMPID || kind == ctaProtoICMP6:
			if reply {
				dst.port = binary.BigEndian.Uint16(v)
			} else {
				src.port = binary.BigEndian.Uint16(v)
			}
		}
	}
}

// putHeader fills in the header of a message that is all of b.
func putHeader(b []byte, kind, flags uint16) {
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
}
