// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * session.bpf.c - the programs: parse, record, let pass. The verdict is always
 * XDP_PASS or "go on with the next program", and not a byte is changed.
 *
 *   edgelog_xdp      uplink ingress, native or generic XDP, single or many buffers
 *   edgelog_egress   uplink egress, TCX or clsact
 *   edgelog_ingress  uplink ingress where XDP cannot be attached
 *   edgelog_orphan   run by the agent: fragments whose first one never came
 *   edgelog_carry    run by the agent: a session of an older table
 *   edgelog_carry_counts  run by the agent: packets that older programs counted
 *   edgelog_clock    run by the agent: how ticks and CLOCK_MONOTONIC go together
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#include "wire.h"
#include "knobs.h"
#include "parse.h"
#include "maps.h"
#include "border.h"
#include "emit.h"
#include "bucket.h"
#include "sample.h"
#include "table.h"
#include "carry.h"
#include "fragment.h"

#define GO_ON -1 /* TCX_NEXT, and TC_ACT_UNSPEC for clsact: the next program decides */

/* From headers to the key under which the session is looked for. */
static __always_inline int identify(struct packet *p)
{
	int outcome;

	orient(p);
	if (profile == PROFILE_SOURCE) {
		outcome = border_far_end(p);
		if (outcome)
			return outcome;
	}
	if (needs_first_fragment(p))
		return fragment_seen(p);
	if (profile == PROFILE_SOURCE)
		forget_far_end(p);
	return OUTCOME_RECORDED;
}

/* From parsed headers to an outcome. */
static __always_inline int record(struct packet *p)
{
	int outcome;

	if (profile == PROFILE_ACCESS)
		return OUTCOME_PROFILE;
	outcome = identify(p);
	if (unlikely(outcome))
		return outcome;
	p->hash = key_hash(&p->key);
	return table_packet(p);
}

/* Parses and records what takes more than the fast way knows. */
static __always_inline int look_slow(struct frame *f, __u64 now, __u32 tag, __u8 egress)
{
	struct packet fresh = { .now = now, .first = now, .realm = tag, .egress = egress };
	struct packet *p = packet_copy(&fresh);
	int outcome;

	if (!p)
		return OUTCOME_TRUNCATED;
	outcome = parse_slow(f, p);
	return outcome ? outcome : record(p);
}

__noinline int look_slow_xdp(struct xdp_md *ctx, __u64 now)
{
	struct frame f = { .ctx = ctx, .xdp = true, .length = bpf_xdp_get_buff_len(ctx) };

	return look_slow(&f, now, 0, 0);
}

__noinline int look_slow_skb(struct __sk_buff *skb, __u64 now, __u32 tag, __u32 egress)
{
	struct frame f = { .ctx = skb, .xdp = false, .length = skb->len };

	return look_slow(&f, now, tag, egress & 1);
}

/* Parses and records; PARSE_SLOW when that takes more than the fast way knows. */
static __always_inline int look_fast(void *data, void *data_end, __u64 now, __u32 tag, __u8 egress)
{
	struct packet p = { .now = now, .first = now, .realm = tag, .egress = egress };
	__be16 proto;
	int outcome;

	if (raw_ip)
		return PARSE_SLOW;
	proto = fast_l2(&data, data_end, &p);
	if (proto == bpf_htons(ETH_P_IP)) {
		outcome = fast_ipv4(data, data_end, &p);
		return likely(!outcome) ? record(&p) : outcome;
	}
	if (proto == bpf_htons(ETH_P_IPV6)) {
		outcome = fast_ipv6(data, data_end, &p);
		return likely(!outcome) ? record(&p) : outcome;
	}
	return !proto || is_vlan(proto) || is_mpls(proto) || proto == bpf_htons(ETH_P_PPP_SES) ?
		       PARSE_SLOW :
		       OUTCOME_NOT_IP;
}

static __always_inline bool refused(__u32 outcome)
{
	return outcome == OUTCOME_TABLE_FULL || outcome == OUTCOME_HALF_OPEN ||
	       outcome == OUTCOME_CONTENDED || outcome == OUTCOME_FRAGMENT_LOST;
}

/* Notes when it was, for the agent to say which seconds are not complete. */
static __always_inline void count_refused(struct packet_counters *c, __u64 now)
{
	__u32 zero = 0;
	struct table_meta *m = bpf_map_lookup_elem(&meta, &zero);

	if (m && c->refused_first <= READ_ONCE(m->looked_at))
		c->refused_first = now;
	c->refused_last = now;
}

static __always_inline void count(__u32 egress, __u32 more_segments, __u32 outcome, __u64 now)
{
	__u32 index = uplink * 2 + egress;
	struct packet_counters *c = bpf_map_lookup_elem(&packet_counts, &index);

	if (!c)
		return;
	c->seen++;
	if (more_segments)
		c->more_segments += more_segments;
	if (outcome < OUTCOMES)
		c->outcome[outcome]++;
	if (unlikely(refused(outcome)))
		count_refused(c, now);
}

