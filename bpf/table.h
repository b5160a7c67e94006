/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * table.h - the session table: find, update, insert, begin anew. One cache
 * line a session. Must never free a slot (the agent does, once the session is
 * on disk) and must never wait without a bound.
 *
 * Established sessions are found and updated without a lock; what inserts,
 * begins anew or changes more than times and TCP flags takes the lock of the
 * home bucket and looks again.
 *
 * Races that are allowed, each with its worst result:
 *
 *  - Two CPUs write slot.last at once: it may step back by one clock tick
 *    (1-10 ms). The next packet heals it; a last packet stays one tick early.
 *  - A CPU that found a slot is held up (a stalled virtual CPU) for longer
 *    than the agent takes to close, store and free it, and then writes
 *    slot.last or a TCP flag into its next occupant: that session's end is a
 *    tick of the past until its own next packet, or it is stored early and,
 *    when its next packet comes, again.
 *  - A packet finds a slot LIVE while the agent closes it for silence: the
 *    agent reads the times a grace (100 ms) later, so the packet still counts
 *    unless its CPU is held up for as long; the one after it starts a new
 *    session.
 *  - The half-open bit of a slot follows the session: whoever changes the
 *    session changes the bit next. A CPU that is held up between the two for as
 *    long as above may clear the bit of the slot's next occupant, which then
 *    does not count for the share of its bucket until it ends. The agent clears
 *    the bit before it marks a slot STORED, and looks again when that fails.
 *  - A tag is in the word before its slot is LIVE or NEGATIVE, and goes after
 *    the slot is CLOSED and before it is FREE, each time by whoever owns the
 *    slot; an agent killed in between leaves a tag that the next one clears. So
 *    a search may look at a slot in vain, and never misses one.
 *  - On weakly ordered machines a reader may see a state before the key that
 *    was written before it. Slots are wiped before they are free, so it finds
 *    nothing and looks again under the lock, which orders; in a slot that was
 *    taken over or begun anew it may find the last occupant, and its packet
 *    then moves the end of that slot's new session by a tick.
 */
#ifndef EDGELOG_TABLE_H
#define EDGELOG_TABLE_H

#include "border.h"
#include "bucket.h"
#include "emit.h"
#include "maps.h"
#include "parse.h"
#include "sample.h"

#define NEEDS_LOCK -2
#define UPDATE_TRIES 4 /* the agent touches a slot at most a few times in its life */

#define FLAGS_BOTH(f) ((__u32)(f) << FLAGS_A_SHIFT | (__u32)(f) << FLAGS_B_SHIFT)

/* Any FIN or RST: a new SYN then begins a new session. */
static __always_inline bool tcp_ended(__u32 flags)
{
	return flags & FLAGS_BOTH(TCP_FIN | TCP_RST);
}

/* RST, or FIN from both sides: nothing but stragglers is to be expected. */
static __always_inline bool tcp_closing(__u32 flags)
{
	return (flags & FLAGS_BOTH(TCP_RST)) ||
	       (flags & FLAGS_BOTH(TCP_FIN)) == FLAGS_BOTH(TCP_FIN);
}

