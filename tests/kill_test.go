package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// quickEnds makes sessions end soon, so that tests need not wait for them.
func quickEnds() map[string]string {
	return map[string]string{"half_open =": `half_open = "1s"`, "linger =": `linger = "100ms"`}
}

// connection is what the client knows of one TCP connection.
type connection struct {
	from, to netip.AddrPort
	before   time.Time // the client began to connect
	after    time.Time // the client was connected
}

func (c connection) tuple() string { return fmt.Sprintf("%s %s", c.from, c.to) }

// caller makes short connections from one address to one server.
type caller struct {
	in       *lab.Namespace
	from     netip.Addr
	to       netip.AddrPort
	made     []connection
	total    *atomic.Int64 // of all callers
	reached  func(total int64)
	finished error
}

// call connects and closes, n times, by hand: it takes a fraction of what a
// net.Conn takes, and the local port is known in any case.
func (c *caller) call(ctx context.Context, n int) error {
	domain, to := socketAddr(c.to)
	_, from := socketAddr(netip.AddrPortFrom(c.from, 0))
	return c.in.Do(func() error {
		for range n {
			if err := ctx.Err(); err != nil {
				return err
			}
			made, err := connectAndClose(domain, from, to)
			if err != nil {
				return fmt.Errorf("connect from %s to %s: %w", c.from, c.to, err)
			}
			made.to = c.to
			c.made = append(c.made, made)
			c.reached(c.total.Add(1))
		}
		return nil
	})
}

func connectAndClose(domain int, from, to unix.Sockaddr) (c connection, err error) {
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return c, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return c, err
	}
	if err := unix.Bind(fd, from); err != nil {
		return c, err
	}
	c.before = time.Now()
	if err := unix.Connect(fd, to); err != nil {
		return c, err
	}
	c.after = time.Now()
	local, err := unix.Getsockname(fd)
	if err != nil {
		return c, err
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		c.from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		c.from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return c, nil
}

func socketAddr(a netip.AddrPort) (domain int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// crowd is all callers of a lab: each subscriber, by IPv4 and IPv6.
type crowd struct {
	callers []*caller
	total   atomic.Int64
	mu      sync.Mutex
	waiting map[int64]chan struct{} // closed when so many connections were made
}

// newCrowd starts the servers.
func newCrowd(t *testing.T, g *gateway.Gateway, port uint16) *crowd {
	t.Helper()
	w := &crowd{waiting: map[int64]chan struct{}{}}
	for _, server := range []netip.Addr{g.Server4, g.Server6} {
		at := netip.AddrPortFrom(server, port)
		l, err := g.Internet.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		go acceptAndClose(l) // ends when the lab closes the listener
		for _, s := range g.Subscribers {
			from := s.Addr4
			if server.Is6() {
				from = s.Addr6
			}
			w.callers = append(w.callers, &caller{in: s.Namespace, from: from, to: at, total: &w.total, reached: w.reached})
		}
	}
	return w
}

// acceptAndClose closes each connection after its client has: both ends send
// a FIN and none a RST.
func acceptAndClose(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends when the client closes
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}()
	}
}

func (w *crowd) reached(total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.waiting[total]; c != nil {
		close(c)
		delete(w.waiting, total)
	}
}

// at returns what is closed when so many connections were made since the
// beginning.
func (w *crowd) at(total int64) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	if w.total.Load() >= total {
		close(c)
	} else {
		w.waiting[total] = c
	}
	return c
}

// call has the crowd make n connections, all callers at once. The returned
// function waits for the last of them.
func (w *crowd) call(ctx context.Context, n int) (wait func() error) {
	var wg sync.WaitGroup
	for _, c := range w.callers {
		wg.Go(func() { c.finished = c.call(ctx, n/len(w.callers)) })
	}
	return func() error {
		wg.Wait()
		for _, c := range w.callers {
			if c.finished != nil {
				return c.finished
			}
		}
		return nil
	}
}

// tick is how far the programs' clock may lie behind: times are those of the
// last timer interrupt, and there are at least a hundred a second. Where
// software emulates the machine, an interrupt waits for the emulator's turn.
var tick = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("EDGELOG_TICK")); err == nil {
		return d
	}
	return 10 * time.Millisecond
}()

// storedOnce compares what the clients did with what the store holds of their
// server's port.
func storedOnce(t *testing.T, g *gateway.Gateway, w *crowd) {
	t.Helper()
	reset := 0
	for _, c := range w.callers {
		_, sessions, err := g.Sessions(limited(t), "--address", c.from.String())
		if err != nil {
			t.Fatal(err)
		}
		found, made := map[string][]gateway.Session{}, map[string][]connection{}
		slices.SortFunc(sessions, func(a, b gateway.Session) int { return a.Start.Compare(b.Start) })
		for _, s := range sessions {
			if s.Proto == unix.IPPROTO_TCP && s.ResponderPort == c.to.Port() {
				found[tupleOf(s)] = append(found[tupleOf(s)], s)
			}
		}
		for _, m := range c.made { // a client may take a port again that was freed by RST
			made[m.tuple()] = append(made[m.tuple()], m)
		}
		for tuple, list := range found {
			if len(list) != len(made[tuple]) {
				t.Errorf("%s: connected %d times, stored %d times: %+v", tuple, len(made[tuple]), len(list), list)
				continue
			}
			for i, s := range list {
				reset += made[tuple][i].check(t, s)
			}
		}
		for tuple := range made {
			if len(found[tuple]) == 0 {
				t.Errorf("%s is missing", tuple)
			}
		}
	}
	// Where two processors carry a connection's last packets, one may overtake
	// the other, and the end that has closed already answers the late one by RST.
	if sent := resets(t, g); reset > sent {
		t.Errorf("%d sessions ended by rst, but only %d were sent", reset, sent)
	}
}

