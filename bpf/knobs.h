/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * knobs.h - what the agent sets before it loads the programs. Constants to the
 * verifier, so that code behind an unset knob is removed. Must never hold
 * anything that changes while a program runs, except the test clock.
 */
#ifndef EDGELOG_KNOBS_H
#define EDGELOG_KNOBS_H

#include "wire.h"

#define NSEC_PER_SEC 1000000000ULL

enum profile {
	PROFILE_ACCESS = 1,
	PROFILE_SOURCE = 2,
	PROFILE_SESSION = 3,
};

/* How much may be recorded; a field outside it is never written to a map. */
volatile const __u32 profile = PROFILE_SESSION;

/* Which uplink these programs watch; index of their counters, below MAX_UPLINKS. */
volatile const __u32 uplink = 0;

/* Buckets in the table, a power of two. */
volatile const __u32 buckets = 1;

/* Secret multipliers of the table's hash: nobody outside can choose what collides. */
volatile const __u64 hash_seed_0 = 1;
volatile const __u64 hash_seed_1 = 1;
volatile const __u64 hash_seed_2 = 1;
volatile const __u64 hash_seed_3 = 1;
volatile const __u64 hash_seed_4 = 1;
volatile const __u64 hash_seed_5 = 1;

/* Look at local and exempt prefixes. Unset: every session is recorded, no side is local. */
volatile const bool border_filter = false;

/* VLAN ids tell address spaces apart: they are part of the key. */
volatile const bool overlapping_addresses = false;

/* The link has no Ethernet header: frames begin with IP. */
volatile const bool raw_ip = false;

/* Silence that ends a session, ns. */
volatile const __u64 idle_tcp = 300 * NSEC_PER_SEC;
volatile const __u64 idle_udp = 60 * NSEC_PER_SEC;
volatile const __u64 idle_icmp = 60 * NSEC_PER_SEC;
volatile const __u64 idle_other = 60 * NSEC_PER_SEC;

/* Most half-open sessions in one bucket; SLOTS_PER_BUCKET: no limit. */
volatile const __u32 half_open_cap = SLOTS_PER_BUCKET;

/* How long fragments of one datagram may be apart, ns. */
volatile const __u64 fragment_window = 30 * NSEC_PER_SEC;

/* Replay and tests: the programs' clock is test_clock_ns, set from outside. */
volatile const bool test_clock = false;
volatile __u64 test_clock_ns SEC(".data.test_clock");

/* A timer tick in ns, and CLOCK_MONOTONIC at tick 0, as the agent measured it. */
volatile const __u64 tick_ns = 4000000;
volatile const __u64 tick_base = 0;

/*
 * CLOCK_MONOTONIC at the last timer tick, 1 to 10 ms coarse; the law asks for
 * one second. The kernel counts ticks by CLOCK_MONOTONIC, so the two never
 * drift apart, and bpf_jiffies64 is a single load where a helper for the time
 * is one or more calls.
 */
static __always_inline __u64 clock_now(void)
{
	return test_clock ? test_clock_ns : tick_base + bpf_jiffies64() * tick_ns;
}

static __always_inline __u64 idle_timeout(__u32 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return idle_tcp;
	case IPPROTO_UDP:
		return idle_udp;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return idle_icmp;
	}
	return idle_other;
}

#endif /* EDGELOG_KNOBS_H */
