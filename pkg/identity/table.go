package identity

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/edgelog/edgelog/pkg/session"
)

// index is the table that questions are answered from: for each prefix its
// bindings in the order of compareBinding. Readers take no lock: they walk an
// array of pointers to entries, and an entry is never changed once a pointer to
// it is there. There is one writer at a time.
//
//	bucket, 64 bytes       entry, 80 bytes                kept, 48 bytes        source
//	hash of a prefix ×4    prefix, from, to, ports        its source ---------> prefix of its keys,
//	entry ×4 ----------->  certainty, who of the record   newest change         restarts,
//	                       record --.    session ------>  record --.            roll of its sessions
//	                                v                              v
//	                       id | facts | subscriber, line, … | leases: the record (record.go), one for both
//
// A look-up reads bucket and entry, and the record only for what its caller asks
// for. With all of that a million bindings of one RADIUS session each take 264
// bytes a binding.
//
// It is a hash table of prefixes, asked once for each prefix length in use,
// the longest first. An operator uses few lengths (/32, /64, /56), and an
// address of its own is found at the first try: with a million bindings the
// time goes into cache misses, of which this way has two or three.
type index struct {
	buckets atomic.Pointer[[]bucket]   // a power of two of them
	lengths atomic.Pointer[[2][]uint8] // in use: of IPv6 and of IPv4 prefixes, the longest first
	seed    uint64
	near    atomic.Uint64 // see names
	trust   [256]uint8    // of each source: less is believed first

	// For the writer.
	used   int      // prefixes in the buckets
	live   int      // of these, with bindings
	counts [129]int // prefixes of each IPv6 length
	count4 [129]int // prefixes of each IPv4 length, plus 96
}

// bucket is one cache line of 64 bytes: up to four prefixes, filled from the
// front, those that do not fit in the next bucket. The hashes stand beside the
// pointers, since a look at the wrong entry would cost as much as all the rest.
// A writer sets the pointer before the hash, and a hash that is set never changes.
type bucket struct {
	hash [perBucket]atomic.Uint64 // 0: free
	e    [perBucket]atomic.Pointer[entry]
}

const perBucket = 4

// entry is one prefix with its one binding. Of several, or none, only the prefix
// is in held, and from is never.
type entry struct {
	one     [1]bound
	several *[]bound
}

// list returns the bindings of e, which may be nil.
func (e *entry) list() []bound {
	switch {
	case e == nil:
		return nil
	case e.several != nil:
		return *e.several
	case e.one[0].from == never:
		return nil
	}
	return e.one[:]
}

// never is a start that nothing reaches.
const never = session.Forever

const minBuckets = 16

func newIndex(trust []session.Source) *index {
	x := &index{seed: rand.Uint64(), trust: ranks(trust)}
	s := make([]bucket, minBuckets)
	x.buckets.Store(&s)
	x.lengths.Store(&[2][]uint8{})
	return x
}

// split returns address and length of p in mapped form.
func split(p netip.Prefix) (hi, lo uint64, n uint8) {
	a := p.Addr().As16()
	n = uint8(p.Bits())
	if p.Addr().Is4() {
		n += 96
	}
	return binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), n
}

// mask clears all but the first n bits.
func mask(hi, lo uint64, n uint8) (uint64, uint64) {
	switch {
	case n >= 128:
		return hi, lo
	case n >= 64:
		return hi, lo &^ (^uint64(0) >> (n - 64))
	}
	return hi &^ (^uint64(0) >> n), 0
}

func (x *index) hash(hi, lo uint64, n uint8) uint64 {
	a, b := bits.Mul64(hi^x.seed, lo^0x9e3779b97f4a7c15)
	c, d := bits.Mul64(a^b^uint64(n), 0xd6e8feb86659fd93)
	// A factor of 0 would make all prefixes with that other half one.
	h := c ^ d ^ bits.RotateLeft64(hi, 29)*0xa0761d6478bd642f ^ lo*0xe7037ed1a0b428db
	return (h ^ h>>32) | 1<<63 // never 0
}

// find returns the entry of the prefix that is hi, lo and n in mapped form, or nil.
func (x *index) find(buckets []bucket, hi, lo uint64, n uint8) *entry {
	m := uint64(len(buckets) - 1)
	h := x.hash(hi, lo, n)
	for i := h & m; ; i = (i + 1) & m {
		b := &buckets[i]
		// Which of them it is cannot be predicted, and after a wrong guess the
		// processor would wait for the memory: so no branch.
		k1, k2, k3 := same(h, b.hash[1].Load()), same(h, b.hash[2].Load()), same(h, b.hash[3].Load())
		if k := (k1 + 2*k2 + 3*k3) % perBucket; same(h, b.hash[0].Load())+k1+k2+k3 != 0 {
			if e := b.e[k].Load(); e.one[0].is(hi, lo, n) {
				return e
			}
			if e := b.findSlow(hi, lo, n); e != nil {
				return e
			}
		}
		if b.hash[perBucket-1].Load() == 0 {
			return nil
		}
	}
}

