package radius

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// A block that a report adds to a session, or takes from it (RFC 8045 §3.2.8),
// is a session of its own in the book: its reports may be lost or overtake one
// another, and the session's other blocks do not depend on them. Its key is that
// of the session with the block behind it. When the session ends, its blocks do.

// blockMark stands between the id of a session and its block.
const blockMark = " ports "

// blockSession returns the session id of a block.
func blockSession(parent string, l *identity.Lease) string {
	return parent + blockMark + l.Prefix.Addr().String() + ":" + strconv.Itoa(int(l.FirstPort)) + "-" + strconv.Itoa(int(l.LastPort))
}

// Bounds of what a tracker remembers.
const (
	maxTracked    = 1 << 20 // blocks
	maxOfSession  = 4096    // blocks of one session
	maxTrackedEnd = 1 << 16 // sessions that have ended
	maxTrackedNAS = 1 << 12 // access servers that report blocks
)

// parent is a session that blocks belong to.
type parent struct{ nas, session string }

// tracker knows which blocks a session has, so that they end with it.
type tracker struct {
	mu     sync.Mutex
	blocks map[parent]map[string]struct{} // the session ids of its blocks
	n      int                            // of them
	nas    map[string]struct{}            // that have reported a block that comes or goes
	ended  map[parent]int64               // of those: when, UTC ns
	queue  []parent                       // in the order of ended
	some   atomic.Bool                    // nas is not empty
}

func newTracker() *tracker {
	return &tracker{blocks: map[parent]map[string]struct{}{}, nas: map[string]struct{}{}, ended: map[parent]int64{}}
}

// resume takes up what the book has in force. Its binding names the session as
// Event.SourceKey does.
func (t *tracker) resume(list []session.Binding) {
	for i := range list {
		b := &list[i]
		if b.Source != session.SourceRADIUS || b.FirstPort == 0 && b.LastPort == 0 {
			continue
		}
		_, id, _ := strings.Cut(strings.TrimPrefix(b.SourceKey, session.SourceRADIUS.String()+"/"), "/")
		if at := strings.LastIndex(id, blockMark); at > 0 {
			t.add(parent{b.SourceName, id[:at]}, id)
		}
	}
}

// add notes a block. It returns when the session ended, if that is known already.
func (t *tracker) add(p parent, id string) (ended int64, has, room bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.nas[p.nas]; !ok && len(t.nas) < maxTrackedNAS {
		t.nas[p.nas] = struct{}{}
		t.some.Store(true)
	}
	if ended, has = t.ended[p]; has {
		return ended, true, true
	}
	of := t.blocks[p]
	if _, ok := of[id]; ok {
		return 0, false, true
	}
	if t.n >= maxTracked || len(of) >= maxOfSession {
		return 0, false, false
	}
	if of == nil {
		of = map[string]struct{}{}
		t.blocks[p] = of
	}
	of[id] = struct{}{}
	t.n++
	return 0, false, true
}

// list returns the blocks of a session.
func (t *tracker) list(p parent) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.blocks[p] {
		ids = append(ids, id)
	}
	return ids
}

// gone notes that an event is durable which ended a block, a session or, as an
// On or Off, all of an access server.
func (t *tracker) gone(e *identity.Event) {
	if e.Kind < identity.Stop || !t.some.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.nas[e.NAS]; !ok {
		return
	}
	switch e.Kind {
	case identity.NASOn, identity.NASOff:
		for p := range t.blocks {
			if p.nas == e.NAS {
				t.forget(p)
			}
		}
	case identity.Stop:
		if at := strings.LastIndex(e.Session, blockMark); at > 0 {
			p := parent{e.NAS, e.Session[:at]}
			if _, ok := t.blocks[p][e.Session]; ok {
				delete(t.blocks[p], e.Session)
				t.n--
				if len(t.blocks[p]) == 0 {
					delete(t.blocks, p)
				}
			}
			return
		}
		p := parent{e.NAS, e.Session}
		t.forget(p)
		t.remember(p, e.At)
	}
}

func (t *tracker) forget(p parent) {
	t.n -= len(t.blocks[p])
	delete(t.blocks, p)
}

// remember keeps that a session has ended, for a block that is reported late.
func (t *tracker) remember(p parent, at int64) {
	if _, ok := t.ended[p]; !ok {
		if len(t.queue) >= maxTrackedEnd {
			delete(t.ended, t.queue[0])
			t.queue = t.queue[1:]
		}
		t.queue = append(t.queue, p)
	}
	t.ended[p] = at
}

// portBlocks gives the session the blocks that are reported as a whole, and puts
// those that come or go aside.
func (r *reader) portBlocks(e *identity.Event) {
	var inside netip.Addr // of the only IPv4 address that the session holds
	for _, l := range e.Leases {
		if l.Kind == identity.IPv4Address {
			inside = l.Prefix.Addr()
		}
	}
	for _, b := range r.readBlocks() {
		if !r.mayHold(b.lease.Prefix) {
			continue
		}
		if e.Subscriber == "" { // whoever holds the address behind the translation has the block
			b.lease.Via = inside
			if b.inside.IsValid() {
				b.lease.Via = b.inside
			}
			if b.lease.Via == b.lease.Prefix.Addr() {
				b.lease.Via = netip.Addr{}
			}
		}
		if b.alloc == 0 {
			e.Leases = append(e.Leases, b.lease)
		} else {
			r.blocks = append(r.blocks, b)
		}
	}
}

// expand appends e and the events of its blocks.
func (s *Server) expand(out []identity.Event, e identity.Event, r *reader) []identity.Event {
	p := parent{e.NAS, e.Session}
	out = append(out, e)
	for i := range r.blocks {
		b := &r.blocks[i]
		child := e
		child.Session, child.Held, child.HasHeld = blockSession(e.Session, &b.lease), 0, false
		child.Leases = []identity.Lease{b.lease}
		switch {
		case b.alloc == deallocated:
			child.Kind = identity.Stop
		case e.Kind == identity.Stop: // what it had until now
			child.Kind = identity.Stop
		}
		out = append(out, child)
		if child.Kind == identity.Stop {
			continue
		}
		ended, has, room := s.tracker.add(p, child.Session)
		if has && ended >= child.At {
			child.Kind, child.At = identity.Stop, ended
			out = append(out, child)
		}
		if !room {
			s.count.remarks[noteManyBlocks].Add(1)
		}
	}
	if e.Kind != identity.Stop || !s.tracker.some.Load() {
		return out
	}
	for _, id := range s.tracker.list(p) {
		child := e
		child.Session, child.Held, child.HasHeld, child.Leases = id, 0, false, nil
		out = append(out, child)
	}
	return out
}
