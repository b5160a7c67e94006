/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * table.h - the session table: find, update, insert, begin anew. One cache
 * line a session. Must never free a slot (the agent does, once the session is
 * on disk) and must never wait without a bound.
 *
 * A session's home is the bucket that its hash names. It is looked for there,
 * and further along its chain of buckets only as long as the bucket passed has
 * an overflow count. Established sessions are found and updated without a
 * lock; what inserts, begins anew or changes more than times and TCP flags
 * takes the lock of the home bucket and looks again.
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
 *    agent reads the times only after all programs that were running then have
 *    ended, so the packet still counts; the one after it starts a new session.
 *  - On weakly ordered machines a reader may see a state before the key that
 *    was written before it. It then compares with the key of the slot's last
 *    occupant, finds nothing, and looks again under the lock, which orders.
 */
#ifndef EDGELOG_TABLE_H
#define EDGELOG_TABLE_H

#include "border.h"
#include "emit.h"
#include "maps.h"
#include "parse.h"

#define LOCK_TRIES 2048 /* some 20 us: a lock is held for less than one */
#define NOT_FOUND -1
#define NEEDS_LOCK -2

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

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

static __always_inline __u64 finish(__u64 h)
{
	h ^= h >> 32;
	h *= hash_seed_5;
	return h ^ h >> 29;
}

/*
 * Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is
 * fast", 2014): the products do not wait for each other. The agent has the
 * same function in Go (table.hashKey).
 */
static __always_inline __u64 key_hash(const struct key *k, bool ports)
{
	__u64 h = k->addr_a[0] * hash_seed_0 + k->addr_a[1] * hash_seed_1 +
		  k->addr_b[0] * hash_seed_2 + k->addr_b[1] * hash_seed_3;

	if (ports)
		h += ((__u64)k->realm_proto << 32 | (__u32)k->port_b << 16 | k->port_a) * hash_seed_4;
	return finish(h);
}

/* The i-th bucket of a chain; the step is odd, so that a chain never meets itself. */
static __always_inline __u32 chain_bucket(__u64 hash, __u32 i)
{
	return (hash + i * (hash >> 40 | 1)) & (buckets - 1);
}

/* Where in its bucket a session is looked for first. */
static __always_inline __u32 chain_start(__u64 hash)
{
	return hash >> 61;
}

static __always_inline bool key_equal(const struct key *x, const struct key *y)
{
	return *(const __u64 *)&x->port_a == *(const __u64 *)&y->port_a &&
	       x->addr_a[1] == y->addr_a[1] && x->addr_b[1] == y->addr_b[1] &&
	       x->addr_a[0] == y->addr_a[0] && x->addr_b[0] == y->addr_b[0];
}

static __always_inline struct slot *slot_at(__u32 index)
{
	__u32 bucket = index / SLOTS_PER_BUCKET;
	struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);

	return b ? &b->slot[index % SLOTS_PER_BUCKET] : NULL;
}

static __always_inline __u32 *bucket_word(__u32 bucket)
{
	__u32 line = bucket / BUCKETS_PER_LINE;
	struct bucket_line *l = bpf_map_lookup_elem(&bucket_words, &line);

	return l ? &l->word[bucket % BUCKETS_PER_LINE] : NULL;
}

static __always_inline bool state_swap(struct slot *s, __u32 from, __u32 to)
{
	return __sync_val_compare_and_swap(&s->state, from, to) == from;
}

/* The state of a next occupant: all remarks gone, generation one up. */
static __always_inline __u32 next_generation(__u32 state, __u32 phase)
{
	return ((state >> STATE_GEN_SHIFT) + 1) << STATE_GEN_SHIFT | phase;
}

static __always_inline bool bucket_lock(__u32 bucket)
{
	__u32 *word = bucket_word(bucket);

	if (!word)
		return false;
	for (int i = 0; i < LOCK_TRIES; i++) {
		__u32 seen = READ_ONCE(*word);

		if (!(seen & WORD_LOCK) &&
		    __sync_val_compare_and_swap(word, seen, seen | WORD_LOCK) == seen)
			return true;
	}
	return false;
}

static __always_inline void bucket_unlock(__u32 bucket)
{
	__u32 *word = bucket_word(bucket);

	if (word)
		__sync_fetch_and_and(word, ~WORD_LOCK);
}

/* Where in one bucket is this key? NOT_FOUND, or 0 to SLOTS_PER_BUCKET - 1. */
static __always_inline int bucket_find(__u32 bucket, __u32 start, const struct key *k)
{
	struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);

	if (!b)
		return NOT_FOUND;
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;

		if ((READ_ONCE(b->slot[n].state) & STATE_MATCHES) && key_equal(&b->slot[n].key, k))
			return n;
	}
	return NOT_FOUND;
}

