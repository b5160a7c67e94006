// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * load.bpf.c - makes the frames of the load generator, and counts those that
 * have come to the other end. tuple.go holds the same arithmetic in Go: which
 * session has which number.
 *
 *   load_send      run on live frames: writes the next frame, and redirects it
 *   load_direct    run on one buffer: writes the next frame, and calls the gateway's XDP program
 *   load_relay     where frames come into the gateway that shall leave it: sends them out of the uplink
 *   load_arrived   behind the gateway's programs: counts, and drops or lets pass
 *
 * Frames are sent in waves: the same step of the lives of up to "wave" sessions.
 * A wave begins when each frame of the one before has arrived, so that no queue
 * between the two ever overflows, and the packets of a session arrive in order.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GO_ON -1 /* TCX_NEXT, and TC_ACT_UNSPEC for clsact */
#define TC_DROP 2
#define PORT_BITS 15
#define FIRST_PORT 1024
#define MAX_TAGS 2

/* One byte for each step of a life; the low bits are those of TCP. */
enum step {
	STEP_FIN = 0x01,
	STEP_SYN = 0x02,
	STEP_RST = 0x04,
	STEP_PSH = 0x08,
	STEP_ACK = 0x10,
	STEP_FRAME = 0x20, /* there is a frame; a step of 0 is left out */
	STEP_DATA = 0x40, /* the IP packet is as long as the frame, else as its headers */
	STEP_OUT = 0x80, /* it leaves the gateway, else it comes in */
};

enum mode {
	MODE_PLAIN = 0, /* every session lives the life lives[0] */
	MODE_MIX =
		1, /* the life is drawn, and servers are drawn with one far more popular than the next */
	MODE_FLOWS =
		2, /* sessions are drawn from the first flows ones, after each has been met once */
};

enum family {
	FAMILY_4 = 4,
	FAMILY_6 = 6,
	FAMILY_BOTH = 10, /* even sessions IPv4, odd ones IPv6 */
};

#define LIVES 4

/* Which life a session of MODE_MIX lives, by a byte of its hash: below share[k]. */
volatile const __u32 share[LIVES];
volatile const __u64 lives[LIVES]; /* step k is byte k */
volatile const __u8 protos[LIVES];
volatile const __u16 server_ports[LIVES];

volatile const __u32 mode = MODE_PLAIN;
volatile const __u32 family = FAMILY_4;
volatile const __u32 steps = 1; /* of the longest life, at most 8 */
volatile const __u32 wave = 64;
volatile const __u64 flows = 1;
volatile const __u64 end; /* the number after the last session, or packet with MODE_FLOWS */
volatile const __u64 seed;
volatile const __u32 host_bits = 8;
volatile const __u32 far_bits = 24;
volatile const bool far_client =
	false; /* the far end has the random port and the gateway's side the server's */

volatile const __u32 local4; /* host order; host bits are 0 */
volatile const __u32 far4;
volatile const __u64 local6_high, local6_low; /* host order; the host is added to the high half */
volatile const __u64 far6_high, far6_low; /* the far end is added to the low half */

volatile const __u32 tags = 0;
volatile const __u16 tag_ids[MAX_TAGS];
volatile const __u8 uplink_mac[ETH_ALEN];
volatile const __u8 far_mac[ETH_ALEN];
volatile const __u8 mark_mac[ETH_ALEN]; /* sender of all frames of this generator */
volatile const __u32 in_ifindex; /* the other end of the uplink */
volatile const __u32 out_ifindex; /* the other end of the interface that has load_relay */
volatile const __u32 uplink_ifindex; /* in the gateway's namespace */
volatile const bool pass_on = false; /* into the stack, behind the gateway's programs */

/* The agent of one generator writes limit; load_send, which runs on one CPU, all others. */
volatile __u64 limit; /* no session from here on is begun, for now */
volatile __u64 base; /* the first session of the wave */
volatile __u32 step; /* of the wave */
volatile __u32 member; /* of the wave: the next one */
volatile __u64 sent_in;
volatile __u64 sent_out;
volatile __u64
	idle; /* runs without a frame: nothing may be sent, or the wave before is under way */
/* Written where the frames arrive. */
__u64 arrived_in;
__u64 arrived_out;

struct session {
	__u64 far; /* index of the far end, below 1 << far_bits */
	__u32 host; /* index of the local end */
	__u16 local_port;
	__u16 far_port;
	__u8 proto;
	__u8 v6;
	__u64 life;
};

/* The last step of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). */
static __always_inline __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* Another order of the numbers below 1 << bits: each step can be undone. */
static __always_inline __u64 shuffle(__u64 x, __u32 bits)
{
	__u64 mask = (1ULL << bits) - 1;
	__u32 half = (bits + 1) / 2;

	x = (x + seed) & mask;
	x = (x * 0x9e3779b97f4a7c15) & mask;
	x ^= x >> half;
	x = (x * 0xbf58476d1ce4e5b9) & mask;
	x ^= x >> half;
	return x;
}

