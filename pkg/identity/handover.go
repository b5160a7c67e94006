package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// replaced notes what is different between the old and the new list of one
// prefix: what must be handed over, and the counts. It reports whether
// anything is. b.mu is held.
func (b *Book) replaced(old, list []bound) bool {
	changed := len(old) != len(list)
	i := 0
	for j := range list {
		for i < len(old) && compareBinding(&old[i], &list[j]) < 0 {
			changed = true
			b.withdrawn(&old[i], list)
			i++
		}
		if i < len(old) && old[i].same(&list[j]) {
			i++
			continue
		}
		changed = true
		b.isNew(&list[j])
	}
	for ; i < len(old); i++ {
		changed = true
		b.withdrawn(&old[i], list)
	}
	if changed {
		b.count.remembered += len(list) - len(old)
		b.count.contradictions += contradictions(list) - contradictions(old)
		b.count.inForce += openIn(list) - openIn(old)
	}
	return changed
}

func openIn(list []bound) int {
	n := 0
	for i := range list {
		if list[i].to == session.Forever {
			n++
		}
	}
	return n
}

// isNew marks a binding to be handed over.
func (b *Book) isNew(x *bound) {
	if b.opts.Sink != nil && !b.loading {
		old := b.pending.get(x)
		b.pending.put(x, old == nil || old.new || old.b.to != x.to)
	}
}

// withdrawn forgets to hand over a binding that is no longer believed; a
// version of it that the sink has already is put right by the rules of Reader.
func (b *Book) withdrawn(x *bound, list []bound) {
	if b.pending.get(x) == nil {
		return
	}
	k := x.key()
	for i := range list {
		if list[i].from == x.from && list[i].key() == k {
			return
		}
	}
	b.pending.drop(x)
}

// Flush hands what is new to the Sink, forgets what is over, and replaces the
// log when it has become long or old. Call it about once a second. When the
// Sink fails its error is returned, and the next Flush tries again.
func (b *Book) Flush(ctx context.Context) error {
	b.flushMu.Lock()
	defer b.flushMu.Unlock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	now := b.opts.Clock()
	b.expire(now.UnixNano())
	err := b.handOver(ctx)
	if now.Sub(b.lastPrune) >= max(b.opts.Retain/24, time.Minute) {
		b.lastPrune = now
		b.prune(now.Add(-b.opts.Retain).UnixNano())
	}
	if b.snapshotDue(now) {
		if rerr := b.rotate(); rerr != nil {
			b.retryAt = now.Add(rotateRetry)
			err = errors.Join(err, fmt.Errorf("write a snapshot of the bindings to %q: %w", b.dir, rerr))
		}
	}
	return err
}

// rotateRetry is how long Flush waits after a snapshot that failed.
const rotateRetry = time.Minute

// snapshotDue reports whether the log is long or old enough to be replaced.
func (b *Book) snapshotDue(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := &b.group
	return !now.Before(b.retryAt) &&
		(g.logSize >= b.opts.MaxLog || now.Sub(g.logBorn) >= b.opts.MaxLogAge && g.logSize > headerLen)
}

// handOver gives all that is pending to the sink. b.flushMu is held.
func (b *Book) handOver(ctx context.Context) error {
	b.mu.Lock()
	if b.pending.n == 0 {
		b.mu.Unlock()
		return nil
	}
	out, upTo := b.pending, b.seq
	b.pending = newPending()
	b.count.onTheWay = out.n
	b.mu.Unlock()

	err := b.give(ctx, &out)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.onTheWay = 0
	if err != nil {
		for v := range out.all() {
			if n := b.pending.get(&v.b); n == nil {
				b.pending.put(&v.b, false)
			} else if n.b.to == v.b.to {
				n.new = false
			}
		}
		b.count.sinkErrors++
		return fmt.Errorf("hand over %d bindings: %w", out.n, err)
	}
	b.count.handedOver += uint64(out.n)
	b.group.handed(b.seq - upTo)
	return nil
}

