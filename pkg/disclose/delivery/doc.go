// Package delivery makes of an answer what is handed over to the authority, and
// checks it on any machine.
//
// The life of a package:
//
//  1. Build cuts the answer to the hits that the request allows, names nobody
//     beyond them, and writes it as CSV, JSON lines, an IPFIX file (not of calls
//     and mail, which are no packets), XML in the shape of ETSI TS 102 657 and one
//     page for people. Each is compressed while it is written.
//  2. The manifest says what must be known to judge it (what a session is, how the
//     clock stood, what was recorded at all or which files were imported, how many
//     approved, what may be missing) and has the hash of each file. Nothing of it depends on when it was made, so the same request
//     and store give the same bytes.
//  3. The hash of the manifest (Digest) goes into the ledger with the outcome, and
//     the agent signs it with the ledger's key (disclose.PackageStatement).
//  4. Seal checks what the agent gave, adds signature and proofs, and encrypts the
//     zip by age to the authority. Only these, and age's encryption, are of this
//     one run.
//  5. Verify opens it, and goes the same way back: every byte of the zip, every
//     file, the signature, and the ledger's proofs that the request was filed and
//     approved before it was read, by as many as the manifest says, and that this
//     very manifest came out. It needs no store, no agent and no configuration.
//
// The package refuses to seal what Verify would not accept, to make a package of
// more than one answer, to read a zip in any other form than its own, and to
// unpack more than a file says that it has. It reads no clock, keeps no private
// key and writes no file.
package delivery
