// Package lab makes networks of namespaces in which tests and the demo run
// real programs on real packets.
//
// The life of a lab:
//
//  1. Open removes what a lab of a process that is gone left behind, makes a
//     directory, and mounts a BPF file system of the lab's own in it.
//  2. Namespace makes a network namespace, known by an open file alone: it has
//     no name in the file system, so it goes when the process does, however that
//     ends. Link joins two of them by a veth pair.
//  3. Programs are started inside (Start, Run): a thread enters the namespace,
//     starts the program and comes back. Mounts stay those of the machine, so
//     the program sees its BPF file system; "ip netns exec" would hide /sys.
//     A program is killed by the kernel when this process dies; what it had
//     started itself carries the lab's mark and is killed by the next Open.
//  4. Readiness is waited for by what the program does: a file it writes
//     (WaitFile), a socket it opens (WaitListening).
//  5. Close stops the programs, newest first, closes servers and namespaces,
//     and unmounts. New does it at the end of a test, also after a panic in the
//     test; an interrupt does it before the process ends.
//
// The package refuses to touch the namespace that the process lives in: no link,
// address or route is ever made there.
package lab
