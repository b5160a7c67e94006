package nat

import "github.com/edgelog/edgelog/pkg/session"

// Translation says that packets between an inside end and a far one cross the
// border as ones between a public end and that far one.
type Translation struct {
	Proto      uint8
	Public     session.Addr
	PublicPort uint16 // of ICMP, the id
	Inside     session.Addr
	InsidePort uint16 // of ICMP, the id
	Far        session.Addr
	FarPort    uint16
	ID         uint32 // of the entry in the translator's table; 0: not known
}

// views turns an entry of conntrack into translations: of its source, and of
// its destination. An entry without any is not translated.
//
// One of which both ends were translated, and whose destination was an own
// public address, is a hairpin or a forwarded port: what it looks like from
// outside is the second, and the first is a name for use inside only. local
// says whether an address is the provider's own.
func (c *conn) views(local func(session.Addr) bool) (list [2]Translation, n int, hairpin bool) {
	snat, dnat := c.replyDst != c.src, c.replySrc != c.dst
	if snat && dnat && local(c.dst.addr) {
		snat, hairpin = false, true
	}
	if snat {
		list[n] = Translation{
			Proto: c.proto, Public: c.replyDst.addr, PublicPort: c.replyDst.port,
			Inside: c.src.addr, InsidePort: c.src.port, Far: c.replySrc.addr, FarPort: c.replySrc.port, ID: c.id,
		}
		n++
	}
	if dnat {
		list[n] = Translation{
			Proto: c.proto, Public: c.dst.addr, PublicPort: c.dst.port,
			Inside: c.replySrc.addr, InsidePort: c.replySrc.port, Far: c.src.addr, FarPort: c.src.port, ID: c.id,
		}
		n++
	}
	return list, n, hairpin
}

// Kind of a change.
type kind uint8

const (
	began  kind = iota + 1
	ended       // the translation is over
	listed      // it is in the kernel's table
)

// change is what became of a translation.
type change struct {
	kind kind
	Translation
	at    int64 // UTC, ns
	doubt int64 // at may be this much too late, ns
	start int64 // when it began, exactly; 0: not told
	from  bool  // another machine says so
}
