package identity

import "container/heap"

// lastsUntil is when what facts say ends by itself; 0: it does not. Of renewals
// that were heard of in any order the farthest counts.
func lastsUntil(facts []fact) (until int64) {
	for i := range facts {
		until = max(until, facts[i].until)
	}
	return until
}

// ranOut reports whether what lasts until then had ended by itself at a time.
func ranOut(until, at int64) bool { return until != 0 && at > until }

// told returns splits of s where the sink has, or is being given, an end at
// which a lease ran out and that f, a renewal heard of late, moves. What is
// sealed cannot be taken back, and a Reader could not tell which of the two ends
// was the later word: so what is sealed stays, and the rest of the hold stands
// beside it.
func (b *Book) told(s *sess, f *fact) (out []fact) {
	if f.until == 0 || len(s.facts) == 0 || b.opts.Sink == nil {
		return nil
	}
	for _, l := range f.what.leases {
		list := b.idx.list(l.Prefix)
		for i := range list {
			x := &list[i]
			if x.k != s.kept || x.to < f.at || x.to >= f.until || x.first != l.FirstPort || x.last != l.LastPort || !s.lasted(x.to) {
				continue
			}
			if v := b.pending.get(x); v == nil || !v.new {
				out = append(out, fact{kind: kindSplit, held: -1, at: x.to, what: &content{leases: []Lease{l}}})
			}
		}
	}
	return out
}

// lasted reports whether something that s held lasted until then.
func (s *sess) lasted(until int64) bool {
	for i := range s.facts {
		if s.facts[i].until == until {
			return true
		}
	}
	return false
}

// split divides the claims in dst[first:] where an end is with the sink already.
func (s *sess) split(dst []claim, first int) []claim {
	for i := range s.facts {
		f := &s.facts[i]
		if f.kind != kindSplit {
			continue
		}
		for j := first; j < len(dst); j++ {
			c := &dst[j]
			if c.lease != f.what.leases[0] || f.at <= c.from || f.at < c.seen || f.at >= c.to {
				continue
			}
			rest := *c
			c.to, c.toInf, c.last = f.at, true, min(c.last, f.at)
			rest.from, rest.seen, rest.last, rest.fromInf = f.at, f.at, max(rest.last, f.at), true
			dst = append(dst, rest)
			break
		}
	}
	return dst
}

// expiring is a session whose leases end by themselves.
type expiring struct {
	at int64 // not after its last lease ends, UTC ns
	k  *kept
}

// expiry is a heap of them, each once, the next to end first.
type expiry []expiring

func (e expiry) Len() int           { return len(e) }
func (e expiry) Less(i, j int) bool { return e[i].at < e[j].at }
func (e expiry) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *expiry) Push(x any)        { *e = append(*e, x.(expiring)) }
func (e *expiry) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = expiring{}
	*e = old[:len(old)-1]
	return x
}

// lastUntil is when the newest lease of s ends by itself; 0: it does not.
func (s *sess) lastUntil() int64 {
	if s.facts[len(s.facts)-1].kind == Stop {
		return 0
	}
	return lastsUntil(s.facts)
}

// watch has the session looked at when its lease ends. b.mu is held.
func (b *Book) watch(s *sess) {
	if until := s.lastUntil(); until > b.now && !s.times().timed {
		s.wait.timed = true
		heap.Push(&b.expiry, expiring{until, s.kept})
	}
}

// expireChunk is how many sessions end under one hold of the lock.
const expireChunk = 1024

// expire ends what has ended by itself.
func (b *Book) expire(now int64) {
	for more := true; more; {
		b.mu.Lock()
		more = b.expireSome(now)
		b.mu.Unlock()
	}
}

// expireSome ends some of it and reports whether there may be more. b.mu is
// held.
func (b *Book) expireSome(now int64) (more bool) {
	b.now = max(b.now, now)
	var changed []*kept
	for len(b.expiry) > 0 && b.expiry[0].at <= now && len(changed) < expireChunk {
		k := heap.Pop(&b.expiry).(expiring).k
		k.wait.timed = false
		if k.gone() {
			continue
		}
		s := k.look()
		if until := s.lastUntil(); until == 0 || until > now {
			b.watch(s)
			continue
		}
		b.count.expired++
		if _, out := b.absent[k]; out {
			b.logWhole(k)
		} else { // the sink is to have its end, after a restart too
			b.seq++
			s.seq = b.seq
			b.group.add(appendTouch(b.group.buf, s))
		}
		changed = append(changed, k)
	}
	b.reindex(changed)
	b.rest()
	return len(changed) == expireChunk
}