static __always_inline void draw_mix(__u64 i, struct session *s)
{
	__u32 bits = PORT_BITS + host_bits;
	__u64 h = mix(i ^ seed), x = shuffle(i & ((1ULL << bits) - 1), bits);
	__u32 draw = h & 0xff, magnitude = (h >> 8) & 0xf, life = 0;

	/* As many sessions go to servers 2..3 as to 4..7 and so on. */
	s->far = (i >> bits) << 16 | 1u << magnitude | ((h >> 16) & ((1u << magnitude) - 1));
	s->far &= (1ULL << far_bits) - 1;
	s->host = x >> PORT_BITS;
	s->local_port = FIRST_PORT + (x & ((1u << PORT_BITS) - 1));
	if (draw >= share[0])
		life = draw < share[1] ? 1 : draw < share[2] ? 2 : 3;
	s->far_port = server_ports[life];
	s->proto = protos[life];
	s->life = lives[life];
}

/* Which session has number i. */
static __always_inline void draw(__u64 i, struct session *s)
{
	__u64 x;

	s->v6 = family == FAMILY_6 || (family == FAMILY_BOTH && (i & 1));
	if (mode == MODE_MIX)
		return draw_mix(i, s);
	x = shuffle(i, PORT_BITS + host_bits + far_bits);
	s->local_port = FIRST_PORT + (x & ((1u << PORT_BITS) - 1));
	s->far_port = server_ports[0];
	if (far_client) {
		s->far_port = s->local_port;
		s->local_port = server_ports[0];
	}
	x >>= PORT_BITS;
	s->host = x & ((1u << host_bits) - 1);
	s->far = x >> host_bits;
	s->proto = protos[0];
	s->life = lives[0];
}

static __always_inline __u32 sum64(__u64 x)
{
	return (x >> 48) + ((x >> 32) & 0xffff) + ((x >> 16) & 0xffff) + (x & 0xffff);
}

/* RFC 1071, of a sum of 16-bit words in host order. */
static __always_inline __be16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return bpf_htons(~sum);
}

/* The transport header; sum is that of the addresses. */
static __always_inline int write_transport(void *pos, void *data_end, struct session *s, __u8 what,
					   __u16 length, __u32 sum)
{
	bool out = what & STEP_OUT;
	__u16 from = out ? s->local_port : s->far_port, to = out ? s->far_port : s->local_port;

	sum += s->proto + length + from + to;
	if (s->proto == IPPROTO_UDP) {
		struct udphdr *u = pos;

		if ((void *)(u + 1) > data_end)
			return -1;
		u->source = bpf_htons(from);
		u->dest = bpf_htons(to);
		u->len = bpf_htons(length);
		u->check = fold(sum + length);
		if (!u->check)
			u->check = 0xffff; /* RFC 768: 0 means none */
		return 0;
	}
	struct {
		__be16 source, dest;
		__be32 seq, ack;
		__u8 offset, flags;
		__be16 window, check, urgent;
	} *t = pos;

	if ((void *)(t + 1) > data_end)
		return -1;
	t->source = bpf_htons(from);
	t->dest = bpf_htons(to);
	t->seq = bpf_htonl(step + 1);
	t->ack = what & STEP_ACK ? bpf_htonl(step) : 0;
	t->offset = 5 << 4;
	t->flags = what & 0x1f;
	t->window = bpf_htons(0xffff);
	t->urgent = 0;
	sum += (step + 1) + (what & STEP_ACK ? step : 0) + 0x5000 + (what & 0x1f) + 0xffff;
	t->check = fold(sum);
	return 0;
}

static __always_inline int write_ip4(void *pos, void *data_end, struct session *s, __u8 what)
{
	struct iphdr *ip = pos;
	__u32 local = local4 | s->host, far = far4 + (__u32)s->far;
	__u32 addresses = (local >> 16) + (local & 0xffff) + (far >> 16) + (far & 0xffff);
	__u16 room = data_end - pos, length = room;

	if ((void *)(ip + 1) > data_end)
		return -1;
	if (!(what & STEP_DATA))
		length = 20 + (s->proto == IPPROTO_TCP ? 20 : 8);
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(length);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = s->proto;
	ip->saddr = bpf_htonl(what & STEP_OUT ? local : far);
	ip->daddr = bpf_htonl(what & STEP_OUT ? far : local);
	ip->check = fold(0x4500 + length + 0x4000 + (64 << 8) + s->proto + addresses);
	return write_transport(ip + 1, data_end, s, what, length - 20, addresses);
}

struct ip6 {
	__be32 version;
	__be16 length;
	__u8 next, hops;
	__be64 from[2], to[2];
};

