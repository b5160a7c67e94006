/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * border.h - is this session ours to record? Exactly one end in a local
 * prefix, none in an exempt one. Asked once, when a session is first met; the
 * table remembers the answer. Must never be asked on the fast path, except
 * with the profile "source", whose key does not hold the far end.
 */
#ifndef EDGELOG_BORDER_H
#define EDGELOG_BORDER_H

#include "maps.h"
#include "parse.h"

static __always_inline __u32 border_lookup(const __u64 addr[2])
{
	struct prefix at = { .length = 128 };
	__u32 *found;

	__builtin_memcpy(at.addr, addr, sizeof(at.addr));
	found = bpf_map_lookup_elem(&border, &at);
	return found ? *found : 0;
}

/*
 * Returns OUTCOME_RECORDED and the state bits of the local side, or
 * OUTCOME_NOT_BORDER or OUTCOME_EXEMPT.
 */
static __always_inline int border_decide(const struct packet *p, __u32 *local)
{
	__u32 a, b;

	*local = profile == PROFILE_SOURCE ? STATE_LOCAL_A : 0;
	if (!border_filter)
		return OUTCOME_RECORDED;
	a = border_lookup(p->key.addr_a);
	b = profile == PROFILE_SOURCE ? 0 : border_lookup(p->key.addr_b);
	if ((a | b) & BORDER_EXEMPT)
		return OUTCOME_EXEMPT;
	if (!((a ^ b) & BORDER_LOCAL))
		return OUTCOME_NOT_BORDER;
	*local = a & BORDER_LOCAL ? STATE_LOCAL_A : STATE_LOCAL_B;
	return OUTCOME_RECORDED;
}

/*
 * The profile "source" must look at the far end (b, once oriented) of each
 * packet before it is forgotten.
 */
static __always_inline int border_far_end(const struct packet *p)
{
	__u32 far;

	if (!border_filter)
		return OUTCOME_RECORDED;
	far = border_lookup(p->key.addr_b);
	if (far & BORDER_EXEMPT)
		return OUTCOME_EXEMPT;
	return far & BORDER_LOCAL ? OUTCOME_NOT_BORDER : OUTCOME_RECORDED;
}

#endif /* EDGELOG_BORDER_H */
