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
#define SECOND_LOCK_TRIES 64 /* of a bucket that is not home, with the home's lock held */
#define NOT_FOUND -1
#define NO_BUCKET 0xffffffffu

#define WORD_LOCK (1ULL << WORD_LOCK_SHIFT)
#define WORD_OVERFLOWS (1ULL << WORD_OVERFLOW_SHIFT) /* one of them */
#define WORD_OVERFLOW (WORD_LOCK - WORD_OVERFLOWS)
#define WORD_EACH 0x041041041041ULL /* bit 0 of each slot's field */

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

/* 1 to 31, from bits of the hash that choose neither the home nor the way on from there. */
static __always_inline __u64 hash_tag(__u64 hash)
{
	return ((hash >> 26 & 0x3fff) * WORD_TAG >> 14) + 1;
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

/* One bit for each slot with this tag, at 6n+5; tag 0: each slot that no packet can find. */
static __always_inline __u64 word_matches(__u64 word, __u64 tag)
{
	__u64 differ = (word & WORD_EACH * WORD_TAG) ^ WORD_EACH * tag;

	return ~(differ + WORD_EACH * WORD_TAG) & WORD_EACH * WORD_HALF_OPEN;
}

/* The slot of the lowest bit: the product moves slot n's number, at bit 56-6n, to the top. */
static __always_inline __u32 lowest_slot(__u64 matches)
{
	return (matches & -matches) * 0x420c41461c000ULL >> 61;
}

/* The first slot of matches from start on, coming round. */
static __always_inline __u32 first_slot(__u64 matches, __u32 start)
{
	__u32 shift = start * WORD_SLOT_BITS;
	__u64 turned = matches >> shift | matches << (SLOTS_PER_BUCKET * WORD_SLOT_BITS - shift);

	return (lowest_slot(turned) + start) % SLOTS_PER_BUCKET;
}

static __always_inline __u64 slot_field(__u32 n, __u64 bits)
{
	return bits << n * WORD_SLOT_BITS;
}

/* May one more half-open session live in this bucket? */
static __always_inline bool word_has_share(__u64 word)
{
	__u64 ones = word / WORD_HALF_OPEN & WORD_EACH;

	return half_open_cap >= SLOTS_PER_BUCKET ||
	       (ones * WORD_EACH >> (SLOTS_PER_BUCKET - 1) * WORD_SLOT_BITS & 0xf) < half_open_cap;
}

/* Atomics whose result is used, so that they are the ordering forms of the instructions. */
static __always_inline void word_clear(__u64 *word, __u64 bits)
{
	__u64 before = __sync_fetch_and_and(word, ~bits);

	asm volatile("" : : "r"(before));
}

static __always_inline void word_set(__u64 *word, __u64 bits)
{
	__u64 before = __sync_fetch_and_or(word, bits);

	asm volatile("" : : "r"(before));
}

/* Sets or clears the half-open bit of a slot. */
static __always_inline void mark_half_open(__u32 index, bool half_open)
{
	__u64 *word = bucket_word(index / SLOTS_PER_BUCKET);
	__u64 bit = slot_field(index % SLOTS_PER_BUCKET, WORD_HALF_OPEN);

	if (!word)
		return;
	if (half_open)
		word_set(word, bit);
	else if (READ_ONCE(*word) & bit)
		word_clear(word, bit);
}

/* Does any live session lie beyond this bucket on its chain? */
static __always_inline bool bucket_overflows(__u32 bucket)
{
	__u64 *word = bucket_word(bucket);

	return word && (READ_ONCE(*word) & WORD_OVERFLOW);
}

static __always_inline bool bucket_lock(__u32 bucket, int tries)
{
	__u64 *word = bucket_word(bucket);

	if (!word)
		return false;
	ROLLED
	for (int i = 0; i < tries; i++) {
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

	if (word)
		word_clear(word, WORD_LOCK);
}

/* Which of these slots holds the key? NOT_FOUND, or 0 to SLOTS_PER_BUCKET - 1. */
static __always_inline int bucket_match(struct bucket *b, __u64 matches, const struct key *k)
{
	ROLLED
	for (int i = 0; i < SLOTS_PER_BUCKET && matches; i++) {
		__u32 n = lowest_slot(matches);

		if ((READ_ONCE(b->slot[n].state) & STATE_MATCHES) && key_equal(&b->slot[n].key, k))
			return n;
		matches &= matches - 1;
	}
	return NOT_FOUND;
}

/* The slot index of a session, looked for along its chain. */
__noinline int chain_find(struct packet *p)
{
	if (!p)
		return NOT_FOUND;
	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(p->hash, i);
		__u64 *word = bucket_word(bucket);
		struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);
		__u64 seen;
		int n;

		if (!word || !b)
			break;
		seen = READ_ONCE(*word);
		n = bucket_match(b, word_matches(seen, hash_tag(p->hash)), &p->key);
		if (n != NOT_FOUND)
			return bucket * SLOTS_PER_BUCKET + n;
		if (!(seen & WORD_OVERFLOW))
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
 * Makes one slot of a bucket BUSY for the caller, who holds the lock of the
 * bucket: a free one, else one that holds nothing that is not on disk. field
 * becomes the slot's in the word. NOT_FOUND, or the slot's index.
 */
__noinline int bucket_claim(__u32 bucket, __u32 start, __u32 field)
{
	struct bucket *b = bpf_map_lookup_elem(&sessions, &bucket);
	__u64 *word = bucket_word(bucket);

	if (!b || !word)
		return NOT_FOUND;
	ROLLED
	for (__u32 i = 0; i < 2 * SLOTS_PER_BUCKET; i++) {
		__u32 n = (start + i) % SLOTS_PER_BUCKET;
		__u32 state = READ_ONCE(b->slot[n].state);

		if (i < SLOTS_PER_BUCKET ? (state & STATE_PHASE) != PHASE_FREE :
					   !can_take_over(state))
			continue;
		if (!state_swap(&b->slot[n], state, next_generation(state, PHASE_BUSY)))
			continue;
		if (i >= SLOTS_PER_BUCKET)
			COUNT(taken_over, 1);
		if (READ_ONCE(*word) & slot_field(n, WORD_TAG | WORD_HALF_OPEN))
			word_clear(word, slot_field(n, WORD_TAG | WORD_HALF_OPEN));
		if (field)
			word_set(word, slot_field(n, field));
		return bucket * SLOTS_PER_BUCKET + n;
	}
	return NOT_FOUND;
}

/* bucket_claim for one whose lock is that of another home. */
static __always_inline int bucket_lock_claim(__u32 bucket, __u32 held, __u32 start, __u32 field)
{
	int index;

	if (bucket != held && !bucket_lock(bucket, SECOND_LOCK_TRIES))
		return NOT_FOUND;
	index = bucket_claim(bucket, start, field);
	if (bucket != held)
		bucket_unlock(bucket);
	return index;
}

/*
 * A BUSY slot for a new session, along its chain; each bucket passed is told
 * so before the session can be looked for. The home's lock is held. A half-open
 * session passes by buckets in which such ones hold their share, but only one
 * of them: a flood is to be refused at little cost. Returns the slot's index,
 * or the negative of an outcome.
 */
__noinline int chain_claim(__u64 hash, __u32 half_open)
{
	__u32 field = hash_tag(hash) | (half_open ? WORD_HALF_OPEN : 0);
	int refusal = -OUTCOME_TABLE_FULL;

	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		__u32 bucket = chain_bucket(hash, i);
		__u64 *word = bucket_word(bucket);
		int index;

		if (!word)
			return refusal;
		if (half_open && !word_has_share(READ_ONCE(*word))) {
			if (refusal == -OUTCOME_HALF_OPEN)
				return refusal;
			refusal = -OUTCOME_HALF_OPEN;
			continue;
		}
		index = bucket_lock_claim(bucket, chain_bucket(hash, 0), chain_start(hash), field);
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
	return refusal;
}

/* A BUSY slot anywhere, for a session that no packet looks for any more; held is the bucket whose lock is. */
static __always_inline int grave_claim(__u64 hash, __u32 held)
{
	ROLLED
	for (__u32 i = 0; i < MAX_CHAIN; i++) {
		int index = bucket_lock_claim(chain_bucket(hash, i), held, chain_start(hash), 0);

		if (index != NOT_FOUND)
			return index;
	}
	return NOT_FOUND;
}

#endif /* EDGELOG_BUCKET_H */
