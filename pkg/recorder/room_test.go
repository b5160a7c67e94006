package recorder

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// TestMain is also the program of a peer, see asks.
func TestMain(m *testing.M) {
	if socket := os.Getenv(askVariable); socket != "" {
		os.Exit(ask(socket, os.Args[1:], os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

// table is a session table of the tests' own. Like the kernel's it gives a
// session out again until it is told that it is stored.
type table struct {
	mu        sync.Mutex
	due, open []session.Session
	out       []session.Session // given out, fate not known
	stored    []session.Session
	released  int
	border    []netip.Prefix
	uplinks   []probe.Uplink
	detached  bool
	closed    bool
	clock     probe.ClockStatus
	events    chan probe.Event
	links     []probe.UplinkStatus
	borderErr error
	volume    probe.Volume
	losses    probe.Losses // At is the test's clock, Ticks are counted on
	time      func() time.Time
}

func newTable() *table {
	return &table{events: make(chan probe.Event, 16), clock: probe.ClockStatus{Synchronised: true, MaxErrorMicro: 700}}
}

func (t *table) add(list ...session.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = append(t.due, list...)
}

func (t *table) Collect(b *probe.Batch, most int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(most, len(t.due))
	b.Sessions = append(b.Sessions, t.due[:n]...)
	t.out = append(t.out, t.due[:n]...)
	t.due = t.due[n:]
	return nil
}

func (t *table) CollectAll(b *probe.Batch, most int) (bool, error) {
	t.mu.Lock()
	for i := range t.open {
		t.open[i].EndReason = session.EndShutdown
	}
	t.due, t.open = append(t.due, t.open...), nil
	t.mu.Unlock()
	err := t.Collect(b, most)
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.due) > 0, err
}

func (t *table) Stored(b *probe.Batch) {
	defer b.Reset() // as the kernel's does
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stored = append(t.stored, t.out[:b.Len()]...) // batches come back in their order
	t.out = t.out[b.Len():]
}

func (t *table) Release(b *probe.Batch) {
	defer b.Reset()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = append(slices.Clone(t.out[:b.Len()]), t.due...)
	t.released += b.Len()
	t.out = t.out[b.Len():]
}

func (t *table) SetBorder(local, _ []netip.Prefix) error {
	if t.borderErr != nil {
		return t.borderErr
	}
	t.border = local
	return nil
}

func (t *table) SetUplinks(u []probe.Uplink) error { t.uplinks = u; return nil }
func (t *table) Run(ctx context.Context) error     { <-ctx.Done(); return nil }
func (t *table) Clock() probe.ClockStatus          { return t.clock }
func (t *table) Events() <-chan probe.Event        { return t.events }
func (t *table) Close() error                      { t.closed = true; return nil }
func (t *table) Detach() error                     { t.detached = true; return nil }

func (t *table) Losses() (probe.Losses, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.losses
	if l.At == 0 && t.time != nil {
		l.At = t.time().UnixNano()
	}
	l.Uplinks = slices.Clone(l.Uplinks)
	return l, nil
}

func (t *table) Volume() (probe.Volume, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.volume
	v.Uplinks = slices.Clone(v.Uplinks)
	return v, nil
}

func (t *table) Looked(ticks uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.losses.Looked = ticks
}

func (t *table) Status() probe.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	stored, open, closed := uint64(len(t.stored)), uint64(len(t.open)), uint64(len(t.due)+len(t.out))
	return probe.Status{Uplinks: t.links, Table: probe.TableStatus{Started: stored + open + closed, Stored: stored, Open: open, Closed: closed}}
}

// clock is the time of a test.
type testClock struct {
	mu  sync.Mutex
	now time.Time
	set time.Duration // by how much it was set, which is no time that passed
}

// jump sets the clock, without that time passes.
func (c *testClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.set = c.now.Add(d), c.set+d
}

func (c *testClock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Sub(evening) - c.set
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var evening = time.Date(2025, 3, 1, 23, 59, 0, 0, time.UTC)

// room is an agent with everything real but the kernel.
type room struct {
	*Recorder
	t     testing.TB
	table *table
	clock *testClock
	ids   *vault.Identities
	text  string
	dir   string
}

func newRoom(t testing.TB, extra string) *room {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgelog") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := vault.ParseIdentities(bytes.NewReader(pair.File()))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`gateway = "gw1"
provider = "Net"
data_dir = "data"
run_dir = "run"
profile = "session"
legal_basis = "BEK 988/2006"
[[uplink]]
name = "eth9"
[border]
local = ["10.0.0.0/8"]
[custodians]
recipients = [%q]
[store]
min_free = "256MiB"
ballast = 0
block_sessions = 1000
%s`, pair.Recipient, extra)
	r := &room{t: t, table: newTable(), clock: &testClock{now: evening}, ids: ids, text: text, dir: dir}
	r.table.time = r.clock.Now
	r.open()
	return r
}

// open starts an agent, a second time after shut too.
func (r *room) open() {
	r.t.Helper()
	var err error
	r.Recorder, err = Open(r.t.Context(), r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.shut)
}

func (r *room) options() Options {
	r.t.Helper()
	o := DefaultOptions()
	o.Config, o.Version, o.Now = r.config(r.text), "test", r.clock.Now
	o.Elapsed, o.Synchronised = r.clock.elapsed, func() bool { return r.table.clock.Synchronised }
	o.OpenSource = func(probe.Options) (Source, error) { return r.table, nil }
	return o
}

func (r *room) config(text string) *config.Config {
	r.t.Helper()
	c, err := config.Parse([]byte(text), filepath.Join(r.dir, "edgelog.toml"))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *room) shut() {
	if err := r.Close(); err != nil {
		r.t.Error(err)
	}
}

// step does what the recording goroutine does once, all of it.
func (r *room) step() error {
	defer r.publish()
	return r.flushNow(r.t.Context())
}

// opener returns what opens sealed blocks.
func (r *room) opener() func(sealed []byte) []byte {
	r.t.Helper()
	ctx := r.t.Context()
	keys := map[[2]uint64]*vault.DayKey{}
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	take := func(wrapped []byte) error {
		k, err := vault.OpenKey(wrapped, r.ids)
		check(err)
		keys[[2]uint64{uint64(k.Day()), k.Epoch()}] = k
		return nil
	}
	check(r.Shelf().Keys(ctx, 0, 1<<20, take))
	holds, _ := r.store.Holds()
	for i := range holds {
		wrapped, err := r.store.HoldKey(holds[i].ID)
		check(err)
		check(take(wrapped))
	}
	unseal := func(sealed []byte) []byte {
		p, err := vault.ParsePlace(sealed)
		check(err)
		_, plain, err := keys[[2]uint64{uint64(p.Day), p.Epoch}].Open(nil, sealed)
		check(err)
		return plain
	}
	return unseal
}

// read opens everything that is stored.
func (r *room) read() (sessions []session.Session, bindings []session.Binding, heads []block.Header) {
	r.t.Helper()
	ctx := r.t.Context()
	unseal := r.opener()
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	_, err := r.Shelf().Sessions(ctx, 0, evening.AddDate(1, 0, 0).UnixNano(), vault.MaxFrames, func(sealed []byte) error {
		p, err := vault.ParsePlace(sealed)
		check(err)
		h, list, err := block.DecodeSessions(unseal(sealed))
		check(err)
		for i := range list {
			if session.DayOf(list[i].End) != session.Day(p.Day) {
				r.t.Errorf("a session that ended on %v is filed under %v", session.DayOf(list[i].End), session.Day(p.Day))
			}
		}
		sessions, heads = append(sessions, list...), append(heads, h)
		return nil
	})
	check(err)
	for _, kind := range bindingKinds {
		check(r.store.Scan(ctx, kind, math.MinInt64, math.MaxInt64, func(_ vault.Place, sealed store.Sealed) error {
			_, list, err := block.DecodeBindings(unseal(sealed))
			check(err)
			bindings = append(bindings, list...)
			return nil
		}))
	}
	return sessions, bindings, heads
}

func (r *room) entries() []ledger.Record {
	r.t.Helper()
	list, err := r.Ledger().Entries(r.t.Context(), 0, r.Ledger().Size())
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// logOn tells the book that somebody has an address.
func (r *room) logOn(who, address string, at time.Time) {
	r.t.Helper()
	err := r.book.Apply(r.t.Context(), []identity.Event{{
		Kind: identity.Start, At: at.UnixNano(), Source: session.SourceRADIUS, NAS: "nas1", Session: who, Subscriber: who,
		Leases: []identity.Lease{{Kind: identity.IPv4Address, Prefix: netip.MustParsePrefix(address + "/32")}},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) logOff(who, address string, at time.Time) {
	r.t.Helper()
	err := r.book.Apply(r.t.Context(), []identity.Event{{
		Kind: identity.Stop, At: at.UnixNano(), Source: session.SourceRADIUS, NAS: "nas1", Session: who, Subscriber: who,
		Leases: []identity.Lease{{Kind: identity.IPv4Address, Prefix: netip.MustParsePrefix(address + "/32")}},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// seen returns n sessions of 10.0.0.1 that ended at the given time.
func seen(n int, end time.Time) []session.Session {
	out := make([]session.Session, n)
	for i := range out {
		out[i] = session.Session{
			Start: end.Add(-time.Second).UnixNano(), End: end.UnixNano(), Proto: session.TCP,
			Initiator: session.AddrFrom(netip.MustParseAddr("10.0.0.1")), InitiatorPort: uint16(1024 + i),
			Responder: session.AddrFrom(netip.MustParseAddr("192.0.2.9")), ResponderPort: 443,
			Local: session.SideInitiator, EndReason: session.EndFIN,
		}
	}
	return out
}

// once fails the test unless got holds exactly want, each once.
func once(t *testing.T, want, got []session.Session) {
	t.Helper()
	count := map[session.ID]int{}
	for i := range got {
		count[got[i].ID()]++
	}
	for i := range want {
		if n := count[want[i].ID()]; n != 1 {
			t.Fatalf("session %d of %d is stored %d times", i, len(want), n)
		}
	}
	if len(count) != len(want) {
		t.Fatalf("%d sessions are stored instead of %d", len(count), len(want))
	}
}
