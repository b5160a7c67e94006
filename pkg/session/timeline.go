package session

import (
	"cmp"
	"slices"
)

// hour is the longest that a span is which is not complete, in seconds.
const hour = 3600

// Timeline is what is known of the seconds of one uplink: spans in order, none
// empty, none overlapping, and no two that touch and say the same. Those that are
// not complete end at each full hour all the same: what was counted in an hour
// that is over does not change by what comes after it. A second in none of them
// is unknown.
//
// Its methods do not change it, and what they return may share memory with it.
type Timeline []Span

// Add returns t with s said as well. Of two states the worse one holds, reasons
// are united and counts added. Where the state of s is unknown, its reasons are
// added to what is known, and what is not known stays so.
//
// The counts of s go with the first of its seconds that can carry them, so that
// they are counted once.
func (t Timeline) Add(s Span) Timeline {
	if s.From >= s.To {
		return t
	}
	for next := nextHour(s.From); s.State > CoverComplete && next < s.To; next = nextHour(s.From) {
		part := s
		part.To, s.From = next, next
		s.Refused, s.Sampled = 0, 0
		t = t.add(part)
	}
	return t.add(s)
}

// nextHour returns the first full hour after sec.
func nextHour(sec int64) int64 { return (sec/hour + 1) * hour }

// add is Add within an hour, or of what does not end with it.
func (t Timeline) add(s Span) Timeline {
	first := t.search(s.From)
	last := first
	for last < len(t) && t[last].From < s.To {
		last++
	}
	out := make(Timeline, 0, len(t)+3)
	out = append(out, t[:first]...)
	at := s.From
	for i := first; i < last; i++ {
		old := t[i]
		if old.From < s.From { // what lies before s keeps the counts
			head := old
			head.To = s.From
			out = append(out, head)
			old.From, old.Refused, old.Sampled = s.From, 0, 0
		}
		out = out.fill(&s, at, old.From)
		at = min(old.To, s.To)
		both := old
		both.To = at
		both.say(&s)
		s.Refused, s.Sampled = 0, 0
		out = out.push(both)
		if old.To > s.To {
			old.From, old.Refused, old.Sampled = s.To, 0, 0
			out = out.push(old)
		}
	}
	out = out.fill(&s, at, s.To)
	for _, old := range t[last:] {
		out = out.push(old)
	}
	return out
}

// fill adds the part of s from one second to another, where nothing was known,
// and takes its counts.
func (t Timeline) fill(s *Span, from, to int64) Timeline {
	if from >= to || s.State == CoverUnknown {
		return t
	}
	part := *s
	part.From, part.To = from, to
	s.Refused, s.Sampled = 0, 0
	return t.push(part)
}

// joins reports whether a span and the one after it are to be one.
func joins(a, b *Span) bool {
	return a.To == b.From && alike(a, b) && (b.From%hour != 0 || a.State == CoverComplete)
}

// whole reports whether the span can stand in a timeline as it is.
func (s *Span) whole() bool {
	return s.From < s.To && (s.State == CoverComplete || s.State != CoverUnknown && nextHour(s.From) >= s.To)
}

// push appends s, to the span before it where the two are one. It changes t.
func (t Timeline) push(s Span) Timeline {
	if n := len(t); n > 0 && joins(&t[n-1], &s) {
		t[n-1].To = s.To
		t[n-1].Refused += s.Refused
		t[n-1].Sampled += s.Sampled
		return t
	}
	return append(t, s)
}

// search returns the index of the first span that ends after the second sec.
func (t Timeline) search(sec int64) int {
	i, _ := slices.BinarySearchFunc(t, sec, func(s Span, at int64) int {
		if s.To <= at {
			return -1
		}
		return 1
	})
	return i
}

// Split returns what t says of the seconds before at, and of the others. The
// counts of a span that is split stay with its first part.
func (t Timeline) Split(at int64) (before, after Timeline) {
	i := t.search(at)
	if i == len(t) || t[i].From >= at {
		return t[:i:i], t[i:]
	}
	head, tail := t[i], t[i]
	head.To, tail.From = at, at
	tail.Refused, tail.Sampled = 0, 0
	return append(slices.Clone(t[:i]), head), append(Timeline{tail}, t[i+1:]...)
}

