package probe

import "github.com/edgelog/edgelog/pkg/session"

// Batch is a set of sessions that have ended, or must be written for another
// reason, together with the table slots they were read from. The slots stay
// occupied until Stored is called: what is in a Batch is not yet safe.
type Batch struct {
	// Sessions are ready to be joined with a subscriber and stored. The slice
	// and its contents belong to the caller until Stored or Release.
	Sessions []session.Session

	refs    []ref
	samples []span // pieces of the ring of samples, whose records are among Sessions
}

// ref remembers which state of a slot a session was read from.
type ref struct {
	slot  uint32
	state uint32
	flags uint32
	last  uint64
}

// Len returns the number of sessions.
func (b *Batch) Len() int { return len(b.Sessions) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Sessions) // drop references to subscriber strings
	b.Sessions = b.Sessions[:0]
	b.refs = b.refs[:0]
	b.samples = b.samples[:0]
}
