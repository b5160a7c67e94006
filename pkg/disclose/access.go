package disclose

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// AccessAnswer holds the access records of one identifier.
type AccessAnswer struct {
	Query   *Query
	Records []AccessRecord
	Names   []Name // of the subscribers in Records, as far as the register has them
	Summary Summary
}

// AccessRecord is one log-on, with what was held until log-off.
type AccessRecord struct {
	session.Binding // as it is known now; Subscriber of whoever holds Via, if it has one

	Doubts []string          // what could be wrong with it
	Was    []session.Binding // what was sealed of it before and is known better now
	Late   session.Day       // when it came more than two days after the fact: the day it came; else 0
}

// accessRecords answers a question for access records.
func (r *reader) accessRecords(ctx context.Context) (a *AccessAnswer, err error) {
	if err := r.accessOf(ctx); err != nil {
		return nil, err
	}
	a = r.access()
	r.sum.Records = len(a.Records)
	a.Names, err = r.namesOf(ctx, a.moments())
	return a, err
}

// accessOf reads the bindings of the identifier; all of the prefixes that they
// are about, since others end them; what is held by means of them; and, of an
// address, what it is held by means of.
func (r *reader) accessOf(ctx context.Context) error {
	q := r.q
	if q.Address.IsValid() {
		return r.bindingsOf(ctx, block.Pick{Addresses: []netip.Addr{q.Address}}, nil)
	}
	p := block.Pick{Subscriber: q.Subscriber, Line: q.Line, Equipment: q.Equipment, Identity: q.Subscriber, Rules: q.Ask != WantAccess}
	known := map[netip.Prefix]bool{}
	for range steps {
		before := len(r.bindings)
		r.pick = p
		if err := r.more(ctx, moreBindings); err != nil {
			return err
		}
		r.again = true
		p = block.Pick{}
		for i := before; i < len(r.bindings); i++ {
			if x := r.bindings[i].Prefix; x.IsValid() && !known[x] && r.bindings[i].Rule == "" {
				known[x] = true
				p.Prefixes, p.Via = append(p.Prefixes, x), append(p.Via, x)
			}
		}
		if len(p.Prefixes) == 0 {
			break
		}
	}
	return r.ends(ctx)
}

// access works out the records from what was read.
func (r *reader) access() *AccessAnswer {
	a := &AccessAnswer{Query: r.q}
	list, late := distinct(r.bindings, r.late)
	book := identity.NewReader(list, r.begin.trust())
	prefixes := make([]netip.Prefix, 0, len(list))
	for i := range list {
		prefixes = append(prefixes, list[i].Prefix)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	for _, p := range slices.Compact(prefixes) {
		if !p.IsValid() {
			continue
		}
		for _, b := range book.AllOn(session.AddrFrom(p.Addr()), 0, math.MaxUint16, r.q.From, r.q.To-1) {
			if b.Prefix != p {
				continue
			}
			holder := r.holder(book, &b)
			if !r.about(&b, holder) {
				continue
			}
			rec := AccessRecord{Binding: b}
			rec.Subscriber = holder
			rec.judge(list, late)
			a.Records = append(a.Records, rec)
		}
	}
	slices.SortStableFunc(a.Records, func(a, b AccessRecord) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.SourceKey, b.SourceKey), a.Prefix.Compare(b.Prefix), cmp.Compare(a.FirstPort, b.FirstPort))
	})
	contradictions(a.Records)
	return a
}

// distinct leaves out what was read twice.
func distinct(list []session.Binding, late map[int]session.Day) ([]session.Binding, map[session.Binding]session.Day) {
	seen := make(map[session.Binding]bool, len(list))
	days := map[session.Binding]session.Day{}
	out := make([]session.Binding, 0, len(list))
	for i, b := range list {
		if day, ok := late[i]; ok {
			days[b] = day
		}
		if !seen[b] {
			seen[b] = true
			out = append(out, b)
		}
	}
	return out, days
}

