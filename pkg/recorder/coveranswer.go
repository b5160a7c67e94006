package recorder

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// CoverageStatus says what is recorded now, and what was in the last 24 hours.
type CoverageStatus struct {
	OK            bool             `json:"ok"`                      // the record of coverage itself can be written
	Text          string           `json:"text,omitempty"`          // why not
	Decided       time.Time        `json:"decided,omitzero"`        // the first second that nothing is said of yet
	StoredThrough time.Time        `json:"stored_through,omitzero"` // every session that ended before it is on the disk
	Uplinks       []UplinkCoverage `json:"uplinks"`
	// Day has the totals of the last 24 hours, by uplink.
	Day []session.CoverTotal `json:"last_24h"`
}

// UplinkCoverage is how the recording of one uplink is.
type UplinkCoverage struct {
	Uplink  string    `json:"uplink"`
	State   string    `json:"state"` // of the last second that is decided
	Reasons []string  `json:"reasons,omitempty"`
	Since   time.Time `json:"since,omitzero"` // it has been so
	// Total has all seconds that this agent has decided; it only grows.
	Total session.CoverTotal `json:"total"`
}

// Coverage returns what is known of the recording from ≤ t < to, of all uplinks
// or of the one named.
func (r *Recorder) Coverage(from, to time.Time, uplink string) (*session.CoverageReport, error) {
	report, err := r.cover.report(from, to, uplink)
	if err != nil {
		return nil, err
	}
	report.Gateway = r.Config().Gateway
	for _, h := range r.store.Harm(from.UnixMilli(), to.UnixMilli()-1) {
		if h.Sessions {
			report.Damaged = append(report.Damaged, h.What+span(&h))
		}
	}
	return report, nil
}

func (c *coverage) report(from, to time.Time, uplink string) (*session.CoverageReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, last := second(from.UnixNano()), second(to.UnixNano()-1)+1
	if !c.begun { // else nothing is said of what is not decided
		last = max(min(last, second(c.now().UnixNano())+1), first+1)
	}
	lines, damaged, err := c.lines(first, last)
	if err != nil {
		return nil, err
	}
	if _, known := lines[uplink]; !known && uplink != "" {
		lines = map[string]session.Timeline{uplink: nil} // nothing is known of it
	}
	for name := range lines {
		if uplink != "" && name != uplink {
			delete(lines, name)
		}
	}
	out := session.Report("", first, last, c.decided(), lines)
	out.Damaged = damaged
	if c.through > 0 {
		out.StoredThrough = time.Unix(c.through, 0).UTC()
	}
	return out, nil
}

// lines returns what is kept, and what is yet to be. c.mu is held.
func (c *coverage) lines(from, to int64) (map[string]session.Timeline, []string, error) {
	kept, damaged, err := c.keep.Lines(from, to)
	if err != nil {
		return nil, nil, err
	}
	out := map[string]session.Timeline{}
	for _, t := range kept {
		out[t[0].Uplink] = t
	}
	spans := slices.Clone(c.extra)
	for name, t := range c.tracks {
		out[name] = out[name].Add(session.Span{}) // it is there, even if nothing is known of it
		spans = append(spans, t.ready...)
	}
	for _, s := range spans {
		if s.From, s.To = max(s.From, from), min(s.To, to); s.From < s.To {
			out[s.Uplink] = out[s.Uplink].Add(s)
		}
	}
	return out, damaged, nil
}

// lastDay is how far the status looks back, in seconds.
const lastDay = 24 * 3600

// remember reads what the last 24 hours were like before this agent.
func (c *coverage) remember(at int64) {
	c.recent = map[string]session.Timeline{}
	kept, _, err := c.keep.Lines(at-lastDay, at)
	if err != nil {
		c.log.Warn("the last 24 hours' record of coverage could not be read: the status does not know them", "error", err)
	}
	for _, t := range kept {
		c.recent[t[0].Uplink] = t
	}
}

// recall adds to the last 24 hours.
func (c *coverage) recall(s session.Span) {
	c.recent[s.Uplink] = c.recent[s.Uplink].Add(s)
}

