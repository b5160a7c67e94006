package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// manifestFormat counts the forms that manifest.json has had.
const manifestFormat = 1

// Manifest is manifest.json: what must be known to judge an answer, and the hash
// of each file of it. It holds no time of the run and names no end user, so it
// can be kept apart from the answer.
type Manifest struct {
	Format int `json:"format"` // manifestFormat

	// Salt is derived from the request's nonce, so that the hash of the manifest,
	// which the ledger keeps in the clear, tells nothing to who guesses.
	Salt string `json:"salt"`

	Request   RequestFacts       `json:"request"`
	Answer    AnswerFacts        `json:"answer"`
	Recording RecordingFacts     `json:"recording"`
	Contacts  []disclose.Contact `json:"contact_point"`
	Software  string             `json:"software"`
	Ledger    LedgerFacts        `json:"ledger"`
	Members   []Member           `json:"members"`
}

// RequestFacts say what was asked, on whose order. Country, Authority and Number
// are the request key of TS 102 657.
type RequestFacts struct {
	Entry      int64  `json:"entry"`      // number of its ledger entry
	Commitment string `json:"commitment"` // SHA-256 of its text, which the ledger has
	Filed      string `json:"filed"`
	Country    string `json:"country"`
	Authority  string `json:"authority"`
	Number     string `json:"number"`
	LegalBasis string `json:"legal_basis"`
	Document   string `json:"document_sha256,omitempty"` // of the written order
	Priority   string `json:"priority"`
	Emergency  string `json:"emergency,omitempty"` // why it did not wait for the usual approvals

	// Approvals are those by different custodians before it was read, and
	// ApprovalsNeeded those that it needs in the end; 0: the ledger does not say. Less
	// is right in an emergency alone: the next one is due by Ratify.
	Approvals       int    `json:"approvals,omitempty"`
	ApprovalsNeeded int    `json:"approvals_needed,omitempty"`
	Ratify          string `json:"ratify_until,omitempty"`

	Asked      string `json:"asked"`                 // sessions, who, access or communications
	Identifier string `json:"identifier"`            // its kind
	From       string `json:"from"`                  // of the window
	To         string `json:"to"`                    // not included
	At         string `json:"at,omitempty"`          // with who: the time asked about
	ErrorMilli int64  `json:"at_error_ms,omitempty"` // and how wrong it may be, either way
}

// AnswerFacts say how much was found, and what may be missing.
type AnswerFacts struct {
	Found         int      `json:"found"`
	MoreThanFound bool     `json:"more_than_found,omitempty"` // counting stopped there
	Delivered     int      `json:"delivered"`
	MaxHits       int      `json:"max_hits"`
	LimitReached  bool     `json:"limit_reached"` // only the first max_hits are here
	Incomplete    []string `json:"incomplete,omitempty"`
	Holds         []uint64 `json:"holds,omitempty"` // in which alone a part was found: its day was destroyed

	Verdict string `json:"verdict,omitempty"` // with who
	Reason  string `json:"reason,omitempty"`

	// AsOf is when the request was approved, which the answer is as of. Later says what
	// of the window was stored afterwards, and is not in it.
	AsOf  string `json:"as_of,omitempty"`
	Later string `json:"stored_later,omitempty"`

	RegisterImported string `json:"register_imported,omitempty"` // the newest register of subscribers that was used
}

// RecordingFacts say how it was recorded.
type RecordingFacts struct {
	Gateway    string   `json:"gateway"`
	Provider   string   `json:"provider"`
	Profiles   []string `json:"profiles"`
	LegalBasis string   `json:"legal_basis"` // of the recording
	Definition string   `json:"definition_of_session,omitempty"`
	TimeFormat string   `json:"time_format"`

	// Instead of the former, with communications; Imports is then what there is of
	// coverage.
	DefinitionOfCommunication string        `json:"definition_of_communication,omitempty"`
	Source                    string        `json:"source,omitempty"` // of what did not come from packets
	Imports                   *ImportsFacts `json:"imports,omitempty"`

	WorstClockErrorMicro int64 `json:"worst_clock_error_us"` // -1: there was no session to state it of
	ClockSynchronised    bool  `json:"clock_synchronised"`   // in all blocks that were read

	Sampling string         `json:"sampling"`
	Coverage *CoverageFacts `json:"coverage"` // null: not known
}

