package recorder

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

const (
	coverEvery  = time.Second      // between two looks at what was refused
	coverAtMost = 10 * time.Second // that nothing new is written while nothing is stored
	coverHour   = 3600             // seconds: a stretch for the ledger
)

// CoverKeeper keeps the record of coverage; store.Coverage is one.
type CoverKeeper interface {
	Mark() (store.CoverageMark, bool)
	Add(spans []session.Span, m store.CoverageMark) error
	Lines(from, to int64) (lines []session.Timeline, damaged []string, err error)
	Hash(from, to int64) ([]byte, error)
	Tidy() error
	Days() []session.Day
	Destroy(day session.Day) error
}

// coverage finds out, about each second, what was recorded of each uplink. It
// is driven by the goroutine that stores; others read it.
//
// A second is decided when it is over and the counters have been read after it.
// What is decided is kept with a mark, from which the next agent goes on.
type coverage struct {
	src      Source
	keep     CoverKeeper
	evidence *evidence
	log      *slog.Logger
	now      func() time.Time // for pacing; seconds come from the source
	outside  func() bool      // the profile records no sessions
	stalled  func() bool      // the store takes nothing
	stored   func() uint64    // sessions made durable, ever more
	alarm    alarm            // the record itself cannot be written
	next     time.Time        // of the next look

	shown atomic.Pointer[CoverageStatus] // for the status, which must not wait for a disk; nil before all

	mu         sync.Mutex                  // guards all below; held while the record is written
	recent     map[string]session.Timeline // the last 24 hours
	begun      bool
	prev       probe.Losses
	tracks     map[string]*track
	extra      []session.Span // to be kept, of uplinks that have no track any more, or of long ago
	through    int64          // every session that ended before this second is on the disk
	open       int64          // and every one that began before this one
	changed    bool           // something is to be kept that is not more of the same
	kept       time.Time      // when something was kept last
	storedThen uint64         // what stored said then
	hour       int64          // the second from which on the ledger has no hash
	drained    bool
}

// step looks when it is time to, or when force is set, and keeps what is to be
// kept.
func (c *coverage) step(force bool) {
	now := c.now()
	if !force && now.Before(c.next) {
		return
	}
	c.next = now.Add(coverEvery)
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.src.Losses()
	if err != nil { // the next one that works says what was in between
		c.log.Error("what was refused could not be read; the record of coverage waits", "error", err)
		return
	}
	if len(l.Uplinks) == 0 && len(c.tracks) == 0 && !c.begun {
		return // there is nothing to record sessions of
	}
	c.take(l)
	c.show()
	c.settle(now, force)
	c.show()
}

// take takes in what the source says. c.mu is held.
func (c *coverage) take(l probe.Losses) {
	if !c.begun {
		c.begin(l)
	} else {
		c.goOn(l)
	}
	c.prev = l
	at := second(l.At)
	for _, t := range c.tracks {
		c.decide(t, at)
	}
	if l.StoredThrough > 0 { // a second less: the programs' clock has ticks
		c.through, c.open = min(second(l.StoredThrough)-1, at), min(second(l.OldestOpen)-1, at)
	}
}

// goOn says of the time between two looks what the second one knows.
func (c *coverage) goOn(l probe.Losses) {
	seen := map[string]bool{}
	samples := c.samples(l)
	for i := range l.Uplinks {
		u := &l.Uplinks[i]
		seen[u.Uplink] = true
		t := c.tracks[u.Uplink]
		if t == nil { // it became an uplink in the course of this second
			c.tracks[u.Uplink] = newTrack(u.Uplink, second(l.At)+1)
			continue
		}
		if p := lossOf(&c.prev, u.Uplink); p != nil {
			c.observe(t, p, u, &l, samples[u.Uplink])
		}
	}
	for name, t := range c.tracks {
		if !seen[name] { // it is no uplink any more
			c.decide(t, second(l.At))
			c.endGap(t)
			c.extra = append(c.extra, t.ready...)
			delete(c.tracks, name)
			c.changed = true
		}
	}
}

func lossOf(l *probe.Losses, uplink string) *probe.Loss {
	if i := slices.IndexFunc(l.Uplinks, func(u probe.Loss) bool { return u.Uplink == uplink }); i >= 0 {
		return &l.Uplinks[i]
	}
	return nil
}

