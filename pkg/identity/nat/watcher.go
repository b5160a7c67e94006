package nat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// WatchOptions of a Watcher. Table is required.
type WatchOptions struct {
	Table  *Table
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged

	// Local are the provider's own prefixes: what is translated to another
	// address never crosses the border as an own one. None: all are taken.
	Local []netip.Prefix

	// Receive is the size of the socket's buffer, bytes. 0: 64 MiB. The kernel
	// takes it only while events wait.
	Receive int

	// Relist is how often the kernel's table is read again while the end of a
	// translation may go unreported. 0: a minute.
	Relist time.Duration

	// Gap is told, from the goroutine of Run, of a time of which not all is
	// known. nil: only the log is.
	Gap func(cause string, from, to time.Time)
}

// Watcher follows the translations of this network namespace.
type Watcher struct {
	o      WatchOptions
	local  atomic.Pointer[bart.Lite]
	events *socket

	batch []change
	msg   message
	count WatchStats // of the goroutine of Run; published to seen

	empty     time.Time // when nothing was left to be read, last
	listing   *socket   // nil: none is under way
	listSince time.Time // what is not listed ended after this
	listBegan time.Time
	nextList  time.Time
	lost      time.Time // since when something is lost that no listing has made good; zero: nothing
	drained   bool      // what had come before the loss has been read

	mu   sync.Mutex // guards what Stats reads
	seen WatchStats
	late bool // events or a listing wait
}

// batchSize is how many changes are taken into the table at once.
const batchSize = 512

// idle is how long the socket is waited for: not longer, since it bounds how
// late an event can have come.
const idle = 100 * time.Millisecond

const eventGroups = 1<<(unix.NFNLGRP_CONNTRACK_NEW-1) | 1<<(unix.NFNLGRP_CONNTRACK_DESTROY-1)

// Watch joins the kernel's events. They wait until Run is called.
func Watch(o WatchOptions) (*Watcher, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Receive <= 0 {
		o.Receive = 64 << 20
	}
	if o.Relist <= 0 {
		o.Relist = time.Minute
	}
	if o.Gap == nil {
		o.Gap = func(string, time.Time, time.Time) {}
	}
	s, err := openSocket(eventGroups, o.Receive)
	if err != nil {
		return nil, err
	}
	w := &Watcher{o: o, events: s, count: WatchStats{Buffer: s.buffer()}, batch: make([]change, 0, 2*batchSize), empty: o.Clock()}
	w.SetLocal(o.Local)
	w.publish()
	return w, nil
}

// SetLocal replaces the provider's own prefixes.
func (w *Watcher) SetLocal(list []netip.Prefix) {
	w.local.Store(prefixes(list))
}

// Close leaves the kernel's events. Run must have returned.
func (w *Watcher) Close() error {
	if w.listing != nil {
		_ = w.listing.close()
		w.listing = nil
	}
	return w.events.close()
}

// Run follows the events until ctx ends. An error says that it cannot any more.
func (w *Watcher) Run(ctx context.Context) error {
	w.nextList = w.o.Clock()
	for ctx.Err() == nil {
		more, err := w.drain(ctx)
		if err != nil {
			return err
		}
		if w.listing == nil && !w.nextList.IsZero() && !w.o.Clock().Before(w.nextList) && (w.lost.IsZero() || w.drained) {
			w.list()
		}
		if w.listing != nil {
			w.listOn()
		} else if !more {
			if err := w.events.wait(idle); err != nil {
				return err
			}
		}
	}
	return nil
}

// drainReads bounds how much is read before other things get their turn.
const drainReads = 4096

// drain reads what has come. more is true when there may be still more.
func (w *Watcher) drain(ctx context.Context) (more bool, err error) {
	defer w.publish()
	defer w.flush()
	for range drainReads {
		b, err := w.events.read()
		now := w.o.Clock()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.overrun(now)
			continue
		case err != nil:
			return false, fmt.Errorf("read conntrack events: %w", err)
		case b == nil:
			w.flush()
			w.empty, w.drained = now, true
			return false, nil
		}
		w.take(b, now, false)
		if len(w.batch) >= batchSize {
			w.flush()
			if ctx.Err() != nil {
				return true, nil
			}
		}
	}
	w.drained = true // what had come before the loss is behind us, or nearly
	return true, nil
}

// publish shows the counters to others.
func (w *Watcher) publish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.late = w.count, w.listing != nil || !w.lost.IsZero() || w.o.Clock().Sub(w.empty) > time.Second
}

// Stats returns the counters.
func (w *Watcher) Stats() WatchStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// Behind reports whether translations of a moment ago may not be known yet: the
// kernel's table is being read, or more events come than are read.
func (w *Watcher) Behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

func (w *Watcher) flush() {
	if len(w.batch) > 0 {
		w.o.Table.apply(w.batch, w.o.Clock().UnixNano())
		w.batch = w.batch[:0]
	}
}

// take turns messages into changes.
func (w *Watcher) take(b []byte, now time.Time, list bool) (done bool, err error) {
	local := w.local.Load()
	own := func(a session.Addr) bool { return local.Contains(a.Netip()) }
	for len(b) > 0 {
		var ok bool
		if b, ok = w.msg.next(b); !ok || errors.Is(w.msg.err, errMessage) {
			w.count.Messages++
			w.count.Malformed++
			continue
		}
		if w.msg.err != nil || w.msg.done {
			return true, w.msg.err
		}
		w.count.Messages++
		w.one(own, local.Size() > 0, now, list)
	}
	return false, nil
}

// one turns one entry of conntrack into changes.
func (w *Watcher) one(own func(session.Addr) bool, bounded bool, now time.Time, list bool) {
	m := &w.msg
	c := change{kind: began, at: now.UnixNano(), doubt: int64(now.Sub(w.empty)), start: m.start}
	exact := m.event
	switch {
	case list:
		c.kind = listed
		c.doubt = max(c.doubt, int64(now.Sub(w.listSince)))
		exact = m.start
		w.count.Listed++
	case m.kind == ctDelete:
		c.kind = ended
		if m.stop != 0 {
			exact = m.stop
		}
		w.count.Ended++
	default:
		if m.start != 0 {
			exact = m.start
		}
		w.count.New++
	}
	if exact != 0 {
		c.at, c.doubt = exact, 0
	}
	w.count.Timed = w.count.Timed || exact != 0
	if c.kind == began && c.start == 0 {
		c.start = m.event
	}
	views, n, hairpin := m.views(own)
	if n == 0 {
		w.count.Untranslated++
		return
	}
	if hairpin {
		w.count.Hairpins++
	}
	for i := range n {
		if bounded && !own(views[i].Public) {
			w.count.Outside++
			continue
		}
		c.Translation = views[i]
		w.batch = append(w.batch, c)
	}
}

// overrun notes that events were lost. What had come before them is read
// first, then all that goes on is listed.
func (w *Watcher) overrun(now time.Time) {
	w.count.Overruns++
	if w.lost.IsZero() {
		w.lost = w.empty
		w.flush()
		w.o.Table.setLoss(w.lost.UnixNano())
		w.o.Logger.Warn("conntrack events were lost: the buffer of the socket was full; the table is read again", "buffer_bytes", w.count.Buffer)
	}
	w.drained = false
	if w.listing != nil { // it may lack what is lost now
		_ = w.listing.close()
		w.listing = nil
		w.count.Resync = false
	}
	w.nextList = now
}
