/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h - what does this frame say? From Ethernet (or bare IP) to the
 * outermost IP header and its ports. Only headers are read, and nothing of a
 * payload is ever kept. Must never touch a map.
 *
 * Tunnels (GRE, GTP, VXLAN, IP in IP, ESP) are recorded by their outer header.
 */
#ifndef EDGELOG_PARSE_H
#define EDGELOG_PARSE_H

#include "knobs.h"
#include "wire.h"

#define MAX_L2_HEADERS 12 /* VLAN tags, PPPoE header and MPLS labels together */
#define MAX_EXTENSION_HEADERS 10

#define ETH_P_QINQ_OLD 0x9100
#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_MPLS 0x0281
#define MPLS_BOTTOM 0x100u
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define IPV6_FRAGMENT_BITS 0xfff9 /* offset and M of the fragment header (RFC 8200 4.5) */
#define IPV6_OFFSET_BITS 0xfff8
#define NEXT_MOBILITY 135
#define NEXT_NONE 59
#define UDPLITE 136

#define TCP_FLAGS_END 14 /* bytes of a TCP header up to and with its flags */
#define PARSE_SLOW -1

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_TRACKED (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)

enum fragment_kind {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1, /* carries the ports */
	FRAGMENT_LATER = 2, /* does not */
};

/* What one packet says, on its way through the program. Stays in the kernel. */
struct packet {
	struct key key; /* sender is a until orient() */
	__u64 hash; /* of key */
	__u64 now; /* the programs' clock */
	__u64 first; /* now, or when the earliest of its held fragments came */
	__u32 fragment_id; /* as on the wire */
	__u32 realm; /* VLAN ids, outer << 12 | inner, 0 when there are none */
	__u8 proto;
	__u8 tcp; /* TCP_TRACKED flags; 0 for all else */
	__u8 side; /* 0: endpoint a of key sent it, 1: b */
	__u8 fragment; /* enum fragment_kind */
	__u8 ipv6;
	__u8 egress;
	__u8 orphan; /* stands for fragments whose first fragment never came */
	__u8 reserved;
	__u32 marks; /* STATE_LOCAL_A or STATE_LOCAL_B, once the border was asked */
	__u32 reserved2;
};

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

/* PPPoE session header (RFC 2516) and the PPP protocol field. */
struct pppoe_header {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
	__u8 protocol[2];
};

struct ipv6_extension {
	__u8 next;
	__u8 length; /* in 8 octets, the first not counted; reserved in a fragment header */
	__be16 fragment;
	__be32 id;
};

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD) ||
	       proto == bpf_htons(ETH_P_QINQ_OLD);
}

static __always_inline bool is_mpls(__be16 proto)
{
	return proto == bpf_htons(ETH_P_MPLS_UC) || proto == bpf_htons(ETH_P_MPLS_MC);
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_DCCP || proto == UDPLITE;
}

static __always_inline bool is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT || proto == NEXT_MOBILITY;
}

static __always_inline void take_tag(struct packet *p, __be16 tci)
{
	p->realm = (p->realm << 12 | (bpf_ntohs(tci) & 0xfff)) & ((1u << REALM_BITS) - 1);
}

static __always_inline void take_ports(struct packet *p, const __be16 port[2])
{
	p->key.port_a = port[0];
	p->key.port_b = port[1];
}

/* Returns the length of the header, 0 when it contradicts itself. */
static __always_inline __u32 take_ipv4(struct packet *p, const struct iphdr *ip, __u32 length)
{
	__u32 header = ip->ihl * 4;

	if (ip->version != 4 || header < sizeof(*ip) || length < header)
		return 0;
	p->proto = ip->protocol;
	p->key.addr_a[1] = (__u64)ip->saddr << 32 | 0xffff0000ULL;
	p->key.addr_b[1] = (__u64)ip->daddr << 32 | 0xffff0000ULL;
	return header;
}

