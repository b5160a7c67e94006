package recorder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/nat"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// Translations says who was behind a translated address; nat.Table is one.
type Translations interface {
	Find(s *session.Session) (inside session.Addr, port uint16, a nat.Answer)
}

// translations follows what this machine and others translate. A nil one
// follows nothing: its methods do nothing.
type translations struct {
	table   *nat.Table
	watch   *nat.Watcher   // nil: not of this machine
	collect *nat.Collector // nil: of no other
	conns   []*net.UDPConn
	gateway string
	rules   int
	queue   []nat.Piece // taken from the table, not given to the access writer yet
	lost    uint64      // access records of translations that found no room, in the ledger already
	took    time.Time   // when they were taken last
	gap     func(cause string, from, to time.Time, n uint64)
}

// storeMargin is how long after the silence that ended it a session may be
// stored: a busy agent, a disk that is late.
const storeMargin = time.Minute

// openNAT joins the kernel's events and binds the listeners. They wait until
// Run.
func (r *Recorder) openNAT() error {
	c := r.o.Config
	if !c.NAT.Enabled() {
		return nil
	}
	access := c.Profile == session.ProfileAccess
	t := &translations{gateway: c.Gateway, rules: len(c.NAT.Rules), gap: r.natGap, took: r.o.Now(), table: nat.NewTable(nat.TableOptions{
		Max: c.NAT.Translations, FarUnknown: c.Profile == session.ProfileSource, Pieces: access, Keep: keepTranslations(c, access),
	})}
	r.onClose(t.close)
	if c.NAT.Conntrack {
		w, err := nat.Watch(nat.WatchOptions{
			Table: t.table, Clock: r.o.Now, Logger: r.log, Local: c.Border.Local, Receive: int(c.NAT.ReceiveBuffer),
			Gap: func(cause string, from, to time.Time) { r.natGap(cause, from, to, 0) },
		})
		if err != nil {
			return err
		}
		t.watch = w
	}
	if err := r.openIPFIX(t); err != nil {
		return err
	}
	r.nat = t
	if access {
		r.access.more = t.records
	} else {
		r.sessions.inside, r.sessions.behind = t.table, t.behind
	}
	return nil
}

func (r *Recorder) openIPFIX(t *translations) error {
	c := r.o.Config
	if len(c.NAT.IPFIX.Listen) == 0 {
		return nil
	}
	t.collect = nat.NewCollector(nat.CollectOptions{
		Table: t.table, Book: r.book, Clock: r.o.Now, Logger: r.log, Exporters: c.NAT.IPFIX.Exporters, Local: c.Border.Local, Gap: r.natGap,
	})
	for _, at := range c.NAT.IPFIX.Listen {
		conn, err := ListenAccounting(at)
		if err != nil {
			return fmt.Errorf("listen for IPFIX on %q: %w", at, ListenError(err))
		}
		t.conns = append(t.conns, conn)
		if err := conn.SetReadBuffer(socketBuffer); err != nil {
			r.log.Warn("the IPFIX socket keeps its small buffer", "listen", at.String(), "error", err)
		}
	}
	return nil
}

// keepTranslations says how long a translation that has ended may still be asked
// for: a session of it ends by silence, and then waits to be stored.
func keepTranslations(c *config.Config, access bool) func(uint8) time.Duration {
	return func(proto uint8) time.Duration {
		switch {
		case access: // nobody asks; what the kernel's table still lists is known
			return storeMargin
		case proto == session.TCP:
			return c.Timeouts.TCP + storeMargin + c.Store.Flush
		case proto == session.UDP:
			return c.Timeouts.UDP + storeMargin + c.Store.Flush
		}
		return max(c.Timeouts.ICMP, c.Timeouts.Other) + storeMargin + c.Store.Flush
	}
}

// natGap puts a time of which not all translations are known into the ledger.
func (r *Recorder) natGap(cause string, from, to time.Time, n uint64) {
	fields := map[string]string{
		"cause": "translations", "of": cause,
		"from": session.FormatTime(from.UnixNano()), "until": session.FormatTime(to.UnixNano()),
	}
	if n > 0 {
		fields["records"] = itoa(n)
	}
	r.evidence.note(ledger.Gap, fields)
}

// parts are what follows translations beside the recording.
func (t *translations) parts() (list []part) {
	if t == nil {
		return nil
	}
	if t.watch != nil {
		list = append(list, part{"translations of this machine", t.watch.Run})
	}
	for _, conn := range t.conns {
		list = append(list, part{"translations of others", func(ctx context.Context) error { return t.collect.Run(ctx, conn) }})
	}
	return list
}

// behind reports whether translations of a moment ago may not be known yet.
func (t *translations) behind() bool { return t.watch != nil && t.watch.Behind() }

// recordsAtOnce bounds the memory that records take on their way to the disk.
const recordsAtOnce = 1 << 16

