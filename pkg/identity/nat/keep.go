package nat

import (
	"context"
	"errors"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
)

// Flush takes what was received into the table, and makes durable what belongs
// to the book. What the book cannot keep now is tried again with the next call.
func (c *Collector) Flush(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.publish()
	now := c.o.Clock()
	if len(c.changes) > 0 {
		c.o.Table.apply(c.changes, now.UnixNano())
		c.changes = c.changes[:0]
	}
	if now.Sub(c.swept) >= time.Minute {
		c.swept = now
		c.count.Overdue += uint64(c.o.Table.endForeign(now.Add(-maxForeign).UnixNano(), now.UnixNano()))
	}
	if len(c.events) > 0 {
		c.keep(ctx, now)
	}
	if c.gapLost > 0 && now.Sub(c.lastGap) >= gapEvery {
		c.count.Gaps++
		c.o.Logger.Warn("events of a translator were lost on their way", "records", c.gapLost)
		c.o.Gap("events of a translator lost", c.gapFrom, now, c.gapLost)
		c.gapLost, c.gapFrom, c.lastGap = 0, time.Time{}, now
	}
}

// maxForeign is how long a session at another translator may go on without an
// end: longer than any lasts, of which nobody would have forgotten to tell.
const maxForeign = 8 * 24 * time.Hour

func (c *Collector) keep(ctx context.Context, now time.Time) {
	err := c.o.Book.Apply(ctx, c.events)
	if errors.Is(err, identity.ErrInvalid) { // one of them: the others are kept
		for i := range c.events {
			if one := c.o.Book.Apply(ctx, c.events[i:i+1]); one == nil {
				c.count.Applied++
			} else {
				c.count.NotKept++
			}
		}
		err = nil
	} else if err == nil {
		c.count.Applied += uint64(len(c.events))
	}
	if err == nil {
		clear(c.events)
		c.events, c.failed = c.events[:0], false
		return
	}
	if !c.failed {
		c.failed = true
		c.o.Logger.Error("port blocks cannot be stored; it is tried again", "error", err)
	}
	if over := len(c.events) - maxOwed; over > 0 { // the oldest go
		c.count.NotKept += uint64(over)
		c.o.Gap("port blocks could not be stored", now, now, uint64(over))
		c.events = append(c.events[:0], c.events[over:]...)
	}
}

// CollectStats counts datagrams and what was in them. Of the events in Records
// each is one of Sessions, Blocks, Other, Outside, Unusable and Exhausted, but
// for those of options. Blocks = Applied + NotKept + Owed when nothing moves.
type CollectStats struct {
	Datagrams uint64 `json:"datagrams"`
	Strangers uint64 `json:"strangers"` // of them, of others than the exporters
	Malformed uint64 `json:"malformed"` // datagrams, sets or templates that could not be read to their end
	Crowded   uint64 `json:"crowded"`   // datagrams of too many observation domains
	Templates uint64 `json:"templates"`
	Records   uint64 `json:"records"`

	UnknownTemplate uint64 `json:"unknown_template"` // sets without template, not read
	Waiting         uint64 `json:"waiting_sets"`     // sets that wait for their template
	Lost            uint64 `json:"lost"`             // records, and with NetFlow datagrams, missing in the sequence
	Reordered       uint64 `json:"reordered"`        // datagrams that were overtaken
	Gaps            uint64 `json:"gaps"`             // that stand in the ledger

	Sessions  uint64 `json:"sessions"`  // events of one session's translation
	Blocks    uint64 `json:"blocks"`    // allocations and de-allocations of port blocks
	Other     uint64 `json:"other"`     // events that say nothing of who had a port
	Outside   uint64 `json:"outside"`   // of addresses that are not the provider's own
	Unusable  uint64 `json:"unusable"`  // events that lack what they must tell
	Exhausted uint64 `json:"exhausted"` // the translator had no addresses or ports left, or a limit was reached
	Doubtful  uint64 `json:"doubtful"`  // times that were replaced by that of arrival

	Overdue uint64 `json:"overdue"` // sessions whose end was never told

	Applied uint64 `json:"applied"`  // blocks that are durable
	NotKept uint64 `json:"not_kept"` // blocks that could not be kept
	Owed    uint64 `json:"owed"`     // blocks that wait for the disk
}

// publish shows the counters to others, who need not wait for the disk.
func (c *Collector) publish() {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	c.seen = c.count
	c.seen.Owed = uint64(len(c.events))
}

// Stats returns the counters as they stood at the last Flush.
func (c *Collector) Stats() CollectStats {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	return c.seen
}
