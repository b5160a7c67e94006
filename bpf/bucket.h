/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bucket.h - where in the table? The hash, a session's chain of buckets, the
 * lock of a bucket, finding a key and claiming a slot. Must never know what a
 * packet means for a session.
 *
 * A session's home is the bucket that its hash names. It is looked for there,
 * and further along its chain only as long as the bucket passed has an
 * overflow count.
 */
#ifndef EDGELOG_BUCKET_H
#define EDGELOG_BUCKET_H

#include "emit.h"
#include "maps.h"
#include "parse.h"

/* Unrolled, a loop of the slow path costs stack that all callers share. */
#define ROLLED _Pragma("clang loop unroll(disable)")

#define LOCK_TRIES 2048 /* some 20 us: a lock is held for less than one */
#define NOT_FOUND -1

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

static __always_inline __u64 finish(__u64 h)
{
	h ^= h >> 32;
	h *= hash_seed_5;
	h ^= h >> 29;
	h *= 0x94D049BB133111EBULL; /* splitmix64 (Steele, Lea and Flood, 2014) */
	return h ^ h >> 32;
}

/* One product of NH: halves of 32 bits, so that no bit of a word stays in its corner. */
static __always_inline __u64 nh(__u64 word, __u64 seed)
{
	return (__u64)(__u32)((__u32)word + (__u32)seed) *
	       (__u32)((__u32)(word >> 32) + (__u32)(seed >> 32));
}

/*
 * NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, "UMAC: fast and secure
 * message authentication", 1999, 3.2): two keys collide by chance at most, and
 * the products do not wait for each other. The agent has the same function in
 * Go (table.hashKey).
 */
static __always_inline __u64 key_hash(const struct key *k)
{
	__u64 ends = (__u64)k->realm_proto << 32 | (__u32)k->port_b << 16 | k->port_a;

	return finish(nh(k->addr_a[0], hash_seed_0) + nh(k->addr_a[1], hash_seed_1) +
		      nh(k->addr_b[0], hash_seed_2) + nh(k->addr_b[1], hash_seed_3) +
		      nh(ends, hash_seed_4));
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

#define WORD_LOCK (1ULL << WORD_LOCK_SHIFT)
#define WORD_OVERFLOWS (1ULL << WORD_OVERFLOW_SHIFT) /* one */
#define WORD_OVERFLOW (WORD_LOCK - WORD_OVERFLOWS)

static __always_inline __u64 *bucket_word(__u32 bucket)
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

/* Does any live session lie beyond this bucket on its chain? */
static __always_inline bool bucket_overflows(__u32 bucket)
{
	__u64 *word = bucket_word(bucket);

	return word && (READ_ONCE(*word) & WORD_OVERFLOW);
}

static __always_inline bool bucket_lock(__u32 bucket)
{
	__u64 *word = bucket_word(bucket);

	if (!word)
		return false;
	ROLLED
	for (int i = 0; i < LOCK_TRIES; i++) {
		__u64 seen = READ_ONCE(*word);

		if (!(seen & WORD_LOCK) &&
		    __sync_val_compare_and_swap(word, seen, seen | WORD_LOCK) == seen)
			return true;
	}
	return false;
}

static __always_inline void bucket_unlock(__u32 bucket)
{
	__u64 *word = bucket_word(bucket);
	__u64 before;

	if (!word)
		return;
	before = __sync_fetch_and_and(word, ~WORD_LOCK);
	/* The result is used, so that this is the ordering form of the instruction. */
	asm volatile("" : : "r"(before));
}

/* Where in one bucket is this key? NOT_FOUND, or 0 to SLOTS_PER_BUCKET - 1. */
static __always_inline int bucket_find(__u32 bucket, __u32 start, const struct key *k)
{
	struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);

	if (!b)
		return NOT_FOUND;
	ROLLED
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
	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(p->hash, i);
		__u64 *word = bucket_word(bucket);
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

/*
 * A slot that a new session may have although it is not free. One that is
 * displaced is left to the agent, which lowers the counts of its chain.
 */
static __always_inline bool can_take_over(__u32 state)
{
	if ((state & STATE_PHASE) == PHASE_NEGATIVE)
		return true;
	return (state & (STATE_PHASE | STATE_STORED | STATE_DISPLACED)) ==
	       (PHASE_LIVE | STATE_STORED);
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
	ROLLED
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;
		__u32 state = READ_ONCE(b->slot[n].state);

		if ((state & STATE_PHASE) == PHASE_FREE &&
		    state_swap(&b->slot[n], state, next_generation(state, PHASE_BUSY)))
			return bucket * SLOTS_PER_BUCKET + n;
	}
	ROLLED
	for (__u32 i = 0; i < SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;
		__u32 state = READ_ONCE(b->slot[n].state);

		if (can_take_over(state) &&
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
	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(hash, i);
		int index = bucket_claim(bucket, chain_start(hash));
		__u64 *word;

		if (index == NOT_FOUND)
			continue;
		ROLLED
		for (__u32 j = 0; j < i && j < MAX_CHAIN; j++) {
			word = bucket_word(chain_bucket(hash, j));
			if (word)
				__sync_fetch_and_add(word, WORD_OVERFLOWS);
		}
		return index;
	}
	return NOT_FOUND;
}

/* A BUSY slot anywhere, for a session that no packet looks for any more. */
static __always_inline int grave_claim(__u64 hash)
{
	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		int index = bucket_claim(chain_bucket(hash, i), chain_start(hash));

		if (index != NOT_FOUND)
			return index;
	}
	return NOT_FOUND;
}

#endif /* EDGELOG_BUCKET_H */
