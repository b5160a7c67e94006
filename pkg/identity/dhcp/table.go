package dhcp

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// maxTable bounds the leases of one server that are remembered.
const maxTable = 8 << 20

// lease is what is remembered of a prefix: who holds it, or held it last. All
// times are seconds since 1970, but told. It has no name or identifier in it.
type lease struct {
	client uint64 // hash of who holds it
	what   uint32 // hash of what was said of the line
	start  uint32 // with prefix and client the name of the session
	heard  uint32 // of the client, by the server; of an ended lease, when it ended
	until  uint32 // 0: never, or not known
	seen   uint32 // number of the last comparison that named it
	told   int64  // when the last record was made, ns since 1970
	mac    [6]byte
	rank   uint8 // which of the words of Options.Subscriber named the subscriber
	flags  uint8
}

const (
	isActive uint8 = 1 << iota
	isListed       // its session has the source SourceLeases
	hasVia
	seeded // nothing is known but what the book holds
)

// noRank is the rank of a lease whose subscriber has not been named.
const noRank = 255

// way says how a record was heard of.
type way uint8

const (
	byReport way = iota // the server's own word, at once
	byFile              // from a file, at its start
	byTail              // appended to a file that is read to its end
	byList              // from the control socket
)

// table is what is known of one server's leases. It is not safe for use by
// several goroutines.
type table struct {
	name  string
	order []string // see Options.Subscriber
	join  Join
	m     map[netip.Prefix]*lease
	seed  maphash.Seed
	slab  []lease
	round uint32 // number of comparisons

	whole [2]bool // of IPv4 and IPv6: all leases in force are in the table
	count *counters
	knows func(netip.Addr, int64) []session.Binding // what the book has of that moment; nil: nothing
}

func newTable(name string, c *counters) *table {
	return &table{name: name, m: map[netip.Prefix]*lease{}, seed: maphash.MakeSeed(), count: c}
}

// remember takes what the book says to be in force, so that a restart neither
// begins these leases anew nor forgets to end them.
func (t *table) remember(list []session.Binding) {
	for i := range list {
		b := &list[i]
		if b.SourceName != t.name || b.Source != session.SourceDHCP && b.Source != session.SourceLeases {
			continue
		}
		l, ok := parseSession(b.SourceKey)
		if !ok {
			continue
		}
		l.heard, l.told, l.rank = uint32(b.From/1e9), b.From, noRank
		l.flags = isActive | seeded
		if b.Source == session.SourceLeases {
			l.flags |= isListed
		}
		if session.IsEquipment(b.Via) {
			l.mac, l.flags = [6]byte(b.Via.AsSlice()[10:]), l.flags|hasVia
		}
		if b.Subscriber != "" {
			l.rank = 0 // a lesser word must not rename it
		}
		if old := t.m[b.Prefix]; old != nil && old.heard > l.heard {
			continue
		}
		t.m[b.Prefix] = &l
	}
}

// sessionID names the session of a lease: prefix, hash of the client, first
// second. Two servers, or two holds of one client, never share one.
func sessionID(p netip.Prefix, l *lease) string {
	b := make([]byte, 0, 64)
	if p.IsSingleIP() {
		b = p.Addr().AppendTo(b)
	} else {
		b = append(p.Addr().AppendTo(b), '-')
		b = strconv.AppendInt(b, int64(p.Bits()), 10)
	}
	b = append(b, '~')
	b = strconv.AppendUint(b, l.client, 16)
	b = append(b, '~')
	return string(strconv.AppendUint(b, uint64(l.start), 10))
}

// parseSession reads client and start from the key of a binding.
func parseSession(key string) (l lease, ok bool) {
	parts := strings.Split(key, "~")
	if len(parts) != 3 {
		return l, false
	}
	client, err1 := strconv.ParseUint(parts[1], 16, 64)
	start, err2 := strconv.ParseUint(parts[2], 10, 32)
	l.client, l.start = client, uint32(start)
	return l, err1 == nil && err2 == nil
}