/* ::ffff:0:0/96 stands for IPv4 addresses in the table, and for nothing on the wire (RFC 4038 4.2). */
static __always_inline bool is_mapped(const __u64 addr[2])
{
	return !addr[0] && (__u32)addr[1] == 0xffff0000u;
}

/* Returns false for addresses that would pass for IPv4. */
static __always_inline bool take_ipv6(struct packet *p, const struct ipv6hdr *ip)
{
	p->ipv6 = 1;
	p->proto = ip->nexthdr;
	__builtin_memcpy(p->key.addr_a, &ip->saddr, sizeof(p->key.addr_a));
	__builtin_memcpy(p->key.addr_b, &ip->daddr, sizeof(p->key.addr_b));
	return !is_mapped(p->key.addr_a) && !is_mapped(p->key.addr_b);
}

/*
 * The frames of nearly all traffic are read in place: Ethernet, up to two VLAN
 * tags, IPv4 or IPv6 without extension headers, no fragment, all in the linear
 * part. What these functions do not know they leave to parse_slow. IPv4 and
 * IPv6 keep apart up to the table, so that the compiler need not carry the
 * zero half of an IPv4 address along.
 */

/* Returns what follows Ethernet and the tags, 0 where the frame ends; moves pos. */
static __always_inline __be16 fast_l2(void **pos, void *data_end, struct packet *p)
{
	struct ethhdr *eth = *pos;
	struct vlan_header *tag;
	__be16 proto;

	if ((void *)(eth + 1) > data_end)
		return 0;
	*pos = eth + 1;
	proto = eth->h_proto;
	for (int i = 0; i < 2 && is_vlan(proto); i++) {
		tag = *pos;
		if ((void *)(tag + 1) > data_end)
			return 0;
		take_tag(p, tag->tci);
		proto = tag->proto;
		*pos = tag + 1;
	}
	return proto;
}

/* Ports and TCP flags; length is what the IP header says is there. */
static __always_inline int fast_l4(void *pos, void *data_end, __u32 length, struct packet *p)
{
	if (!has_ports(p->proto))
		return OUTCOME_RECORDED;
	if (length < 4)
		return OUTCOME_TRUNCATED;
	if (pos + 4 > data_end)
		return PARSE_SLOW;
	take_ports(p, pos);
	if (p->proto == IPPROTO_TCP && length >= TCP_FLAGS_END) {
		if (pos + TCP_FLAGS_END > data_end)
			return PARSE_SLOW;
		p->tcp = *(__u8 *)(pos + TCP_FLAGS_END - 1) & TCP_TRACKED;
	}
	return OUTCOME_RECORDED;
}

static __always_inline int fast_ipv4(void *pos, void *data_end, struct packet *p)
{
	struct iphdr *ip = pos;
	__u32 length, header;

	if ((void *)(ip + 1) > data_end || !ip->tot_len ||
	    (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET)))
		return PARSE_SLOW;
	length = bpf_ntohs(ip->tot_len);
	header = take_ipv4(p, ip, length);
	if (!header)
		return OUTCOME_BAD_IP;
	return fast_l4(pos + header, data_end, length - header, p);
}

static __always_inline int fast_ipv6(void *pos, void *data_end, struct packet *p)
{
	struct ipv6hdr *ip = pos;

	if ((void *)(ip + 1) > data_end || ip->version != 6 || !ip->payload_len ||
	    is_extension(ip->nexthdr))
		return PARSE_SLOW;
	if (!take_ipv6(p, ip))
		return OUTCOME_BAD_IP;
	return fast_l4(ip + 1, data_end, bpf_ntohs(ip->payload_len), p);
}

/*
 * A frame of either program type, read by copying: it may lie in several
 * buffers. Slower, and without a limit to where a header may start.
 */
struct frame {
	void *ctx;
	bool xdp;
	__u32 pos;
	__u32 length;
};

/* Copies what stands at pos; false where the frame ends before it does. */
static __always_inline bool peek(const struct frame *f, void *to, __u32 size)
{
	if (f->pos > f->length || f->length - f->pos < size)
		return false;
	if (f->xdp)
		return !bpf_xdp_load_bytes(f->ctx, f->pos, to, size);
	return !bpf_skb_load_bytes(f->ctx, f->pos, to, size);
}

