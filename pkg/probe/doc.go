// Package probe is the agent's hand in the kernel: it loads the programs of
// bpf/, attaches them to the uplinks, pins what must outlive the agent, and
// turns table slots into sessions. It alone imports cilium/ebpf and netlink,
// and the generated types never leave it.
//
// The life of a slot, as seen from here:
//
//  1. The kernel fills a slot and publishes it LIVE. An event says so.
//  2. The session closes (event), or falls silent (sweep). Collect takes it:
//     a silent one is first made CLOSED, so that its next packet begins a new
//     session; one closed by FIN or RST stays LIVE for its stragglers.
//  3. After a grace, when no program that saw the old state can still run, its
//     times are read and it goes into a Batch.
//  4. The recorder stores the Batch, durably, and says Stored.
//  5. A CLOSED slot is freed. A LIVE one is marked STORED: stragglers find it
//     and reopen it, and the kernel may give it to a new session.
//
// The agent may be killed at any of these moments: the table and the links are
// pinned, the next agent adopts them and goes on. One whose tables have another
// layout, or are to have another size, puts its programs in the place of the
// old ones, in the very links, and brings what the old table holds into its own
// while that records already: see carrier.
//
// Pins lie in <bpf_dir>/<layout>. A table says its version (table_meta): an
// older one is known by it, a newer one is refused and left as it is.
//
// Package probe refuses to change a packet, to detach a program that is not
// its own, and to know who a session belongs to.
package probe
