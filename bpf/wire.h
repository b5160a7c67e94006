/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wire.h - every structure and number that the kernel programs and the Go
 * agent both read. Sizes are asserted here and checked again from Go against
 * the object's BTF. Must never hold code, and nothing that stays in the kernel.
 *
 * Numbers are never reused: counters and table slots outlive a program.
 */
#ifndef EDGELOG_WIRE_H
#define EDGELOG_WIRE_H

#include <linux/types.h>
#include <stddef.h>

/* Raised when the hash, the chains or the meaning of a state change: no program may then share an old table. */
enum table_version {
	TABLE_VERSION = 3,
};

#define SLOTS_PER_BUCKET 8
#define BUCKETS_PER_LINE 8 /* bucket words in one cache line */
#define MAX_CHAIN 8 /* buckets that a session may be looked for in */
#define MAX_UPLINKS 16
#define REALM_BITS 24

/*
 * One endpoint pair, in an order that both directions of a session share.
 * Addresses are in network byte order, IPv4 as ::ffff:a.b.c.d; ports are in
 * network byte order. With the profile "source" a is the local endpoint and b
 * is all zero.
 */
struct key {
	__u64 addr_a[2];
	__u64 addr_b[2];
	__be16 port_a;
	__be16 port_b;
	__u32 realm_proto; /* IP protocol << 24 | realm: VLAN ids where address spaces overlap, else 0 */
};

/*
 * slot.state: bits 0-2 phase, bits 3-15 remarks, bits 16-31 generation.
 * Every change of the phase is a compare-and-swap on the whole word, and every
 * new occupant gets a new generation.
 *
 *   FREE -> BUSY -> LIVE -> CLOSED -> FREE     closed by idleness or tuple reuse
 *                   LIVE -> LIVE|STORED -> FREE recorded after its end; slot kept for stragglers
 *   FREE -> BUSY -> NEGATIVE -> FREE           not ours to record, remembered
 *
 * Before a slot is FREE it is CLOSED|STORED for a moment, in which the agent
 * wipes it. The kernel does FREE -> BUSY -> LIVE|NEGATIVE, the copy of a reused
 * tuple to BUSY -> CLOSED, and clears STORED; the agent does LIVE -> CLOSED,
 * sets STORED, wipes and frees. A NEGATIVE slot and a LIVE|STORED slot may be
 * taken over by the kernel when a bucket is full.
 */
enum phase {
	PHASE_FREE = 0,
	PHASE_BUSY = 1, /* being filled: not to be read */
	PHASE_CLOSED = 2, /* ended, found by no packet any more, waits to be recorded */
	PHASE_LIVE = 4, /* found by packets */
	PHASE_NEGATIVE = 5, /* found by packets, which are not recorded */
};

enum state {
	STATE_PHASE = 0x7,
	STATE_MATCHES = 0x4, /* LIVE or NEGATIVE */
	STATE_STORED = 1 << 3, /* durable on disk as it stood when this was set */
	/* 1 << 4 said that an event had told of the start */
	STATE_INITIATOR_B = 1 << 5, /* endpoint b sent the first packet */
	STATE_MIDSTREAM = 1 << 6, /* TCP without SYN */
	STATE_SYNACK = 1 << 7, /* TCP that began with SYN+ACK */
	STATE_FRAGMENT = 1 << 8, /* at least one packet came in fragments */
	STATE_ORPHAN = 1 << 9, /* fragments without their first fragment: no ports */
	STATE_LOCAL_A = 1 << 10, /* endpoint a is in a local prefix */
	STATE_LOCAL_B = 1 << 11, /* endpoint b is in a local prefix */
	STATE_EXEMPT = 1 << 12, /* with PHASE_NEGATIVE: exempt, else not at the border */
	STATE_SPLIT = 1 << 13, /* with PHASE_CLOSED: ended by silence */
	STATE_BURIED = 1 << 14, /* with PHASE_CLOSED: moved here, not in its chain of buckets */
	STATE_DISPLACED = 1 << 15, /* placed beyond its home bucket: overflow counts know of it */
	STATE_GEN_SHIFT = 16,
};

/*
 * slot.flags: bits 0-7 reuse, 8 established, 16-23 TCP flags sent by a, 24-31
 * sent by b. A TCP session that is not established is half-open: it began with
 * SYN or SYN+ACK, and every packet since had SYN or RST.
 */
enum flags {
	FLAGS_REUSE_MASK = 0xff,
	FLAGS_ESTABLISHED = 1 << 8,
	FLAGS_A_SHIFT = 16,
	FLAGS_B_SHIFT = 24,
};

