package session

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// CoverageReport is the answer to "what was recorded in this window".
type CoverageReport struct {
	Gateway string    `json:"gateway"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"` // not included
	// Decided is the first second of which nothing can be said yet: the window
	// is reported up to there. Zero when nothing was ever recorded.
	Decided time.Time `json:"decided,omitzero"`
	// StoredThrough: every session that ended before it is on the disk; what
	// ended later may still be in the kernel's table, and is late, not lost.
	StoredThrough time.Time    `json:"stored_through,omitzero"`
	Spans         []Span       `json:"spans"`
	Totals        []CoverTotal `json:"totals"`
	// Left is how many spans that are not plain were left out (Brief).
	Left int `json:"left_out,omitempty"`
	// Damaged names what could not be read of the record; its seconds are unknown.
	Damaged []string `json:"damaged,omitempty"`
}

// Report fills a window with what the timelines say of it, by uplink, up to the
// second decided. With no uplink it is unknown for one without a name.
func Report(gateway string, from, to, decided int64, lines map[string]Timeline) *CoverageReport {
	r := &CoverageReport{Gateway: gateway, From: time.Unix(from, 0).UTC(), To: time.Unix(to, 0).UTC()}
	end := to
	if decided > 0 {
		r.Decided = time.Unix(decided, 0).UTC()
		for _, t := range lines { // the clock may have been set back
			if n := len(t); n > 0 {
				decided = max(decided, t[n-1].To)
			}
		}
		end = max(min(to, decided), from)
	}
	if len(lines) == 0 {
		lines = map[string]Timeline{"": nil}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		spans := lines[name].Filled(name, from, end)
		r.Spans = append(r.Spans, spans...)
		r.Totals = append(r.Totals, Sum(name, spans))
	}
	return r
}

// Plain reports whether all that was asked for and is decided is complete, and
// there is nothing else to say about it.
func (r *CoverageReport) Plain() bool {
	for i := range r.Totals {
		if t := &r.Totals[i]; t.Seconds == 0 || t.Complete != t.Seconds {
			return false
		}
	}
	return len(r.Totals) > 0 && len(r.Damaged) == 0 && r.Left == 0 && !slices.ContainsFunc(r.Spans, func(s Span) bool { return !s.Plain() })
}

// Brief keeps of the spans only those of which something has to be said, joined
// for people, and at most so many of them. The totals stay.
func (r *CoverageReport) Brief(most int) {
	r.Spans = slices.DeleteFunc(Together(r.Spans), func(s Span) bool { return s.Plain() })
	if len(r.Spans) > most {
		r.Left, r.Spans = len(r.Spans)-most, r.Spans[:most]
	}
}

// Text says the total in one line.
func (t *CoverTotal) Text() string {
	part := func(word string, n int64) string { return fmt.Sprintf("%s %d s (%.2f %%)", word, n, t.Share(n)) }
	out := []string{part("complete", t.Complete)}
	for _, p := range []struct {
		word string
		n    int64
	}{{"sampled", t.Sampled}, {"missing", t.Missing}, {"unknown", t.Unknown}} {
		if p.n > 0 {
			out = append(out, part(p.word, p.n))
		}
	}
	text := strings.Join(out, ", ")
	if t.Refused > 0 || t.Samples > 0 {
		text += fmt.Sprintf("; %d packets refused, %d samples", t.Refused, t.Samples)
	}
	if t.OpenLost > 0 {
		text += fmt.Sprintf("; in %d s of the complete ones sessions that were open when the table was lost have no record", t.OpenLost)
	}
	if t.Doubtful > 0 {
		text += fmt.Sprintf("; times are doubtful in %d s", t.Doubtful)
	}
	return text
}

type spanJSON struct {
	Uplink  string    `json:"uplink"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Seconds int64     `json:"seconds"`
	State   string    `json:"state"`
	Reasons []string  `json:"reasons,omitempty"`
	Refused uint64    `json:"refused_packets"`
	Sampled uint64    `json:"samples"`
	Cut     bool      `json:"counts_are_of_more,omitempty"`
}

// MarshalJSON writes times as RFC 3339 and states and reasons as names.
func (s Span) MarshalJSON() ([]byte, error) {
	return json.Marshal(spanJSON{
		s.Uplink, time.Unix(s.From, 0).UTC(), time.Unix(s.To, 0).UTC(), s.Seconds(), s.State.String(), s.Reasons.Names(), s.Refused, s.Sampled, s.Cut,
	})
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (s *Span) UnmarshalJSON(b []byte) error {
	var j spanJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	state := slices.Index(covers[:], j.State)
	if state < 0 {
		return fmt.Errorf("coverage state %q is not known", j.State)
	}
	reasons, err := ParseReasons(j.Reasons)
	if err != nil {
		return err
	}
	*s = Span{
		Uplink: j.Uplink, From: j.From.Unix(), To: j.To.Unix(), State: Cover(state), Reasons: reasons,
		Refused: j.Refused, Sampled: j.Sampled, Cut: j.Cut,
	}
	return nil
}