// Window returns what t says of the seconds from ≤ s < to. A span that is cut
// keeps its counts, and is marked when it has any.
func (t Timeline) Window(from, to int64) Timeline {
	var out Timeline
	for i := t.search(from); i < len(t) && t[i].From < to; i++ {
		s := t[i]
		s.From, s.To = max(s.From, from), min(s.To, to)
		if (s.From > t[i].From || s.To < t[i].To) && s.Refused+s.Sampled > 0 {
			s.Cut = true
		}
		out = append(out, s)
	}
	return out
}

// Filled returns what t says of the window with a span of unknown state for
// each row of seconds that t does not know.
func (t Timeline) Filled(uplink string, from, to int64) Timeline {
	var out Timeline
	at := from
	for _, s := range t.Window(from, to) {
		if at < s.From {
			out = append(out, Span{Uplink: uplink, From: at, To: s.From})
		}
		out = append(out, s)
		at = s.To
	}
	if at < to {
		out = append(out, Span{Uplink: uplink, From: at, To: to})
	}
	return out
}

// Timelines sorts spans by uplink into timelines, in the order of the names.
func Timelines(spans []Span) []Timeline {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(a.Uplink, b.Uplink) })
	var out []Timeline
	for i, s := range spans {
		if i == 0 || spans[i-1].Uplink != s.Uplink {
			out = append(out, nil)
		}
		last := &out[len(out)-1]
		if n := len(*last); s.whole() && (n == 0 || (*last)[n-1].To <= s.From) {
			*last = last.push(s) // in order, as it is nearly always: nothing to copy
		} else {
			*last = last.Add(s)
		}
	}
	return out
}

// Together returns spans with those made one that touch and say the same: for
// people, who do not care about full hours.
func Together(spans []Span) []Span {
	var out []Span
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].To == s.From && alike(&out[n-1], &s) {
			out[n-1].To = s.To
			out[n-1].Refused += s.Refused
			out[n-1].Sampled += s.Sampled
			continue
		}
		out = append(out, s)
	}
	return out
}

// CoverTotal sums up a window of one uplink, in seconds.
type CoverTotal struct {
	Uplink   string `json:"uplink"`
	Seconds  int64  `json:"seconds"`
	Complete int64  `json:"complete"`
	Sampled  int64  `json:"sampled"`
	Missing  int64  `json:"missing"`
	Unknown  int64  `json:"unknown"`
	// Of Complete: seconds with sessions that were lost while open.
	OpenLost int64 `json:"open_lost"`
	// Seconds whose times are doubtful, whatever their state.
	Doubtful int64  `json:"clock_doubtful"`
	Refused  uint64 `json:"refused_packets"`
	Samples  uint64 `json:"samples"`
}

// Sum adds up spans of one uplink; those of unknown state too.
func Sum(uplink string, spans []Span) CoverTotal {
	t := CoverTotal{Uplink: uplink}
	for i := range spans {
		s := &spans[i]
		n := s.Seconds()
		t.Seconds += n
		switch s.State {
		case CoverComplete:
			t.Complete += n
			if s.Reasons&OpenLost != 0 {
				t.OpenLost += n
			}
		case CoverSampled:
			t.Sampled += n
		case CoverMissing:
			t.Missing += n
		default:
			t.Unknown += n
		}
		if s.Reasons&(ClockUnsynced|ClockStepped) != 0 {
			t.Doubtful += n
		}
		t.Refused += s.Refused
		t.Samples += s.Sampled
	}
	return t
}

// Share returns n of the seconds in percent, rounded down, so that 100 is said
// only of what is whole.
func (t *CoverTotal) Share(n int64) float64 {
	if t.Seconds == 0 {
		return 0
	}
	return float64(n*10000/t.Seconds) / 100
}
