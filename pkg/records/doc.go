// Package records reads and writes the files in which a provider hands over what its own
// telephone exchanges and mail servers have recorded: calls, short messages and
// mail. FORMAT.md beside it says what stands in them.
//
// The life of a line:
//
//  1. A Reader takes it from the file, one line in memory at a time, however long the
//     file is.
//  2. Its fields are checked, and brought into the one form in which they are kept:
//     numbers international, domains in lower case, times in UTC.
//  3. A line with a fault is named by its number and the reason, never by what
//     stands in it; whoever reads may go on behind it. With Options.Reject it is copied
//     there as it was, so that it can be put right and imported by itself.
//  4. The others become a session.Communication each. A Writer writes these
//     again, for the way to the agent, whose Reader checks them once more.
//
// The package refuses to guess: a national number without a country, a time without a
// zone, a line that ends before it begins. It knows neither stores nor keys.
package records