// records returns, in parts of at most recordsAtOnce, what has become an access
// record; with goingOn also what goes on, as far as it has come.
func (t *translations) records(goingOn bool, now time.Time) []session.Binding {
	if len(t.queue) == 0 || goingOn {
		t.queue = append(t.queue, t.table.Pieces(goingOn, now.UnixNano())...)
		if n := t.table.Stats().Lost; n > t.lost {
			t.gap("too many translations waited for the disk", t.took, now, n-t.lost)
			t.lost = n
		}
		t.took = now
	}
	out := make([]session.Binding, min(len(t.queue), recordsAtOnce))
	for i := range out {
		out[i] = t.queue[i].Binding(t.gateway)
	}
	if t.queue = t.queue[len(out):]; len(t.queue) == 0 {
		t.queue = nil
	}
	return out
}

// setLocal replaces the provider's own prefixes.
func (t *translations) setLocal(local []netip.Prefix) {
	if t != nil && t.watch != nil {
		t.watch.SetLocal(local)
	}
	if t != nil && t.collect != nil {
		t.collect.SetLocal(local)
	}
}

// setExporters replaces the translators that may send.
func (t *translations) setExporters(list []netip.Prefix) {
	if t != nil && t.collect != nil {
		t.collect.SetExporters(list)
	}
}

func (t *translations) close() error {
	var errs []error
	if t.watch != nil {
		errs = append(errs, t.watch.Close())
	}
	for _, conn := range t.conns {
		errs = append(errs, conn.Close())
	}
	t.conns = nil
	return errors.Join(errs...)
}

// NATStatus is the state of what follows translations.
type NATStatus struct {
	Table   nat.TableStats    `json:"table"`
	Kernel  *nat.WatchStats   `json:"kernel,omitempty"` // nil: this machine's translations are not followed
	IPFIX   *nat.CollectStats `json:"ipfix,omitempty"`  // nil: no listener is configured
	Listen  []string          `json:"listen,omitempty"`
	Rules   int               `json:"rules"`
	Buffer  int               `json:"wanted_buffer_bytes"` // that was asked for
	Access  bool              `json:"access"`              // translations become access records
	Exact   bool              `json:"exact"`               // the kernel tells the times of translations
	Records uint64            `json:"records"`             // access records of translations that are durable
	Owed    int               `json:"records_wait"`        // that wait for the disk
}

// status returns nil when nothing is followed.
func (t *translations) status(c *config.Config, seen accessCount) *NATStatus {
	if t == nil {
		return nil
	}
	s := &NATStatus{
		Table: t.table.Stats(), Rules: t.rules, Buffer: int(c.NAT.ReceiveBuffer), Access: c.Profile == session.ProfileAccess,
		Records: seen.translations, Owed: int(seen.owed),
	}
	if t.watch != nil {
		k := t.watch.Stats()
		s.Kernel, s.Exact = &k, k.Timed
	}
	if t.collect != nil {
		k := t.collect.Stats()
		s.IPFIX = &k
		for _, conn := range t.conns {
			s.Listen = append(s.Listen, conn.LocalAddr().String())
		}
	}
	return s
}

// sums are the balances that its counters must keep.
func (s *NATStatus) sums() []Sum {
	t := &s.Table
	out := []Sum{{
		Text: fmt.Sprintf("translations: begun %d = going on %d + ended and kept %d + forgotten %d + forgotten too early %d",
			t.Begun, t.Open, t.Kept, t.Forgotten, t.ForgottenEarly),
		Left: t.Begun, Right: uint64(t.Open) + uint64(t.Kept) + t.Forgotten + t.ForgottenEarly,
	}}
	if k := s.Kernel; k != nil {
		out = append(out, Sum{
			Text: fmt.Sprintf("conntrack: messages %d = new %d + ended %d + listed %d + malformed %d", k.Messages, k.New, k.Ended, k.Listed, k.Malformed),
			Left: k.Messages, Right: k.New + k.Ended + k.Listed + k.Malformed,
		})
	}
	if x := s.IPFIX; x != nil {
		out = append(out, Sum{
			Text: fmt.Sprintf("port blocks: events %d = durable %d + not kept %d + waiting %d", x.Blocks, x.Applied, x.NotKept, x.Owed),
			Left: x.Blocks, Right: x.Applied + x.NotKept + x.Owed,
		})
	}
	if s.Access {
		out = append(out, Sum{
			Text: fmt.Sprintf("translations to be recorded: %d = taken %d + waiting %d", t.Pieces, t.Taken, t.Waiting),
			Left: t.Pieces, Right: t.Taken + uint64(t.Waiting),
		})
	}
	return out
}

// withoutExporters is what of the section needs a restart.
func withoutExporters(n config.NAT) config.NAT {
	n.IPFIX.Exporters, n.Rules = nil, slices.Clone(n.Rules)
	return n
}
