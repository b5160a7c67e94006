/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fragment.h - whose fragment is this? The first fragment of a datagram
 * carries the ports; the others are told by sender, receiver, protocol and id,
 * whichever comes first. Nothing is reassembled. A fragment that overtook its
 * first one is held as a pair of times; the agent records what was held in
 * vain without ports ("orphan").
 *
 * Race: two CPUs with fragments of one datagram. The map's insert decides who
 * was first, the other looks again. Updates in place may lose a count of held
 * fragments, or a tick of a time.
 */
#ifndef EDGELOG_FRAGMENT_H
#define EDGELOG_FRAGMENT_H

#include "table.h"

/*
 * Where no ports are to be found all fragments are alike. A later IPv6 fragment
 * may hide its protocol behind an extension header that only the first one has.
 */
static __always_inline bool needs_first_fragment(const struct packet *p)
{
	return p->fragment && (has_ports(p->proto) || (p->ipv6 && is_extension(p->proto)));
}

/* Called before the far end is forgotten: it is needed to tell datagrams apart. */
static __always_inline void fragment_key(const struct packet *p, struct fragment_key *k)
{
	k->id = p->fragment_id;
	k->proto = p->ipv6 ? FRAGMENT_V6 : p->proto;
	k->side = p->side;
	k->realm = overlapping_addresses ? p->realm : 0;
	k->a[0] = p->key.addr_a[0];
	k->a[1] = p->key.addr_a[1];
	if (profile == PROFILE_SOURCE) {
		/* It may not stand in a map: so few bits tell datagrams apart and fit thousands of hosts. */
		k->far = key_hash(&p->key) >> 48;
		return;
	}
	k->b[0] = p->key.addr_b[0];
	k->b[1] = p->key.addr_b[1];
}

/* The first fragment: takes over what was held, and leaves the ports for the others. */
static __always_inline void fragment_complete(struct fragment *f, struct packet *p)
{
	if (!f->known && f->held) {
		p->first = f->first;
		COUNT(fragments_released, f->held);
	}
	f->key = p->key;
	f->side = p->side;
	f->held = 0;
	f->first = p->now;
	f->last = p->now;
	f->known = 1;
}

/* Signed: a fragment on another CPU may have read the clock a tick earlier. */
static __always_inline bool fragment_in_time(const struct fragment *f, const struct packet *p)
{
	return (__s64)(p->now - f->first) <= (__s64)fragment_window;
}

/* A later fragment: gets the ports, or is held. */
static __always_inline int fragment_join(struct fragment *f, struct packet *p)
{
	if (f->known && fragment_in_time(f, p)) {
		p->key = f->key;
		p->side = f->side;
		if (p->now > f->last)
			f->last = p->now;
		return OUTCOME_RECORDED;
	}
	if (f->known) { /* the id came round again */
		f->known = 0;
		f->key = p->key;
		f->side = p->side;
		f->first = p->now;
		f->last = p->now;
		f->held = 0;
	}
	if (p->now < f->first)
		f->first = p->now;
	if (p->now > f->last)
		f->last = p->now;
	f->held++;
	return OUTCOME_FRAGMENT_HELD;
}

/*
 * Any fragment. OUTCOME_RECORDED: go on to the table with the key now in p;
 * else the packet ends here.
 */
__noinline int fragment_seen(struct packet *p)
{
	struct fragment_key k = {};
	struct fragment fresh = {};
	struct fragment *f;
	long err;

	if (!p)
		return OUTCOME_FRAGMENT_LOST;
	fragment_key(p, &k);
	if (profile == PROFILE_SOURCE)
		forget_far_end(p);
	f = bpf_map_lookup_elem(&fragments, &k);
	if (!f) {
		fresh.key = p->key;
		fresh.side = p->side;
		fresh.egress = p->egress;
		fresh.first = p->now;
		fresh.last = p->now;
		fresh.known = p->fragment == FRAGMENT_FIRST;
		fresh.held = p->fragment == FRAGMENT_LATER;
		err = bpf_map_update_elem(&fragments, &k, &fresh, BPF_NOEXIST);
		if (!err)
			return fresh.known ? OUTCOME_RECORDED : OUTCOME_FRAGMENT_HELD;
		f = bpf_map_lookup_elem(&fragments, &k);
		if (!f) /* full: a first fragment has its ports all the same */
			return fresh.known ? OUTCOME_RECORDED : OUTCOME_FRAGMENT_LOST;
	}
	if (p->fragment == FRAGMENT_FIRST) {
		fragment_complete(f, p);
		return OUTCOME_RECORDED;
	}
	return fragment_join(f, p);
}

#endif /* EDGELOG_FRAGMENT_H */