// CoverageFacts say what of the window was recorded at all, by uplink, in
// seconds.
type CoverageFacts struct {
	Until   string               `json:"decided_until,omitempty"` // where nothing is decided about the end of the window
	Totals  []session.CoverTotal `json:"totals"`
	Gaps    []session.Span       `json:"gaps"` // all that has to be remarked on
	Left    int                  `json:"gaps_left_out,omitempty"`
	Damaged []string             `json:"damaged,omitempty"`
}

// LedgerFacts name the ledger, and the entries that the request made in it.
type LedgerFacts struct {
	Key         string       `json:"key"` // public, as golang.org/x/mod/sumdb/note writes it
	Fingerprint string       `json:"fingerprint"`
	Entries     []EntryFacts `json:"entries"` // filing, then approvals
}

// EntryFacts name a ledger entry.
type EntryFacts struct {
	Index  int64  `json:"index"`
	Time   string `json:"time"`
	Kind   string `json:"kind"`
	SHA256 string `json:"sha256"` // of the entry as the ledger keeps it
}

// Member is one file of the answer.
type Member struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ApprovalText says how many have approved; "" where the ledger does not say how many must.
func (r *RequestFacts) ApprovalText() string {
	if r.ApprovalsNeeded == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d approvals when it was read", r.Approvals, r.ApprovalsNeeded)
}

// Unratified says loudly that an emergency was read before all approved it; "" when all did.
func (r *RequestFacts) Unratified() string {
	switch {
	case r.Emergency == "" || r.Approvals >= r.ApprovalsNeeded && r.ApprovalsNeeded > 0:
		return ""
	case r.Ratify == "":
		return fmt.Sprintf("READ WITH %s ALONE", counted(r.Approvals, "APPROVAL"))
	}
	return fmt.Sprintf("READ WITH %s OF %d: ANOTHER CUSTODIAN HAD UNTIL %s. ASK THE PROVIDER WHETHER IT CAME.", counted(r.Approvals, "APPROVAL"), r.ApprovalsNeeded, r.Ratify)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %sS", n, what)
}

// Fingerprint is a short form of a ledger's public key, to be read out: the
// SHA-256 of its text, in groups.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	var groups []string
	for i := 0; i < 16; i += 2 {
		groups = append(groups, hex.EncodeToString(sum[i:i+2]))
	}
	return strings.Join(groups, " ")
}

func identifierKind(q *disclose.Query) string {
	kind := "subscriber"
	switch {
	case q.Address.IsValid():
		kind = "address of an end user"
	case q.Remote.IsValid():
		kind = "address of a far end"
	case q.Line != "":
		kind = "line"
	case q.Equipment != "":
		kind = "equipment"
	case q.Number != "":
		kind = "number"
	case q.Mail != "":
		kind = "mail address"
	}
	if q.Port != nil {
		kind += " with port"
	}
	return kind
}

// incomplete says what keeps an answer from being all that was recorded.
func (f *found) incomplete() []string {
	s := f.summary
	var out []string
	if f.all > f.delivered {
		what := "the first by time"
		if f.kind == kindWho {
			what = "the best"
		}
		out = append(out, fmt.Sprintf("%s were found and only %d are delivered, %s: the request allows no more", f.noun(f.all), f.delivered, what))
	}
	if s.Limited {
		what := "sessions"
		if f.kind == kindCommunications {
			what = "communications"
		}
		out = append(out, fmt.Sprintf("there are more than the %d %s that an answer holds", disclose.MostHits, what))
	}
	if s.Failed > 0 {
		out = append(out, fmt.Sprintf("%d stored blocks could not be opened or read: what they hold is not here", s.Failed))
	}
	if s.Unstored {
		out = append(out, "the newest records were not stored yet when it was read")
	}
	if c := s.Coverage; c != nil && !c.Decided.IsZero() && c.Decided.Before(c.To) {
		out = append(out, "nothing was decided yet about the recording from "+session.FormatTime(c.Decided.UnixNano())+" on")
	}
	if s.RegisterFailed > 0 {
		out = append(out, fmt.Sprintf("%d blocks of the register of subscribers could not be opened or read: names may be missing", s.RegisterFailed))
	}
	if f.kind == kindSessions && len(s.Profiles) == 1 && s.Profiles[0] == session.ProfileAccess.String() {
		out = append(out, `the profile "access" records no sessions`)
	}
	if c := f.communications; c != nil && c.Imports != nil && len(c.Imports.Files) == 0 {
		out = append(out, "no file of the provider's records of that kind and time was imported")
	}
	return out
}