static __always_inline int write_ip6(void *pos, void *data_end, struct session *s, __u8 what)
{
	struct ip6 *ip = pos;
	__u64 local = local6_high + s->host, far = far6_low + s->far;
	__u32 addresses = sum64(local) + sum64(local6_low) + sum64(far6_high) + sum64(far);
	__u16 room = data_end - pos, length = room - sizeof(*ip);
	bool out = what & STEP_OUT;

	if ((void *)(ip + 1) > data_end)
		return -1;
	if (!(what & STEP_DATA))
		length = s->proto == IPPROTO_TCP ? 20 : 8;
	ip->version = bpf_htonl(6u << 28);
	ip->length = bpf_htons(length);
	ip->next = s->proto;
	ip->hops = 64;
	ip->from[0] = bpf_cpu_to_be64(out ? local : far6_high);
	ip->from[1] = bpf_cpu_to_be64(out ? local6_low : far);
	ip->to[0] = bpf_cpu_to_be64(out ? far6_high : local);
	ip->to[1] = bpf_cpu_to_be64(out ? far : local6_low);
	return write_transport(ip + 1, data_end, s, what, length, addresses);
}

static __always_inline int write_frame(void *data, void *data_end, struct session *s, __u8 what)
{
	struct ethhdr *eth = data;
	__be16 *tag = (void *)(eth + 1);
	__be16 proto = s->v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	int i;

	if ((void *)(eth + 1) > data_end || (void *)(tag + 2 * tags) > data_end)
		return -1;
	for (i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = what & STEP_OUT ? far_mac[i] : uplink_mac[i];
		eth->h_source[i] = mark_mac[i];
	}
	eth->h_proto = proto;
	if (tags > 0) {
		eth->h_proto = tags > 1 ? bpf_htons(ETH_P_8021AD) : bpf_htons(ETH_P_8021Q);
		tag[0] = bpf_htons(tag_ids[0]);
		tag[1] = tags > 1 ? bpf_htons(ETH_P_8021Q) : proto;
	}
	if (tags > 1) {
		tag[2] = bpf_htons(tag_ids[1]);
		tag[3] = proto;
	}
	return s->v6 ? write_ip6(tag + 2 * tags, data_end, s, what) :
		       write_ip4(tag + 2 * tags, data_end, s, what);
}

/* Whether a frame may be sent now: at the begin of a wave there are conditions. */
static __always_inline bool may_send(void)
{
	if (member)
		return true;
	if (*(volatile __u64 *)&arrived_in != sent_in ||
	    *(volatile __u64 *)&arrived_out != sent_out)
		return false;
	return step || (base < limit && base < end);
}

/* Goes on to the next member, the next step, the next wave. */
static __always_inline void advance(void)
{
	member++;
	if (member < wave && base + member < end)
		return;
	step++;
	if (step < steps) {
		member = 0;
		return;
	}
	base += member;
	step = 0;
	member = 0;
}

static __always_inline __u64 number(void)
{
	__u64 i = base + member;

	if (mode != MODE_FLOWS || i < flows)
		return i;
	return (mix(i ^ seed) >> 32) * flows >> 32; /* flows are fewer than 1 << 32 */
}

/* Writes the next frame and goes on: its step, 0 when there is none to send, -1 when it does not fit. */
static __always_inline int next_frame(struct xdp_md *ctx)
{
	struct session s = {};
	__u8 what;

	if (!may_send()) {
		idle++;
		return 0;
	}
	draw(number(), &s);
	what = s.life >> (step & 7) * 8;
	if ((what & STEP_FRAME) &&
	    write_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, &s, what))
		return -1;
	advance();
	return what & STEP_FRAME ? what : 0;
}

SEC("xdp")
int load_send(struct xdp_md *ctx)
{
	int what = next_frame(ctx);

	if (what <= 0)
		return what ? XDP_ABORTED : XDP_DROP;
	if (what & STEP_OUT)
		sent_out++;
	else
		sent_in++;
	return bpf_redirect(what & STEP_OUT ? out_ifindex : in_ifindex, 0);
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} gateway_xdp SEC(".maps");

SEC("xdp.frags")
int load_direct(struct xdp_md *ctx)
{
	int what = next_frame(ctx);

	if (what <= 0)
		return what ? XDP_ABORTED : XDP_DROP;
	sent_in++;
	arrived_in++;
	bpf_tail_call(ctx, &gateway_xdp, 0);
	arrived_in--; /* there was no such program */
	return XDP_ABORTED;
}

/* A frame of this generator. */
static __always_inline bool is_ours(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	int i, differ = 0;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return false;
	for (i = 0; i < ETH_ALEN; i++)
		differ |= eth->h_source[i] ^ mark_mac[i];
	return !differ;
}

SEC("tc")
int load_relay(struct __sk_buff *skb)
{
	return is_ours(skb) ? bpf_redirect(uplink_ifindex, 0) : GO_ON;
}

SEC("tc")
int load_arrived_in(struct __sk_buff *skb)
{
	if (!is_ours(skb))
		return GO_ON;
	__sync_fetch_and_add(&arrived_in, 1);
	return pass_on ? GO_ON : TC_DROP;
}

SEC("tc")
int load_arrived_out(struct __sk_buff *skb)
{
	if (!is_ours(skb))
		return GO_ON;
	__sync_fetch_and_add(&arrived_out, 1);
	return pass_on ? GO_ON : TC_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
