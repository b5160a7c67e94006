// Package block turns slices of sessions, of bindings and of communications into
// small columnar blocks of bytes, and back. FORMAT.md beside it describes every byte.
//
// The life of a block:
//
//  1. The recorder hands an Encoder some tens of thousands of sessions that
//     ended on the same UTC day.
//  2. They are sorted by local address, then start. Each field becomes a
//     column: differences, dictionaries and byte planes, each packed on its own.
//     In front stand a zone (how far the local addresses reach) and filters (which
//     remote addresses and subscribers there may be).
//  3. The header says who recorded under which profile and how good the clock
//     was; a directory says where each column lies.
//  4. Frames cuts the block; the vault seals each frame by itself, and the store
//     files it.
//  5. While its key is still there, a Merger makes blocks out of many, sorted by
//     address over all of them: smaller ones, and few that a question concerns.
//  6. For an answer a Decoder looks at the head of a block: header, zone, filters.
//     MayMatch says of most that there is nothing. Of the others Match unpacks
//     columns as it needs them, and picks the rows of one subscriber, address or
//     remote side within a time window; only those become sessions again.
//
// Times of sessions are kept in whole milliseconds, fractions cut off; all else
// comes back as it was, in sorted order.
//
// The package refuses to write a block that it could not read back: too many
// rows, too long a text. It reads any bytes without panic and within bounded
// memory, but it does not detect alteration: that is the seal's work. It knows
// neither keys nor files.
package block
