// Package identity keeps the book of bindings: which subscriber held which
// address, prefix or range of ports, from when until when. It is the access
// record of BEK 988/2006 § 5 stk. 2, and it puts a name beside a session.
//
// The life of a binding:
//
//  1. A source (RADIUS accounting, see the sub-package radius) turns a message
//     into an Event and gives it to Book.Apply.
//  2. The event becomes a fact of its accounting session. Facts are a set:
//     the same event twice, or two events in the other order, end in the
//     same set, and everything below is computed from that set alone.
//  3. The facts of one session become claims (claim.go): a start and an end
//     that were reported are known; all others are inferred, and say so.
//  4. The claims on one prefix are resolved against each other (resolve.go):
//     a new session on an address ends the one whose end nobody reported.
//  5. The result stands in an immutable table that At reads without a lock.
//  6. The event is sealed into a log under a local key and synced to disk,
//     many events at a time; only then does Apply return.
//  7. Flush hands each new or changed binding to the Sink, which keeps it for
//     a year, and now and then replaces the log by a snapshot of what is in
//     force, under a new key; the old key is destroyed.
//  8. Some time after its end (Options.Retain) the binding leaves memory. From
//     then on only the sealed store knows it; a Reader over what was read
//     back from there answers the same questions with the same code.
//
// What an answer may be relied on for: the certainty bits of a binding say
// which ends were inferred, and Certain judges a set of candidates. Two
// assumptions remain. Between two messages of one session that name the same
// address, the session held it all the time. And a source that gives the key
// of an ended session to a new one either reports its restart, or reports how
// long the new session has lasted.
//
// The package refuses to keep what is over: the files hold the bindings in
// force and those not yet handed over, and of the others for a day a hash
// without address or name. It starts no goroutine, and it writes no address,
// name or session key to logs, errors or statistics.
package identity
