package dhcp

import (
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
)

// A list that names so few leases that more than half of many would end at
// once is believed only when the next one says the same.
const manyLeases = 64

// missing returns how many leases in force of a family the list, whose reading
// began at since, does not name, and how many are in force.
func (t *table) missing(fam int, since, now time.Time) (missing, force int) {
	for p, l := range t.m {
		if family(p) != fam || !l.inForce(now) {
			continue
		}
		force++
		if t.unnamed(l, since) {
			missing++
		}
	}
	return missing, force
}

// unnamed reports whether the last list did not name l, though it was there
// before.
func (t *table) unnamed(l *lease, since time.Time) bool {
	return l.seen != t.round && l.told < since.UnixNano()
}

// endMissing ends the leases that the list does not name. When they ended is
// not known.
func (t *table) endMissing(dst []identity.Event, fam int, since, now time.Time) []identity.Event {
	for p, l := range t.m {
		if family(p) != fam || l.flags&isActive == 0 || !t.unnamed(l, since) {
			continue
		}
		at, doubtful := now.UnixNano(), true
		if u := int64(l.until) * int64(time.Second); u != 0 && u < at {
			at, doubtful = u, false
		}
		t.count.ended++
		dst = t.stop(dst, p, l, at, doubtful)
	}
	return dst
}

func (l *lease) inForce(now time.Time) bool {
	return l.flags&isActive != 0 && (l.until == 0 || int64(l.until) > now.Unix())
}

// forget drops what ended some time ago; the book has ended it, too.
func (t *table) forget(now time.Time) (inForce int) {
	limit := now.Add(-time.Hour).Unix()
	for p, l := range t.m {
		switch {
		case l.inForce(now):
			inForce++
		case max(int64(l.until), int64(l.heard)) < limit:
			delete(t.m, p)
		}
	}
	return inForce
}
