package radius

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/identity"
)

// IP-Port-Range (RFC 8045 §3.1.2) is the extended attribute 241.6; these are
// its TLVs (§3.2).
const (
	portRangeKind = 6

	tlvExtIPv4    = 3
	tlvIntIPv4    = 4
	tlvAlloc      = 8
	tlvRangeStart = 9
	tlvRangeEnd   = 10

	allocated   = 1 // §3.2.8
	deallocated = 2
)

// PortBlock says in which attributes a vendor reports a block of ports of a
// shared address. An attribute number 0 is none.
type PortBlock struct {
	Vendor  uint32 // SMI enterprise number
	Address uint32 // the public address: four bytes, or text
	Range   uint32 // text that holds the ports, and may hold the address before them: "203.0.113.7 1024-2047"
	Start   uint32 // first port: an integer, or text
	End     uint32 // last port

	// Update says whether the block comes or goes: its integer is Released when
	// it goes. Without such an attribute each report tells of the whole.
	Update   uint32
	Released uint32

	// Whole says that the address is not shared: the subscriber holds all ports.
	Whole bool
}

// ErrPortBlock is returned for a PortBlock that can never report a block.
var ErrPortBlock = errors.New("port block")

// Validate says why p cannot be used, or returns nil.
func (p *PortBlock) Validate() error {
	switch {
	case p.Vendor == 0 || p.Vendor > 0xffffff:
		return fmt.Errorf("%w: vendor %d is not the number of an enterprise", ErrPortBlock, p.Vendor)
	case p.Address == 0 && p.Range == 0:
		return fmt.Errorf("%w of vendor %d: no attribute holds the public address", ErrPortBlock, p.Vendor)
	case p.Whole && (p.Range != 0 || p.Start != 0 || p.End != 0):
		return fmt.Errorf("%w of vendor %d: an address that is held whole has no range of ports", ErrPortBlock, p.Vendor)
	case p.Whole:
		return nil
	case p.Range == 0 && (p.Start == 0 || p.End == 0):
		return fmt.Errorf("%w of vendor %d: no attribute holds the ports; without them nobody can be told from those who share the address", ErrPortBlock, p.Vendor)
	case p.Range != 0 && (p.Start != 0 || p.End != 0):
		return fmt.Errorf("%w of vendor %d: the ports stand in one attribute or in two, not in both", ErrPortBlock, p.Vendor)
	}
	return nil
}

// block is one report about ports of a shared address.
type block struct {
	lease  identity.Lease
	inside netip.Addr // the address behind the translation, if it is named
	alloc  uint32     // allocated or deallocated; 0: the report does not say
}

// readBlocks returns the port blocks that a request reports.
func (r *reader) readBlocks() (out []block) {
	eachExtended(r.attrs, func(x extended) {
		if x.space != firstExtended || x.kind != portRangeKind {
			return
		}
		if b, ok := readPortRange(x.value); ok {
			out = append(out, b)
		} else {
			r.notes[noteBadAttribute] = true
		}
	}, func() { r.notes[noteBadAttribute] = true })
	if r.tables != nil && len(r.tables.blocks) > 0 {
		out = r.vendorBlocks(out)
	}
	if len(out) > maxBlocks {
		r.notes[noteBadAttribute] = true
		out = out[:maxBlocks]
	}
	return out
}

// maxBlocks bounds the blocks of one request.
const maxBlocks = 64

// readPortRange reads the TLVs of an IP-Port-Range. Without a start and an end
// it is about a limit or about all ports, and names no block.
func readPortRange(value []byte) (b block, ok bool) {
	var first, last uint32
	var hasFirst, hasLast bool
	var public netip.Addr
	bad := false
	fits := eachTLV(value, func(kind byte, v []byte) {
		if kind != tlvExtIPv4 && kind != tlvIntIPv4 && kind != tlvAlloc && kind != tlvRangeStart && kind != tlvRangeEnd {
			return
		}
		if len(v) != 4 {
			bad = true
			return
		}
		n := binary.BigEndian.Uint32(v)
		switch kind {
		case tlvExtIPv4:
			public = netip.AddrFrom4([4]byte(v))
		case tlvIntIPv4:
			b.inside = netip.AddrFrom4([4]byte(v))
		case tlvAlloc:
			b.alloc = n
		case tlvRangeStart:
			first, hasFirst = n, true
		case tlvRangeEnd:
			last, hasLast = n, true
		}
	})
	if !fits || bad || !hasFirst || !hasLast || b.alloc > deallocated {
		return b, false
	}
	b.lease, ok = portLease(public, first, last)
	return b, ok
}

// portLease checks a block. Port 0 to 0 would mean all ports in the book, which
// no block of a shared address is.
func portLease(public netip.Addr, first, last uint32) (identity.Lease, bool) {
	if !public.Is4() || public.IsUnspecified() || first > last || last == 0 || last > math.MaxUint16 {
		return identity.Lease{}, false
	}
	return identity.Lease{
		Kind: identity.PortBlock, Prefix: netip.PrefixFrom(public, 32), FirstPort: uint16(first), LastPort: uint16(last),
	}, true
}

