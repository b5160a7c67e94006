package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is the zero of the times in tests; they are given in seconds after it.
const t0 = int64(1_750_000_000) * 1e9

func sec(s float64) int64 { return t0 + int64(s*1e9) }

// testClock is a clock that only the test moves.
type testClock struct {
	mu  sync.Mutex
	now int64
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(0, c.now).UTC()
}

func (c *testClock) set(s float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = sec(s)
}

// testSink remembers all it was given, in order, and can fail.
type testSink struct {
	mu   sync.Mutex
	all  []session.Binding
	fail error
}

func (s *testSink) PutBindings(_ context.Context, b []session.Binding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.all = append(s.all, b...)
	return nil
}

func (s *testSink) got() []session.Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func openTest(t testing.TB, dir string, opts Options) *Book {
	t.Helper()
	if opts.Clock == nil {
		c := &testClock{}
		c.set(1000)
		opts.Clock = c.Now
	}
	b, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return b
}

func apply(t testing.TB, b *Book, events ...Event) {
	t.Helper()
	if err := b.Apply(context.Background(), events); err != nil {
		t.Fatal(err)
	}
}

func addr(s string) session.Addr { return session.AddrFrom(netip.MustParseAddr(s)) }

// ev makes an event of NAS "nas" from words: kind, session, subscriber, time
// in seconds and prefixes or addresses.
func ev(kind Kind, id, sub string, at float64, leases ...string) Event {
	e := Event{Kind: kind, At: sec(at), Source: session.SourceRADIUS, NAS: "nas", Session: id, Subscriber: sub}
	for _, l := range leases {
		e.Leases = append(e.Leases, lease(l))
	}
	return e
}

func held(e Event, s float64) Event {
	e.Held, e.HasHeld = time.Duration(s*1e9), true
	return e
}

func on(at float64) Event {
	return Event{Kind: NASOn, At: sec(at), Source: session.SourceRADIUS, NAS: "nas"}
}

func lease(s string) Lease {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Bits() == 56 {
			return Lease{Kind: DelegatedPrefix, Prefix: p}
		}
		return Lease{Kind: FramedPrefix, Prefix: p}
	}
	a := netip.MustParseAddr(s)
	k := IPv6Address
	if a.Is4() {
		k = IPv4Address
	}
	return Lease{Kind: k, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// show prints bindings the way tests expect them: "anna 192.0.2.1/32 0~9~",
// with ~ behind an inferred time and - for no end.
func show(list []session.Binding) string {
	lines := make([]string, 0, len(list))
	for _, b := range list {
		from := fmt.Sprint(float64(b.From-t0) / 1e9)
		to := "-"
		if b.To != session.Forever {
			to = fmt.Sprint(float64(b.To-t0) / 1e9)
		}
		if b.Certainty&session.FromInferred != 0 {
			from += "~"
		}
		if b.Certainty&session.ToInferred != 0 {
			to += "~"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s..%s", b.Subscriber, b.Prefix, from, to))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// bindingAt is At, written out.
func bindingAt(x interface {
	At(session.Addr, uint16, int64) (Hold, bool)
}, a session.Addr, port uint16, ns int64,
) (session.Binding, bool) {
	h, ok := x.At(a, port, ns)
	if !ok {
		return session.Binding{}, false
	}
	return h.Binding(), true
}

// everything returns all bindings in memory.
func (b *Book) everything() []session.Binding {
	var out []session.Binding
	for list := range b.idx.all() {
		for i := range list {
			out = append(out, list[i].binding())
		}
	}
	return out
}

func want(t testing.TB, what string, got []session.Binding, lines ...string) {
	t.Helper()
	slices.Sort(lines)
	if g, w := show(got), strings.Join(lines, "\n"); g != w {
		t.Errorf("%s:\n%s\nwant:\n%s", what, g, w)
	}
}

// permutations calls f with every order of 0..n-1.
func permutations(n int, f func([]int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var rec func(k int)
	rec = func(k int) {
		if k == n {
			f(order)
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			rec(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	rec(0)
}

func openClock(at float64) func() time.Time {
	c := &testClock{}
	c.set(at)
	return c.Now
}