// holder returns the subscriber of a binding: whoever holds its Via most of the
// time, or its own.
func (r *reader) holder(book identity.Bindings, b *session.Binding) string {
	if !b.Via.IsValid() {
		return b.Subscriber
	}
	from, to := max(b.From, r.q.From), min(b.To, r.q.To)-1
	for _, c := range identity.Trace(book, session.AddrFrom(b.Via), 0, math.MaxUint16, from, max(from, to)) {
		if c.Subscriber() != "" {
			return c.Subscriber()
		}
	}
	return b.Subscriber
}

// about reports whether a binding is one that was asked for.
func (r *reader) about(b *session.Binding, holder string) bool {
	switch q := r.q; {
	case q.Address.IsValid():
		return b.Prefix.Contains(q.Address)
	case q.Line != "":
		return b.Line == q.Line
	case q.Equipment != "":
		return b.Equipment == q.Equipment || b.Via.IsValid() && session.IsEquipment(b.Via) && equipmentText(b.Via) == q.Equipment
	default:
		return holder == q.Subscriber || b.Subscriber == q.Subscriber || b.Identity == q.Subscriber
	}
}

// equipmentText returns the MAC address that an equipment's address stands for.
func equipmentText(a netip.Addr) string {
	b := a.As16()
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[10], b[11], b[12], b[13], b[14], b[15])
}

// judge finds out what is not sure of a record, and what was sealed of it that
// was not so.
func (rec *AccessRecord) judge(list []session.Binding, late map[session.Binding]session.Day) {
	if rec.Certainty&session.FromInferred != 0 {
		rec.Doubts = append(rec.Doubts, doubtFrom)
	}
	if rec.Certainty&session.ToInferred != 0 {
		rec.Doubts = append(rec.Doubts, doubtTo)
	}
	for i := range list {
		v := &list[i]
		if v.SourceKey != rec.SourceKey || v.Prefix != rec.Prefix || v.FirstPort != rec.FirstPort || v.LastPort != rec.LastPort || v.From >= rec.To || v.To <= rec.From && v.To != v.From {
			continue
		}
		rec.Late = max(rec.Late, late[*v])
		another := v.Subscriber != rec.Subscriber && (v.Subscriber != "" || !v.Via.IsValid()) // beside Via it is only what was believed
		if another && v.To == v.From {
			continue // the end of him who was named by mistake
		}
		if v.From != rec.From || v.To != session.Forever && v.To != rec.To || rec.Via != v.Via || another {
			rec.Was = append(rec.Was, *v)
		}
	}
	slices.SortStableFunc(rec.Was, func(a, b session.Binding) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	rec.Was = slices.CompactFunc(rec.Was, func(a, b session.Binding) bool {
		return a.From == b.From && a.To == b.To && a.Subscriber == b.Subscriber && a.Certainty == b.Certainty
	})
}

// contradictions marks records that give the same addresses and ports to two
// subscribers at one time.
func contradictions(list []AccessRecord) {
	for i := range list {
		for j := range list[:i] {
			a, b := &list[i], &list[j]
			if a.Subscriber != b.Subscriber && a.Prefix == b.Prefix && max(a.FirstPort, b.FirstPort) <= min(a.LastPort, b.LastPort) && max(a.From, b.From) < min(a.To, b.To) {
				a.Doubts = unique(append(a.Doubts, doubtSources+": "+orUnknown(b.Subscriber)))
				b.Doubts = unique(append(b.Doubts, doubtSources+": "+orUnknown(a.Subscriber)))
			}
		}
	}
}

// moments returns who is to be named, and as of when: each subscriber at the
// start of each record within the window.
func (a *AccessAnswer) moments() []moment {
	seen := map[moment]bool{}
	var out []moment
	for i := range a.Records {
		m := moment{a.Records[i].Subscriber, max(a.Records[i].From, a.Query.From)}
		if m.id != "" && !seen[m] && len(out) < most {
			seen[m] = true
			out = append(out, m)
		}
	}
	return out
}
