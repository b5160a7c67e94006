package identity

import (
	"cmp"
	"slices"

	"github.com/edgelog/edgelog/pkg/session"
)

// Reader answers from bindings that were read back, by the same rules as the
// Book. It is never changed and may be used by many goroutines.
type Reader struct{ idx *index }

// ReaderOptions say how a Reader reads.
type ReaderOptions struct {
	Trust []session.Source // as in Options; nil: DefaultTrust
}

// NewReader returns a Reader of bindings in any order, which may hold several
// versions of one. Versions have the same SourceKey, Prefix, ports, Via, Rule
// and Subscriber, and are merged so:
//
//   - With one From they are one binding. A reported end goes before an inferred
//     one, that before none; of two of a kind the earlier holds. A start that
//     one version reports is reported.
//   - With different From they are one binding if they overlap and the start of
//     at least one is inferred: a late Start moved it. The version with the
//     reported start holds; if it has no end, or an inferred one before the end
//     of the other, that is taken as inferred. Of two inferred starts the earlier
//     holds, unless others held the prefix then; the end as above.
//   - All others are different bindings.
//
// After that the bindings of each prefix are resolved against each other as in
// the Book: one without a reported end ends when another subscriber's begins.
// The slice given is not changed.
func NewReader(bindings []session.Binding, o ReaderOptions) *Reader {
	all := make([]merged, len(bindings))
	for i := range bindings {
		all[i] = merged{bindings[i], bindings[i].From}
		all[i].Prefix = normalPrefix(all[i].Prefix)
	}
	slices.SortFunc(all, compareVersions)
	all = foldVersions(all)
	slices.SortStableFunc(all, func(a, b merged) int { return a.Prefix.Compare(b.Prefix) })
	x := newIndex(o.Trust)
	var claims []claim
	sources := map[sourceKey]*kept{}
	for len(all) > 0 {
		p := all[0].Prefix
		claims = claims[:0]
		for len(all) > 0 && all[0].Prefix == p {
			k := sourceKey{all[0].Source, all[0].SourceName}
			if sources[k] == nil {
				sources[k] = &kept{src: &source{origin: k.origin, name: k.name}}
			}
			claims = append(claims, all[0].claim(sources[k]))
			all = all[1:]
		}
		x.set(p, resolve(claims))
	}
	return &Reader{idx: x}
}

// merged is a binding that several versions may have been merged into.
type merged struct {
	session.Binding
	seen int64 // the latest start of a version: it was not an estimate by then
}

// readGroup makes the sessions of one subscriber leave each other alone: the
// book has settled between them what it knew, and more than is sealed.
const readGroup = "read back"

func (m *merged) claim(k *kept) claim {
	return claim{
		lease: Lease{Prefix: m.Prefix, FirstPort: m.FirstPort, LastPort: m.LastPort, Via: m.Via, Rule: m.Rule},
		what: &content{subscriber: m.Subscriber, line: m.Line, equipment: m.Equipment, place: m.Place, group: readGroup,
			identity: m.Identity},
		k: k, id: m.SourceKey, from: m.From, to: m.To, seen: m.seen, last: m.seen,
		fromInf: m.Certainty&session.FromInferred != 0, toInf: m.Certainty&session.ToInferred != 0,
	}
}

// compareVersions brings versions of one binding together, by From; of one
// From the one that says most comes first.
func compareVersions(a, b merged) int {
	return cmp.Or(compareOne(&a.Binding, &b.Binding), cmp.Compare(a.From, b.From),
		cmp.Compare(endRank(&a.Binding), endRank(&b.Binding)), cmp.Compare(a.To, b.To), cmp.Compare(a.Certainty, b.Certainty),
		cmp.Compare(a.Line, b.Line), cmp.Compare(a.Equipment, b.Equipment), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Identity, b.Identity))
}

// compareOne is 0 when a and b may be versions of one binding.
func compareOne(a, b *session.Binding) int {
	return cmp.Or(cmp.Compare(a.SourceKey, b.SourceKey), a.Prefix.Compare(b.Prefix),
		cmp.Compare(a.FirstPort, b.FirstPort), cmp.Compare(a.LastPort, b.LastPort), cmp.Compare(a.Subscriber, b.Subscriber),
		a.Via.Compare(b.Via), cmp.Compare(a.Rule, b.Rule))
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
func foldVersions(all []merged) []merged {
	// Those of one From first: an early version without end would swallow
	// what came after it.
	all = foldIf(all, func(a, b *session.Binding) bool { return a.From == b.From })
	return foldIf(all, oneBinding)
}

func foldIf(all []merged, one func(a, b *session.Binding) bool) []merged {
	out := all[:0]
	for _, b := range all {
		if n := len(out); n > 0 && compareOne(&out[n-1].Binding, &b.Binding) == 0 && one(&out[n-1].Binding, &b.Binding) {
			out[n-1].fold(&b)
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
func (a *merged) fold(b *merged) {
	known, other := a, b // known: with the better start
	if a.Certainty&session.FromInferred != 0 && b.Certainty&session.FromInferred == 0 {
		known, other = b, a
	}
	out := *known
	out.seen = max(a.seen, b.seen)
	rk, ro := endRank(&known.Binding), endRank(&other.Binding)
	switch {
	case other.To < known.From:
	case a.From == b.From, out.Certainty&session.FromInferred != 0:
		if ro < rk || ro == rk && other.To < known.To {
			out.To = other.To
			out.Certainty = out.Certainty&^session.ToInferred | other.Certainty&session.ToInferred
		}
	case rk == 2 && ro < 2, rk == 1 && ro < 2 && other.To > known.To:
		// The book knew the reported start later or not at all, or had
		// forgotten it: that the end belongs to it is likely, not certain.
		out.To = other.To
		out.Certainty |= session.ToInferred
	}
	for _, t := range [...]struct {
		to   *string
		from string
	}{{&out.Line, other.Line}, {&out.Equipment, other.Equipment}, {&out.Place, other.Place}, {&out.Identity, other.Identity}} {
		if *t.to == "" {
			*t.to = t.from
		}
	}
	*a = out
}