struct slot {
	__u32 state;
	__u32 flags;
	struct key key;
	__u64 first; /* ns of the programs' clock (CLOCK_MONOTONIC at the last tick) */
	__u64 last;
};

struct bucket {
	struct slot slot[SLOTS_PER_BUCKET];
};

/*
 * One word a bucket, an index of its slots and the lock of those whose home it
 * is. Bits 6n to 6n+4: the tag of slot n, bits of the hash of the session that
 * packets can find there; 0: none. Bit 6n+5: that session is half-open and not
 * on disk. Bits 48-62: overflow, the number of live sessions that were looked
 * for a place here and went on along their chain; 0 ends a search. Bit 63: the
 * lock, taken only to insert or renew.
 */
enum word {
	WORD_SLOT_BITS = 6,
	WORD_TAG = 0x1f, /* of slot 0; so is the next one */
	WORD_HALF_OPEN = 0x20,
	WORD_OVERFLOW_SHIFT = 48,
	WORD_LOCK_SHIFT = 63,
};

struct bucket_line {
	__u64 word[BUCKETS_PER_LINE];
};

/* What the ring buffer carries: news, never the only copy of anything. */
enum event_kind {
	/* 1 told of starts, for which nobody waited */
	EVENT_CLOSING = 2, /* RST, or FIN from both sides */
	EVENT_CLOSED = 3, /* moved away because its tuple began anew */
};

struct event {
	__u32 slot; /* index of the slot in the whole table */
	__u16 kind;
	__u16 generation;
	__u64 time; /* ns of the programs' clock */
};

/* What became of a packet. One outcome each; their sum is packet_counters.seen. */
enum outcome {
	OUTCOME_RECORDED = 0, /* belongs to a session in the table */
	OUTCOME_NOT_IP = 1, /* no IP behind Ethernet, VLAN, PPPoE session and MPLS */
	OUTCOME_TRUNCATED = 2, /* ends inside a header that has to be read */
	OUTCOME_BAD_IP = 3, /* version or header length contradict themselves */
	OUTCOME_L2_DEPTH = 4, /* more tags or labels than are followed */
	OUTCOME_NOT_BORDER = 5, /* both ends local, or neither */
	OUTCOME_EXEMPT = 6, /* one end in an exempt prefix */
	OUTCOME_PROFILE = 7, /* the profile records no sessions */
	OUTCOME_TABLE_FULL = 8, /* a new session found no slot: not recorded */
	OUTCOME_CONTENDED = 9, /* a new session did not get the lock: not recorded */
	OUTCOME_FRAGMENT_HELD = 10, /* waits for its first fragment */
	OUTCOME_FRAGMENT_LOST =
		11, /* no room to wait: its time, or its session if it has no other packet, is lost */
	OUTCOME_HALF_OPEN =
		12, /* a new half-open session, where such ones hold their share: not recorded */
	OUTCOMES = 13,
};

/* Per CPU, for one direction of one uplink; index = uplink * 2 + egress. */
struct packet_counters {
	__u64 seen; /* packets, and GSO buffers on egress */
	__u64 more_segments; /* packets on the wire beyond one for each GSO buffer */
	__u64 outcome[OUTCOMES];
	/*
	 * Programs' clock of the first refusal since table_meta.looked_at, and of
	 * the last; 0: none ever. Refusals: TABLE_FULL, HALF_OPEN, CONTENDED and
	 * FRAGMENT_LOST.
	 */
	__u64 refused_first;
	__u64 refused_last;
};

/* Per CPU, of the table. */
struct table_counters {
	__u64 started; /* sessions that got a slot */
	__u64 reopened; /* sessions already on disk that changed */
	__u64 renewed; /* of started: the tuple was in use and began anew */
	__u64 taken_over; /* stored or negative slots given to a new session */
	__u64 negative; /* decisions not to record, remembered */
	__u64 ring_sent;
	__u64 ring_full;
	__u64 fragments_released; /* held fragments that found their first fragment */
	__u64 sampled; /* refused packets that were due as samples */
	__u64 samples_lost; /* of sampled: the ring had no room */
	__u64 sample_crowd; /* refused packets of end users for whom there was no counter */
	__u64 carried; /* sessions that came from an older table */
	/*
	 * Of started, by the packet that began it: index as of packet_counters.
	 * Without those that the agent began, from fragments without a first one.
	 */
	__u64 began[2 * MAX_UPLINKS];
};

#define SAMPLE_EVERY 500 /* BEK 988/2006 5 (4) */

/* Whose refused packets are counted together: a local IPv4 address, or the /64 of an IPv6 one. */
struct end_user {
	__u64 addr[2]; /* as in key; all zero below an IPv6 /64 */
	__u32 realm; /* as in key */
	__u32 reserved;
};

