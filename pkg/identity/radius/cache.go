package radius

import (
	"net/netip"
	"sync"
	"time"
)

// requestKey is what makes two datagrams the same request: a NAS that sends a
// request again changes none of it (RFC 2865 §2.5, RFC 5080 §2.2.2).
type requestKey struct {
	from          netip.AddrPort
	identifier    byte
	authenticator [16]byte
}

// cache remembers the requests of the last while. Both its size and the age of
// its entries are bounded.
type cache struct {
	max int
	age time.Duration

	mu    sync.Mutex
	m     map[requestKey]*cached
	queue []requestKey // in the order of their arrival; a key may be gone from m
	head  int          // queue[:head] is done with
}

// cached is one request: being worked on while answer is nil.
type cached struct {
	answer []byte
	at     time.Time
}

func newCache(size int, age time.Duration) *cache {
	return &cache{max: size, age: age, m: make(map[requestKey]*cached)}
}

// begin notes a request. For one that is known it returns its answer, or nil
// while it is being worked on.
func (c *cache) begin(k requestKey, now time.Time) (answer []byte, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.m[k]; ok && (x.answer == nil || now.Sub(x.at) < c.age) {
		return x.answer, true
	}
	for c.head < len(c.queue) {
		old := c.queue[c.head]
		x, ok := c.m[old]
		full := len(c.m) >= c.max || len(c.queue)-c.head >= 2*c.max
		if ok && !full && (x.answer == nil || now.Sub(x.at) < c.age) {
			break
		}
		c.head++
		delete(c.m, old)
	}
	if c.head > len(c.queue)/2 {
		c.queue = append(c.queue[:0], c.queue[c.head:]...)
		c.head = 0
	}
	c.m[k] = &cached{at: now}
	c.queue = append(c.queue, k)
	return nil, false
}

// answered keeps the answer of a request.
func (c *cache) answered(k requestKey, answer []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.m[k]; ok {
		x.answer = answer
	}
}

// failed forgets a request that got no answer: sent again it is tried again.
func (c *cache) failed(k requestKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, k)
}
