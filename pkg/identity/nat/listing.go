package nat

import (
	"time"
)

// listRetry is how soon a listing that failed is tried again, and how soon one
// that followed a loss is made sure of.
const listRetry = 10 * time.Second

// list asks for the kernel's table.
func (w *Watcher) list() {
	now := w.o.Clock()
	s, err := openSocket(0, 0)
	if err == nil {
		if err = s.ask(); err != nil {
			_ = s.close()
		}
	}
	if err != nil {
		w.listFailed(now, err)
		return
	}
	w.listing, w.listBegan = s, now
	if w.listSince.IsZero() {
		w.listSince = time.Unix(0, 0) // the first: nothing is known of the time before
	}
	w.count.Listings++
	w.count.Resync, w.count.InKernel = true, 0
	w.o.Table.startListing()
}

// listOn takes one message of the listing: events are read in between.
func (w *Watcher) listOn() {
	defer w.publish()
	b, err := w.listing.read()
	if err == nil && b == nil {
		err = w.listing.wait(idle)
		if err == nil {
			if b, err = w.listing.read(); b == nil && err == nil {
				return
			}
		}
	}
	now := w.o.Clock()
	done := false
	if err == nil {
		before := w.count.Listed
		done, err = w.take(b, now, true)
		w.flush()
		w.count.InKernel += int64(w.count.Listed - before)
	}
	switch {
	case err != nil:
		w.listFailed(now, err)
	case done:
		w.listed(now)
	}
}

func (w *Watcher) endListing() {
	if w.listing != nil {
		_ = w.listing.close()
		w.listing = nil
	}
	w.count.Resync = false
}

func (w *Watcher) listFailed(now time.Time, err error) {
	w.endListing()
	if w.count.Failures++; w.count.Failures == 1 || w.lost.IsZero() {
		w.o.Logger.Warn("the table of conntrack cannot be read; it is tried again", "error", err)
	}
	if w.lost.IsZero() {
		w.lost, w.drained = w.empty, true
		w.o.Table.setLoss(w.lost.UnixNano())
	}
	w.nextList = now.Add(listRetry)
}

// listed closes what the listing did not have, and the gap that it has made
// good.
func (w *Watcher) listed(now time.Time) {
	w.endListing()
	stale, unsure := w.o.Table.endListing(max(w.listSince.UnixNano(), 0), now.UnixNano())
	w.count.Stale += uint64(stale)
	took := now.Sub(w.listBegan)
	first := w.listSince.Equal(time.Unix(0, 0))
	w.listSince = w.listBegan
	w.nextList = time.Time{}
	if unsure > 0 { // begun before anybody listened: the kernel may tell no one of their end
		w.nextList = now.Add(max(w.o.Relist, 100*took))
	}
	switch {
	case !w.lost.IsZero():
		w.count.Gaps++
		w.o.Gap("conntrack events lost", w.lost, now)
		w.lost = time.Time{}
		w.nextList = now.Add(max(listRetry, 10*took))
	case first:
		w.count.Gaps++
		w.o.Gap("translations of before the start are known only if they went on", w.listBegan, now)
	}
}

// WatchStats counts what the kernel told. Messages = New + Ended + Listed +
// Malformed.
type WatchStats struct {
	Messages  uint64 `json:"messages"`
	New       uint64 `json:"new"`
	Ended     uint64 `json:"ended"`
	Listed    uint64 `json:"listed"` // by reading the kernel's table
	Malformed uint64 `json:"malformed"`

	Untranslated uint64 `json:"untranslated"` // of them, without translation
	Outside      uint64 `json:"outside"`      // translations to an address that is not the provider's own
	Hairpins     uint64 `json:"hairpins"`     // of which both ends are inside, or forwarded ports

	Overruns uint64 `json:"overruns"`     // times that the socket's buffer was full
	Listings uint64 `json:"listings"`     // times that the kernel's table was read
	Failures uint64 `json:"failures"`     // of them, failed
	Stale    uint64 `json:"stale"`        // translations that a listing ended
	Gaps     uint64 `json:"gaps"`         // that stand in the ledger
	Timed    bool   `json:"timed"`        // the kernel tells the times of translations
	Resync   bool   `json:"resync"`       // the kernel's table is being read
	InKernel int64  `json:"in_kernel"`    // entries of the kernel's table, translated or not, when it was read last
	Buffer   int    `json:"buffer_bytes"` // of the socket
}
