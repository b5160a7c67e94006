package identity

import (
	"cmp"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Reader answers from bindings that were read back, by the same rules as the
// Book. It is never changed and may be used by many goroutines.
type Reader struct{ idx *index }

// NewReader returns a Reader of bindings in any order, which may hold several
// versions of one. Versions have the same SourceKey, Prefix, ports and
// Subscriber, and are merged so:
//
//   - With one From they are one binding. A reported end goes before an inferred
//     one, that before none; of two of a kind the earlier holds. A start that
//     one version reports is reported.
//   - With different From they are one binding if they overlap and the start of
//     at least one is inferred: a late Start moved it. The reported start
//     holds, of two inferred ones the earlier; the end as above.
//   - All others are different bindings.
//
// After that the bindings of each prefix are resolved against each other as in
// the Book: one without a reported end ends when another subscriber's begins.
// The slice given is not changed.
func NewReader(bindings []session.Binding) *Reader {
	all := slices.Clone(bindings)
	for i := range all {
		all[i].Prefix = normalPrefix(all[i].Prefix)
	}
	slices.SortFunc(all, compareVersions)
	all = foldVersions(all)
	slices.SortFunc(all, func(a, b session.Binding) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), compareBinding(&a, &b))
	})
	x := newIndex()
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Prefix == all[0].Prefix {
			n++
		}
		list := all[:n:n]
		endOpen(list)
		x.set(list[0].Prefix, list)
		all = all[n:]
	}
	return &Reader{idx: x}
}

// At is Book.At.
func (r *Reader) At(a session.Addr, port uint16, ns int64) (*session.Binding, bool) {
	return r.idx.at(a, port, ns)
}

// AllAt is Book.AllAt.
func (r *Reader) AllAt(a session.Addr, port uint16, from, to int64) []session.Binding {
	return r.idx.allAt(a, port, from, to)
}

// compareVersions brings versions of one binding together, by From; of one
// From the one that says most comes first.
func compareVersions(a, b session.Binding) int {
	return cmp.Or(compareHold(&a, &b), cmp.Compare(a.From, b.From),
		cmp.Compare(endRank(&a), endRank(&b)), cmp.Compare(a.To, b.To), cmp.Compare(a.Certainty, b.Certainty),
		cmp.Compare(a.Line, b.Line), cmp.Compare(a.Equipment, b.Equipment), cmp.Compare(a.Place, b.Place))
}

// compareHold is 0 when a and b may be versions of one binding.
func compareHold(a, b *session.Binding) int {
	return cmp.Or(cmp.Compare(a.SourceKey, b.SourceKey), a.Prefix.Compare(b.Prefix),
		cmp.Compare(a.FirstPort, b.FirstPort), cmp.Compare(a.LastPort, b.LastPort), cmp.Compare(a.Subscriber, b.Subscriber))
}

// endRank orders ends by what they are worth: reported, inferred, none.
func endRank(b *session.Binding) int {
	switch {
	case b.To == session.Forever:
		return 2
	case b.Certainty&session.ToInferred != 0:
		return 1
	}
	return 0
}

// foldVersions merges the versions in all, which is in the order of
// compareVersions, and returns what is left of it.
func foldVersions(all []session.Binding) []session.Binding {
	// Those of one From first: an early version without end would swallow
	// what came after it.
	out := all[:0]
	for _, b := range all {
		if n := len(out); n > 0 && compareHold(&out[n-1], &b) == 0 && out[n-1].From == b.From {
			fold(&out[n-1], &b)
			continue
		}
		out = append(out, b)
	}
	all, out = out, out[:0]
	for _, b := range all {
		if n := len(out); n > 0 && compareHold(&out[n-1], &b) == 0 && oneBinding(&out[n-1], &b) {
			fold(&out[n-1], &b)
			continue
		}
		out = append(out, b)
	}
	return out
}

// oneBinding reports whether b, which starts later than a, is a version of it.
func oneBinding(a, b *session.Binding) bool {
	if (a.Certainty|b.Certainty)&session.FromInferred == 0 {
		return false
	}
	return b.From < a.To || b.From == a.To && b.To == b.From && b.Certainty&session.FromInferred != 0
}

// fold puts into a, which does not start later, what b knows better.
func fold(a, b *session.Binding) {
	if a.Certainty&session.FromInferred != 0 && b.Certainty&session.FromInferred == 0 {
		a.From = b.From
		a.Certainty &^= session.FromInferred
	}
	ra, rb := endRank(a), endRank(b)
	if b.To >= a.From && (rb < ra || rb == ra && b.To < a.To) {
		a.To = b.To
		a.Certainty = a.Certainty&^session.ToInferred | b.Certainty&session.ToInferred
	}
	for _, t := range [...]struct {
		to   *string
		from string
	}{{&a.Line, b.Line}, {&a.Equipment, b.Equipment}, {&a.Place, b.Place}} {
		if *t.to == "" {
			*t.to = t.from
		}
	}
}

// endOpen ends each binding without a reported end where the next one of
// another session and subscriber begins that shares ports with it.
func endOpen(list []session.Binding) {
	for i := range list {
		a := &list[i]
		if endRank(a) == 0 {
			continue
		}
		for j := i + 1; j < len(list) && list[j].From < a.To; j++ {
			b := &list[j]
			if a.To != session.Forever && b.Certainty&session.FromInferred != 0 {
				continue // b's start may be an estimate, and a has an end that is not
			}
			if b.SourceKey != a.SourceKey && b.Subscriber != a.Subscriber &&
				a.FirstPort <= b.LastPort && b.FirstPort <= a.LastPort {
				a.To = b.From
				a.Certainty |= session.ToInferred
				break
			}
		}
	}
}