/* Every SAMPLE_EVERY-th refused packet of an end user. */
struct sample {
	struct key key;
	__u64 time; /* ns of the programs' clock */
	__u32 state; /* bits of enum state: LOCAL_A, LOCAL_B, FRAGMENT; INITIATOR_B: endpoint b sent it */
	__u32 flags; /* as slot.flags; reuse: which sample of this end user, modulo 256 */
	__u32 outcome; /* why it was refused */
	__u32 reserved;
};

/* Fragments of one datagram: sender, receiver, protocol and id (RFC 791 3.2, RFC 8200 4.5). */
struct fragment_key {
	__u64 a[2];
	__u64 b[2];
	__u32 id; /* as on the wire */
	__u16 proto; /* IP protocol; FRAGMENT_V6 for IPv6, where it is not the same in all fragments */
	__u16 side; /* 0: a sends, 1: b */
	__u32 realm; /* as in key */
	__u32 far; /* profile "source": 16 bits of a keyed hash of the far end instead of b */
};

#define FRAGMENT_V6 0x100

struct fragment {
	struct key key; /* ports are 0 until the first fragment came */
	__u64 first; /* ns of the programs' clock */
	__u64 last;
	__u32 held; /* later fragments that wait for the first one */
	__u8 known; /* the first fragment came: key is complete */
	__u8 side; /* 0: endpoint a sends, 1: b */
	__u8 egress;
	__u8 reserved;
};

/* Input of the "orphan" program: record the held fragments without ports. */
struct orphan {
	struct key key;
	__u64 first;
	__u64 last;
	__u32 side;
	__u32 egress;
};

/* Result of the "carry" program; its input is a struct slot of the older table. */
enum carry {
	CARRY_DONE = 0, /* in this table, or on disk as it was */
	CARRY_APART = 1, /* its tuple has begun anew here: to be carried as CLOSED */
	CARRY_FULL = 2, /* no slot is free for it */
	CARRY_CONTENDED = 3, /* did not get the lock */
};

/* Input of the "carry_counts" program: what the older programs counted. */
struct carried_counts {
	__u64 index; /* of packet_counts */
	struct packet_counters counters;
};

/* Output of the "clock" program. */
struct clock_reading {
	__u64 ticks;
	__u64 monotonic; /* ns */
};

/* Border decisions, value of the prefix map. */
enum border_value {
	BORDER_LOCAL = 1,
	BORDER_EXEMPT = 2,
};

struct prefix {
	__u32 length; /* bits, counted in the 128 of addr */
	__u8 addr[16];
};

/* Kept beside the table for whoever adopts it. One entry. */
struct table_meta {
	__u64 hash_seed[6]; /* random; the last one odd */
	__u64 tick_ns; /* of the programs' clock, see knobs.h */
	__u64 tick_base;
	__u64 profile; /* that the table was filled with */
	__u64 stored; /* sessions on disk, counted by the agent */
	__u64 orphaned; /* fragments recorded without ports, counted by the agent */
	__u64 fragments_refused; /* fragments that crossed no border, or an exempt one */
	/* So far as in version 2, for ever; what tells the versions apart stays here. */
	__u64 version; /* enum table_version; not there in version 2, which ends above */
	__u64 looked_at; /* programs' clock, when the agent last read the packet counters */
	__u64 samples_stored; /* samples on disk, counted by the agent */
	__u64 changing; /* the agent's: which slot is about to change what stored counts */
};

_Static_assert(sizeof(struct key) == 40, "key");
_Static_assert(sizeof(struct slot) == 64, "a slot is one cache line");
_Static_assert(sizeof(struct bucket) == 512, "bucket");
_Static_assert(sizeof(struct bucket_line) == 64, "bucket words");
_Static_assert(sizeof(struct event) == 16, "event");
_Static_assert(sizeof(struct packet_counters) == 136, "packet counters");
_Static_assert(sizeof(struct table_counters) == 352, "table counters");
_Static_assert(sizeof(struct end_user) == 24, "end user");
_Static_assert(sizeof(struct sample) == 64, "sample");
_Static_assert(sizeof(struct fragment_key) == 48, "fragment key");
_Static_assert(sizeof(struct fragment) == 64, "fragment");
_Static_assert(sizeof(struct orphan) == 64, "orphan");
_Static_assert(sizeof(struct carried_counts) == sizeof(struct packet_counters) + 8, "carried");
_Static_assert(offsetof(struct table_meta, version) == 96, "a version is found in every table");
_Static_assert(sizeof(struct clock_reading) == 16, "clock reading");
_Static_assert(sizeof(struct prefix) == 20, "prefix");

#endif /* EDGELOG_WIRE_H */
