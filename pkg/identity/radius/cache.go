package radius

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// requestKey is what makes two datagrams the same request: a NAS that sends a
// request again changes none of it (RFC 2865 §2.5, RFC 5080 §2.2.2). It is the
// sender's address and port, the identifier and the authenticator, without
// pointers: the garbage collector need not look into the cache.
type requestKey [35]byte

func newKey(from netip.AddrPort, b []byte) (k requestKey) {
	a := from.Addr().As16()
	copy(k[:], a[:])
	binary.BigEndian.PutUint16(k[16:], from.Port())
	k[18] = b[1]
	copy(k[19:], b[4:headerLen])
	return k
}

// cache remembers the requests of the last while. Both its size and the age of
// its entries are bounded. It need not keep answers: the same request makes the
// same answer again.
type cache struct {
	max int
	age time.Duration

	mu    sync.Mutex
	m     map[requestKey]cached
	queue []requestKey // in the order of their arrival; a key may be gone from m
	head  int          // queue[:head] is done with
}

// cached is one request: being worked on until it was answered.
type cached struct {
	at       int64 // ns since 1970
	answered bool
}

func newCache(size int, age time.Duration) *cache {
	return &cache{max: size, age: age, m: make(map[requestKey]cached)}
}

// begin notes a request. Of one that is known it says whether it was answered,
// or is being worked on.
func (c *cache) begin(k requestKey, now time.Time) (answered, known bool) {
	ns := now.UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.m[k]; ok && c.holds(x, ns) {
		return x.answered, true
	}
	for c.head < len(c.queue) {
		old := c.queue[c.head]
		x, ok := c.m[old]
		full := len(c.m) >= c.max || len(c.queue)-c.head >= 2*c.max
		if ok && !full && c.holds(x, ns) {
			break
		}
		c.head++
		delete(c.m, old)
	}
	if c.head > len(c.queue)/2 {
		c.queue = append(c.queue[:0], c.queue[c.head:]...)
		c.head = 0
	}
	c.m[k] = cached{at: ns}
	c.queue = append(c.queue, k)
	return false, false
}

func (c *cache) holds(x cached, ns int64) bool { return !x.answered || ns-x.at < int64(c.age) }

// answered notes that a request was answered.
func (c *cache) answered(k requestKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.m[k]; ok {
		x.answered = true
		c.m[k] = x
	}
}

// failed forgets a request that got no answer: sent again it is tried again.
func (c *cache) failed(k requestKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, k)
}
