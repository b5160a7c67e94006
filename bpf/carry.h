/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * carry.h - how does a session come from an older table into this one? Run by
 * the agent after it has put these programs in the place of the older ones: so
 * a packet may have begun the same session here meanwhile. Must never make two
 * sessions of one, nor one of two.
 *
 * What a packet began since then has used its slot for the first time (reuse 0)
 * and is younger than what is carried. A slot here that is not younger has been
 * carried before, by an agent that was killed: carrying it again changes nothing.
 */
#ifndef EDGELOG_CARRY_H
#define EDGELOG_CARRY_H

#include "table.h"

#define CARRY_MARKS                                                                           \
	(STATE_INITIATOR_B | STATE_MIDSTREAM | STATE_SYNACK | STATE_FRAGMENT | STATE_ORPHAN | \
	 STATE_LOCAL_A | STATE_LOCAL_B)
#define CARRY_FLAGS \
	(FLAGS_REUSE_MASK | FLAGS_BOTH(0xffu)) /* what other bits mean is the other table's */

/*
 * Established: it can be told from the TCP flags, because an initiator's first
 * ACK is most often in a packet without SYN.
 */
static __always_inline __u32 carry_flags(__u8 proto, __u32 state, __u32 flags)
{
	__u32 shift = state & STATE_INITIATOR_B ? FLAGS_B_SHIFT : FLAGS_A_SHIFT;

	if (proto == IPPROTO_TCP && !(state & STATE_MIDSTREAM) && !(flags >> shift & TCP_ACK))
		return flags;
	return flags | FLAGS_ESTABLISHED;
}

/* It has ended: any slot will do, because no packet looks for it. */
static __always_inline int carry_closed(const struct packet *p, __u32 state, __u32 flags)
{
	int to = grave_claim(finish(p->hash + p->first), NO_BUCKET);
	struct slot *s = to == NOT_FOUND ? NULL : slot_at(to);
	__u32 busy;

	if (!s)
		return CARRY_FULL;
	busy = READ_ONCE(s->state);
	s->key = p->key;
	s->first = p->first;
	s->last = p->now;
	s->flags = flags;
	state_swap(s, busy,
		   (busy & ~STATE_PHASE) | PHASE_CLOSED | STATE_BURIED |
			   (state & (CARRY_MARKS | STATE_SPLIT)));
	COUNT(carried, 1);
	return CARRY_DONE;
}

/* No packet has come since: it goes on in a slot of its own. */
static __always_inline int carry_insert(const struct packet *p, __u32 state, __u32 flags)
{
	int index = chain_claim(p->hash, false); /* it was let in already */
	struct slot *s = index < 0 ? NULL : slot_at(index);
	__u32 busy, marks = state & (CARRY_MARKS | STATE_STORED);

	if (!s)
		return CARRY_FULL;
	if ((__u32)index / SLOTS_PER_BUCKET != chain_bucket(p->hash, 0))
		marks |= STATE_DISPLACED;
	busy = READ_ONCE(s->state);
	s->key = p->key;
	s->first = p->first;
	s->last = p->now;
	s->flags = flags;
	state_swap(s, busy, (busy & ~STATE_PHASE) | PHASE_LIVE | marks);
	if (!(state & STATE_STORED)) {
		if (!(flags & FLAGS_ESTABLISHED))
			mark_half_open(index, true);
		COUNT(carried, 1);
	}
	return CARRY_DONE;
}

/* Would the packets that this slot has seen have begun a new session, had the old one been here? */
static __always_inline bool carry_apart(struct slot *s, __u32 found, const struct packet *p,
					__u32 flags)
{
	if ((found & STATE_STORED) || (READ_ONCE(s->flags) & FLAGS_REUSE_MASK))
		return true;
	if ((__s64)(s->first - p->now) > (__s64)idle_timeout(p->proto))
		return true;
	return tcp_ended(flags) && !(found & (STATE_MIDSTREAM | STATE_SYNACK));
}

/* Packets found it here already: both are one session, which began when the older one did. */
static __always_inline int carry_merge(const struct packet *p, __u32 index, __u32 state,
				       __u32 flags)
{
	struct slot *s = slot_at(index);
	__u32 found, next;

	if (!s)
		return CARRY_APART;
	found = READ_ONCE(s->state);
	if ((found & STATE_PHASE) != PHASE_LIVE)
		return CARRY_APART;
	next = found | (state & STATE_FRAGMENT);
	if ((__s64)(s->first - p->first) <= 0) {
		flags &= ~FLAGS_REUSE_MASK;
	} else {
		if (carry_apart(s, found, p, flags))
			return CARRY_APART;
		next = (found & ~(CARRY_MARKS & ~STATE_FRAGMENT)) | (state & CARRY_MARKS);
		s->first = p->first;
	}
	if (flags & ~__sync_fetch_and_or(&s->flags, flags) & FLAGS_ESTABLISHED)
		mark_half_open(index, false);
	if ((__s64)(p->now - READ_ONCE(s->last)) > 0)
		WRITE_ONCE(s->last, p->now);
	/* Refused only when the agent changes it at this moment, and that is who runs this. */
	state_swap(s, found, next);
	return CARRY_DONE;
}

/* p: key, hash, first, and in now the last time; state and flags are the old slot's. */
static __always_inline int carry(struct packet *p, __u32 state, __u32 flags)
{
	__u32 home = chain_bucket(p->hash, 0);
	int index, result;

	flags = carry_flags(p->proto, state, flags & CARRY_FLAGS);
	if ((state & STATE_PHASE) != PHASE_LIVE)
		return carry_closed(p, state, flags);
	if (!bucket_lock(home, LOCK_TRIES))
		return CARRY_CONTENDED;
	index = chain_find(p);
	if (index == NOT_FOUND)
		result = carry_insert(p, state, flags);
	else
		result = carry_merge(p, index, state, flags);
	bucket_unlock(home);
	return result;
}

#endif /* EDGELOG_CARRY_H */