/* The slot index of a session, looked for along its chain from bucket number `from`. */
__noinline int chain_find(struct packet *p, __u32 from)
{
	if (!p)
		return NOT_FOUND;
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(p->hash, i);
		__u32 *word = bucket_word(bucket);
		int n;

		if (i >= from) {
			n = bucket_find(bucket, chain_start(p->hash), &p->key);
			if (n != NOT_FOUND)
				return bucket * SLOTS_PER_BUCKET + n;
		}
		if (!word || !(READ_ONCE(*word) & WORD_OVERFLOW))
			break;
	}
	return NOT_FOUND;
}

/* A slot that a new session may have although it is not free, and its home is here. */
static __always_inline bool can_take_over(struct slot *s, __u32 state, __u32 bucket)
{
	if ((state & STATE_PHASE) == PHASE_NEGATIVE)
		return true;
	return (state & STATE_PHASE) == PHASE_LIVE && (state & STATE_STORED) &&
	       chain_bucket(key_hash(&s->key, true), 0) == bucket;
}

/*
 * Makes one slot of a bucket BUSY for the caller: a free one, else one that
 * holds nothing that is not on disk. NOT_FOUND, or the slot's index.
 */
__noinline int bucket_claim(__u32 bucket, __u32 start)
{
	struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);

	if (!b)
		return NOT_FOUND;
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;
		__u32 state = READ_ONCE(b->slot[n].state);

		if ((state & STATE_PHASE) == PHASE_FREE &&
		    state_swap(&b->slot[n], state, next_generation(state, PHASE_BUSY)))
			return bucket * SLOTS_PER_BUCKET + n;
	}
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;
		__u32 state = READ_ONCE(b->slot[n].state);

		if (can_take_over(&b->slot[n], state, bucket) &&
		    state_swap(&b->slot[n], state, next_generation(state, PHASE_BUSY))) {
			COUNT(taken_over, 1);
			return bucket * SLOTS_PER_BUCKET + n;
		}
	}
	return NOT_FOUND;
}

/*
 * A BUSY slot for a new session, along its chain; each bucket passed is told
 * so before the session can be looked for.
 */
__noinline int chain_claim(__u64 hash)
{
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(hash, i);
		int index = bucket_claim(bucket, chain_start(hash));
		__u32 *word;

		if (index == NOT_FOUND)
			continue;
		for (__u32 j = 0; j < i && j < MAX_CHAIN; j++) {
			word = bucket_word(chain_bucket(hash, j));
			if (word)
				__sync_fetch_and_add(word, 1);
		}
		return index;
	}
	return NOT_FOUND;
}

/* A BUSY slot anywhere, for a session that no packet looks for any more. */
__noinline int grave_claim(__u64 hash)
{
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		int index = bucket_claim(chain_bucket(hash, i), chain_start(hash));

		if (index != NOT_FOUND)
			return index;
	}
	return NOT_FOUND;
}

/* Fills a BUSY slot with a new session and lets packets find it. */
static __always_inline void slot_begin(struct slot *s, __u32 index, const struct packet *p,
				       __u32 local, __u32 reuse)
{
	__u32 busy = READ_ONCE(s->state);
	__u32 state = (busy & ~STATE_PHASE) | PHASE_LIVE | local;
	__u32 flags = reuse & FLAGS_REUSE_MASK;
	bool initiator = p->side;

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
	if (emit(index, state, EVENT_STARTED, p->first))
		state |= STATE_REPORTED;
	state_swap(s, busy, state);
	COUNT(started, 1);
	if (tcp_closing(flags))
		emit(index, state, EVENT_CLOSING, p->now);
}

/* Remembers, if there is room at home, that this is not to be recorded. */
static __always_inline void slot_negative(const struct packet *p, int outcome)
{
	int index = bucket_claim(chain_bucket(p->hash, 0), chain_start(p->hash));
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
	__u32 local = 0;
	struct slot *s;
	int outcome, index;

	if (!p)
		return OUTCOME_CONTENDED;
	outcome = border_decide(p, &local);
	if (outcome) {
		slot_negative(p, outcome);
		return outcome;
	}
	index = chain_claim(p->hash);
	if (index == NOT_FOUND)
		return OUTCOME_TABLE_FULL;
	s = slot_at(index);
	if (!s)
		return OUTCOME_TABLE_FULL;
	slot_begin(s, index, p, local, 0);
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
	__u32 state, busy;
	int to;

	if (!p || !s)
		return NOT_FOUND;
	state = READ_ONCE(s->state);
	if ((state & STATE_PHASE) != PHASE_LIVE)
		return NOT_FOUND;
	busy = next_generation(state, PHASE_BUSY);
	if (!state_swap(s, state, busy))
		return NOT_FOUND;
	if (!(state & STATE_STORED)) {
		to = grave_claim(finish(p->hash + s->first));
		grave = to == NOT_FOUND ? NULL : slot_at(to);
		if (!grave) {
			state_swap(s, busy, state);
			return OUTCOME_TABLE_FULL;
		}
		grave->key = s->key;
		grave->first = s->first;
		grave->last = s->last;
		grave->flags = s->flags;
		busy = READ_ONCE(grave->state);
		state_swap(grave, busy,
			   (busy & ~STATE_PHASE) | PHASE_CLOSED | STATE_BURIED |
				   (split ? STATE_SPLIT : 0) |
				   (state & (STATE_REPORTED | STATE_INITIATOR_B | STATE_MIDSTREAM |
					     STATE_SYNACK | STATE_FRAGMENT | STATE_ORPHAN |
					     STATE_LOCAL_A | STATE_LOCAL_B)));
		emit(to, busy, EVENT_CLOSED, p->now);
	}
	COUNT(renewed, 1);
	slot_begin(s, index, p, state & (STATE_LOCAL_A | STATE_LOCAL_B), s->flags + 1);
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

	if ((READ_ONCE(s->flags) & want) == want)
		return;
	before = __sync_fetch_and_or(&s->flags, want);
	if (!tcp_closing(before) && tcp_closing(before | want))
		emit(index, state, EVENT_CLOSING, p->now);
}

