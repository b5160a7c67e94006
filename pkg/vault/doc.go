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
//  3. Blocks of that day are sealed in frames, each under AES-256-GCM with a key
//     that is derived for this one block (HKDF-SHA256) from the day's key, a
//     random salt and all that stands before the frames in the clear: the place
//     of the block (Place: gateway, kind, day, epoch, number, time range, count)
//     and the lengths of the frames. So a block or frame that was moved, swapped,
//     relabelled, cut or altered does not open, and a reader opens, and is given
//     (Part), no more frames than a question needs.
//  4. Until Forget or Close this machine can open its own blocks (Own), to merge
//     them. Then the key is overwritten, and only a custodian opens the wrapped
//     key with OpenKey, and frames with DayKey.Block.
//  5. Destroying every copy of the wrapped key destroys the blocks, wherever
//     copies of them may lie.
//
// Limits that a reviewer should know. The day's key lies in locked memory. Keys
// derived from it for one block, and the state of crypto/aes and of age, lie on
// the Go heap for as long as the collector lets them, so the process should also
// have swap and core dumps switched off (cmd/edgelog/harden.go, and the service
// unit, do). At most 2^32 blocks are sealed under one day's key. A plugin that does
// not answer while a day's key is wrapped holds up all sealing, without limit:
// recipients that need no plugin do not.
//
// The package refuses to seal for fewer recipients than it was told, to seal
// before the wrapped key is safe, to give a forgotten day a second key under
// the same epoch, and to open anything whose place does not match its key. It
// imports nothing else of edgelog, reads no clock and writes no file.
package vault
