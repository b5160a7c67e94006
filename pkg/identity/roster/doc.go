// Package roster reads what an operator keeps by hand: a table of prefixes and
// ports that subscribers have for good.
//
// The life of a row:
//
//  1. ParseStatic reads it from a CSV file, or the configuration has it. A row
//     that cannot be understood is named by line and column, and nothing of the
//     file is taken.
//  2. CheckStatic refuses rows that give the same address and port to two at one
//     time: a static table has no order of trust of its own.
//  3. Events says what is new against what the book holds: rows that begin, rows
//     that end because they are gone.
//
// The package refuses to guess: a row without a begin holds from when it was
// first read, and its start is inferred. It writes no address or name to errors
// or logs, but for what an operator must find in a file: line and column.
package roster