SEC("xdp.frags")
int edgelog_xdp(struct xdp_md *ctx)
{
	__u64 now = clock_now();
	int outcome = look_fast((void *)(long)ctx->data, (void *)(long)ctx->data_end, now, 0, 0);

	if (unlikely(outcome == PARSE_SLOW))
		outcome = look_slow_xdp(ctx, now);
	count(0, 0, outcome, now);
	return XDP_PASS;
}

/*
 * What a GSO buffer becomes on the wire beyond one packet. Some virtual devices
 * leave gso_segs 0; headers count little in so large a buffer.
 */
static __always_inline __u32 more_segments(struct __sk_buff *skb)
{
	if (likely(!skb->gso_size))
		return 0;
	if (skb->gso_segs)
		return skb->gso_segs - 1;
	return (skb->len - 1) / skb->gso_size;
}

static __always_inline int look_at_skb(struct __sk_buff *skb, __u8 egress)
{
	__u64 now = clock_now();
	/* The outer tag may have been taken out of the frame by the driver. */
	__u32 tag = overlapping_addresses && skb->vlan_present ? skb->vlan_tci & 0xfff : 0;
	int outcome =
		look_fast((void *)(long)skb->data, (void *)(long)skb->data_end, now, tag, egress);

	if (unlikely(outcome == PARSE_SLOW))
		outcome = look_slow_skb(skb, now, tag, egress);
	count(egress, more_segments(skb), outcome, now);
	return GO_ON;
}

SEC("tc")
int edgelog_egress(struct __sk_buff *skb)
{
	return look_at_skb(skb, 1);
}

SEC("tc")
int edgelog_ingress(struct __sk_buff *skb)
{
	return look_at_skb(skb, 0);
}

SEC("xdp")
int edgelog_orphan(struct xdp_md *ctx)
{
	struct orphan *o = (void *)(long)ctx->data;
	struct packet p = {};

	if ((void *)(o + 1) > (void *)(long)ctx->data_end)
		return OUTCOME_TRUNCATED;
	p.key = o->key;
	p.proto = o->key.realm_proto >> REALM_BITS;
	p.side = o->side & 1;
	p.egress = o->egress & 1;
	p.fragment = FRAGMENT_LATER;
	p.orphan = 1;
	p.first = o->first;
	p.now = o->last;
	p.hash = key_hash(&p.key);
	return table_locked(&p);
}

SEC("xdp")
int edgelog_carry(struct xdp_md *ctx)
{
	struct slot *old = (void *)(long)ctx->data;
	struct packet p = {};

	if ((void *)(old + 1) > (void *)(long)ctx->data_end)
		return CARRY_CONTENDED;
	p.key = old->key;
	p.proto = old->key.realm_proto >> REALM_BITS;
	p.first = old->first;
	p.now = old->last;
	p.hash = key_hash(&p.key);
	return carry(&p, old->state, old->flags);
}

SEC("xdp")
int edgelog_carry_counts(struct xdp_md *ctx)
{
	struct carried_counts *old = (void *)(long)ctx->data;
	struct packet_counters *c;
	__u32 index;

	if ((void *)(old + 1) > (void *)(long)ctx->data_end)
		return CARRY_CONTENDED;
	index = old->index;
	c = bpf_map_lookup_elem(&packet_counts, &index);
	if (!c)
		return CARRY_FULL;
	c->seen += old->counters.seen;
	c->more_segments += old->counters.more_segments;
	for (int i = 0; i < OUTCOMES; i++)
		c->outcome[i] += old->counters.outcome[i];
	if (old->counters.refused_first &&
	    (!c->refused_first || old->counters.refused_first < c->refused_first))
		c->refused_first = old->counters.refused_first;
	if (old->counters.refused_last > c->refused_last)
		c->refused_last = old->counters.refused_last;
	return CARRY_DONE;
}

SEC("xdp")
int edgelog_clock(struct xdp_md *ctx)
{
	struct clock_reading *r = (void *)(long)ctx->data;

	if ((void *)(r + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	r->ticks = bpf_jiffies64();
	r->monotonic = bpf_ktime_get_ns();
	return XDP_PASS;
}

/* Types that only the agent uses: named here so that they are in the object's BTF. */
const enum phase *for_agent_phase __attribute__((unused));
const enum table_version *for_agent_table_version __attribute__((unused));
const enum state *for_agent_state __attribute__((unused));
const enum word *for_agent_word __attribute__((unused));
const enum flags *for_agent_flags __attribute__((unused));
const enum border_value *for_agent_border_value __attribute__((unused));
const enum event_kind *for_agent_event_kind __attribute__((unused));
const enum outcome *for_agent_outcome __attribute__((unused));
const struct sample *for_agent_sample __attribute__((unused));
const struct event *for_agent_event __attribute__((unused));
const struct orphan *for_agent_orphan __attribute__((unused));
const enum carry *for_agent_carry __attribute__((unused));
const struct carried_counts *for_agent_carried_counts __attribute__((unused));
const struct clock_reading *for_agent_clock_reading __attribute__((unused));
const struct prefix *for_agent_prefix __attribute__((unused));

/* To the verifier; the kernel's name for a dual licence. */
char _license[] SEC("license") = "Dual BSD/GPL";
