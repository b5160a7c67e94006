package disclose

import (
	"fmt"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Answer is what was found for a query.
type Answer struct {
	Hits    []Hit
	Names   []Name // of the subscribers in Hits, as far as the register has them
	Summary Summary
}

// moments returns who is to be named, and as of when: each subscriber at the
// start of each of his sessions.
func (a *Answer) moments() []moment {
	out := make([]moment, 0, len(a.Hits))
	for i := range a.Hits {
		if h := &a.Hits[i]; h.Subscriber != "" {
			out = append(out, moment{h.Subscriber, h.Start})
		}
	}
	return out
}

// Summary says what must be known to judge an answer. It holds nothing of what
// was found except how much.
type Summary struct {
	Gateway    string   `json:"gateway"`
	Provider   string   `json:"provider"`    // that the blocks name; without blocks, the one of now
	Profiles   []string `json:"profiles"`    // under which the blocks of the window were recorded
	LegalBasis string   `json:"legal_basis"` // in force at the time of the answer
	From       string   `json:"from"`
	To         string   `json:"to"`

	Records       int `json:"records"`
	SessionBlocks int `json:"session_blocks"`
	BindingBlocks int `json:"binding_blocks"`
	Failed        int `json:"failed_blocks"` // blocks that could not be opened or read: the answer may lack what they hold

	// Request is its number, and AsOf when it was approved: what was stored later is
	// not in the answer, and Newer counts blocks of the window that may have some.
	Request int64  `json:"request,omitempty"`
	AsOf    string `json:"as_of,omitempty"`
	Newer   int    `json:"newer_blocks,omitempty"`

	// LeftOut is how many records more were found than the request allows.
	LeftOut int `json:"left_out,omitempty"`

	// Limited says that there were more sessions than an answer holds.
	Limited bool `json:"limited,omitempty"`

	// Holds are those in which alone something was found for this answer: its day
	// was destroyed, and of that only what is held is left.
	Holds []uint64 `json:"holds,omitempty"`

	// RegisterImported is when the newest import of subscribers was made that says
	// something about the window; "" when there is none.
	RegisterImported string `json:"register_imported,omitempty"`

	// RegisterFailed counts blocks of the register of subscribers that could not
	// be opened or read: names may be missing.
	RegisterFailed int `json:"register_failed,omitempty"`

	ClockErrorMicro int64 `json:"clock_error_us"` // worst over the blocks that were read; -1 when none was
	Unsynchronised  int   `json:"unsynchronised_blocks"`

	// Coverage is what was recorded in the window at all, whatever was asked for;
	// nil when that could not be read.
	Coverage *session.CoverageReport `json:"coverage"`

	Unstored bool `json:"unstored"` // the newest records could not be stored yet: they are not in the answer

	LedgerIntent  int64 `json:"ledger_intent"`  // number of the ledger entry made before reading
	LedgerOutcome int64 `json:"ledger_outcome"` // and of the one made after

	CheckpointSize int64  `json:"checkpoint_size"` // entries of the ledger that CheckpointRoot covers
	CheckpointRoot string `json:"checkpoint_root"` // RFC 6962 §2.1, base64: who keeps it can prove later that nothing was changed
}

// Lines returns the summary as lines for people.
func (s *Summary) Lines() []string { return s.about(count(s.Records, "session")) }

// about is Lines, beginning with how much of what was found.
func (s *Summary) about(found string) []string {
	lines := []string{
		fmt.Sprintf("%s in %s … %s", found, s.From, s.To),
		fmt.Sprintf("recorded by %s for %s, profile %s, legal basis now: %s",
			printable(s.Gateway), printable(s.Provider), orDash(strings.Join(s.Profiles, " and ")), printable(orDash(s.LegalBasis))),
		fmt.Sprintf("read: %s and %s; %s", count(s.SessionBlocks, "session block"), count(s.BindingBlocks, "binding block"), s.clock()),
	}
	lines = append(lines, s.coverage()...)
	lines = append(lines,
		fmt.Sprintf("ledger: intent %d, outcome %d; %d entries, root hash %s", s.LedgerIntent, s.LedgerOutcome, s.CheckpointSize, orDash(s.CheckpointRoot)),
	)
	for _, id := range s.Holds {
		lines = append(lines, fmt.Sprintf("from hold %d: part of this answer was found there alone; of days that were destroyed, only what is held can be found", id))
	}
	if len(s.Profiles) == 1 && s.Profiles[0] == session.ProfileAccess.String() {
		lines = append(lines, `profile "access" records who had which address, and no sessions`)
	}
	return append(lines, s.lacks("session")...)
}

// lacks says what is not in the answer.
func (s *Summary) lacks(what string) []string {
	lines := s.asOf()
	if s.RegisterFailed > 0 {
		lines = append(lines, fmt.Sprintf("%s of the register of subscribers could not be opened or read: names may be missing", count(s.RegisterFailed, "block")))
	}
	if s.Failed > 0 {
		lines = append(lines, fmt.Sprintf("INCOMPLETE: %s could not be opened with this identity or read; what they hold is not in this answer", count(s.Failed, "block")))
	}
	if s.LeftOut > 0 {
		lines = append(lines, s.leftOut())
	}
	if s.Limited {
		lines = append(lines, fmt.Sprintf("INCOMPLETE: there are more than the %d %ss that an answer holds; ask for a shorter window", MostHits, what))
	}
	if s.Unstored {
		lines = append(lines, "INCOMPLETE: the newest records could not be stored yet; ask again when \"edgelog status\" shows the store well")
	}
	return lines
}

// asOf says of when the answer is; nothing where there was no approval.
func (s *Summary) asOf() []string {
	if s.AsOf == "" {
		return nil
	}
	line := fmt.Sprintf("request %d: as of its approval, %s", s.Request, s.AsOf)
	if s.Newer > 0 {
		line += "; " + s.Later()
	}
	return []string{line}
}

// Later says what of the window was stored after the approval; "" when nothing was.
func (s *Summary) Later() string {
	was := "was"
	switch {
	case s.Newer == 0:
		return ""
	case s.Newer > 1:
		was = "were"
	}
	return fmt.Sprintf("%s of the window %s stored later, and what is in there is not in this answer", count(s.Newer, "block"), was)
}

func (s *Summary) leftOut() string {
	return fmt.Sprintf("INCOMPLETE: %s more than the request allows; file another one, for a shorter window or with a higher --max-hits", count(s.LeftOut, "record"))
}

// Complete reports whether the answer holds all that was recorded for it.
func (s *Summary) Complete() bool {
	return s.Failed == 0 && !s.Unstored && !s.Limited && s.LeftOut == 0
}

func (s *Summary) clock() string {
	if s.ClockErrorMicro < 0 {
		return "no session block, so no clock error to state"
	}
	text := fmt.Sprintf("worst clock error %v", time.Duration(s.ClockErrorMicro)*time.Microsecond)
	if s.Unsynchronised > 0 {
		text += fmt.Sprintf(", and the clock was not synchronised in %s", count(s.Unsynchronised, "block"))
	}
	return text
}

// shownSpans is how many gaps are printed one by one.
const shownSpans = 10

// coverage says what may be concluded from what is not in the answer.
func (s *Summary) coverage() []string {
	c := s.Coverage
	if c == nil || len(c.Totals) == 0 {
		return []string{"coverage: NOT KNOWN; that something is not found means nothing"}
	}
	if !c.Decided.IsZero() && !c.Decided.After(c.From) {
		return []string{"coverage: nothing is decided about this window yet; ask again in some seconds"}
	}
	until := ""
	if !c.Decided.IsZero() && c.Decided.Before(c.To) {
		until = ", as far as decided, until " + session.FormatTime(c.Decided.UnixNano())
	}
	if c.Plain() {
		names := make([]string, len(c.Totals))
		for i := range c.Totals {
			names[i] = c.Totals[i].Uplink
		}
		return []string{"coverage: complete on " + printable(strings.Join(names, ", ")) + until}
	}
	var lines []string
	for i := range c.Totals {
		lines = append(lines, "coverage of "+printable(orDash(c.Totals[i].Uplink))+": "+c.Totals[i].Text()+until)
	}
	for i := range c.Spans {
		if i == shownSpans {
			break
		}
		g := &c.Spans[i]
		lines = append(lines, fmt.Sprintf("  %s %s … %s %s", printable(orDash(g.Uplink)),
			session.FormatTime(g.From*1e9), session.FormatTime(g.To*1e9), g.Text()))
	}
	if more := c.Left + len(c.Spans) - shownSpans; more > 0 {
		lines = append(lines, fmt.Sprintf("  and %s more; \"edgelog coverage\" lists all", count(more, "interval")))
	}
	for _, d := range c.Damaged {
		lines = append(lines, "  a part of the record of coverage is damaged: "+printable(d))
	}
	return lines
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func window(q *Query) (from, to string) { return session.FormatTime(q.From), session.FormatTime(q.To) }
