package nat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// Book keeps events. Apply returns when they are durable; *identity.Book is
// one.
type Book interface {
	Apply(ctx context.Context, events []identity.Event) error
}

// CollectOptions of a Collector. Table and Book are required.
type CollectOptions struct {
	Table  *Table
	Book   Book
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged

	// Exporters may send; the datagrams of all others are dropped. UDP proves no
	// sender: let nobody else send from these addresses.
	Exporters []netip.Prefix
	Local     []netip.Prefix // see WatchOptions

	// Gap is told, from the goroutine of Run, of a time of which not all is
	// known. nil: only the log is.
	Gap func(cause string, from, to time.Time, n uint64)
}

// Collector takes translations from other machines: IPFIX or NetFlow version 9
// with the events of RFC 8158, over UDP.
type Collector struct {
	o         CollectOptions
	exporters atomic.Pointer[bart.Lite]
	local     atomic.Pointer[bart.Lite]

	mu      sync.Mutex // guards what follows
	domains map[domainKey]*domain
	events  []identity.Event
	changes []change
	gapFrom time.Time
	gapLost uint64
	lastGap time.Time
	failed  bool
	swept   time.Time // when sessions without end were looked for

	count CollectStats // published to seen

	seenMu sync.Mutex // guards seen
	seen   CollectStats
}

type domainKey struct {
	exporter netip.Addr
	domain   uint32
}

// maxOwed bounds the events that wait for a book that cannot keep them.
const maxOwed = 1 << 16

// gapEvery is how often lost records make an entry in the ledger, at most.
const gapEvery = 10 * time.Second

// NewCollector returns a collector.
func NewCollector(o CollectOptions) *Collector {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Gap == nil {
		o.Gap = func(string, time.Time, time.Time, uint64) {}
	}
	c := &Collector{o: o, domains: map[domainKey]*domain{}}
	c.SetExporters(o.Exporters)
	c.SetLocal(o.Local)
	return c
}

// SetExporters replaces those who may send.
func (c *Collector) SetExporters(list []netip.Prefix) { c.exporters.Store(prefixes(list)) }

// SetLocal replaces the provider's own prefixes.
func (c *Collector) SetLocal(list []netip.Prefix) { c.local.Store(prefixes(list)) }

func prefixes(list []netip.Prefix) *bart.Lite {
	t := new(bart.Lite)
	for _, p := range list {
		t.Insert(p)
	}
	return t
}

// gather is how long events may wait for others, to be made durable together.
const gather = 50 * time.Millisecond

// Run receives from conn until ctx ends or conn fails. It does not close conn,
// and may be called for several at once.
func (c *Collector) Run(ctx context.Context, conn *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		wait := time.Second
		if c.has() > 0 {
			wait = gather
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return fmt.Errorf("receive IPFIX: %w", err)
		}
		if ctx.Err() != nil {
			break
		}
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			c.Take(from.Addr().Unmap(), buf[:n])
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("receive IPFIX on %s: %w", conn.LocalAddr(), err)
		}
		if err != nil || c.has() >= batchSize {
			c.Flush(ctx)
		}
	}
	c.Flush(context.WithoutCancel(ctx))
	return nil
}

// has returns how much waits for Flush.
func (c *Collector) has() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events) + len(c.changes)
}

// Take reads one datagram.
func (c *Collector) Take(from netip.Addr, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Clock()
	c.count.Datagrams++
	if !c.exporters.Load().Contains(from) {
		c.count.Strangers++
		return
	}
	var d datagram
	if err := d.open(b); err != nil {
		c.count.Malformed++
		return
	}
	m := c.domain(domainKey{from, d.domain}, now)
	if m == nil {
		c.count.Crowded++
		return
	}
	records, all := uint32(0), true
	for len(d.sets) > 0 {
		id, body, err := d.set()
		if err != nil {
			c.count.Malformed++
			m.known = false
			return
		}
		n, whole := c.set(from, m, &d, id, body, now)
		records, all = records+n, all && whole
	}
	c.sequence(m, &d, records, all, now)
}

// domain returns what is known of an exporter's domain; nil when there are too
// many of them.
func (c *Collector) domain(k domainKey, now time.Time) *domain {
	m := c.domains[k]
	if m == nil {
		if len(c.domains) >= maxDomains {
			return nil
		}
		m = &domain{templates: map[uint16]*template{}}
		c.domains[k] = m
	}
	for id, t := range m.templates {
		if now.Sub(t.at) > templateExpires {
			delete(m.templates, id)
		}
	}
	return m
}

// set takes one set; whole is false when it is not known how many records it
// has.
func (c *Collector) set(from netip.Addr, m *domain, d *datagram, id uint16, body []byte, now time.Time) (n uint32, whole bool) {
	if yes, options := d.isTemplates(id); yes {
		ids, err := m.learn(d, body, options, now)
		c.count.Templates += uint64(len(ids))
		if err != nil {
			c.count.Malformed++
		}
		c.catchUp(from, m, now)
		return 0, true
	}
	if id < firstData {
		c.count.Malformed++
		return 0, true
	}
	t := m.templates[id]
	if t == nil {
		if m.bytes+len(body)+pendingCost > maxPending {
			c.count.UnknownTemplate++
			return 0, false
		}
		m.waiting = append(m.waiting, pending{id, append([]byte(nil), body...), d.exported})
		m.bytes += len(body) + pendingCost
		c.count.Waiting++
		return 0, false
	}
	return c.data(from, t, body, d.exported, now), true
}