// clientHash stands for who holds a lease: the client identifier, else the MAC
// address; with DHCPv6 the DUID and IAID.
func (r *Record) clientHash() uint64 {
	var buf [4 + 3*maxID]byte
	b := binary.BigEndian.AppendUint32(buf[:0], r.IAID)
	switch {
	case r.Client != "":
		b = append(b, r.Client...)
	case r.HasMAC:
		b = append(b, r.MAC[:]...)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// take compares a record with what is known and appends the events that say
// what is new. now is when the record was made.
func (t *table) take(dst []identity.Event, r *Record, w way, now time.Time) []identity.Event {
	t.count.records++
	h := r.clientHash()
	l := t.m[r.Prefix]
	if l != nil {
		l.seen = t.round
	}
	before := len(dst)
	if w == byFile && r.old(now) {
		t.count.known++
		return dst
	}
	if r.State == Active {
		dst = t.active(dst, r, l, h, w, now)
	} else {
		dst = t.ended(dst, r, l, h, w, now)
	}
	if len(dst) == before {
		t.count.known++
	} else {
		t.count.news++
	}
	return dst
}

// at returns when the client was heard of, in ns; a time that has not come is
// none.
func (t *table) at(r *Record, now time.Time) (at int64, doubtful bool) {
	switch {
	case r.Heard == 0:
		return now.UnixNano(), true
	case r.Heard > now.Unix()+maxAhead:
		t.count.future++
		return now.UnixNano(), true
	}
	return r.Heard * int64(time.Second), false
}

// maxAhead is by how much a server's clock may be ahead, in seconds.
const maxAhead = 60

func (t *table) active(dst []identity.Event, r *Record, l *lease, h uint64, w way, now time.Time) []identity.Event {
	at, doubtful := t.at(r, now)
	sec := uint32(at / 1e9)
	switch {
	case l == nil:
		return t.begin(dst, r, h, w, at, doubtful, now)
	case l.flags&isActive == 0: // over
		if l.client == h && sec <= l.heard && (w != byReport || now.UnixNano() < l.told) || sec < l.heard {
			return dst // an old word about it
		}
		return t.begin(dst, r, h, w, at, doubtful, now)
	case l.client == h && (l.until == 0 || sec <= l.until+1):
		return t.goOn(dst, r, l, at, doubtful, now)
	case sec < l.heard:
		return t.past(dst, r, l, h, at)
	}
	dst = t.displace(dst, r.Prefix, l, at)
	return t.begin(dst, r, h, w, at, doubtful, now)
}

// begin opens a session.
func (t *table) begin(dst []identity.Event, r *Record, h uint64, w way, at int64, doubtful bool, now time.Time) []identity.Event {
	l := t.m[r.Prefix]
	if l == nil {
		if len(t.m) >= maxTable {
			t.count.full++
			return dst
		}
		l = t.room()
		t.m[r.Prefix] = l
	}
	t.count.begun++
	*l = lease{client: h, start: uint32(at / 1e9), seen: t.round, flags: isActive, rank: noRank}
	if w != byReport {
		l.flags |= isListed
	}
	e := t.event(identity.Interim, r, l, at)
	if fresh := r.First || t.whole[family(r.Prefix)] && (w == byReport || w == byTail); fresh && !doubtful {
		e.Kind = identity.Start
	}
	if r.Held > 0 {
		e.Held, e.HasHeld = time.Duration(r.Held)*time.Second, true
	}
	e.Doubtful = doubtful
	if r.HasMAC && (t.join == JoinAlways || t.join == JoinWithoutLine && !r.hasLine()) {
		l.mac, l.flags = r.MAC, l.flags|hasVia
	}
	e.Leases = l.named(r.Prefix)
	l.learn(r, at, now, &e, t)
	return append(dst, e)
}

// room returns a lease, many of which are made at once.
func (t *table) room() *lease {
	if len(t.slab) == 0 {
		t.slab = make([]lease, 1024)
	}
	l := &t.slab[0]
	t.slab = t.slab[1:]
	return l
}

// goOn takes a renewal, or what was not known of the lease.
func (t *table) goOn(dst []identity.Event, r *Record, l *lease, at int64, doubtful bool, now time.Time) []identity.Event {
	sec, until := uint32(at/1e9), seconds(r.Until)
	later := !doubtful && sec > l.heard || until > l.until && l.until != 0 || l.flags&seeded != 0 && until != l.until
	what := t.whatHash(r)
	more := what != 0 && what != l.what && (r.hasLine() || l.what == 0)
	if sec < l.heard || !later && !more {
		return dst
	}
	e := t.event(identity.Interim, r, l, at)
	e.Doubtful = doubtful
	e.Leases = l.named(r.Prefix)
	l.flags &^= seeded
	l.learn(r, at, now, &e, t)
	return append(dst, e)
}

// learn notes what a record said, and takes from the event the name of a
// subscriber that a better word has named already.
func (l *lease) learn(r *Record, at int64, now time.Time, e *identity.Event, t *table) {
	l.heard, l.until, l.told = uint32(at/1e9), seconds(r.Until), now.UnixNano()
	if r.hasLine() || l.what == 0 {
		l.what = t.whatHash(r)
	}
	name, rank := t.subscriber(r)
	if rank > l.rank {
		name = ""
	} else {
		l.rank = rank
	}
	e.Subscriber = name
}

// past tells of a client who held the prefix before the one that is known.
func (t *table) past(dst []identity.Event, r *Record, l *lease, h uint64, at int64) []identity.Event {
	old := lease{client: h, start: uint32(at / 1e9), flags: isActive | isListed, rank: noRank}
	e := t.event(identity.Interim, r, &old, at)
	e.Subscriber, _ = t.subscriber(r)
	e.Leases = old.named(r.Prefix)
	end := e
	end.Kind, end.Doubtful = identity.Stop, true
	end.At = int64(l.start) * int64(time.Second)
	if u := int64(seconds(r.Until)) * int64(time.Second); u != 0 && u < end.At {
		end.At, end.Doubtful = u, false
	}
	if end.At < at {
		return dst
	}
	return append(dst, e, end)
}

// displace ends a lease because at that time another client has the prefix:
// it ran out before, or its end was not heard of.
func (t *table) displace(dst []identity.Event, p netip.Prefix, l *lease, at int64) []identity.Event {
	end, doubtful := at, true
	if u := int64(l.until) * int64(time.Second); u != 0 && u <= at {
		end, doubtful = u, false
	}
	return t.stop(dst, p, l, end, doubtful)
}

// stop ends the session of a lease.
func (t *table) stop(dst []identity.Event, p netip.Prefix, l *lease, at int64, doubtful bool) []identity.Event {
	at = max(at, int64(l.heard)*int64(time.Second))
	e := identity.Event{Kind: identity.Stop, At: at, Doubtful: doubtful, Source: l.source(), NAS: t.name, Session: sessionID(p, l), Leases: l.named(p)}
	l.flags &^= isActive | seeded
	l.heard, l.until = uint32(at/1e9), 0
	return append(dst, e)
}

// ended takes the end of a lease.
func (t *table) ended(dst []identity.Event, r *Record, l *lease, h uint64, w way, now time.Time) []identity.Event {
	who := r.Client != "" || r.HasMAC // a lease that was declined has no client any more
	switch {
	case l == nil && w == byFile && who && r.Heard > 0:
		return t.history(dst, r, h, now)
	case l == nil, l.flags&isActive == 0, who && l.client != h:
		if l == nil && w == byReport && len(t.m) < maxTable { // its begin may come yet
			n := t.room()
			*n = lease{client: h, heard: uint32(now.Unix()), seen: t.round, told: now.UnixNano()}
			t.m[r.Prefix] = n
		}
		return dst
	case r.Heard != 0 && uint32(r.Heard) < l.heard && l.flags&seeded == 0 && r.Ended == 0:
		return dst // of a hold before this one
	}
	at, doubtful := r.Ended*int64(time.Second), false
	if at == 0 || at > now.UnixNano() { // somewhere up to now
		at, doubtful = now.UnixNano(), true
	}
	if r.Ended != 0 && uint32(r.Ended) < l.heard {
		return dst
	}
	if w == byReport && r.State != Expired {
		at, doubtful = now.UnixNano(), false // the server reports it as it happens
	}
	if u := int64(l.until) * int64(time.Second); u != 0 && u < at {
		at, doubtful = u, false
	}
	l.told = now.UnixNano()
	return t.stop(dst, r.Prefix, l, at, doubtful)
}

// keep is how long after its end a lease is news when it is found in a file, and
// how long the book is sure to remember one, in seconds.
const keep = 23 * 3600

// old reports whether a record speaks of nothing but what was over long ago.
func (r *Record) old(now time.Time) bool {
	last := max(r.Heard, r.Until, r.Ended)
	return last > 0 && last < now.Unix()-keep && (r.State != Active || r.Until != 0)
}

// history takes a lease from a file that has ended and that nobody told of
// before, as when it ended while the agent did not run.
func (t *table) history(dst []identity.Event, r *Record, h uint64, now time.Time) []identity.Event {
	end := r.Ended
	if end == 0 || end > now.Unix() || end <= r.Heard {
		return dst
	}
	if t.knows != nil {
		for _, b := range t.knows(r.Prefix.Addr(), end*int64(time.Second)-1) {
			if l, ok := parseSession(b.SourceKey); ok && l.client == h && b.SourceName == t.name {
				return dst
			}
		}
	}
	l := lease{client: h, start: seconds(r.Heard), flags: isActive | isListed, rank: noRank}
	e := t.event(identity.Interim, r, &l, r.Heard*int64(time.Second))
	e.Subscriber, _ = t.subscriber(r)
	e.Leases, e.Until = l.named(r.Prefix), 0
	stop := e
	stop.Kind, stop.At = identity.Stop, end*int64(time.Second)
	return append(dst, e, stop)
}

// family returns 0 for IPv4 and 1 for IPv6.
func family(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return 1
}

func (l *lease) source() session.Source {
	if l.flags&isListed != 0 {
		return session.SourceLeases
	}
	return session.SourceDHCP
}

// named returns what the session holds; it stays the same to its end.
func (l *lease) named(p netip.Prefix) []identity.Lease {
	x := identity.Lease{Kind: identity.IPv4Address, Prefix: p}
	switch {
	case !p.IsSingleIP():
		x.Kind = identity.DelegatedPrefix
	case p.Addr().Is6():
		x.Kind = identity.IPv6Address
	}
	if l.flags&hasVia != 0 {
		x.Via = session.EquipmentAddr(l.mac)
	}
	return []identity.Lease{x}
}

// seconds makes a time fit the table.
func seconds(s int64) uint32 { return uint32(min(max(s, 0), 1<<32-1)) }
