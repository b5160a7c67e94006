// Package disclose is the one gate: the only way by which anything that was
// recorded can be read again, and only for a request that one person filed and
// another approved.
//
// The life of a request:
//
//  1. An officer files it (Request): authorisation, task, delivery. Check refuses
//     more than one identifier, a window wider than is allowed, an end in the future.
//     The ledger gets it, sealed, and a commitment in the clear; the desk keeps the
//     text, sealed to the officer and all who decide or check.
//  2. A custodian opens it, and reads for it (ApproveRequest): the Gate has the ledger
//     write who reads what for whom (Accountable), and if that fails nothing is read.
//     It streams what is known of the recording itself in the window, then
//     sealed blocks as they are asked for: heads of blocks of sessions, of these only
//     the ones that may hold an answer, and the access records of the addresses that
//     the sessions had. With a block go the wrapped keys of its day, and no others.
//     The agent cannot open any of them.
//  3. The keyring remembers the keys of the blocks that have an answer. They are the
//     Grant, wrapped for the officer; where more custodians are needed it is sealed to
//     those first, one after the other.
//  4. The officer runs it (Read): the same reading, with the grant instead of keys. Of
//     sessions that were written twice the one that says most is kept; the Matcher joins
//     each again with the access records. Where that differs from what was sealed,
//     both are shown; where another may have held the address, or an end of his hold is
//     not known, it says so (Hit.Doubts).
//  5. Permit.Pack makes of it what is handed over (pkg/disclose/delivery). The Gate is
//     told the outcome: how many, never what, and the hash of the package. When
//     that is in the ledger, beside what the Gate itself sent, the reader gets the
//     proofs and the signature, and the grant is destroyed. A reader that goes away
//     without a word is recorded as such.
//
// Where a request stands is in the ledger alone: the desk reads it from there at each
// start, and a grant or request that is put back from a copy is none.
//
// A hold is a reading whose answer is not shown but sealed again, under a key of
// its own, and kept beyond the destruction of its day (hold.go). A verification
// opens everything and shows nothing but what is wrong (verify.go). A question about
// calls and mail, which the provider has imported, reads the heads of their blocks first, too, and
// gets no other blocks (communications.go).
//
// What is told without anybody's key is made from the Fields of the ledger alone:
// the yearly statistics (statistics.go has their words, art10.go counts), and the
// standing of the register of breaches (breachbook.go). A breach's life: a form is
// filled in and checked (breach.go), gets its number and its deadline, and is put into the
// ledger, sealed; whoever may open it exports it for the authority. A correction is
// another entry that names the one it replaces.
//
// The package refuses whoever the kernel does not name, whoever lacks the role or whose
// clearance is over, to have a person approve their own request or approve twice,
// another text than was filed, an outcome in free words, and to show anything
// before the ledger has the outcome. It knows neither the kernel nor the recorder, and
// holds no private key longer than a reading takes.
package disclose
