// Package ledger keeps the evidence of what edgelog did: an append-only list
// of entries under a Merkle tree (RFC 6962 §2.1), in the files that C2SP
// tlog-tiles describes, with a checkpoint signed by Ed25519. FORMAT.md draws
// every file.
//
// The life of an entry:
//
//  1. Append checks it, and seals its payload with Options.Seal: what names
//     people never reaches the disk in the clear, and the tree commits to the
//     sealed bytes.
//  2. It joins the entries that other goroutines are appending at that moment;
//     the first of them writes for all (group commit).
//  3. The clock is read, the entry gets the next index, and the growing
//     bundle and tiles are written under new names and synced. Nothing that the
//     present checkpoint needs is touched.
//  4. The new checkpoint is signed, synced and renamed over the old one. From
//     here on the entry is in the ledger, and Append returns its index.
//  5. The narrower bundle and tiles that the new ones replace are removed.
//  6. Entries returns it again, checked against the signed tree on the way;
//     Verify recomputes everything from the entries and names the file that
//     does not agree.
//
// Others read it with the public key alone (OpenReader): a copy, or the live
// directory. Consistent tells whether it goes on from a checkpoint that was kept
// elsewhere; a Proof shows one entry to somebody who has not the ledger.
//
// A process killed before step 4 leaves files that no checkpoint covers: Open
// removes them and Repaired names them; nobody was told that they were kept.
//
// The package refuses to change or remove an entry, to start again over a
// ledger whose checkpoint or key is missing, to open a ledger whose checkpoint
// is older than its tiles, to keep a payload that it cannot seal, and to say
// "written" before the disk did. Whoever wants to read data asks the ledger
// first: an error from Append means that nothing may be read.
package ledger