/* What follows is told by the first nibble, as at the bottom of an MPLS stack (RFC 4928). */
static __always_inline __be16 peek_ip_version(const struct frame *f)
{
	__u8 first = 0;

	if (!peek(f, &first, 1))
		return 0;
	if (first >> 4 == 4)
		return bpf_htons(ETH_P_IP);
	return first >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_802_3);
}

/* The PPP protocol field is one byte when its first byte is odd (RFC 1661 6.5). */
static __always_inline __be16 walk_pppoe(struct frame *f)
{
	struct pppoe_header h = {};
	__u16 protocol;

	if (!peek(f, &h, sizeof(h)))
		return 0;
	f->pos += sizeof(h);
	protocol = h.protocol[0] << 8 | h.protocol[1];
	if (h.protocol[0] & 1) {
		protocol = h.protocol[0];
		f->pos--;
	}
	switch (protocol) {
	case PPP_IPV4:
		return bpf_htons(ETH_P_IP);
	case PPP_IPV6:
		return bpf_htons(ETH_P_IPV6);
	case PPP_MPLS:
		return bpf_htons(ETH_P_MPLS_UC);
	}
	return bpf_htons(ETH_P_802_3); /* LCP, IPCP and the like: no IP */
}

/* From the start of the frame to its IP header; returns what follows there, or 0 with *outcome set. */
static __always_inline __be16 walk_l2(struct frame *f, struct packet *p, int *outcome)
{
	struct vlan_header h = {}; /* an MPLS label is as long */
	struct ethhdr eth = {};
	__be16 proto;

	*outcome = OUTCOME_TRUNCATED;
	if (raw_ip)
		return peek_ip_version(f);
	if (!peek(f, &eth, sizeof(eth)))
		return 0;
	f->pos += sizeof(eth);
	proto = eth.h_proto;
	for (int i = 0; i < MAX_L2_HEADERS; i++) {
		if (proto == bpf_htons(ETH_P_PPP_SES)) {
			proto = walk_pppoe(f);
		} else if (is_vlan(proto)) {
			if (!peek(f, &h, sizeof(h)))
				return 0;
			f->pos += sizeof(h);
			take_tag(p, h.tci);
			proto = h.proto;
		} else if (is_mpls(proto)) {
			if (!peek(f, &h, sizeof(h)))
				return 0;
			f->pos += sizeof(h);
			if (bpf_ntohs(h.proto) & MPLS_BOTTOM)
				proto = peek_ip_version(f);
		} else {
			return proto;
		}
	}
	*outcome = OUTCOME_L2_DEPTH;
	return 0;
}

/*
 * From the first extension header to what carries the ports. AH and ESP end
 * the walk, as they do in IPv4; so does a header that the frame cuts off.
 */
static __always_inline void walk_extensions(struct frame *f, struct packet *p, __u32 end)
{
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		struct ipv6_extension h = {};
		__u16 bits;

		if (!is_extension(p->proto) || f->pos + sizeof(h) > end || !peek(f, &h, sizeof(h)))
			return;
		if (p->proto == IPPROTO_FRAGMENT) {
			bits = bpf_ntohs(h.fragment);
			if (bits & IPV6_FRAGMENT_BITS) {
				p->fragment_id = h.id;
				p->fragment =
					bits & IPV6_OFFSET_BITS ? FRAGMENT_LATER : FRAGMENT_FIRST;
			}
			f->pos += sizeof(h);
		} else if (p->proto == NEXT_MOBILITY && h.next == NEXT_NONE) {
			return; /* it carries nothing else (RFC 6275 6.1.1) */
		} else {
			f->pos += (h.length + 1) * 8;
		}
		p->proto = h.next;
		if (p->fragment == FRAGMENT_LATER)
			return;
	}
}

