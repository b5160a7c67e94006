// Package disclose answers questions: it is the only way by which anything
// that was recorded can be read again.
//
// The life of a question:
//
//  1. A Query is made: a reference, one identifier, one window. Check refuses
//     anything else before the agent is troubled.
//  2. The reader (Ask) sends it to the agent's Gate over the control socket.
//  3. The Gate puts it into the ledger, sealed to the custodians. If that
//     fails, nothing is read.
//  4. The Gate streams what is known of the recording itself in the window (what
//     was complete, sampled, missing, or is not known). Then the reader asks for
//     sealed blocks as it needs them: heads of blocks of sessions, of these only
//     the ones that may hold an answer, and the access records of the addresses
//     that the sessions had. With a block go the wrapped keys of its day, and no
//     others. The agent cannot open any of them.
//  5. The reader opens the day keys with a custodian's identity, and the blocks
//     with those; of sessions that were written twice it keeps the one that says
//     most; the Matcher joins each again with the access records as they are
//     known now. Where that differs from what was sealed, both are shown; where
//     another may have held the address, or an end of his hold is not known, it
//     says so (Hit.Doubts).
//  6. The reader tells the Gate the outcome: how many, never what. When it is
//     in the ledger, beside what the Gate itself sent, the answer is printed with
//     the checkpoint that covers it; a reader that goes away without a word is
//     recorded as such.
//
// A hold is a question whose answer is not shown but sealed again, under a key of
// its own, and kept beyond the destruction of its day (hold.go). A verification
// opens everything and shows nothing but what is wrong (verify.go).
//
// What is told without anybody's key is made from the Fields of the ledger alone:
// the yearly statistics (statistics.go has their words, art10.go counts), and the
// standing of the register of breaches (breachbook.go). A breach's life: a form is
// filled in and checked (breach.go), gets its number and its deadline, and is put into the
// ledger, sealed; whoever may open it exports it for the authority. A correction is
// another entry that names the one it replaces.
//
// The package refuses a question about more than one identifier or without a
// bounded window, one from a peer whom the kernel does not name, an outcome in
// free words, and to print before the ledger has the outcome. It knows neither the kernel nor the recorder, and holds no
// private key longer than a question takes.
package disclose