// samples gives the samples made since the last look to the uplink that
// refused most: they are counted for all uplinks together.
func (c *coverage) samples(l probe.Losses) map[string]sampling {
	s := sampling{made: since(c.prev.Sampled, l.Sampled), lost: since(c.prev.SamplesLost, l.SamplesLost)}
	s.made -= min(s.lost, s.made)
	if s == (sampling{}) {
		return nil
	}
	most, name := uint64(0), ""
	for i := range l.Uplinks {
		u := &l.Uplinks[i]
		if p := lossOf(&c.prev, u.Uplink); p != nil {
			if n := since(p.Refused.Total(), u.Refused.Total()); n >= most {
				most, name = n, u.Uplink
			}
		}
	}
	return map[string]sampling{name: s}
}

type sampling struct{ made, lost uint64 }

// since is how much a counter has grown; one that began anew has grown by all.
func since(was, is uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}

// second is the UTC second of a time in ns.
func second(ns int64) int64 { return floorMilli(ns) / 1000 }

// settle keeps what is decided when it is time to. c.mu is held.
func (c *coverage) settle(now time.Time, force bool) {
	if c.alarm.wait(now) > 0 && !force {
		return
	}
	stored := c.stored()
	if !force && !c.changed && stored == c.storedThen && now.Sub(c.kept) < coverAtMost {
		return
	}
	spans := c.extra
	for _, name := range c.names() {
		spans = append(spans, c.tracks[name].ready...)
	}
	if err := c.keep.Add(spans, c.mark()); err != nil {
		c.alarm.raise(now, fmt.Errorf("keep the record of coverage: %w", err))
		return
	}
	c.alarm.clear(now)
	c.src.Looked(c.prev.Ticks)
	c.kept, c.storedThen, c.changed, c.extra = now, stored, false, nil
	for _, t := range c.tracks {
		t.ready = t.ready[:0]
	}
	if end := c.decided() / coverHour * coverHour; end > c.hour {
		c.close(end)
	}
}

func (c *coverage) names() []string {
	var out []string
	for name := range c.tracks {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// decided is the first second that nothing is said of yet; 0 before all.
func (c *coverage) decided() int64 {
	if !c.begun {
		return 0
	}
	return second(c.prev.At)
}

// mark is where the next agent goes on.
func (c *coverage) mark() store.CoverageMark {
	m := store.CoverageMark{StoredThrough: max(c.through, 0), OldestOpen: max(c.open, 0), Drained: c.drained}
	for _, name := range c.names() {
		u := lossOf(&c.prev, name)
		if u == nil {
			continue
		}
		m.Uplinks = append(m.Uplinks, store.UplinkMark{Uplink: name, Until: c.tracks[name].until, Counters: counters(&c.prev, u)})
	}
	return m
}

// The order of the counters in a mark; it is stored.
const (
	markTableFull = iota
	markHalfOpen
	markContended
	markFragmentsLost
	markSampled
	markSamplesLost
	markTicks
	markAt
	markCounters
)

func counters(l *probe.Losses, u *probe.Loss) []uint64 {
	return []uint64{
		u.Refused.TableFull, u.Refused.HalfOpen, u.Refused.Contended, u.Refused.FragmentsLost, l.Sampled, l.SamplesLost, l.Ticks, uint64(l.At),
	}
}

// close puts the hash of a stretch that is over into the ledger.
func (c *coverage) close(end int64) {
	if err := c.testify(c.hour, end); err != nil {
		c.log.Error("a stretch of the record of coverage did not get into the ledger; it is tried again", "error", err)
		return
	}
	c.hour = end / coverHour * coverHour
	if err := c.keep.Tidy(); err != nil {
		c.log.Warn("the record of coverage stays longer than it need be", "error", err)
	}
}

// testify writes a ledger entry about a stretch.
func (c *coverage) testify(from, to int64) error {
	sum, err := c.keep.Hash(from, to)
	if err != nil {
		return err
	}
	lines, _, err := c.lines(from, to)
	if err != nil {
		return err
	}
	c.evidence.note(ledger.Coverage, map[string]string{
		"from": secondText(from), "to": secondText(to), "sha256": hex.EncodeToString(sum), "totals": summary(session.Report("", from, to, to, lines).Totals),
	})
	return nil
}

func secondText(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }

// stop keeps everything, at the end of a run; drained says that the programs
// were taken away, with nothing left in the table.
func (c *coverage) stop(drained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
		return
	}
	c.drained = drained
	if drained {
		c.through, c.open = c.decided(), c.decided()
	}
	for _, t := range c.tracks {
		c.endGap(t)
	}
	c.settle(c.now(), true)
	if end := c.decided(); end > c.hour && c.alarm.err == nil {
		c.close(end)
	}
}