// same returns 1 when a and b are equal, and 0 otherwise.
func same(a, b uint64) uint64 {
	d := a ^ b
	return 1 ^ (d|-d)>>63
}

// findSlow is for two prefixes with one hash in one bucket.
func (b *bucket) findSlow(hi, lo uint64, n uint8) *entry {
	for k := range perBucket {
		if b.hash[k].Load() == 0 {
			return nil
		}
		if e := b.e[k].Load(); e.one[0].is(hi, lo, n) {
			return e
		}
	}
	return nil
}

// is reports whether h is of that prefix.
func (h *bound) is(hi, lo uint64, n uint8) bool { return h.hi == hi && h.lo == lo && h.n == n }

// list returns the bindings of p.
func (x *index) list(p netip.Prefix) []bound {
	hi, lo, n := split(p)
	return x.find(*x.buckets.Load(), hi, lo, n).list()
}

// set puts list at prefix p; an empty list leaves nothing there.
func (x *index) set(p netip.Prefix, list []bound) {
	e := new(entry)
	h := &e.one[0]
	if len(list) == 1 {
		*h = list[0]
	} else {
		h.hi, h.lo, h.n = split(p)
		h.from = never
		if len(list) > 0 {
			e.several = &list
		}
	}
	had := x.put(*x.buckets.Load(), e)
	if had == 0 && len(list) > 0 {
		x.live++
		x.countLength(p, h.n, 1)
	} else if had > 0 && len(list) == 0 {
		x.live--
		x.countLength(p, h.n, -1)
	}
	if n := len(*x.buckets.Load()) * perBucket; x.used > n/4*3 {
		x.rebuild()
	}
}

// put stores e in the place of an entry of its prefix, or in a free one, and
// returns how many bindings were there.
func (x *index) put(buckets []bucket, e *entry) int {
	m := uint64(len(buckets) - 1)
	p := &e.one[0]
	h := x.hash(p.hi, p.lo, p.n)
	for i := h & m; ; i = (i + 1) & m {
		b := &buckets[i]
		for k := range perBucket {
			switch b.hash[k].Load() {
			case h:
				if old := b.e[k].Load(); old.one[0].is(p.hi, p.lo, p.n) {
					b.e[k].Store(e)
					return len(old.list())
				}
			case 0:
				b.e[k].Store(e)
				b.hash[k].Store(h)
				x.used++
				return 0
			}
		}
	}
}

// rebuild moves the prefixes that have bindings into an array of a fitting
// size. Readers stay with the old one until the new one is complete.
func (x *index) rebuild() {
	n := minBuckets
	for n*perBucket < 2*x.live {
		n *= 2
	}
	old, buckets := *x.buckets.Load(), make([]bucket, n)
	inHugePages(buckets)
	x.used = 0
	for i := range old {
		for k := range perBucket {
			if e := old[i].e[k].Load(); len(e.list()) > 0 {
				x.put(buckets, e)
			}
		}
	}
	x.buckets.Store(&buckets)
}

// countLength notes that there is one prefix more or less of a length. The
// lengths are published after the first of its kind is there, and taken back
// after the last is gone.
func (x *index) countLength(p netip.Prefix, n uint8, d int) {
	c, family := &x.counts[n], 0
	if p.Addr().Is4() {
		c, family = &x.count4[n], 1
	}
	*c += d
	if d > 0 && *c > 1 || d < 0 && *c > 0 {
		return
	}
	next := *x.lengths.Load()
	all := x.counts[:]
	if family == 1 {
		all = x.count4[:]
	}
	next[family] = nil
	for n := len(all) - 1; n >= 0; n-- {
		if all[n] > 0 {
			next[family] = append(next[family], uint8(n))
		}
	}
	x.lengths.Store(&next)
}

// all visits every list. What changes meanwhile may be seen or not.
func (x *index) all() iter.Seq[[]bound] {
	return func(yield func([]bound) bool) {
		buckets := *x.buckets.Load()
		for i := range buckets {
			for k := range perBucket {
				if list := buckets[i].e[k].Load().list(); len(list) > 0 && !yield(list) {
					return
				}
			}
		}
	}
}

// where is the place of an address: its two halves in mapped form, and the
// lengths of prefix to try.
func (x *index) where(a session.Addr) (hi, lo uint64, lengths []uint8) {
	lengths = x.lengths.Load()[0]
	if a.Is4() {
		lengths = x.lengths.Load()[1]
	}
	hi, lo = halves(a)
	return hi, lo, lengths
}

func halves(a session.Addr) (hi, lo uint64) {
	return binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
}
