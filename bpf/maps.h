/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h - the maps: what is the key, what the value, who writes, who deletes,
 * and what happens when it is full. Must never hold a map that drops an entry
 * by itself (LRU): an entry here may be the only trace of a session.
 *
 * Sizes marked "set by the agent" are placeholders.
 */
#ifndef EDGELOG_MAPS_H
#define EDGELOG_MAPS_H

#include "parse.h"
#include "wire.h"

/*
 * The session table. Key: bucket. Written by the programs and, memory-mapped,
 * by the agent (phases only). Nothing is deleted: slots are freed by the agent
 * once their session is on disk. A full chain: the packet is counted as
 * OUTCOME_TABLE_FULL. Size set by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} sessions SEC(".maps");

/*
 * The word of each bucket: tags, half-open bits, overflow count and lock.
 * Written by the programs; the agent clears tags and half-open bits and lowers
 * overflow counts when a slot is no longer found. Size set by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket_line);
} bucket_words SEC(".maps");

/*
 * News of sessions. Written by the programs without waking the reader, read by
 * the agent. Full: counted, and the agent's sweep finds the session all the
 * same. Size set by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/*
 * Samples of what was refused. Written by the programs without waking the
 * reader, read by the agent, which gives their room back when they are on disk.
 * Full: table_counters.samples_lost. Size set by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} samples SEC(".maps");

/*
 * Packets refused, by end user. Written by the programs, emptied by the agent
 * when nothing has been refused for a while. Full: the packets of further end
 * users are counted together, table_counters.sample_crowd of each CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct end_user);
	__type(value, __u64);
} sample_counts SEC(".maps");

/*
 * Fragments of datagrams whose other fragments may still come. Written by the
 * programs, deleted by the agent fragment_window after the last one. Full:
 * OUTCOME_FRAGMENT_LOST for later fragments; first fragments are recorded all
 * the same.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

/* Local and exempt prefixes, 0 to 128 bits. Written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct prefix);
	__type(value, __u32);
} border SEC(".maps");

/* Key: uplink * 2 + egress. Written by the programs, never reset. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MAX_UPLINKS);
	__type(key, __u32);
	__type(value, struct packet_counters);
} packet_counts SEC(".maps");

/* One entry. Written by the programs, never reset. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table_counters);
} table_counts SEC(".maps");

/*
 * Where a packet stands while the locked path works on it: the stack of 512
 * bytes is shared by all the functions that are called. Key: egress. Written
 * by the programs; a program is never interrupted by another of its direction.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct packet);
} scratch SEC(".maps");

/* One entry, written by the agent only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table_meta);
} meta SEC(".maps");

#endif /* EDGELOG_MAPS_H */
