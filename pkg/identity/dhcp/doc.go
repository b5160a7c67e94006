// Package dhcp turns what DHCP servers say of their leases into events of the
// book of bindings: Kea, ISC dhcpd and dnsmasq, for DHCPv4 (RFC 2131) and
// DHCPv6 addresses and delegated prefixes (RFC 8415).
//
// The life of a lease:
//
//  1. It is heard of in up to three ways. A report: the server's hook or script
//     runs "edgelog dhcp report", which hands the environment to the socket of
//     Listen (report.go). A file: the server's own file of leases, which is
//     followed through every rewrite (follow.go). A list: the answer of Kea's
//     control socket (control.go).
//  2. Each way makes a Record of it: prefix, client, MAC address, times, and
//     what a relay said of the line (RFC 3046, 3993, 4580, 4649).
//  3. The table of the server (table.go) compares the record with what is
//     known. One uninterrupted hold of a prefix by a client is one session of
//     the book, however it is heard of; what says nothing new ends here.
//  4. The rest become events: the begin, known if the table was whole before;
//     a renewal with its new end; an end, known if the server says when.
//  5. The events go to the book. A report is answered when they are durable;
//     otherwise they wait here and are tried again.
//  6. A list, or a file read from its start, is compared with the table: a lease
//     in force that it does not name has ended, and the end is inferred. So
//     reports that were lost, and all that happened while nobody listened, are
//     healed.
//
// The package refuses to believe a report of a user whom the configuration does
// not name for the server, to end many leases at once on the word of one
// shrunken list, and to write addresses, names or identifiers to logs, errors
// or statistics: a bad line is named by file, line and column.
package dhcp
