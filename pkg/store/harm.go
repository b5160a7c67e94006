package store

import (
	"fmt"
	"math"

	"github.com/edgelog/edgelog/pkg/session"
)

// Harm says of something that was stored that it cannot be read any more.
type Harm struct {
	What     string
	Sessions bool  // it held sessions, or nobody knows what it held
	From, To int64 // the times that it spoke of, unix milliseconds, both included; all times where that is not known
}

// Harm returns what is known to be unreadable of what may say something about
// [fromMs, toMs]. It looks at lists, not at blocks: only Check reads all.
func (s *Store) Harm(fromMs, toMs int64) (list []Harm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.databases() {
		for i := range d.lost {
			if e := &d.lost[i]; e.from <= toMs && e.to >= fromMs {
				list = append(list, Harm{fmt.Sprintf("block %d of %s cannot be read", e.seq, e.shelf), e.shelf.kind.Of() == KindSessions, e.from, e.to})
			}
		}
	}
	for _, p := range s.broken {
		if day := session.DayOf(fromMs * 1e6); p.Day >= day { // what ended on that day may have begun at any time before
			list = append(list, Harm{p.What.Error(), true, math.MinInt64, (p.Day + 1).Start().UnixMilli() - 1})
		}
	}
	if s.aside > 0 {
		list = append(list, Harm{fmt.Sprintf("%d databases of what was stored last before a start could not be opened and lie in %q", s.aside, damagedDir),
			true, math.MinInt64, math.MaxInt64})
	}
	return list
}