// catchUp reads sets that came before their template.
func (c *Collector) catchUp(from netip.Addr, m *domain, now time.Time) {
	rest := m.waiting[:0]
	for _, p := range m.waiting {
		if t := m.templates[p.id]; t != nil {
			c.data(from, t, p.data, p.at, now)
			m.bytes -= len(p.data) + pendingCost
			c.count.Waiting--
		} else {
			rest = append(rest, p)
		}
	}
	clear(m.waiting[len(rest):])
	m.waiting = rest
}

func (c *Collector) data(from netip.Addr, t *template, body []byte, exported int64, now time.Time) uint32 {
	n, err := t.records(body, func(r *record) { c.record(from, r, exported, now) })
	if err != nil {
		c.count.Malformed++
	}
	c.count.Records += uint64(n)
	return uint32(n)
}

// sequence looks for what was lost: IPFIX counts records of data (RFC 7011
// §3.1), NetFlow version 9 datagrams.
func (c *Collector) sequence(m *domain, d *datagram, records uint32, all bool, now time.Time) {
	if m.known {
		switch lost := int32(d.sequence - m.next); {
		case lost > 0 && lost < 1<<24:
			c.count.Lost += uint64(lost)
			c.gapLost += uint64(lost)
			c.o.Table.foreignLoss(now.UnixNano())
			if c.gapFrom.IsZero() {
				c.gapFrom = c.lastHeard(now)
			}
		case lost < 0 && lost > -1<<16:
			c.count.Reordered++
			return // one that was overtaken, and counted as lost: it is here after all
		}
	}
	m.next, m.known = d.sequence+records, all
	if d.version == v9Version {
		m.next, m.known = d.sequence+1, true
	}
}

func (c *Collector) lastHeard(now time.Time) time.Time {
	if c.lastGap.IsZero() {
		return now
	}
	return c.lastGap
}

// maxAhead and maxLate bound how far a reported time may be from now.
const (
	maxAhead = 5 * time.Minute
	maxLate  = 24 * time.Hour
)

// record takes one event of a translator.
func (c *Collector) record(from netip.Addr, r *record, exported int64, now time.Time) {
	doubtful := false
	if r.at == 0 {
		r.at = exported
	}
	if off := now.UnixNano() - r.at; off < -int64(maxAhead) || off > int64(maxLate) {
		r.at, doubtful = now.UnixNano(), true
		c.count.Doubtful++
	}
	switch r.event {
	case nat44Create, nat44Delete, nat64Create, nat64Delete:
		c.session(r)
	case natBlockCreate, natBlockDelete:
		c.block(from, r, doubtful)
	case natAddressesExhausted, natPortsExhausted, natQuota, natThreshold:
		c.count.Exhausted++
	default:
		c.count.Other++
	}
}

// own reports whether an address may be the provider's.
func (c *Collector) own(a session.Addr) bool {
	local := c.local.Load()
	return local.Size() == 0 || local.Contains(a.Netip())
}

// exportDoubt is how far the clock of another machine, and its whole
// milliseconds or seconds, may be off.
const exportDoubt = int64(time.Second)

func (c *Collector) session(r *record) {
	t, k, ok := r.translation()
	switch {
	case !ok:
		c.count.Unusable++
	case !c.own(t.Public):
		c.count.Outside++
	default:
		c.count.Sessions++
		c.changes = append(c.changes, change{kind: k, Translation: t, at: r.at, doubt: exportDoubt, from: true})
	}
}

// block turns the allocation of a block into an event for the book.
func (c *Collector) block(from netip.Addr, r *record, doubtful bool) {
	ranges := r.ranges()
	switch {
	case len(ranges) == 0 || !r.hasPostSrc || r.src.addr == (session.Addr{}):
		c.count.Unusable++
		return
	case !c.own(r.postSrc.addr):
		c.count.Outside++
		return
	}
	e := identity.Event{
		Kind: identity.Start, At: r.at, Doubtful: doubtful, Source: session.SourceNAT, NAS: from.String(), Subscriber: r.user,
		Session: fmt.Sprintf("%s:%d-%d/%s", r.postSrc.addr, ranges[0][0], ranges[len(ranges)-1][1], r.src.addr),
	}
	if r.event == natBlockDelete {
		e.Kind = identity.Stop
	}
	public := r.postSrc.addr.Netip()
	for _, p := range ranges {
		e.Leases = append(e.Leases, identity.Lease{
			Kind: identity.PortBlock, Prefix: netip.PrefixFrom(public, public.BitLen()),
			FirstPort: p[0], LastPort: p[1], Via: r.src.addr.Netip(),
		})
	}
	c.count.Blocks++
	c.events = append(c.events, e)
}
