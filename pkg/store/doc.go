// Package store keeps sealed blocks and wrapped keys on disk for a year, and
// destroys them on the day. It is the only importer of Badger, and cannot read
// what it keeps.
//
// The life of a sealed block:
//
//  1. The recorder asks for the next number of a kind, day and epoch (NextSeq)
//     and has the block sealed under it. With the first block of a day and
//     epoch the vault calls SaveKey: the wrapped key becomes a file of its own,
//     written, fsynced and renamed before it counts.
//  2. Put looks at the free space, writes the blocks and the books that count
//     them to the fresh database in one transaction, and returns when all of it
//     is on disk.
//  3. Turn begins another fresh database when that one holds enough or is old.
//     Merge takes what waits over into runs, one for each day, which are written
//     once and never changed: the blocks as they are, or merged ones that the
//     recorder made of them. A kill on the way leaves either the one or the other
//     (failpoint.go names the steps, and a test kills at each).
//  4. Scan hands out the blocks whose time range meets a window, one at a time, and
//     Heads only the beginnings of them. What they say about themselves is compared
//     with the list that they stand in: a block that is missing or unreadable is
//     reported, and all others are still delivered.
//  5. Expired names the days whose time is over. DestroyKeys removes their wrapped
//     keys, after which nobody can read any copy of their blocks, and DestroyBlocks
//     gives the space back: one rename, and the removal of some files.
//
// What lies in the directory:
//
//	VERSION   the format of the store
//	keys/     wrapped keys, <day>-<epoch>.age; never part of a copy of days/
//	fresh/    <n>, a Badger database of what was put last; its log is all of it
//	days/     <day>/<n>, a run: a Badger database of what fresh/<n> had of that day,
//	          CONTENTS, which lists its blocks, and ZONES, the sealed frames of
//	          them that a question about one address begins with
//	damaged/  fresh databases that could not be opened
//	trash/    what is being removed
//	holds/    rows that are kept beyond their day, each hold with a key of its
//	          own (hold.go); no expiry of a day touches it
//	ballast   disk space held back, given up when the disk is nearly full
//	coverage/ what was recorded of each second, a file a day (FORMAT.md); not
//	          sealed, no person's data; written even where blocks are not
//
// Each byte of a block is written once to the log of a fresh database, which is
// removed before Badger would make a table of it, and once to the table of a run.
// A database for each day and not one for all: Badger's DropPrefix would write
// every table anew that holds anything of the day, and stop all writing meanwhile.
// BenchmarkDestroyDay: 8 to 10 ms by directory among 4 days and among 16, 58 and
// 230 ms by DropPrefix, which has a store of 365 days growing dearer every night.
//
// Badger dies with SIGBUS when the disk is full, and again at each start. So
// Put stops well before (ErrNoSpace) and goes on by itself when there is room;
// Open refuses to start where Badger could not; Close leaves Badger as kill -9
// would where there is no room to close it, which loses nothing.
//
// The package refuses to take a block out of its turn, without its wrapped key,
// or too large to be fsynced with its key; to finish a merge that would lose a
// block; to destroy blocks before their keys; to open a store of a newer version or
// one that another process has open; and to overwrite a wrapped key, but by
// ReplaceKey. It has no goroutines of its own (Badger has).
package store
