// Package nat says who was behind a translated address: it follows the
// translations of this machine (Linux conntrack), and takes those that another
// translator reports (IPFIX, RFC 8158).
//
// The life of a translation:
//
//  1. A Watcher hears of it from the kernel (ctnetlink): when it begins, and
//     when it ends. At the start, after an overrun of its socket, and now and
//     then where ends may not be reported, it reads the kernel's whole table. A
//     Collector hears of it from another machine.
//  2. The Table keeps it, from a time to a time, each with the bound of its
//     error: exact where the kernel tells the time (nf_conntrack_timestamp), else
//     since the socket was last seen to be empty.
//  3. When a session is stored, Table.Find says which inside address had its
//     public address and port. Two that fit are none: it is counted.
//  4. It stays for as long as a session of it may still come, then it is
//     forgotten; one that must go before for want of room is counted.
//  5. Where no sessions are recorded (profile "access") it becomes an access
//     record itself when it ends, and in pieces while it goes on.
//
// Blocks of ports become events for the book of bindings.
//
// The package refuses to guess, to keep far ends (only a keyed hash of them
// stays in memory), and to take the end of a translation for that of a session.
package nat
