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

// expiring is a session whose leases end by themselves.
type expiring struct {
	at int64 // not after its last lease ends, UTC ns
	s  *sess
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
	if until := s.lastUntil(); until > s.now && !s.timed {
		s.timed = true
		heap.Push(&b.expiry, expiring{until, s})
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
	var changed []*sess
	for len(b.expiry) > 0 && b.expiry[0].at <= now && len(changed) < expireChunk {
		s := heap.Pop(&b.expiry).(expiring).s
		s.timed = false
		if b.sessions[s.key] != s {
			continue // forgotten
		}
		if until := s.lastUntil(); until == 0 || until > now {
			b.watch(s)
			continue
		}
		b.count.expired++
		if _, out := b.absent[s]; out {
			b.logWhole(s)
		} else { // the sink is to have its end, after a restart too
			b.seq++
			s.seq = b.seq
			b.group.add(appendTouch(b.group.buf, s))
		}
		changed = append(changed, s)
	}
	b.reindex(changed)
	return len(changed) == expireChunk
}
