/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sample.h - what is left to do for a packet that the table refused: every
 * SAMPLE_EVERY-th one of each end user goes out as a sample record. Must never
 * be asked for a packet that is recorded.
 *
 * Race: the agent may empty the counters while packets are refused; an end
 * user's next sample then comes later.
 */
#ifndef EDGELOG_SAMPLE_H
#define EDGELOG_SAMPLE_H

#include "emit.h"
#include "maps.h"
#include "parse.h"

/*
 * The end user's side of a packet: 0: endpoint a, 1: b. Without a border filter
 * it is the side behind this machine, as seen from its uplink.
 */
static __always_inline __u32 end_user_side(const struct packet *p)
{
	if (p->marks & STATE_LOCAL_A)
		return 0;
	if (p->marks & STATE_LOCAL_B)
		return 1;
	return p->egress ? p->side : !p->side;
}

/* Counts a packet; returns how many of this end user were refused so far, itself included. */
static __always_inline __u64 count_refused_of(const struct packet *p)
{
	const __u64 *addr = end_user_side(p) ? p->key.addr_b : p->key.addr_a;
	struct end_user user = { .addr = { addr[0] } };
	struct table_counters *crowd;
	__u64 none = 0, *count;

	if (is_mapped(addr))
		user.addr[1] = addr[1];
	user.realm = p->key.realm_proto & ((1u << REALM_BITS) - 1);
	count = bpf_map_lookup_elem(&sample_counts, &user);
	if (!count) {
		bpf_map_update_elem(&sample_counts, &user, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&sample_counts, &user);
	}
	if (count)
		return __sync_fetch_and_add(count, 1) + 1;
	crowd = table_counters();
	return crowd ? ++crowd->sample_crowd : 0;
}

/* A packet that found no slot. What is held for lost fragments is tried again by the agent. */
__noinline int sample_refused(struct packet *p, int outcome)
{
	struct sample *s;
	__u64 count;

	if (!p || p->orphan)
		return 0;
	count = count_refused_of(p);
	if (count % SAMPLE_EVERY)
		return 0;
	COUNT(sampled, 1);
	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		COUNT(samples_lost, 1);
		return 0;
	}
	s->key = p->key;
	s->time = p->now;
	s->state =
		p->marks | (p->side ? STATE_INITIATOR_B : 0) | (p->fragment ? STATE_FRAGMENT : 0);
	s->flags = (count / SAMPLE_EVERY & FLAGS_REUSE_MASK) |
		   (__u32)p->tcp << (p->side ? FLAGS_B_SHIFT : FLAGS_A_SHIFT);
	s->outcome = outcome;
	s->reserved = 0;
	bpf_ringbuf_submit(s, BPF_RB_NO_WAKEUP);
	return 1;
}

#endif /* EDGELOG_SAMPLE_H */