/*
 * A packet of a slot that was found, under the lock of its home. NOT_FOUND
 * when the agent has closed or freed it meanwhile.
 */
__noinline int slot_update(struct packet *p, __u32 index)
{
	struct slot *s = slot_at(index);
	bool split;
	__u32 state;

	if (!p || !s)
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
		if (tcp_closing(READ_ONCE(s->flags)))
			emit(index, state, EVENT_CLOSING, p->now);
	}
	if (p->fragment)
		__sync_fetch_and_or(&s->state, STATE_FRAGMENT);
	if (p->first < s->first)
		s->first = p->first;
	if ((__s64)(p->now - READ_ONCE(s->last)) > 0)
		WRITE_ONCE(s->last, p->now);
	slot_tcp_flags(s, index, state, p);
	return OUTCOME_RECORDED;
}

/* All that is not a plain packet of an established session. */
__noinline int table_locked(struct packet *p)
{
	__u32 home;
	int index, outcome = NOT_FOUND;

	if (!p)
		return OUTCOME_CONTENDED;
	home = chain_bucket(p->hash, 0);
	if (!bucket_lock(home))
		return OUTCOME_CONTENDED;
	index = chain_find(p, 0);
	if (index != NOT_FOUND)
		outcome = slot_update(p, index);
	if (outcome == NOT_FOUND)
		outcome = table_insert(p);
	bucket_unlock(home);
	return outcome;
}

/*
 * The locked path wants a packet in memory; the fast path keeps its own in
 * registers as long as nobody else has its address. Hence the copy.
 */
static __always_inline int table_copy_locked(const struct packet *p)
{
	struct packet copy = *p;

	return table_locked(&copy);
}

static __always_inline int chain_copy_find(const struct packet *p)
{
	struct packet copy = *p;

	return chain_find(&copy, 1);
}

/*
 * A packet of a slot that was found, without a lock: two loads, and a store
 * only when the clock has ticked or a TCP flag is new.
 */
static __always_inline int slot_hit(struct slot *s, __u32 index, const struct packet *p)
{
	__u32 state = READ_ONCE(s->state);

	if ((state & STATE_PHASE) == PHASE_NEGATIVE) {
		if (READ_ONCE(s->last) != p->now)
			WRITE_ONCE(s->last, p->now);
		return state & STATE_EXEMPT ? OUTCOME_EXEMPT : OUTCOME_NOT_BORDER;
	}
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

/* One packet; key, hash, now and first are set. Returns an outcome. */
static __always_inline int table_packet(const struct packet *p)
{
	__u32 home = chain_bucket(p->hash, 0);
	struct bucket *b = bpf_map_lookup_elem(&sessions, &home);
	int index = NOT_FOUND, outcome = NEEDS_LOCK;
	__u32 *word;

	if (!b)
		return OUTCOME_TABLE_FULL;
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (chain_start(p->hash) + i) % SLOTS_PER_BUCKET;

		if ((READ_ONCE(b->slot[n].state) & STATE_MATCHES) &&
		    key_equal(&b->slot[n].key, &p->key)) {
			outcome = slot_hit(&b->slot[n], home * SLOTS_PER_BUCKET + n, p);
			if (likely(outcome != NEEDS_LOCK))
				return outcome;
			return table_copy_locked(p);
		}
	}
	word = bucket_word(home);
	if (word && (READ_ONCE(*word) & WORD_OVERFLOW)) {
		struct slot *s;

		index = chain_copy_find(p);
		s = index == NOT_FOUND ? NULL : slot_at(index);
		if (s)
			outcome = slot_hit(s, index, p);
	}
	return outcome == NEEDS_LOCK ? table_copy_locked(p) : outcome;
}

#endif /* EDGELOG_TABLE_H */
