/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * emit.h - telling the agent. An event names a slot and never what is in it;
 * when the ring is full nothing is lost but time, because the agent also
 * sweeps the table. Must never wake the reader: it polls, and a wake-up costs
 * four times the event.
 */
#ifndef EDGELOG_EMIT_H
#define EDGELOG_EMIT_H

#include "maps.h"

static __always_inline struct table_counters *table_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&table_counts, &zero);
}

#define COUNT(field, n)                                              \
	do {                                                         \
		struct table_counters *counters_ = table_counters(); \
		if (counters_)                                       \
			counters_->field += (n);                     \
	} while (0)

static __always_inline void emit(__u32 slot, __u32 state, __u16 kind, __u64 now)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		COUNT(ring_full, 1);
		return;
	}
	e->slot = slot;
	e->kind = kind;
	e->generation = state >> STATE_GEN_SHIFT;
	e->time = now;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	COUNT(ring_sent, 1);
}

#endif /* EDGELOG_EMIT_H */