// vendorBlocks appends what the attributes of the table report. When an
// attribute comes again, it belongs to the next block.
func (r *reader) vendorBlocks(out []block) []block {
	for i := range r.tables.blocks {
		p := &r.tables.blocks[i]
		var a assembly
		flush := func() {
			b, ok := a.block(p)
			if ok {
				out = append(out, b)
			} else if a.some && !a.idle() {
				r.notes[noteBadAttribute] = true
			}
			a = assembly{update: a.update, address: a.address, kept: a.address.IsValid()}
		}
		eachVendor(r.attrs, func(vendor, kind uint32, value []byte) {
			if vendor == p.Vendor && kind != 0 {
				a.take(p, kind, value, flush)
			}
		}, func() {})
		if a.some {
			flush()
		}
	}
	return out
}

// assembly gathers the attributes of one block.
type assembly struct {
	some        bool // something of this block was seen
	kept        bool // address is the one of the block before
	bad         bool
	address     netip.Addr
	first, last uint32
	hasFirst    bool
	hasLast     bool
	update      *uint32
}

// idle: only an address or an update without ports was seen.
func (a *assembly) idle() bool { return !a.bad && !a.hasFirst && !a.hasLast }

func (a *assembly) take(p *PortBlock, kind uint32, value []byte, flush func()) {
	switch kind {
	case p.Address:
		if a.some && a.address.IsValid() && !a.kept {
			flush()
		}
		addr, ok := addressValue(value)
		a.address, a.bad, a.kept = addr, a.bad || !ok, false
	case p.Range:
		if a.hasFirst {
			flush()
		}
		addr, first, last, ok := parseRange(clean(value))
		a.first, a.last, a.hasFirst, a.hasLast, a.bad = first, last, ok, ok, a.bad || !ok
		if addr.IsValid() {
			a.address, a.kept = addr, false
		}
	case p.Start:
		if a.hasFirst {
			flush()
		}
		n, ok := numberValue(value)
		a.first, a.hasFirst, a.bad = n, ok, a.bad || !ok
	case p.End:
		if a.hasLast {
			flush()
		}
		n, ok := numberValue(value)
		a.last, a.hasLast, a.bad = n, ok, a.bad || !ok
	case p.Update:
		n, ok := numberValue(value)
		a.update, a.bad = &n, a.bad || !ok
	default:
		return
	}
	a.some = true
}

// block returns what was gathered.
func (a *assembly) block(p *PortBlock) (b block, ok bool) {
	if a.bad || !a.address.IsValid() {
		return b, false
	}
	if p.Update != 0 && a.update != nil {
		b.alloc = allocated
		if *a.update == p.Released {
			b.alloc = deallocated
		}
	}
	if p.Whole {
		b.lease, ok = portLease(a.address, 0, math.MaxUint16)
		return b, ok
	}
	if !a.hasFirst || !a.hasLast {
		return b, false
	}
	b.lease, ok = portLease(a.address, a.first, a.last)
	return b, ok
}

// addressValue reads an IPv4 address of four bytes, or as text.
func addressValue(v []byte) (netip.Addr, bool) {
	if len(v) == 4 {
		return netip.AddrFrom4([4]byte(v)), true
	}
	a, err := netip.ParseAddr(strings.TrimSpace(clean(v)))
	return a, err == nil && a.Is4()
}

// numberValue reads an integer of four or two bytes, or as text. Four digits of
// text would be an integer beyond all ports, so they are text.
func numberValue(v []byte) (uint32, bool) {
	if n := bigEndian(v); len(v) == 2 || len(v) == 4 && n <= math.MaxUint16 {
		return n, true
	}
	n, err := strconv.ParseUint(strings.TrimSpace(clean(v)), 10, 16)
	return uint32(n), err == nil
}

// parseRange reads such as "203.0.113.7 1024-2047", "203.0.113.7 1024..2047
// router base" and "1024-2047". What follows the ports is not looked at.
func parseRange(s string) (a netip.Addr, first, last uint32, ok bool) {
	for _, w := range strings.FieldsFunc(s, func(c rune) bool { return c == ' ' || c == ',' || c == ';' || c == '\t' || c == ':' }) {
		if addr, err := netip.ParseAddr(w); err == nil {
			if !addr.Is4() || a.IsValid() {
				return netip.Addr{}, 0, 0, false
			}
			a = addr
			continue
		}
		low, high, found := strings.Cut(w, "..")
		if !found {
			low, high, found = strings.Cut(w, "-")
		}
		if !found {
			if a.IsValid() || w == "ports" || w == "port" {
				continue // a word between address and ports
			}
			return netip.Addr{}, 0, 0, false
		}
		f, err1 := strconv.ParseUint(low, 10, 16)
		l, err2 := strconv.ParseUint(high, 10, 16)
		return a, uint32(f), uint32(l), err1 == nil && err2 == nil && f <= l
	}
	return netip.Addr{}, 0, 0, false
}
