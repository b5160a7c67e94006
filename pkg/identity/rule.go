package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// ErrRule is returned for a text that is no rule.
var ErrRule = errors.New("not a rule of a deterministic translation")

// Rule is a deterministic translation (RFC 7422 §2): each inside address has
// one block of ports of one outside address, which follows from the addresses
// alone, so that no translation has to be recorded. Host i of Inside, counted
// from its first address, has
//
//	of the sequential allocation:  block i mod n of outside address i div n
//	of the interleaved allocation: block i div m of outside address i mod m
//
// where an outside address has n blocks of PerHost ports each, from First on,
// and there are m outside addresses. What is left of the ports behind the last
// whole block is not used.
type Rule struct {
	InsidePrefix, OutsidePrefix netip.Prefix // IPv4
	First, Last                 uint16       // ports of an outside address that are used
	PerHost                     uint32       // ports of an inside address
	Interleaved                 bool
}

// ParseRule reads "inside=100.64.0.0/20 outside=203.0.113.0/28
// ports=1024-65535 per-host=1008", with allocation=interleaved behind it where
// it is not sequential. The error wraps ErrRule and says what to write.
func ParseRule(s string) (Rule, error) {
	r := Rule{First: 1024, Last: 65535}
	seen := map[string]bool{}
	for _, field := range strings.Fields(s) {
		key, value, _ := strings.Cut(field, "=")
		if seen[key] {
			return Rule{}, fmt.Errorf("%w: %s stands twice", ErrRule, key)
		}
		seen[key] = true
		if err := r.set(key, value); err != nil {
			return Rule{}, err
		}
	}
	if err := r.check(seen); err != nil {
		return Rule{}, err
	}
	return r, nil
}

func (r *Rule) set(key, value string) (err error) {
	switch key {
	case "inside":
		r.InsidePrefix, err = rulePrefix(key, value)
	case "outside":
		r.OutsidePrefix, err = rulePrefix(key, value)
	case "ports":
		from, to, _ := strings.Cut(value, "-")
		a, err1 := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return fmt.Errorf("%w: ports=%q; write for example ports=1024-65535", ErrRule, value)
		}
		r.First, r.Last = uint16(a), uint16(b)
	case "per-host":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%w: per-host=%q; write how many ports each inside address has, for example per-host=1008", ErrRule, value)
		}
		r.PerHost = uint32(n)
	case "allocation":
		if value != "sequential" && value != "interleaved" {
			return fmt.Errorf("%w: allocation=%q; use sequential or interleaved", ErrRule, value)
		}
		r.Interleaved = value == "interleaved"
	default:
		return fmt.Errorf("%w: %q is not known; use inside, outside, ports, per-host, allocation", ErrRule, key)
	}
	return err
}

func rulePrefix(key, value string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil || !p.Addr().Is4() || p != p.Masked() {
		return p, fmt.Errorf("%w: %s=%q is not an IPv4 prefix; write for example %s=100.64.0.0/20", ErrRule, key, value, key)
	}
	return p, nil
}

func (r *Rule) check(seen map[string]bool) error {
	for _, key := range []string{"inside", "outside", "per-host"} {
		if !seen[key] {
			return fmt.Errorf("%w: %s is missing; write for example \"inside=100.64.0.0/20 outside=203.0.113.0/28 ports=1024-65535 per-host=1008\"", ErrRule, key)
		}
	}
	switch {
	case r.InsidePrefix.Overlaps(r.OutsidePrefix):
		return fmt.Errorf("%w: inside and outside overlap", ErrRule)
	case r.blocks() == 0:
		return fmt.Errorf("%w: %d ports are fewer than per-host=%d; lower per-host", ErrRule, int(r.Last)-int(r.First)+1, r.PerHost)
	case hosts(r.InsidePrefix) > hosts(r.OutsidePrefix)*uint64(r.blocks()):
		return fmt.Errorf("%w: %d inside addresses do not fit %d outside ones of %d blocks each; lower per-host or add outside addresses",
			ErrRule, hosts(r.InsidePrefix), hosts(r.OutsidePrefix), r.blocks())
	}
	return nil
}

// String is the rule in the form that ParseRule reads.
func (r Rule) String() string {
	s := fmt.Sprintf("inside=%s outside=%s ports=%d-%d per-host=%d", r.InsidePrefix, r.OutsidePrefix, r.First, r.Last, r.PerHost)
	if r.Interleaved {
		s += " allocation=interleaved"
	}
	return s
}

// blocks is how many inside addresses share an outside one.
func (r *Rule) blocks() uint32 { return (uint32(r.Last) - uint32(r.First) + 1) / r.PerHost }

func hosts(p netip.Prefix) uint64 { return 1 << (32 - p.Bits()) }

func v4(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

func addr4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Inside returns whose address and port outside are; ok is false when they are
// nobody's.
func (r *Rule) Inside(outside netip.Addr, port uint16) (inside netip.Addr, ok bool) {
	outside = outside.Unmap()
	if !r.OutsidePrefix.Contains(outside) || port < r.First || port > r.Last {
		return inside, false
	}
	n, m := uint64(r.blocks()), hosts(r.OutsidePrefix)
	block, at := uint64(port-r.First)/uint64(r.PerHost), uint64(v4(outside)-v4(r.OutsidePrefix.Addr()))
	if block >= n {
		return inside, false
	}
	i := at*n + block
	if r.Interleaved {
		i = block*m + at
	}
	if i >= hosts(r.InsidePrefix) {
		return inside, false
	}
	return addr4(v4(r.InsidePrefix.Addr()) + uint32(i)), true
}

// Outside returns what an inside address is translated to; ok is false when the
// rule does not translate it.
func (r *Rule) Outside(inside netip.Addr) (outside netip.Addr, first, last uint16, ok bool) {
	inside = inside.Unmap()
	if !r.InsidePrefix.Contains(inside) {
		return outside, 0, 0, false
	}
	n, m := uint64(r.blocks()), hosts(r.OutsidePrefix)
	i := uint64(v4(inside) - v4(r.InsidePrefix.Addr()))
	at, block := i/n, i%n
	if r.Interleaved {
		at, block = i%m, i/m
	}
	first = r.First + uint16(block*uint64(r.PerHost))
	return addr4(v4(r.OutsidePrefix.Addr()) + uint32(at)), first, first + uint16(r.PerHost-1), true
}

// next is the first port behind the block of port.
func (r *Rule) next(port uint16) int {
	if port < r.First {
		return int(r.First)
	}
	return int(r.First) + (int(port-r.First)/int(r.PerHost)+1)*int(r.PerHost)
}

// parsed remembers rules that were read: there are few, and each is asked for
// with every session that it translated. A map in it is never changed.
var parsed struct {
	sync.Mutex // of writers
	rules      atomic.Pointer[map[string]*ruleOrError]
}

type ruleOrError struct {
	rule Rule
	err  error
}

const maxParsed = 1024

func parsedRule(text string) (*Rule, error) {
	if known := parsed.rules.Load(); known != nil {
		if p, ok := (*known)[text]; ok {
			return &p.rule, p.err
		}
	}
	p := new(ruleOrError)
	p.rule, p.err = ParseRule(text)
	parsed.Lock()
	defer parsed.Unlock()
	next := map[string]*ruleOrError{}
	if known := parsed.rules.Load(); known != nil && len(*known) < maxParsed {
		maps.Copy(next, *known)
	}
	next[text] = p
	parsed.rules.Store(&next)
	return &p.rule, p.err
}
