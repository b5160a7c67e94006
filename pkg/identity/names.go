package identity

import "github.com/edgelog/edgelog/pkg/session"

// Question asks whose an address was.
type Question struct {
	Addr session.Addr
	Port uint16 // 0 for protocols without ports
	At   int64  // UTC, nanoseconds since 1970

	Subscriber string // the answer of Names; "" when it is not known
}

// namesAtOnce is how many questions are worked on at once: enough that the
// memory answers many of them at the same time, and few enough that what one
// pass brought near is there for the next.
const namesAtOnce = 64

// Names answers many questions, each as Name does. With many bindings nearly
// all of the time of a look-up is waiting for memory; here the questions wait
// together.
func (b *Book) Names(list []Question) {
	for len(list) > 0 {
		n := min(len(list), namesAtOnce)
		b.idx.names(list[:n])
		list = list[n:]
	}
}

// names answers at most namesAtOnce questions, in passes that each need what the
// one before has asked the memory for: bucket, entry, answer. What is not the
// only binding of the longest prefix in use takes the usual way.
func (x *index) names(list []Question) {
	var hashes [namesAtOnce]uint64
	var entries [namesAtOnce]*entry
	lengths := x.lengths.Load()
	buckets := *x.buckets.Load() // after the lengths, which are published last
	m := uint64(len(buckets) - 1)
	near := uint64(0) // of no meaning, but it has to be there
	for i := range list {
		q := &list[i]
		family := 0
		if q.Addr.Is4() {
			family = 1
		}
		if len(lengths[family]) == 0 {
			continue
		}
		n := lengths[family][0]
		hi, lo := halves(q.Addr)
		hi, lo = mask(hi, lo, n)
		hashes[i] = x.hash(hi, lo, n)
		near |= buckets[hashes[i]&m].hash[0].Load()
	}
	for i := range list {
		b := &buckets[hashes[i]&m]
		for k := range perBucket {
			if hashes[i] != 0 && b.hash[k].Load() == hashes[i] {
				entries[i] = b.e[k].Load()
				one := &entries[i].one[0]
				near |= uint64(one.from) | uint64(one.name)
			}
		}
	}
	x.near.Store(near)
	for i := range list {
		q, e := &list[i], entries[i]
		if e != nil {
			h := &e.one[0]
			hi, lo := halves(q.Addr)
			hi, lo = mask(hi, lo, h.n)
			if h.hi == hi && h.lo == lo && h.covers(q.Port, q.At) && h.name != 0 && h.flags&leads == 0 {
				q.Subscriber = h.subscriber()
				continue
			}
		}
		q.Subscriber, _ = x.name(q.Addr, q.Port, q.At)
	}
}
