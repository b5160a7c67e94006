package radius

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "testing123"

// arrival is the time at which everything arrives in tests.
var arrival = time.Date(2026, 6, 1, 12, 0, 0, 500e6, time.UTC)

// testBook keeps events in the order of their coming, and fails when told to.
type testBook struct {
	mu     sync.Mutex
	events []identity.Event
	fail   int           // so many calls of Apply fail
	called chan struct{} // when not nil, gets one for each call
	wait   chan struct{} // when not nil, a call waits for one
}

var errDisk = errors.New("no space left on device")

func (b *testBook) Apply(_ context.Context, events []identity.Event) error {
	if b.called != nil {
		b.called <- struct{}{}
	}
	if b.wait != nil {
		<-b.wait
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail > 0 {
		b.fail--
		return fmt.Errorf("apply: %w", errDisk)
	}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
	}
	b.events = append(b.events, slices.Clone(events)...)
	return nil
}

func (b *testBook) got() []identity.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

// testServer is a server on a loopback port.
type testServer struct {
	*Server
	port string
	addr *net.UDPAddr
	stop func()
}

func serve(t testing.TB, book Book, opts Options, clients ...Client) *testServer {
	t.Helper()
	if clients == nil {
		clients = []Client{{Name: "lab", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte(secret)}}
	}
	if opts.Clock == nil {
		opts.Clock = func() time.Time { return arrival }
	}
	s, err := New(book, clients, opts)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, conn) }() // ends with cancel, in stop
	addr := conn.LocalAddr().(*net.UDPAddr)
	x := &testServer{Server: s, addr: addr, port: fmt.Sprint(addr.Port)}
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		conn.Close()
		x.addsUp(t)
	})
	t.Cleanup(x.stop)
	return x
}

// addsUp checks the balance; nothing may be moving.
func (s *testServer) addsUp(t testing.TB) {
	t.Helper()
	c := s.Stats()
	sum := c.Answered + c.Repeated
	for _, n := range c.Dropped {
		sum += n
	}
	if c.InFlight != 0 || sum != c.Received {
		t.Errorf("the counters do not add up: %+v", c)
	}
}

// radclient sends attributes with the real radclient and returns what it says.
func radclient(t *testing.T, s *testServer, command, secret, attrs string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("radclient"); err != nil {
		t.Fatal("radclient is missing: install freeradius-utils")
	}
	cmd := exec.Command("radclient", append(args, "-x", "127.0.0.1:"+s.port, command, secret)...)
	cmd.Stdin = strings.NewReader(attrs)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// packet encodes a signed request.
func packet(t testing.TB, code codec.Code, id byte, secret string, attrs ...*codec.AVP) []byte {
	t.Helper()
	p := codec.New(code, []byte(secret))
	p.Identifier = id
	p.Attributes = attrs
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func avp(t codec.Type, v []byte) *codec.AVP { return &codec.AVP{Type: t, Attribute: v} }

func num(t codec.Type, v uint32) *codec.AVP { return avp(t, codec.NewInteger(v)) }

func str(t codec.Type, v string) *codec.AVP { return avp(t, []byte(v)) }

// startAttrs are the attributes of a small Start.
func startAttrs(id string) []*codec.AVP {
	return []*codec.AVP{num(40, 1), str(44, id), str(1, "anna"), str(32, "bng"), avp(8, []byte{192, 0, 2, 1})}
}

// nasConn is a NAS that sends datagrams and waits for answers.
type nasConn struct {
	*net.UDPConn
	t testing.TB
}

func dial(t testing.TB, s *testServer) *nasConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &nasConn{c, t}
}

func (c *nasConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *nasConn) receive() []byte {
	c.t.Helper()
	b := make([]byte, 5000)
	n, err := c.Read(b)
	if err != nil {
		c.t.Fatal(err)
	}
	return b[:n]
}

// quiet waits until only so many requests are on their way.
func (s *testServer) quiet(inFlight int64) {
	for s.Stats().InFlight != inFlight {
		runtime.Gosched()
	}
}

// settled sends a Status-Server and waits for its answer, which comes after
// everything sent before has been taken from the socket. One worker only.
func (c *nasConn) settled() {
	c.t.Helper()
	c.send(statusServer(c.t, 255))
	for {
		if b := c.receive(); b[1] == 255 {
			return
		}
	}
}

func statusServer(t testing.TB, id byte) []byte {
	b := packet(t, codec.CodeStatusServer, id, secret, avp(80, make([]byte, 16)))
	copy(b[22:], messageAuthenticator(b, [16]byte(b[4:20]), []byte(secret), 22))
	return b
}

// openBook opens a real book.
func openBook(t *testing.T) *identity.Book {
	t.Helper()
	b, err := identity.Open(t.TempDir(), identity.Options{Clock: func() time.Time { return arrival }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func at(b *identity.Book, addr string, when time.Time) (session.Binding, bool) {
	x, ok := b.At(session.AddrFrom(netip.MustParseAddr(addr)), 0, when.UnixNano())
	if !ok {
		return session.Binding{}, false
	}
	return x.Binding(), true
}