// show makes the status as it is now. c.mu is held.
func (c *coverage) show() {
	if !c.begun {
		return
	}
	end := c.decided()
	s := &CoverageStatus{OK: c.alarm.err == nil, Decided: time.Unix(end, 0).UTC()}
	if c.alarm.err != nil {
		s.Text = c.alarm.err.Error()
	}
	if c.through > 0 {
		s.StoredThrough = time.Unix(c.through, 0).UTC()
	}
	for name, t := range c.recent {
		if _, c.recent[name] = t.Split(end - lastDay); len(c.recent[name]) == 0 && c.tracks[name] == nil {
			delete(c.recent, name)
		}
	}
	for _, name := range c.names() {
		t := c.tracks[name]
		u := UplinkCoverage{Uplink: name, State: t.last.State.String(), Reasons: t.last.Reasons.Names(), Total: t.total}
		if t.since > 0 {
			u.Since = time.Unix(t.since, 0).UTC()
		}
		s.Uplinks = append(s.Uplinks, u)
		c.recent[name] = c.recent[name].Add(session.Span{}) // it is there, even if nothing is known of it
	}
	s.Day = session.Report("", end-lastDay, end, end, c.recent).Totals
	c.shown.Store(s)
}

// status returns what was shown last; nil before anything is known. It does not
// wait for a disk. It must not be changed.
func (c *coverage) status() *CoverageStatus { return c.shown.Load() }

// span says which times are concerned.
func span(h *store.Harm) string {
	if h.From == math.MinInt64 {
		return "; what it held is missing"
	}
	return fmt.Sprintf("; what it held of %s … %s is missing", session.FormatTime(h.From*1e6), session.FormatTime(h.To*1e6))
}

// coverageHandler answers GET /v1/coverage?from=T&to=T[&uplink=NAME], times in
// RFC 3339, with a session.CoverageReport. It names no person.
func (r *Recorder) coverageHandler(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	from, err1 := time.Parse(time.RFC3339, q.Get("from"))
	to, err2 := time.Parse(time.RFC3339, q.Get("to"))
	if err1 != nil || err2 != nil || !from.Before(to) || from.Unix() < 0 {
		http.Error(w, "from and to must be times in RFC 3339, from before to", http.StatusBadRequest)
		return
	}
	report, err := r.Coverage(from, to, q.Get("uplink"))
	if err != nil {
		r.log.Error("the record of coverage could not be read", "error", err)
		http.Error(w, "the record of coverage could not be read; see the agent's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(report); err != nil {
		r.log.Debug("coverage was not read to its end", "error", err)
	}
}

// openCoverage makes the keeper of the record of coverage.
func (r *Recorder) openCoverage() error {
	kept, err := r.store.OpenCoverage()
	if err != nil {
		return fmt.Errorf("open the record of coverage: %w", err)
	}
	r.cover = &coverage{
		src: r.src, keep: kept, evidence: r.evidence, log: r.log, now: r.o.Now,
		outside: func() bool { return !r.Config().Profile.RecordsSessions() },
		stalled: func() bool { return r.sessions.alarm.err != nil },
		stored:  func() uint64 { return r.sessions.count.stored },
	}
	r.cover.alarm = alarm{
		raised: func(_ time.Time, err error) {
			r.log.Error("what is recorded cannot be kept a record of; it is tried again", "error", err)
			r.note(err)
		},
		cleared: func(since, at time.Time) {
			r.log.Info("the record of coverage is kept again", "after", at.Sub(since).Round(time.Millisecond).String())
		},
	}
	r.Handle("GET /v1/coverage", mayKnow, r.coverageHandler)
	return nil
}

// summary says the totals in one line, for the log.
func summary(totals []session.CoverTotal) string {
	var out []string
	for i := range totals {
		t := &totals[i]
		out = append(out, fmt.Sprintf("%s: complete %d, sampled %d, missing %d, unknown %d s, refused %d packets",
			t.Uplink, t.Complete, t.Sampled, t.Missing, t.Unknown, t.Refused))
	}
	return strings.Join(out, "; ")
}
