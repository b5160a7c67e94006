// Package radius is a RADIUS accounting server (RFC 2866, 2869, 3162, 4818,
// 5997, 6911) that turns what a NAS reports into events of the book of
// bindings.
//
// The life of an accounting request:
//
//  1. Serve reads a datagram. The source address must be in the prefix of a
//     Client; the longest one gives the shared secret.
//  2. It waits in a bounded queue. When that is full the datagram is dropped:
//     the NAS sends it again.
//  3. A worker takes it, with others that wait, and checks its form, its
//     Request Authenticator, and its Message-Authenticator if it has one.
//  4. A request that is being worked on is dropped, and one that was answered
//     a short time ago gets the same answer again.
//  5. Its attributes become an identity.Event.
//  6. The events of all the requests that the worker took go to the book in
//     one call, which returns when they are durable.
//  7. Only then the Accounting-Response is sent. When the book could not keep
//     the event nothing is sent, and the NAS tries again.
//
// Each datagram is counted once, so that Stats adds up.
//
// The package refuses to answer anything but accounting and status requests, to
// answer whoever cannot prove that they know a secret, and to write names,
// addresses of subscribers or secrets to logs and errors. An accounting request
// that is authentic but of no use, such as one without address, is
// acknowledged all the same: sent again it would be of no more use.
package radius
