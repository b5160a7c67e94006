package ledger

import (
	"errors"
	"fmt"
	"time"
)

// The errors that a caller decides on. Any error from Append means that the
// entry must be taken as not written.
var (
	// ErrBroken: the files do not agree with each other or with the signature.
	// The error is a *BrokenError, which says where.
	ErrBroken = errors.New("ledger is broken")
	// ErrLocked: another process, or another Ledger, has the directory open.
	ErrLocked = errors.New("ledger is in use")
	// ErrNoKey: there is a checkpoint, but the key that signed it is missing.
	ErrNoKey = errors.New("signer key is missing")
	// ErrKey: the signer key cannot be used: malformed, of another origin, or
	// readable by others.
	ErrKey = errors.New("signer key cannot be used")
	// ErrOrigin: the signer key is that of another ledger. It is ErrKey too.
	ErrOrigin = errors.New("it is another ledger's")
	// ErrNotWritten: the disk did not take the entry.
	ErrNotWritten = errors.New("ledger could not be written")
	// ErrFailed: the disk failed in a way that leaves its contents unknown; the
	// ledger takes no more entries until it is opened again.
	ErrFailed = errors.New("ledger must be opened again")
	// ErrInvalid: the entry has an unknown kind or a malformed field.
	ErrInvalid = errors.New("entry is not valid")
	// ErrTooLarge: the entry is longer than MaxEntry when encoded.
	ErrTooLarge = errors.New("entry is too large")
	// ErrSeal: the payload could not be sealed, or there is nothing to seal it with.
	ErrSeal = errors.New("payload could not be sealed")
	// ErrSignature: a statement is not one of this ledger.
	ErrSignature = errors.New("statement is not signed by this ledger")
	// ErrRange: the indexes asked for are not in the ledger.
	ErrRange = errors.New("no such entries")
	// ErrProof means that a Proof proves nothing.
	ErrProof = errors.New("it is not proven that this entry is in the ledger")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("ledger is closed")
)

// BrokenError says where a ledger is broken. It is ErrBroken.
type BrokenError struct {
	File   string // relative to the ledger's directory
	Entry  int64  // index of the entry, or -1 when the fault is not in one entry
	Reason string
}

// Error names the file, the entry where there is one, and the reason.
func (e *BrokenError) Error() string {
	if e.Entry >= 0 {
		return fmt.Sprintf("%s: %s, entry %d: %s", ErrBroken, e.File, e.Entry, e.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", ErrBroken, e.File, e.Reason)
}

// Unwrap returns ErrBroken.
func (e *BrokenError) Unwrap() error { return ErrBroken }

func broken(file, reason string, args ...any) error {
	return &BrokenError{File: file, Entry: -1, Reason: fmt.Sprintf(reason, args...)}
}

// Options say how a ledger is opened.
type Options struct {
	// Origin is the first line of each checkpoint and the name of the signer
	// key: which ledger of the world this is, such as "edgelog.example.net/gw1".
	// It may hold neither spaces nor '+'. "" means DefaultOrigin.
	Origin string
	// KeyFile holds the Ed25519 signer key; it is created with mode 0600
	// together with a new ledger. "" means the file KeyName in the ledger's
	// directory.
	KeyFile string
	// Clock gives the time of entries. nil means time.Now.
	Clock func() time.Time
	// Seal turns the payload of an entry into bytes that only the roles
	// entitled to it can open. It may be called from several goroutines at
	// once. nil means that entries with a payload are refused.
	Seal func(payload []byte) ([]byte, error)
}

// DefaultOrigin is the origin of a ledger that was given none.
const DefaultOrigin = "edgelog"

// DefaultOptions returns the options that the zero Options stand for.
func DefaultOptions() Options {
	return Options{Origin: DefaultOrigin, Clock: time.Now}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Origin == "" {
		o.Origin = d.Origin
	}
	if o.Clock == nil {
		o.Clock = d.Clock
	}
	return o
}
