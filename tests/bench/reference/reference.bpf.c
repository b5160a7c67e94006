// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * reference.bpf.c - what edgelog's programs are measured against, in the same
 * run: an empty program, and what flow tools commonly do behind the same
 * parser: a BPF hash map, the exact clock, and counters written on each packet.
 *
 * The spray programs give each run another source address, of a set number of
 * flows, and then call the program under test. What the spraying itself costs
 * is measured with the empty program behind it, and subtracted.
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

#include "../../../bpf/wire.h"
#include "../../../bpf/knobs.h"
#include "../../../bpf/parse.h"

struct flow {
	__u64 first;
	__u64 last;
	__u64 packets;
	__u64 bytes;
	__u32 flags;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xdp_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tc_target SEC(".maps");

/* Where the last four bytes of the source address stand; a mask of the number of flows. */
volatile const __u32 spray_offset = 26;
volatile __u32 spray_mask;
/* Not 0: count up instead of at random, so that every packet is of a new session. */
volatile __u32 spray_count;
__u32 spray_next;

static __always_inline void account(void *data, void *data_end)
{
	struct packet p = {};
	struct flow fresh = {}, *f;
	void *pos = data;
	__be16 proto = fast_l2(&pos, data_end, &p);

	if (proto == bpf_htons(ETH_P_IP) ? fast_ipv4(pos, data_end, &p) :
					   fast_ipv6(pos, data_end, &p))
		return;
	orient(&p);
	f = bpf_map_lookup_elem(&flows, &p.key);
	if (!f) {
		fresh.first = bpf_ktime_get_ns();
		fresh.last = fresh.first;
		fresh.packets = 1;
		fresh.bytes = data_end - data;
		fresh.flags = p.tcp;
		bpf_map_update_elem(&flows, &p.key, &fresh, BPF_NOEXIST);
		return;
	}
	f->last = bpf_ktime_get_ns();
	__sync_fetch_and_add(&f->packets, 1);
	__sync_fetch_and_add(&f->bytes, data_end - data);
	f->flags |= p.tcp;
}

SEC("xdp.frags")
int empty_xdp(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

SEC("xdp.frags")
int hash_xdp(struct xdp_md *ctx)
{
	account((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	return XDP_PASS;
}

SEC("tc")
int empty_tc(struct __sk_buff *skb __attribute__((unused)))
{
	return -1;
}

SEC("tc")
int hash_tc(struct __sk_buff *skb)
{
	account((void *)(long)skb->data, (void *)(long)skb->data_end);
	return -1;
}

static __always_inline void spray(void *data, void *data_end)
{
	__u32 offset = spray_offset & 0x3f;
	__u32 *word = data + offset;

	if ((void *)(word + 1) > data_end)
		return;
	if (spray_count)
		*word = spray_next++;
	else
		*word = bpf_get_prandom_u32() & spray_mask;
}

SEC("xdp.frags")
int spray_xdp(struct xdp_md *ctx)
{
	spray((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	bpf_tail_call(ctx, &xdp_target, 0);
	return XDP_ABORTED;
}

SEC("tc")
int spray_tc(struct __sk_buff *skb)
{
	spray((void *)(long)skb->data, (void *)(long)skb->data_end);
	bpf_tail_call(skb, &tc_target, 0);
	return 2;
}

char _license[] SEC("license") = "Dual BSD/GPL";