// give passes the bindings of out to the sink, batch by batch.
func (b *Book) give(ctx context.Context, out *pending) error {
	batch := make([]session.Binding, 0, min(out.n, b.opts.Batch))
	for v := range out.all() {
		batch = append(batch, v.b.binding())
		if len(batch) == cap(batch) {
			if err := b.opts.Sink.PutBindings(ctx, batch); err != nil {
				return err
			}
			batch = make([]session.Binding, 0, cap(batch))
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return b.opts.Sink.PutBindings(ctx, batch)
}

// prune forgets the sessions all of whose bindings ended before the time and
// are with the sink. It looks through the published table without a lock and
// holds the lock for a few sessions at a time.
func (b *Book) prune(before int64) {
	var over []*kept
	for list := range b.idx.all() {
		for i := range list {
			if list[i].to < before {
				over = append(over, list[i].k)
			}
		}
	}
	b.mu.Lock()
	for k := range b.bare {
		if s := k.look(); s.facts[len(s.facts)-1].at < before {
			b.forget(s)
		}
	}
	b.rest()
	for h, until := range b.ended {
		if until < before {
			delete(b.ended, h)
		}
	}
	b.pruneSources(before)
	b.mu.Unlock()
	for len(over) > 0 {
		n := min(len(over), 256)
		b.mu.Lock()
		for _, k := range over[:n] {
			if k.gone() {
				continue
			}
			if s := k.look(); b.isOver(s, before) {
				b.forget(s)
			}
		}
		b.rest()
		b.mu.Unlock()
		over = over[n:]
	}
}

// pruneSources drops old restarts, and sources that have nothing left.
func (b *Book) pruneSources(before int64) {
	for k, src := range b.sources {
		n := 0
		for n < len(src.resets) && src.resets[n] < before {
			n++
		}
		// The last one stays: it bounds what an old session may still claim.
		if n == len(src.resets) && n > 0 {
			n--
		}
		if n > 0 {
			src.resets = append([]int64(nil), src.resets[n:]...)
		}
		if src.sessions.n == 0 && (len(src.resets) == 0 || src.resets[len(src.resets)-1] < before) {
			delete(b.sources, k)
		}
	}
}

// isOver reports whether every binding of s ended before the time and none has
// to be handed over.
func (b *Book) isOver(s *sess, before int64) bool {
	x := b.idx
	for _, p := range prefixesOf(nil, s) {
		list := x.list(p)
		for i := range list {
			if list[i].k != s.kept {
				continue
			}
			if b.pending.get(&list[i]) != nil || list[i].to >= before {
				return false
			}
		}
	}
	return s.facts[len(s.facts)-1].at < before
}

// forget takes s out of memory. A session that had to give way to s must
// remember so by itself from now on.
func (b *Book) forget(s *sess) {
	x := b.idx
	for _, p := range prefixesOf(nil, s) {
		old := x.list(p)
		for i := range old {
			if o := &old[i]; o.k != s.kept && !o.k.gone() && gaveWay(o, s.kept, old) {
				b.keepCuts(o.k, p, old)
			}
		}
		list := without(old, s.kept)
		if b.replaced(old, list) {
			x.set(p, list)
		}
	}
	s.src.sessions.remove(s.kept)
	b.sessions--
	delete(b.bare, s.kept)
	delete(b.absent, s.kept)
	s.rec = ""
}

// gaveWay reports whether o ended because k began.
func gaveWay(o *bound, k *kept, list []bound) bool {
	if o.certainty()&session.ToInferred == 0 {
		return false
	}
	i, _ := slices.BinarySearchFunc(list, o.to, func(x bound, to int64) int { return cmp.Compare(x.from, to) })
	for ; i < len(list) && list[i].from == o.to; i++ {
		if x := &list[i]; x.k == k && x.first <= o.last && o.first <= x.last {
			return true
		}
	}
	return false
}

func without(list []bound, k *kept) []bound {
	var out []bound
	for i := range list {
		if list[i].k != k {
			out = append(out, list[i])
		}
	}
	return out
}

// keepCuts adds to k the ends on p that only other sessions are the reason for.
func (b *Book) keepCuts(k *kept, p netip.Prefix, list []bound) {
	for _, f := range cuts(k.look(), p, list) {
		b.wake(k).add(f)
	}
}

// cuts returns facts for the bindings of s in the list of p that end earlier
// than the facts of s say.
func cuts(s *sess, p netip.Prefix, list []bound) []fact {
	var out []fact
	for _, c := range claimsOn(nil, s, p) {
		for i := range list {
			x := &list[i]
			if x.k == s.kept && x.from >= c.from && x.from <= c.seen && x.first == c.lease.FirstPort && x.last == c.lease.LastPort &&
				x.certainty()&session.ToInferred != 0 && x.to < c.to {
				out = append(out, fact{kind: kindCut, held: -1, at: max(x.to, 1), what: &content{leases: []Lease{c.lease}}})
			}
		}
	}
	return out
}

// endedBefore returns the end of a session that was over and is forgotten since
// the last start, or 0.
func (b *Book) endedBefore(k *kept) int64 {
	if len(b.ended) == 0 {
		return 0
	}
	return b.ended[hashKey(k.key())]
}

func hashKey(key string) uint64 {
	h := sha256.Sum256([]byte(key))
	return binary.LittleEndian.Uint64(h[:])
}
