package probe

import (
	"sync/atomic"

	"github.com/edgelog/edgelog/pkg/measure"
)

// lag measures how far the agent is behind the kernel. The zero one measures
// nothing.
type lag struct {
	walk *measure.Histogram
	news *measure.Histogram

	walkedAt atomic.Uint64 // programs' clock of the end of the last whole walk; 0: none yet
}

func (l *lag) open() {
	l.walk = measure.New(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
	l.news = measure.New(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
}

// walked notes that the walk has come through the whole table.
func (l *lag) walked(now uint64) {
	if was := l.walkedAt.Swap(now); was != 0 {
		l.walk.Seconds(silence(now, was))
	}
}

// heard notes the time of the first event of a reading, which waited longest.
func (l *lag) heard(now, sent uint64) { l.news.Seconds(silence(now, sent)) }

func (l *lag) status() LagStatus {
	s := LagStatus{Walk: l.walk.Read(), News: l.news.Read()}
	if at := l.walkedAt.Load(); at != 0 {
		s.WalkAge = max(silence(programsNow(), at), 0).Seconds()
	}
	return s
}
