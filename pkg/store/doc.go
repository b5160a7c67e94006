// Package store keeps sealed blocks and wrapped keys on disk for a year. It is
// the only importer of Badger, and cannot read what it keeps.
//
// The life of a sealed block:
//
//  1. The recorder asks for the next number of a kind, day and epoch (NextSeq)
//     and has the block sealed under it. With the first block of a day and
//     epoch the vault calls SaveKey: the wrapped key becomes a file of its own,
//     written, fsynced and renamed before it counts.
//  2. Put looks at the free space, writes the blocks and the books that count
//     them in one transaction, and returns when all of it is on disk.
//  3. Scan hands out the blocks whose time range meets a window, one at a time.
//     What they say about themselves is compared with the key they lie under,
//     and with the book: a block that is missing or unreadable is reported, and
//     all others are still delivered.
//  4. Due names the days whose time is over.
//
// What lies in the directory:
//
//	VERSION   the format of the store
//	keys/     wrapped keys, <day>-<epoch>.age; never part of a copy of blocks/
//	blocks/   a Badger database: blocks, and a book for each kind, day, epoch
//	holds/    rows that are kept beyond their day, each hold with a key of its
//	          own (hold.go); no expiry of a day touches it
//	ballast   disk space held back, given up when the disk is nearly full
//	coverage/ what was recorded of each second, a file a day (FORMAT.md); not
//	          sealed, no person's data; written even where blocks are not
//
// Badger dies with SIGBUS when the disk is full, and again at each start. So
// Put stops well before (ErrNoSpace) and goes on by itself when there is room;
// Open refuses to start where Badger could not; Close leaves Badger as kill -9
// would where there is no room to close it, which loses nothing.
//
// The package refuses to take a block out of its turn, without its wrapped key,
// or too large to be fsynced with its key; to open a store of a newer version
// or one that another process has open; and to overwrite a wrapped key. It has
// no goroutines of its own (Badger has).
package store