// recordingOf leaves out what says something about the run and not about the
// window.
func recordingOf(in *Input, s *disclose.Summary) RecordingFacts {
	out := RecordingFacts{
		Gateway: s.Gateway, Provider: s.Provider, Profiles: slices.Clone(s.Profiles), LegalBasis: s.LegalBasis,
		Definition: Definition(in.Timeouts), TimeFormat: timeFormat,
		WorstClockErrorMicro: s.ClockErrorMicro, ClockSynchronised: s.Unsynchronised == 0 && s.ClockErrorMicro >= 0,
		Sampling: "not known",
	}
	c := s.Coverage
	if c == nil || len(c.Totals) == 0 {
		return out
	}
	out.Coverage = &CoverageFacts{
		Totals: slices.Clone(c.Totals), Gaps: slices.DeleteFunc(session.Together(c.Spans), func(g session.Span) bool { return g.Plain() }),
		Left: c.Left, Damaged: slices.Clone(c.Damaged),
	}
	if !c.Decided.IsZero() && c.Decided.Before(c.To) {
		out.Coverage.Until = session.FormatTime(c.Decided.UnixNano())
	}
	var seconds int64
	var samples uint64
	for i := range c.Totals {
		seconds += c.Totals[i].Sampled
		samples += c.Totals[i].Samples
	}
	out.Sampling = "none: every packet that crossed the border while the recording was complete"
	if slices.Contains(s.Profiles, session.ProfileSample500.String()) {
		out.Sampling = "every 500th packet of each end user, by the profile in force"
	} else if seconds > 0 || samples > 0 {
		out.Sampling = fmt.Sprintf("in %d s of the uplinks together some packets began no record, and every 500th packet of each end user has a sample record instead: %d samples",
			seconds, samples)
	}
	return out
}

// coverageLines say the coverage for people.
func (r *RecordingFacts) coverageLines(most int) []string {
	if r.DefinitionOfCommunication != "" {
		return r.importLines(most)
	}
	c := r.Coverage
	if c == nil {
		return []string{"NOT KNOWN: that something is not found means nothing"}
	}
	var out []string
	for i := range c.Totals {
		t := &c.Totals[i]
		out = append(out, strings.TrimPrefix(t.Uplink+": ", ": ")+t.Text())
	}
	for i := range c.Gaps {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more, all in manifest.json", len(c.Gaps)-most))
			break
		}
		g := &c.Gaps[i]
		out = append(out, fmt.Sprintf("%s %s … %s: %s", g.Uplink, session.FormatTime(g.From*1e9), session.FormatTime(g.To*1e9), g.Text()))
	}
	if c.Left > 0 {
		out = append(out, fmt.Sprintf("%d intervals more have a remark", c.Left))
	}
	for _, d := range c.Damaged {
		out = append(out, "a part of the record of coverage is damaged: "+d)
	}
	return out
}

// clock says the clock for people.
func (r *RecordingFacts) clock() string {
	if r.DefinitionOfCommunication != "" {
		return "that of the provider's own systems; how right it was is not known here"
	}
	if r.WorstClockErrorMicro < 0 {
		return "no block of records was read, so there is no clock error to state"
	}
	text := fmt.Sprintf("wrong by %v at most, of the records that were read", time.Duration(r.WorstClockErrorMicro)*time.Microsecond)
	if !r.ClockSynchronised {
		text += "; it was NOT synchronised all the time, and then nobody knows how wrong it was"
	}
	return text
}
