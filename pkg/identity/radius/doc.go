// Package radius is a RADIUS accounting server (RFC 2866, 2869, 3162, 4818, 5580,
// 5997, 6614, 6911, 6929, 8045) that turns what a NAS reports into events of the
// book of bindings.
//
// The life of an accounting request:
//
//  1. Serve reads a datagram. The source address must be in the prefix of a
//     Client; the longest one gives the shared secret. Or ServeTLS reads it from a
//     connection whose client's certificate was accepted (RadSec): its length
//     field says where it ends.
//  2. It waits in a bounded queue. When that is full a datagram is dropped: the
//     NAS sends it again. A connection is not read from until there is room.
//  3. A worker takes it, with others that wait, and checks its form, its
//     Request Authenticator, and its Message-Authenticator if it has one. What is
//     not authentic in a connection ends it (RFC 6613 §2.6.4).
//  4. A request that is being worked on is dropped, and one that was answered
//     a short time ago gets the same answer again.
//  5. The client's Permit is asked: for another access server there is no answer,
//     and an address that its sessions may not hold is left out.
//  6. Its attributes become an identity.Event, and one more for each block of ports
//     that comes or goes by itself (see tracker).
//  7. The events of all the requests that the worker took go to the book in
//     one call, which returns when they are durable.
//  8. Only then the Accounting-Response is sent. When the book could not keep
//     the event nothing is sent, and the NAS tries again.
//
// Import takes the detail files of FreeRADIUS the same way from step 6 on. An
// event that comes by several ways, or again, is one event to the book: its key is
// the access server as it names itself, the session, the kind and the time.
//
// Each datagram is counted once, so that Stats adds up; so is each connection.
//
// The package refuses to answer anything but accounting and status requests, to
// answer whoever cannot prove that they know a secret or hold a certificate, to
// take a MAC address for a person, to name anybody for a shared address without
// ports, and to write names, addresses of subscribers or secrets to logs and
// errors. An accounting request that is authentic but of no use, such as one
// without address, is acknowledged all the same: sent again it would be of no
// more use.
package radius
