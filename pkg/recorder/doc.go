// Package recorder wires the parts into an agent: it takes sessions and access
// records to the disk, keeps the order in which things start and stop, and
// answers on the control socket.
//
// The life of a record:
//
//  1. The session table hands out sessions that have ended (Collector). Their
//     slots stay occupied.
//  2. Each is joined with the binding of its local address at its start.
//  3. They are grouped by the UTC day on which they ended, encoded as blocks,
//     sealed under that day's key, and made durable, all or none.
//  4. Only then the table is told, and frees the slots.
//  5. When storing fails, the sessions are given back to the table, an alarm is
//     raised once, and it is tried again with growing pauses; capture goes on.
//     When the store, or the ledger, will take nothing more from this process,
//     Run ends with that error: the next start goes on from the pinned table.
//
// Access records go the same way from the book of bindings, and at the start
// and at each change of the UTC day all that are in force are written again.
//
// The life of an agent:
//
//  1. Open: room on the disk, store, ledger, keys, book of bindings, control
//     socket, RADIUS, and last the programs in the kernel.
//  2. Run: a ledger entry, then everything goes; the ready file is written.
//  3. Reload applies what can be changed while recording goes on.
//  4. When its context ends, Run stops taking accounting, stores what was
//     collected, writes a ledger entry and returns. What is still going on
//     stays in the kernel's table, or is stored as ended by shutdown and the
//     programs removed (on_stop = "drain").
//
// The package refuses to free what is not on the disk, to read what it wrote
// (it has no key for that), and to start a second time on one socket. A ledger
// that cannot be written stops every reading but not the recording.
package recorder
