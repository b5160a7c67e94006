// Package session holds the words that every other room uses: a Session, the
// reasons for which one ends, the Profile that says how much of it may be
// recorded, and the Binding that says whose address it was.
//
// The life of a session, in these words:
//
//  1. An initiating packet crosses the border; the kernel opens a session.
//  2. Packets of both directions move its end forward.
//  3. It ends for one EndReason: FIN, RST, silence, or a reason of the agent's.
//  4. It is joined with the Binding in force at its start, and so gets a
//     Subscriber.
//  5. It is kept one year from its end, by UTC day (see Day), and destroyed.
//
// And of the recording itself: a Span says of a row of seconds of one uplink
// whether they were recorded, wholly or not, and why not (Cover, CoverReasons); a
// Timeline joins what was said of the same seconds, the worse holds, and what
// nobody said anything of is unknown and never complete.
//
// The package is pure: no clocks, no files, no packets. It refuses to know how
// anything is captured, sealed or stored, and imports nothing else of edgelog.
package session
