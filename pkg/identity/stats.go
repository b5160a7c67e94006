package identity

import "errors"

// counts are the numbers behind Stats, guarded by Book.mu.
type counts struct {
	events                                        [kindCut]uint64
	repeated, quiet, late, doubtful, crowded      uint64
	commits, commitErrors, snapshots              uint64
	handedOver, sinkErrors, tornBytes             uint64
	remembered, inForce, contradictions, onTheWay int
	expired                                       uint64
}

// Stats says how the book fares. It holds no address, name or key.
type Stats struct {
	InForce        int `json:"in_force"`        // bindings without an end
	Remembered     int `json:"remembered"`      // bindings in memory, those in force included
	Sessions       int `json:"sessions"`        // accounting sessions in memory
	WithoutAddress int `json:"without_address"` // of these, sessions that have named no address so far
	NotSealed      int `json:"not_sealed"`      // new or changed bindings that the sink does not have yet
	Contradictions int `json:"contradictions"`  // remembered bindings of different subscribers that overlap

	Events   map[string]uint64 `json:"events"`   // by kind, since Open
	Repeated uint64            `json:"repeated"` // of these, known already
	Quiet    uint64            `json:"quiet"`    // of these, interim updates that only say that a session goes on
	Late     uint64            `json:"late"`     // of these, about a time for which ended sessions may be forgotten
	Doubtful uint64            `json:"doubtful"` // of these, with a time that was not the source's own
	Expired  uint64            `json:"expired"`  // sessions whose leases ended by themselves
	Crowded  uint64            `json:"crowded"`  // facts pushed out because one session had too many

	Commits      uint64 `json:"commits"`       // writes to the log, each for many events
	CommitErrors uint64 `json:"commit_errors"` // of these, failed
	Snapshots    uint64 `json:"snapshots"`
	LogBytes     int64  `json:"log_bytes"`
	HandedOver   uint64 `json:"handed_over"` // bindings that the sink took, each version counted
	SinkErrors   uint64 `json:"sink_errors"`
	TornBytes    uint64 `json:"torn_bytes"` // cut off the log at Open, never confirmed to anyone
}

// Stats returns the state of the book.
func (b *Book) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.count
	s := Stats{
		InForce: c.inForce, Remembered: c.remembered, Sessions: b.sessions, WithoutAddress: len(b.bare),
		NotSealed: b.pending.n + c.onTheWay, Contradictions: c.contradictions,
		Events: make(map[string]uint64), Repeated: c.repeated, Quiet: c.quiet, Late: c.late, Doubtful: c.doubtful,
		Crowded: c.crowded, Commits: c.commits, CommitErrors: c.commitErrors, Snapshots: c.snapshots,
		Expired: c.expired, LogBytes: b.group.logSize, HandedOver: c.handedOver, SinkErrors: c.sinkErrors, TornBytes: c.tornBytes,
	}
	for k := Start; k <= NASOff; k++ {
		s.Events[k.String()] = c.events[k]
	}
	return s
}

// Close writes what has not been written, and gives the book up. It hands
// nothing to the Sink: call Flush before. What was not handed over is at the
// next start. Close may be called again.
func (b *Book) Close() error {
	b.flushMu.Lock()
	defer b.flushMu.Unlock()
	b.mu.Lock()
	was := b.closed
	b.closed = true
	last := b.group.cur
	rest := b.group.size > 0
	b.mu.Unlock()
	if was {
		return nil
	}
	b.token <- struct{}{}
	b.lead()
	<-b.token
	var err error
	if rest {
		select {
		case <-last.done:
			err = last.err
		default:
		}
	}
	return errors.Join(err, b.abandon())
}
