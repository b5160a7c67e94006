package disclose

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// What is said beside a name that is not beyond doubt.
const (
	doubtSealed  = "name as sealed"
	doubtSources = "contradicting sources"
	doubtFrom    = "log-on not seen"
	doubtTo      = "log-off not seen"
	doubtInForce = "still logged on"
)

// join asks the book again. Where it knows the address at other times but not
// at this one, nobody is known to have had it; where it knows nothing of the
// address at all, what was sealed is the best that is known.
func (m *Matcher) join(h *Hit) {
	a, port, ok := h.UserEnd()
	if !ok {
		return
	}
	if h.Start < m.since {
		m.asSealed(h)
	} else {
		m.name(h, a, port)
	}
	m.doubt(h, a, port)
}

func (m *Matcher) asSealed(h *Hit) {
	if h.Stored != "" {
		h.Doubts = append(h.Doubts, doubtSealed)
	}
}

// name takes the subscriber from the book. Start has lost its fraction of a
// millisecond. Where the address changed hands within that millisecond, what
// was sealed decides: it was joined with the whole time.
func (m *Matcher) name(h *Hit, a session.Addr, port uint16) {
	b, found := m.book.Holder(a, port, h.Start)
	if late, ok := m.book.Holder(a, port, h.Start+1e6-1); ok && (!found || late.Subscriber == h.Stored) {
		b, found = late, true
	}
	switch {
	case found:
		h.Subscriber, h.Certainty = b.Subscriber, b.Certainty
		if b.To == session.Forever && !identity.Certain(identity.Holds(identity.Trace(m.book, a, port, port, h.Start, h.End)), h.Start, h.End) {
			h.Doubts = append(h.Doubts, doubtInForce)
		}
	case len(m.book.AllOn(a, port, port, math.MinInt64, math.MaxInt64)) > 0:
		h.Subscriber = ""
	default:
		m.asSealed(h)
	}
}

// doubt looks for others who held the address from the start of the session to
// its end, or so near to these that the clocks may have hidden it.
func (m *Matcher) doubt(h *Hit, a session.Addr, port uint16) {
	end := max(h.Start, h.End) + 1e6 - 1
	from, to := max(h.Start-m.slop, m.since), end+m.slop
	all := identity.Holds(identity.Trace(m.book, a, port, port, from, to))
	for _, who := range contradict(all, from, to) {
		if who != h.Subscriber {
			h.Doubts = append(h.Doubts, doubtSources+": "+who)
			h.others = append(h.others, who)
		}
	}
	for _, t := range changes(all, from, to) {
		b, ok := m.book.Holder(a, port, t)
		if !ok || b.Subscriber == h.Subscriber || b.Subscriber == "" {
			continue
		}
		near := time.Duration(m.slop).Round(time.Millisecond)
		var text string
		switch {
		case t > end:
			text = fmt.Sprintf("address changed hands within %v of the end: %s", near, b.Subscriber)
		case t <= h.Start+m.slop:
			text = fmt.Sprintf("address changed hands within %v of the start: %s", near, b.Subscriber)
		default:
			text = fmt.Sprintf("address passed to %s at %s", b.Subscriber, session.FormatTime(t))
		}
		if t <= max(end, h.Start+m.slop) && !slices.Contains(h.others, b.Subscriber) {
			h.others = append(h.others, b.Subscriber)
		}
		if !slices.Contains(h.Doubts, text) {
			h.Doubts = append(h.Doubts, text)
		}
	}
}

// changes returns the times at which another binding may hold than before: the
// first of the window and every end and begin in it, in their order.
func changes(all []session.Binding, from, to int64) []int64 {
	out := []int64{from}
	for i := range all {
		for _, t := range []int64{all[i].From, all[i].To} {
			if t > from && t <= to {
				out = append(out, t)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// contradict returns the subscribers to whom two of the bindings give the same
// addresses and ports at one moment of from..to. One of a longer prefix or of
// fewer ports does not contradict: it says more.
func contradict(all []session.Binding, from, to int64) []string {
	var who []string
	for i := range all {
		for j := range all[:i] {
			a, b := &all[i], &all[j]
			if a.Subscriber != b.Subscriber && a.Subscriber != "" && b.Subscriber != "" && a.Prefix == b.Prefix && a.LastPort-a.FirstPort == b.LastPort-b.FirstPort &&
				max(a.From, b.From, from) < min(a.To, b.To, to+1) {
				who = append(who, a.Subscriber, b.Subscriber)
			}
		}
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// doubts returns everything that is uncertain about the name, in words.
func (h *Hit) doubts() []string {
	out := slices.Clone(h.Doubts)
	if h.Certainty&session.FromInferred != 0 {
		out = append(out, doubtFrom)
	}
	if h.Certainty&session.ToInferred != 0 {
		out = append(out, doubtTo)
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(weight(a), weight(b)) })
	return out
}

// weight puts what may mean another person before what may mean none.
func weight(doubt string) int {
	switch doubt {
	case doubtFrom, doubtTo, doubtInForce, doubtSealed:
		return 1
	}
	return 0
}
