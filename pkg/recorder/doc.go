// Package recorder wires the parts into an agent: it takes sessions and access
// records to the disk, keeps the order in which things start and stop, and
// answers on the control socket.
//
// The life of a record:
//
//  1. The session table hands out sessions that have ended (Collector). Their
//     slots stay occupied.
//  2. Each is joined with the translation that its local end had, if there is
//     exactly one (pkg/identity/nat), and with the binding of the end user's own
//     address at its start. While translations are late it waits, at most ten
//     seconds.
//  3. They are grouped by the UTC day on which they ended, encoded as blocks,
//     sealed under that day's key, and made durable, all or none.
//  4. Only then the table is told, and frees the slots.
//  5. When storing fails, the sessions are given back to the table, an alarm is
//     raised once, and it is tried again with growing pauses; capture goes on.
//     When the store, or the ledger, will take nothing more from this process,
//     Run ends with that error: the next start goes on from the pinned table.
//  6. Within the hour, or sooner when there are many, blocks whose key is still in
//     memory are merged: sorted by address over all of them, each session once
//     (merge.go). While sessions come too fast for that, or the disk fills up, or
//     after a failure, blocks are taken over as they are.
//  7. When the time of its day is over, the day is destroyed: ledger, draft of the
//     certificate, keys, blocks, certificate, ledger (expire.go, certificate.go). What
//     was broken off is gone on with each minute, and at a start before anything is read.
//
// Access records go the same way from the book of bindings, and at the start
// and at each change of the UTC day all that are in force are written again.
//
// A file of the provider's own records of calls or of mail is sealed by the day on which
// they ended as it comes, into a file without a name (spool.go); when all of it has come and is good its blocks
// are made durable, as merging keeps up. The ledger has its hash, and knows it again.
//
// In the profile access each translation becomes an access record when it ends;
// what goes on is written down, as far as it has come, when there is a question,
// once an hour and at the stop.
//
// The life of an agent:
//
//  1. Open: room on the disk, store, ledger, keys, book of bindings, control
//     socket, RADIUS, translations, and last the programs in the kernel.
//  2. Run: a ledger entry, then everything goes; the ready file is written.
//  3. Reload applies what can be changed while recording goes on.
//  4. When its context ends, Run stops taking accounting, stores what was
//     collected, writes a ledger entry and returns. What is still going on
//     stays in the kernel's table, or is stored as ended by shutdown and the
//     programs removed (on_stop = "drain").
//
// The life of a question on the control socket:
//
//  1. The kernel says which uid and groups connected (SO_PEERCRED, SO_PEERGROUPS).
//  2. At each request the configuration in force says who that is, which roles he
//     has, and whether his clearance still holds (config.People.Caller).
//  3. Handle knows which roles may use the route. Without one of them the answer is
//     403, and the ledger gets who it was, sealed (refusals.go).
//  4. Else the handler finds the caller with CallerOf.
//
// The life of a second (coverage):
//
//  1. Once a second the counters of what was refused are read, and the kernel is
//     asked whether everything is attached. What two such looks know is said of
//     the seconds between them; of two things said of a second the worse holds.
//  2. A second that is over is decided: complete; sampled or missing, with
//     reasons and the number of packets refused. What is late because the store
//     stalls is not missing while the table holds it.
//  3. It is kept on the disk with a mark: the counters as they stood, and two
//     bounds; all sessions that ended before the one, or began before the other,
//     are on the disk. That is done at each store of sessions, at each change, at
//     the stop, and at least every ten seconds. Each hour's hash goes into the
//     ledger, and so does each gap when it is over.
//  4. The next start goes on from the mark. With the table and the attachments
//     still there nothing was missed but what the programs counted as refused,
//     from the first to the last of it. If something had come off, or had been
//     drained, all since the mark is missing. If the table is gone, the seconds
//     from the first bound on are taken back, and those since the second one are
//     remarked: sessions that were still open have no record.
//
// The life of a ledger:
//
//  1. A start opens it, and holds it against the newest checkpoint that was seen
//     (mark.go), which lies beside it: what was cut, forked or put back is noticed.
//     So is one that is damaged or gone. Then recording goes on, nothing is put into
//     it any more, and nobody reads, until it is put right.
//  2. The mark follows each entry of somebody who reads at once, and others within
//     seconds.
//  3. Checkpoints are sent to witnesses outside (witness.go). What their files have
//     is compared at the start: whoever can write the ledger can write the mark.
//  4. Its files are served to auditors, who verify them themselves.
//
// A second of which nothing was said is unknown. The first of an uplink always
// is: it was not seen from its beginning.
//
// The life of a row of traffic (volume):
//
//  1. The programs count packets, and sessions that begin, for a whole direction of a
//     whole uplink. Every few seconds the agent reads these counters, and adds what
//     they grew by to sums in memory.
//  2. When the hour is over, each sum becomes a row, or, if fewer than statistics.k
//     sessions began, a row that says so and has no figures. Then the sums are
//     forgotten. Rows go to <data_dir>/volume/YYYY-MM.jsonl, and stay.
//  3. At a stop in good order the sums and the counters are kept for the next start,
//     which takes them over and removes them. If that is in a later hour, one row is
//     about all of these hours. After a crash the running hour begins anew, and its
//     row is partial.
//
// Such a row is anonymous from the moment of its collection, and not a pseudonym of
// anything: it is not made from records of persons, in which names would be replaced
// and could be put back, but from numbers in which no person ever was. There is no
// key, no address, no time below the hour, and what was too little to be shown was
// never written. The README weighs what risk is left.
//
// The package refuses to free what is not on the disk, to read what it wrote
// (it has no key for that), and to start a second time on one socket. A ledger
// that cannot be written stops every reading but not the recording.
package recorder
