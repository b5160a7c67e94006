// Package vault holds the data keys: it seals blocks that this machine cannot
// read again, and opens them for whoever has a custodian's private key.
//
// The life of a data key:
//
//  1. The first Seal for a UTC day and epoch (one start of the agent) makes a
//     fresh random key of 256 bits, in memory that is locked and kept out of
//     core dumps.
//  2. The key is wrapped with age to every custodian's public key, and the
//     wrapped form is handed to the KeySaver. Until SaveKey has returned
//     without error, nothing is sealed under the key.
//  3. Blocks of that day are sealed under it with AES-256-GCM. The place of a
//     block (Place: gateway, kind, day, epoch, number, time range, count)
//     stands before the ciphertext in the clear and is its associated data, so
//     a block that was moved, swapped, relabelled, cut or altered does not
//     open.
//  4. Forget or Close drops the key. From then on this machine cannot read the
//     blocks; a custodian opens the wrapped key with OpenKey and the blocks
//     with DayKey.Open.
//  5. Destroying every copy of the wrapped key destroys the blocks, wherever
//     copies of them may lie.
//
// Limits that a reviewer should know. The key's bytes are overwritten as soon
// as the cipher is set up; the expanded key inside crypto/aes lies on the Go
// heap, cannot be overwritten from outside that package, and goes when the
// collector takes it back, so the process should also have swap and core dumps
// switched off. AES-GCM is used with random 96-bit nonces, at most 2^32 blocks
// under one key (NIST SP 800-38D §8.3).
//
// The package refuses to seal for fewer recipients than it was told, to seal
// before the wrapped key is safe, to give a forgotten day a second key under
// the same epoch, and to open anything whose place does not match its key. It
// imports nothing else of edgelog, reads no clock and writes no file.
package vault
