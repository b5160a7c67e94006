package recorder

import (
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
)

// Lately is what was not recorded in the last few seconds: the counters of the
// table go back to the day it was made, and do not say whether it goes on.
type Lately struct {
	Seconds float64 `json:"seconds"` // the time that it speaks of; 0: not known yet
	Refused uint64  `json:"refused"` // packets of sessions that should have been recorded
	Sampled uint64  `json:"sampled"` // of them, kept as samples
}

// lossReader reads losses without a walk through the table; probe.Probe is one.
type lossReader interface{ Losses() (probe.Losses, error) }

// pace remembers the counters of the last look.
type pace struct {
	at               time.Time
	refused, sampled uint64
	lately           Lately
}

// look compares the counters with those of the last look.
func (p *pace) look(src any, now time.Time) {
	r, ok := src.(lossReader)
	if !ok {
		return
	}
	l, err := r.Losses()
	if err != nil {
		p.lately = Lately{}
		return // the status, which reads the same counters, says why
	}
	next := pace{at: now, sampled: l.Sampled}
	for i := range l.Uplinks {
		next.refused += l.Uplinks[i].Refused.Total()
	}
	if !p.at.IsZero() && next.refused >= p.refused && next.sampled >= p.sampled { // fewer: an uplink was taken out
		next.lately = Lately{Seconds: now.Sub(p.at).Seconds(), Refused: next.refused - p.refused, Sampled: next.sampled - p.sampled}
	}
	*p = next
}
