package session

import (
	"fmt"
	"slices"
	"strings"
)

// Cover says how much of one second of one uplink was recorded. The numbers
// are stored and never reused; of two that are said of the same second the
// higher one holds.
type Cover uint8

// The states.
const (
	// CoverUnknown: there is no record of this second. Nothing may be
	// concluded from what is found, or not found, in it.
	CoverUnknown Cover = 0
	// CoverComplete: every session with a packet in this second has a record,
	// or gets one when it ends; what the reasons say is left out.
	CoverComplete Cover = 1
	// CoverSampled: some packets began no record; every 500th packet of each
	// end user among them has a sample record instead (BEK 988/2006 § 5 stk. 4).
	CoverSampled Cover = 2
	// CoverMissing: sessions may be without a record: at most as many as there
	// are refused packets, or any number when none is counted.
	CoverMissing Cover = 3
)

var covers = [...]string{"unknown", "complete", "sampled", "missing"}

// String returns the word that answers use.
func (c Cover) String() string {
	if int(c) < len(covers) {
		return covers[c]
	}
	return fmt.Sprintf("cover-%d", uint8(c))
}

// Valid reports whether c is a state that this version knows.
func (c Cover) Valid() bool { return int(c) < len(covers) }

// CoverReasons is a set of reasons, one bit each. The bits are stored and never
// reused.
type CoverReasons uint32

// The reasons why a second is not complete, and the remarks to one that is.
const (
	TableFull      CoverReasons = 1 << 0  // a new session found no place in the table
	HalfOpenShare  CoverReasons = 1 << 1  // half-open TCP sessions held their share of the table
	Contended      CoverReasons = 1 << 2  // a new session gave up waiting for a lock
	FragmentsLost  CoverReasons = 1 << 3  // a later fragment had no place to wait for its first
	NotWatchedIn   CoverReasons = 1 << 4  // no program saw what came in
	NotWatchedOut  CoverReasons = 1 << 5  // no program saw what went out
	LinkMissing    CoverReasons = 1 << 6  // the link did not exist
	AgentDown      CoverReasons = 1 << 7  // the agent did not run; the kernel's programs did
	AgentStopped   CoverReasons = 1 << 8  // the agent had been told to stop and take its programs away
	TableLost      CoverReasons = 1 << 9  // the table was gone at the next start, as after a power cut
	StoreStalled   CoverReasons = 1 << 10 // the store took nothing, so that the table could not be emptied
	OutsideProfile CoverReasons = 1 << 11 // the profile in force records no sessions
	SamplesLost    CoverReasons = 1 << 12 // not every 500th packet left a sample record
	ClockUnsynced  CoverReasons = 1 << 13 // remark: the clock was not synchronised; its times are doubtful
	ClockStepped   CoverReasons = 1 << 14 // remark: the clock was set; this second came twice, or not at all
	OpenLost       CoverReasons = 1 << 15 // remark: sessions that were still open when the table was lost have no record
	AttachUnsure   CoverReasons = 1 << 16 // whether the programs were attached all the time is not known
)

var coverReasons = [...]string{
	"table full", "half-open share used up", "contended", "fragments lost", "what came in was not watched", "what went out was not watched",
	"no such link", "agent down", "agent stopped", "table lost", "store stalled", "outside the profile", "samples lost",
	"clock not synchronised", "clock set", "sessions open when the table was lost have no record", "not known to be attached",
}

// coverNames are short, for machines.
var coverNames = [...]string{
	"table_full", "half_open_share", "contended", "fragments_lost", "not_watched_in", "not_watched_out", "link_missing",
	"agent_down", "agent_stopped", "table_lost", "store_stalled", "outside_profile", "samples_lost",
	"clock_unsynchronised", "clock_stepped", "open_sessions_lost", "attachment_unsure",
}

// allReasons has the bit of every reason that this version knows.
const allReasons = CoverReasons(1)<<len(coverNames) - 1

// Words returns the reasons in words, in the order of their bits.
func (r CoverReasons) Words() []string { return r.list(coverReasons[:]) }

// Names returns the reasons as names for machines, in the order of their bits.
func (r CoverReasons) Names() []string { return r.list(coverNames[:]) }

func (r CoverReasons) list(of []string) []string {
	var out []string
	for i, w := range of {
		if r&(1<<i) != 0 {
			out = append(out, w)
		}
	}
	if rest := r &^ allReasons; rest != 0 { // of a newer version
		out = append(out, fmt.Sprintf("reason-%#x", uint32(rest)))
	}
	return out
}

// ParseReasons is the inverse of Names.
func ParseReasons(names []string) (CoverReasons, error) {
	var r CoverReasons
	for _, n := range names {
		i := slices.Index(coverNames[:], n)
		var rest uint32
		if _, err := fmt.Sscanf(n, "reason-0x%x", &rest); i < 0 && err != nil {
			return 0, fmt.Errorf("reason %q is not known", n)
		}
		if r |= CoverReasons(rest); i >= 0 {
			r |= 1 << i
		}
	}
	return r, nil
}

// Span says the same of a row of seconds of one uplink.
type Span struct {
	Uplink string
	From   int64 // UTC, seconds since 1970
	To     int64 // the first second that is not in it
	State  Cover
	// Reasons say why, or remark on it.
	Reasons CoverReasons
	// Refused counts packets that were not recorded, in the whole span. Each
	// may stand for one session, and most belong to one that others stand for.
	Refused uint64
	// Sampled counts the sample records that were made instead.
	Sampled uint64
	// Cut is set when the span was cut to a window: the counts are of the whole.
	Cut bool
}

// Seconds returns how long the span is.
func (s *Span) Seconds() int64 { return s.To - s.From }

// Plain reports whether nothing has to be said about the span: complete, and no
// remark but one about the clock's time.
func (s *Span) Plain() bool {
	return s.State == CoverComplete && s.Reasons&^ClockUnsynced == 0
}

// Text says the state and its reasons in words.
func (s *Span) Text() string {
	var b strings.Builder
	b.WriteString(s.State.String())
	if w := s.Reasons.Words(); len(w) > 0 {
		b.WriteString(": " + strings.Join(w, ", "))
	}
	if s.Refused > 0 || s.Sampled > 0 {
		fmt.Fprintf(&b, "; %d packets refused, %d samples", s.Refused, s.Sampled)
		if s.Cut {
			b.WriteString(" in a longer interval than this")
		}
	}
	return b.String()
}

// alike reports whether a and b say the same.
func alike(a, b *Span) bool {
	return a.Uplink == b.Uplink && a.State == b.State && a.Reasons == b.Reasons && a.Cut == b.Cut
}

// say adds what n says to a span of the same seconds. A span of unknown state
// only adds its reasons.
func (s *Span) say(n *Span) {
	s.State = max(s.State, n.State)
	s.Reasons |= n.Reasons
	s.Refused += n.Refused
	s.Sampled += n.Sampled
}
