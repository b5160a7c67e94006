package radius

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	troublePause = time.Minute // between two sentences about the same thing
	troubleKinds = 256         // that are remembered at once; beyond it nothing more is said for a while
	troubleFull  = time.Second // which is that long
	clockWindow  = 16          // requests of a client after which its clock is judged
	clockLimit   = 5 * time.Second
)

// troubles says what an operator must know, in one sentence with its remedy,
// and not more than once a minute: to the log and to Options.Trouble. The
// address of a device that sends accounting is not a subscriber's.
type troubles struct {
	mu   sync.Mutex
	said map[string]time.Time
	full time.Time // said is full until then: a flood of strangers costs no more than this look
}

// due reports whether something about this may be said now, and notes that it
// is.
func (t *troubles) due(now time.Time, about func() string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.full) {
		return false
	}
	key := about()
	last, known := t.said[key]
	if known && now.Sub(last) < troublePause {
		return false
	}
	if !known && len(t.said) >= troubleKinds {
		for k, at := range t.said {
			if now.Sub(at) >= troublePause {
				delete(t.said, k)
			}
		}
		if len(t.said) >= troubleKinds {
			t.full = now.Add(troubleFull)
			return false
		}
	}
	t.said[key] = now
	return true
}

func (s *Server) trouble(now time.Time, about string, text func() string) {
	if s.troubles.due(now, func() string { return about }) {
		s.say(text())
	}
}

func (s *Server) say(text string) {
	s.opts.Logger.Warn("radius accounting", "trouble", text)
	if s.opts.Trouble != nil {
		s.opts.Trouble(text)
	}
}

func (s *Server) unknownClient(now time.Time, from netip.Addr) {
	if s.troubles.due(now, from.String) {
		s.say(fmt.Sprintf("accounting from %s is dropped: no [[radius.client]] has this address; add one, or stop that device from sending here", from))
	}
}

func (s *Server) wrongSecret(now time.Time, c *client) {
	s.trouble(now, c.Name, func() string {
		return fmt.Sprintf("accounting from client %s is dropped: it was made with another secret; make its secret_file and the device agree", c.Name)
	})
}

// clockCheck judges the clock of one client: of several requests the one that
// came fastest tells how far it is off, because waiting only adds.
type clockCheck struct {
	mu   sync.Mutex
	seen int
	best time.Duration
	off  atomic.Int64 // ns, positive: behind; 0: within the limit
}

// add takes arrival less delay less Event-Timestamp; done says that a judgement
// was made.
func (c *clockCheck) add(lag time.Duration) (off time.Duration, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == 0 || lag < c.best {
		c.best = lag
	}
	if c.seen++; c.seen < clockWindow {
		return 0, false
	}
	c.seen = 0
	if c.best.Abs() <= clockLimit {
		c.off.Store(0)
		return 0, true
	}
	c.off.Store(int64(c.best))
	return c.best, true
}

func (s *Server) judgeClock(now time.Time, c *client, lag time.Duration) {
	off, done := c.clock.add(lag)
	if !done || off == 0 {
		return
	}
	way := "behind"
	if off < 0 {
		way = "ahead"
	}
	s.trouble(now, "clock "+c.Name, func() string {
		return fmt.Sprintf("the clock of accounting client %s is %d s %s: log-ons and log-offs get wrong times; synchronise it (NTP)", c.Name, int64(off.Abs().Seconds()), way)
	})
}