// check compares a connection with what is stored of it, and returns 1 when
// that ended by RST.
func (c connection) check(t *testing.T, s gateway.Session) int {
	t.Helper()
	if s.Start.Before(c.before.Add(-tick-time.Millisecond)) || s.Start.After(c.after) || s.End.Before(s.Start) {
		t.Errorf("%s: stored as %s to %s, but connected between %s and %s", c.tuple(), s.Start, s.End, c.before.UTC(), c.after.UTC())
	}
	switch s.EndReason {
	case "fin":
		return 0
	case "rst":
		return 1
	}
	t.Errorf("%s ended by %q", c.tuple(), s.EndReason)
	return 0
}

// resets is how many RST the ends of all connections have sent.
func resets(t *testing.T, g *gateway.Gateway) (n int) {
	t.Helper()
	for _, ns := range []*lab.Namespace{g.Internet, g.Subscribers[0].Namespace, g.Subscribers[1].Namespace} {
		err := ns.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			var names []string
			for line := range strings.Lines(string(text)) {
				values := strings.Fields(line)
				if values[0] != "Tcp:" {
					continue
				}
				if names == nil {
					names = values
					continue
				}
				sent, err := strconv.Atoi(values[slices.Index(names, "OutRsts")])
				n += sent
				return err
			}
			return errors.New("the kernel does not count TCP")
		})
		if err != nil {
			t.Fatalf("count RST sent from %q: %v", ns.Name, err)
		}
	}
	return n
}

func tupleOf(s gateway.Session) string {
	a, err1 := netip.ParseAddr(s.Initiator)
	b, err2 := netip.ParseAddr(s.Responder)
	if err1 != nil || err2 != nil {
		return s.Initiator + " " + s.Responder
	}
	return connection{from: netip.AddrPortFrom(a, s.InitiatorPort), to: netip.AddrPortFrom(b, s.ResponderPort)}.tuple()
}

// allStored waits until nothing is left in the table but what is on disk.
func allStored(ctx context.Context, g *gateway.Gateway, least int) (*gateway.Status, error) {
	return g.Until(ctx, fmt.Sprintf("%d sessions are stored", least), func(s *gateway.Status) bool {
		return s.Probe.Table.Stored >= uint64(least) && s.Probe.Table.Open+s.Probe.Table.Closed == 0
	})
}

// parting is a way in which an agent leaves among connections.
type parting struct {
	when string
	end  func(last int64) error // last: all connections of this part are made then
}

func partings(ctx context.Context, g *gateway.Gateway, w *crowd) []parting {
	return []parting{
		{"killed while connections are made", func(int64) error { g.Kill(); return nil }},
		{"killed again before the new agent is ready", func(last int64) error {
			g.Kill()
			again := w.at(min(w.total.Load()+200, last))
			p, err := g.Launch()
			if err != nil {
				return err
			}
			<-again
			p.Kill()
			return nil
		}},
		{"stopped in good order and started again", func(int64) error { return g.Stop(ctx) }},
		{"killed right after it wrote", func(int64) error {
			before, err := g.Status(ctx)
			if err != nil {
				return err
			}
			_, err = g.Until(ctx, "more is stored", func(s *gateway.Status) bool { return s.Sessions.Stored > before.Sessions.Stored })
			g.Kill()
			return err
		}},
	}
}

func TestAnAgentThatIsKilledAmongTwentyThousandConnectionsLosesAndDoublesNone(t *testing.T) {
	const all = 20_000
	edit := quickEnds()
	edit["flush ="], edit["block_sessions ="] = `flush = "10ms"`, "block_sessions = 64" // so that it is always writing
	g := start(t, gateway.Options{Slots: 1 << 17, Edit: edit})
	ctx := limited(t)
	w := newCrowd(t, g, 8080)
	unwatched := int64(0) // connections that were made while no agent was there
	parts := partings(ctx, g, w)
	each := all / len(parts)
	for i, part := range parts {
		middle := w.at(int64(i*each + each/3))
		wait := w.call(ctx, each)
		<-middle
		if err := part.end(int64((i + 1) * each)); err != nil {
			t.Fatalf("%s: %v", part.when, err)
		}
		ended := w.total.Load()
		if err := g.Start(ctx); err != nil {
			t.Fatalf("%s: %v", part.when, err)
		}
		unwatched += w.total.Load() - ended
		if s, err := g.Status(ctx); err != nil || !s.Probe.Adopted {
			t.Fatalf("%s: the table was not adopted: %v", part.when, err)
		}
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	if unwatched == 0 {
		t.Error("no connection was made while the agent was gone, so this test proves little")
	}
	t.Logf("%d connections were made while no agent was there", unwatched)
	if _, err := allStored(ctx, g, all); err != nil {
		t.Fatal(err)
	}
	storedOnce(t, g, w)
}
