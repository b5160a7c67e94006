package nat

import "github.com/edgelog/edgelog/pkg/session"

// TableStats counts what became of translations. At any moment
// Begun = Open + Kept + Forgotten + ForgottenEarly.
type TableStats struct {
	Begun          uint64 `json:"begun"`
	Open           int    `json:"open"`            // going on
	Kept           int    `json:"kept"`            // ended, remembered for sessions that come later
	Forgotten      uint64 `json:"forgotten"`       // in their time
	ForgottenEarly uint64 `json:"forgotten_early"` // to make room: sessions of them may stay without a name
	Refused        uint64 `json:"refused"`         // did not fit at all
	Repeated       uint64 `json:"repeated"`        // told again
	MissedEnds     uint64 `json:"missed_ends"`     // of Begun, ended because another one took their place
	EndOnly        uint64 `json:"end_only"`        // of Begun, known from their end only

	// Questions, one for each session that is stored.
	Joined    uint64 `json:"joined"`       // sessions that got an inside end
	NotKnown  uint64 `json:"not_known"`    // sessions without translation, as far as is known
	Ambiguous uint64 `json:"ambiguous"`    // sessions that two translations fit: they get no inside end
	Pieces    uint64 `json:"pieces"`       // became access records
	Waiting   int    `json:"pieces_wait"`  // of them, to be taken
	Taken     uint64 `json:"pieces_taken"` // of them, taken
	Lost      uint64 `json:"pieces_lost"`  // did not, because too many waited
}

// Stats returns the counters. They hold no address.
func (t *Table) Stats() TableStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.count
	return TableStats{
		Begun: c.begun, Open: c.open, Kept: c.kept, Forgotten: c.forgotten, ForgottenEarly: c.early, Refused: c.full,
		Repeated: c.repeated, MissedEnds: c.missedEnds, EndOnly: c.endOnly,
		Joined: c.found, NotKnown: c.unknown, Ambiguous: c.ambiguous,
		Pieces: c.piecesMade, Waiting: len(t.pieces), Taken: c.piecesTaken, Lost: c.piecesLost,
	}
}

// startListing begins a listing of all that goes on.
func (t *Table) startListing() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
}

// endListing ends what the listing did not have. It is not known when that was,
// after since. All is known again.
func (t *Table) endListing(since, now int64) (stale, unsure int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := uint32(1); i < t.used; i++ {
		e := t.at(i)
		if e.to != session.Forever || e.flags&flagForeign != 0 {
			continue
		}
		if e.round != t.round {
			if t.loss != 0 {
				e.flags |= flagLostTo
			}
			t.close(i, now, now-since)
			stale++
		} else if e.flags&flagListed != 0 {
			unsure++
		}
	}
	t.loss = 0
	return stale, unsure
}

// endForeign ends what another machine told of before a time.
func (t *Table) endForeign(before, now int64) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := uint32(1); i < t.used; i++ {
		if e := t.at(i); e.to == session.Forever && e.flags&flagForeign != 0 && e.from < before {
			t.close(i, now, now-e.from)
			n++
		}
	}
	return n
}