static __always_inline bool tcp_initial_syn(const struct packet *p)
{
	return (p->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline __u32 tcp_side_flags(const struct packet *p)
{
	return (__u32)p->tcp << (p->side ? FLAGS_B_SHIFT : FLAGS_A_SHIFT);
}

/* TCP that a packet begins with SYN or SYN+ACK: half-open, until one without SYN and RST comes. */
static __always_inline bool begins_half_open(const struct packet *p)
{
	return p->tcp & TCP_SYN;
}

static __always_inline void count_started(const struct packet *p)
{
	struct table_counters *c = table_counters();
	__u64 n = uplink * 2 + (p->egress & 1);

	if (!c)
		return;
	c->started++;
	/* Compared, not masked: Linux 6.1 loses the bounds of what is shifted. */
	asm volatile("" : "+r"(n));
	if (!p->orphan && n < 2 * MAX_UPLINKS)
		c->began[n]++;
}

/*
 * Fills a slot that is the caller's alone, whose state is `from`, with a new
 * session, and lets packets find it; marks are state bits about the place of
 * its ends and of the slot.
 */
static __always_inline void slot_begin(struct slot *s, __u32 index, const struct packet *p,
				       __u32 from, __u32 state, __u32 reuse)
{
	__u32 flags = reuse & FLAGS_REUSE_MASK;
	bool initiator = p->side;

	state |= PHASE_LIVE;
	if (p->proto == IPPROTO_TCP && profile != PROFILE_SOURCE) {
		flags |= tcp_side_flags(p);
		if (!(p->tcp & TCP_SYN)) {
			state |= STATE_MIDSTREAM;
		} else if (p->tcp & TCP_ACK) {
			/* An answer: the one answered began it. */
			state |= STATE_SYNACK;
			initiator = !initiator;
		}
	}
	if (!begins_half_open(p))
		flags |= FLAGS_ESTABLISHED;
	if (initiator)
		state |= STATE_INITIATOR_B;
	if (p->fragment)
		state |= STATE_FRAGMENT;
	if (p->orphan)
		state |= STATE_ORPHAN;
	s->key = p->key;
	s->first = p->first;
	s->last = p->now;
	s->flags = flags;
	state_swap(s, from, state);
	count_started(p);
	if (tcp_closing(flags))
		emit(index, state, EVENT_CLOSING, p->now);
}

/* Remembers, if there is room at home, that this is not to be recorded. */
static __always_inline void slot_negative(const struct packet *p, int outcome)
{
	int index = bucket_claim(chain_bucket(p->hash, 0), chain_start(p->hash), hash_tag(p->hash));
	struct slot *s;
	__u32 busy, state;

	if (index == NOT_FOUND)
		return;
	s = slot_at(index);
	if (!s)
		return;
	busy = READ_ONCE(s->state);
	state = (busy & ~STATE_PHASE) | PHASE_NEGATIVE;
	if (outcome == OUTCOME_EXEMPT)
		state |= STATE_EXEMPT;
	s->key = p->key;
	s->first = p->now;
	s->last = p->now;
	s->flags = 0;
	state_swap(s, busy, state);
	COUNT(negative, 1);
}

__noinline int table_insert(struct packet *p)
{
	struct slot *s;
	int outcome, index;
	__u32 busy;

	if (!p)
		return OUTCOME_CONTENDED;
	outcome = border_decide(p, &p->marks);
	if (outcome) {
		slot_negative(p, outcome);
		return outcome;
	}
	index = chain_claim(p->hash, begins_half_open(p));
	if (index < 0)
		return -index;
	s = slot_at(index);
	if (!s)
		return OUTCOME_TABLE_FULL;
	busy = READ_ONCE(s->state);
	slot_begin(s, index, p, busy,
		   (busy & ~STATE_PHASE) | p->marks |
			   ((__u32)index / SLOTS_PER_BUCKET == chain_bucket(p->hash, 0) ?
				    0 :
				    STATE_DISPLACED),
		   0);
	return OUTCOME_RECORDED;
}

/*
 * The tuple begins anew: what the slot holds moves to a grave, unless it is on
 * disk, and the slot is filled again. Returns NOT_FOUND when the agent was
 * faster and the slot is not the caller's any more.
 */
__noinline int slot_renew(struct packet *p, __u32 index, bool split)
{
	struct slot *s = slot_at(index);
	struct slot *grave;
	__u32 state, busy, fresh;
	int to;

	if (!p || !s)
		return NOT_FOUND;
	state = READ_ONCE(s->state);
	if ((state & STATE_PHASE) != PHASE_LIVE)
		return NOT_FOUND;
	busy = next_generation(state, PHASE_BUSY);
	if (!state_swap(s, state, busy))
		return NOT_FOUND;
	p->marks = state & (STATE_LOCAL_A | STATE_LOCAL_B);
	if (!(state & STATE_STORED)) {
		/* The generation: a tuple may begin anew more often in a tick than a chain has slots. */
		to = grave_claim(finish(p->hash + s->first + (state >> STATE_GEN_SHIFT)),
				 chain_bucket(p->hash, 0));
		grave = to == NOT_FOUND ? NULL : slot_at(to);
		if (!grave) {
			state_swap(s, busy, state);
			return OUTCOME_TABLE_FULL;
		}
		grave->key = s->key;
		grave->first = s->first;
		grave->last = s->last;
		grave->flags = s->flags;
		fresh = READ_ONCE(grave->state);
		state_swap(grave, fresh,
			   (fresh & ~STATE_PHASE) | PHASE_CLOSED | STATE_BURIED |
				   (split ? STATE_SPLIT : 0) |
				   (state & (STATE_INITIATOR_B | STATE_MIDSTREAM | STATE_SYNACK |
					     STATE_FRAGMENT | STATE_ORPHAN | STATE_LOCAL_A |
					     STATE_LOCAL_B)));
		emit(to, fresh, EVENT_CLOSED, p->now);
	}
	COUNT(renewed, 1);
	mark_half_open(index, begins_half_open(p));
	slot_begin(s, index, p, busy,
		   (busy & ~STATE_PHASE) |
			   (state & (STATE_LOCAL_A | STATE_LOCAL_B | STATE_DISPLACED)),
		   s->flags + 1);
	return OUTCOME_RECORDED;
}

static __always_inline bool silent_too_long(struct slot *s, const struct packet *p)
{
	return (__s64)(p->first - READ_ONCE(s->last)) > (__s64)idle_timeout(p->proto);
}

static __always_inline void slot_tcp_flags(struct slot *s, __u32 index, __u32 state,
					   const struct packet *p)
{
	__u32 want = tcp_side_flags(p);
	__u32 before;

	if (want && !(p->tcp & (TCP_SYN | TCP_RST)))
		want |= FLAGS_ESTABLISHED;
	if ((READ_ONCE(s->flags) & want) == want)
		return;
	before = __sync_fetch_and_or(&s->flags, want);
	if (want & ~before & FLAGS_ESTABLISHED)
		mark_half_open(index, false);
	if (!tcp_closing(before) && tcp_closing(before | want))
		emit(index, state, EVENT_CLOSING, p->now);
}

/*
 * A packet of a slot that was found, under the lock of its home. NOT_FOUND
 * when the agent has closed or freed it meanwhile.
 */
static __always_inline int slot_update(struct packet *p, __u32 index)
{
	struct slot *s = slot_at(index);
	bool split;
	__u32 state;

	if (!s)
		return NOT_FOUND;
	state = READ_ONCE(s->state);
	if ((state & STATE_PHASE) == PHASE_NEGATIVE)
		return state & STATE_EXEMPT ? OUTCOME_EXEMPT : OUTCOME_NOT_BORDER;
	if ((state & STATE_PHASE) != PHASE_LIVE)
		return NOT_FOUND;
	split = silent_too_long(s, p);
	if (split || (tcp_initial_syn(p) && tcp_ended(READ_ONCE(s->flags))))
		return slot_renew(p, index, split);
	if (state & STATE_STORED) {
		if (!state_swap(s, state, state & ~STATE_STORED))
			return NOT_FOUND;
		COUNT(reopened, 1);
		if (!(READ_ONCE(s->flags) & FLAGS_ESTABLISHED))
			mark_half_open(index, true);
		if (tcp_closing(READ_ONCE(s->flags)))
			emit(index, state, EVENT_CLOSING, p->now);
	}
	if (p->fragment) { /* refused only while the agent changes the state: then by the next fragment */
		__u32 now = READ_ONCE(s->state);

		if ((now & STATE_PHASE) == PHASE_LIVE)
			state_swap(s, now, now | STATE_FRAGMENT);
	}
	/* Once on disk a session keeps its start: it is part of its name. */
	if (p->first < s->first && !(state & STATE_STORED))
		s->first = p->first;
	if ((__s64)(p->now - READ_ONCE(s->last)) > 0)
		WRITE_ONCE(s->last, p->now);
	slot_tcp_flags(s, index, state, p);
	return OUTCOME_RECORDED;
}

/*
 * All that is not a plain packet of an established session. A slot that was
 * found may change hands before it is updated, since the agent takes no lock:
 * then it is looked for again, because as long as it is LIVE there may be no
 * second one with its key.
 */
__noinline int table_locked(struct packet *p)
{
	int outcome = NOT_FOUND;

	if (!p || !bucket_lock(chain_bucket(p->hash, 0), LOCK_TRIES))
		return OUTCOME_CONTENDED;
	ROLLED
	for (int i = 0; i < UPDATE_TRIES && outcome == NOT_FOUND; i++) {
		int index = chain_find(p);

		outcome = index == NOT_FOUND ? table_insert(p) : slot_update(p, index);
	}
	bucket_unlock(chain_bucket(p->hash, 0));
	if (outcome == OUTCOME_TABLE_FULL || outcome == OUTCOME_HALF_OPEN)
		sample_refused(p, outcome);
	return outcome == NOT_FOUND ? OUTCOME_CONTENDED : outcome;
}

/*
 * The locked path wants a packet in memory; the fast path keeps its own in
 * registers as long as nobody else has its address. Hence the copy.
 */
static __always_inline struct packet *packet_copy(const struct packet *p)
{
	__u32 index = p->egress;
	struct packet *copy = bpf_map_lookup_elem(&scratch, &index);

	if (copy)
		*copy = *p;
	return copy;
}

static __always_inline int table_copy_locked(const struct packet *p)
{
	struct packet *copy = packet_copy(p);

	return copy ? table_locked(copy) : OUTCOME_CONTENDED;
}

static __always_inline int chain_copy_find(const struct packet *p)
{
	struct packet *copy = packet_copy(p);

	return copy ? chain_find(copy) : NOT_FOUND;
}

/*
 * A packet of a slot that was found, without a lock: two loads, and a store
 * only when the clock has ticked or a TCP flag is new. state was read before
 * the key was compared; if it has changed since, the key may be another's.
 */
static __always_inline int slot_hit(struct slot *s, __u32 index, __u32 state,
				    const struct packet *p)
{
	if ((state & STATE_PHASE) == PHASE_NEGATIVE) {
		if (READ_ONCE(s->last) != p->now)
			WRITE_ONCE(s->last, p->now);
		return state & STATE_EXEMPT ? OUTCOME_EXEMPT : OUTCOME_NOT_BORDER;
	}
	if (unlikely(READ_ONCE(s->state) != state))
		return NEEDS_LOCK;
	if (unlikely((state & (STATE_PHASE | STATE_STORED)) != PHASE_LIVE || p->first != p->now ||
		     (p->fragment && !(state & STATE_FRAGMENT))))
		return NEEDS_LOCK;
	if (p->tcp) {
		if (unlikely(tcp_initial_syn(p) && tcp_ended(READ_ONCE(s->flags))))
			return NEEDS_LOCK;
		if (READ_ONCE(s->last) != p->now && silent_too_long(s, p))
			return NEEDS_LOCK;
		slot_tcp_flags(s, index, state, p);
	} else if (READ_ONCE(s->last) != p->now && silent_too_long(s, p)) {
		return NEEDS_LOCK;
	}
	if ((__s64)(p->now - READ_ONCE(s->last)) > 0)
		WRITE_ONCE(s->last, p->now);
	return OUTCOME_RECORDED;
}

/*
 * A session that is not in the table, in the case that nearly all are: a free
 * slot at home, nothing beyond. The lock is taken by a compare-and-swap from
 * the very word that was looked at, so that what it said still holds: only
 * slots whose tag is the same are looked at again. Under the lock a free slot
 * is the caller's. Returns NEEDS_LOCK where it takes more.
 */
__noinline int table_begin(struct packet *p)
{
	__u32 home, n, state, marks = 0;
	__u64 *word, seen, free, field;
	struct bucket *b;
	struct slot *s;

	if (!p)
		return NEEDS_LOCK;
	home = chain_bucket(p->hash, 0);
	b = bpf_map_lookup_elem(&sessions, &home);
	word = bucket_word(home);
	if (!b || !word)
		return NEEDS_LOCK;
	seen = READ_ONCE(*word);
	free = word_matches(seen, 0);
	if (seen & (WORD_LOCK | WORD_OVERFLOW) || !free ||
	    (begins_half_open(p) && !word_has_share(seen)))
		return NEEDS_LOCK;
	if (border_decide(p, &marks))
		return NEEDS_LOCK;
	n = first_slot(free, chain_start(p->hash));
	s = &b->slot[n];
	state = READ_ONCE(s->state);
	if ((state & STATE_PHASE) != PHASE_FREE)
		return NEEDS_LOCK;
	field = slot_field(n, hash_tag(p->hash) | (begins_half_open(p) ? WORD_HALF_OPEN : 0));
	if (__sync_val_compare_and_swap(word, seen, seen | WORD_LOCK | field) != seen)
		return NEEDS_LOCK;
	if (READ_ONCE(s->state) != state ||
	    bucket_match(b, word_matches(seen, hash_tag(p->hash)), &p->key) != NOT_FOUND) {
		word_clear(word, WORD_LOCK | field);
		return NEEDS_LOCK;
	}
	slot_begin(s, home * SLOTS_PER_BUCKET + n, p, state, next_generation(state, 0) | marks, 0);
	word_clear(word, WORD_LOCK);
	return OUTCOME_RECORDED;
}

/* What was not found where it is looked for first: begins a session, or finds it elsewhere. */
static __always_inline int table_copy_begin(const struct packet *p)
{
	struct packet *copy = packet_copy(p);
	int outcome;

	if (!copy)
		return OUTCOME_CONTENDED;
	outcome = table_begin(copy);
	return outcome == NEEDS_LOCK ? table_locked(copy) : outcome;
}

/*
 * One packet; key, hash, now and first are set. Returns an outcome. Most
 * sessions lie where their hash says; of the others the tag tells where.
 */
static __always_inline int table_packet(const struct packet *p)
{
	__u32 home = chain_bucket(p->hash, 0), n = chain_start(p->hash);
	struct bucket *b = bpf_map_lookup_elem(&sessions, &home);
	__u64 *word = bucket_word(home);
	int outcome;

	if (!b || !word)
		return OUTCOME_TABLE_FULL;
	ROLLED
	for (int i = 0; i < 2; i++) {
		__u32 state = READ_ONCE(b->slot[n].state);
		__u64 matches;

		if ((state & STATE_MATCHES) && key_equal(&b->slot[n].key, &p->key)) {
			outcome = slot_hit(&b->slot[n], home * SLOTS_PER_BUCKET + n, state, p);
			return likely(outcome != NEEDS_LOCK) ? outcome : table_copy_locked(p);
		}
		matches = word_matches(READ_ONCE(*word), hash_tag(p->hash));
		if (!matches)
			break;
		n = lowest_slot(matches);
	}
	if (READ_ONCE(*word) & WORD_OVERFLOW) {
		int index = chain_copy_find(p);
		struct slot *s = index == NOT_FOUND ? NULL : slot_at(index);
		__u32 state = s ? READ_ONCE(s->state) : 0;

		/* Found, and then given to another perhaps: so the key is compared after the state. */
		outcome = s && (state & STATE_MATCHES) && key_equal(&s->key, &p->key) ?
				  slot_hit(s, index, state, p) :
				  NEEDS_LOCK;
		return outcome == NEEDS_LOCK ? table_copy_locked(p) : outcome;
	}
	return table_copy_begin(p);
}

#endif /* EDGELOG_TABLE_H */
