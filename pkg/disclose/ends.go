package disclose

import (
	"context"
	"net/netip"
	"slices"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
)

// hold is what stays the same of a binding when its end becomes known.
type hold struct {
	key         string // of the source
	prefix      netip.Prefix
	first, last uint16
	from        int64
}

func holdOf(b *session.Binding) hold {
	return hold{b.SourceKey, b.Prefix, b.FirstPort, b.LastPort, b.From}
}

// ends reads the ends of those bindings that were read without one. Such an end
// may have become known on any later day, so it is asked for only where one is
// missing, and of the blocks of ends only those are read of which the head holds
// such a prefix.
func (r *reader) ends(ctx context.Context) error {
	missing := r.goingOn()
	if len(missing) == 0 {
		return nil
	}
	r.ending = missing
	r.pick = block.Pick{}
	for h := range r.ending {
		r.sought[h] = true
		r.pick.Addresses = append(r.pick.Addresses, h.prefix.Masked().Addr())
	}
	slices.SortFunc(r.pick.Addresses, netip.Addr.Compare)
	r.pick.Addresses = slices.Compact(r.pick.Addresses)
	defer func() { r.ending, r.again = nil, true }()
	r.again = false // none of these was read yet
	return r.headsFirst(ctx, moreEnds)
}

// goingOn returns the bindings that were read without an end, and not yet asked
// about.
func (r *reader) goingOn() map[hold]bool {
	open := map[hold]bool{}
	for i := range r.bindings {
		if b := &r.bindings[i]; b.To == session.Forever && b.Prefix.IsValid() && !r.sought[holdOf(b)] {
			open[holdOf(b)] = true
		}
	}
	for i := range r.bindings {
		if b := &r.bindings[i]; b.To != session.Forever {
			delete(open, holdOf(b))
		}
	}
	return open
}

// mayEnd looks at a block of ends, or at the head of one, and reports whether it
// is there as a whole and may hold an end that is missing. One of which only the
// head is there is read later.
func (r *reader) mayEnd(sealed []byte) (bool, error) {
	b, err := r.keyring.open(sealed)
	if err != nil {
		return false, err
	}
	name := nameOf(b.Place)
	if r.whole[name] {
		return true, nil // its head has been read
	}
	may, err := r.decoder.MayPick(func(i int) ([]byte, error) { return b.Frame(nil, i) }, &r.pick)
	if err != nil || !may {
		return false, err
	}
	if isPart(sealed) {
		r.heads = append(r.heads, name)
		return false, nil
	}
	return true, nil
}
