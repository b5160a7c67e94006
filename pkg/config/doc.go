// Package config reads edgelog.toml, the one file that says what a gateway
// records and where it keeps it.
//
// The life of a configuration:
//
//  1. "edgelog init" writes a commented one (Sample).
//  2. Load reads it; Parse turns its text into a Config. Every key is asked
//     for by name; a key that nobody asked for is an error that names the
//     nearest known one. All problems are reported, not only the first, each
//     with its line and what to do about it (Error).
//  3. Paths are made absolute: they count from the folder of the file.
//  4. Accounts and groups become the numbers that the kernel knows peers by; the
//     agent also finds out that nobody else may change those answers (Guarded).
//  5. The Config is handed to the rooms that need it; its Hash goes into the
//     ledger, so that it can be shown later which text was in force.
//  6. On SIGHUP it is read again; the recorder says what changed.
//
// The package refuses to guess: there is no environment variable, no include,
// no second file that is merged in, and a value that is out of range is never
// bent into range. Secrets are not in the file, only the paths of files that
// hold them, and a private key in it is refused. It opens no file of its own
// accord except the one it is told to load, when asked a secret file, and what
// the system looks users and groups up in where they are named.
package config