/* Ports, and TCP flags where the segment is long enough; behind `end` nothing is a port. */
static __always_inline int walk_l4(struct frame *f, struct packet *p, __u32 end)
{
	__be16 port[2] = {};
	__u8 flags = 0;

	if (p->fragment == FRAGMENT_LATER || !has_ports(p->proto))
		return OUTCOME_RECORDED;
	if (f->pos + sizeof(port) > end || !peek(f, port, sizeof(port)))
		return OUTCOME_TRUNCATED;
	take_ports(p, port);
	if (p->proto != IPPROTO_TCP || f->pos + TCP_FLAGS_END > end)
		return OUTCOME_RECORDED;
	f->pos += TCP_FLAGS_END - 1;
	if (peek(f, &flags, 1))
		p->tcp = flags & TCP_TRACKED;
	return OUTCOME_RECORDED;
}

/* Any frame at all. p must be zero but for realm. Returns an outcome. */
static __always_inline int parse_slow(struct frame *f, struct packet *p)
{
	int outcome = OUTCOME_TRUNCATED;
	__be16 proto = walk_l2(f, p, &outcome);
	__u32 end, length;

	if (!proto)
		return outcome;
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr ip = {};
		__u32 header;

		if (!peek(f, &ip, sizeof(ip)))
			return OUTCOME_TRUNCATED;
		length = bpf_ntohs(ip.tot_len);
		if (!length) /* a GSO buffer too long for the field */
			length = f->length - f->pos;
		end = f->pos + length;
		header = take_ipv4(p, &ip, length);
		if (!header)
			return OUTCOME_BAD_IP;
		if (ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET)) {
			p->fragment_id = ip.id;
			p->fragment = ip.frag_off & bpf_htons(IP_OFFSET) ? FRAGMENT_LATER :
									   FRAGMENT_FIRST;
		}
		f->pos += header;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip = {};

		if (!peek(f, &ip, sizeof(ip)))
			return OUTCOME_TRUNCATED;
		if (ip.version != 6)
			return OUTCOME_BAD_IP;
		if (!take_ipv6(p, &ip))
			return OUTCOME_BAD_IP;
		f->pos += sizeof(ip);
		length = bpf_ntohs(ip.payload_len);
		/* 0: a jumbogram (RFC 2675), or a GSO buffer too long for the field */
		end = length ? f->pos + length : f->length;
		walk_extensions(f, p, end);
	} else {
		return OUTCOME_NOT_IP;
	}
	return walk_l4(f, p, end);
}

static __always_inline void swap_ends(struct key *k)
{
	__u64 hi = k->addr_a[0], lo = k->addr_a[1];
	__be16 port = k->port_a;

	k->addr_a[0] = k->addr_b[0];
	k->addr_a[1] = k->addr_b[1];
	k->port_a = k->port_b;
	k->addr_b[0] = hi;
	k->addr_b[1] = lo;
	k->port_b = port;
}

/* Puts the endpoints in the order that both directions share. */
static __always_inline void orient(struct packet *p)
{
	struct key *k = &p->key;

	k->realm_proto = (__u32)p->proto << REALM_BITS | (overlapping_addresses ? p->realm : 0);
	if (profile == PROFILE_SOURCE) /* the local endpoint is a: it sends what leaves */
		p->side = !p->egress;
	else
		p->side = k->addr_a[1] != k->addr_b[1] ? k->addr_a[1] > k->addr_b[1] :
			  k->addr_a[0] != k->addr_b[0] ? k->addr_a[0] > k->addr_b[0] :
							 k->port_a > k->port_b;
	if (p->side)
		swap_ends(k);
}

/*
 * The profile "source": the far endpoint goes no further, nor do TCP flags,
 * which tell of one connection with it.
 */
static __always_inline void forget_far_end(struct packet *p)
{
	p->key.addr_b[0] = 0;
	p->key.addr_b[1] = 0;
	p->key.port_b = 0;
	p->tcp = 0;
}

#endif /* EDGELOG_PARSE_H */
