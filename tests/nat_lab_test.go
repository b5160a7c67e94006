package tests

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// translator is a gateway that translates subscribers with inside addresses of
// their own, 100.64.0.1 and up, who share the namespace of the first subscriber.
// What the server sees of each connection, and what its payload says of who sent
// it, is the truth.
type translator struct {
	*gateway.Gateway
	server netip.AddrPort

	mu    sync.Mutex
	truth map[flow]netip.AddrPort // by what the server saw: the inside end
	held  []io.Closer
	ports atomic.Uint32 // of UDP, each taken once
}

// flow is what the server sees.
type flow struct {
	proto  uint8
	public netip.AddrPort
}

var (
	insideNet = netip.MustParsePrefix("100.64.0.0/24")
	pool      = netip.MustParsePrefix("203.0.113.64/29")
)

func insideAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, 0, byte(i)}) }

func subscriberName(i int) string { return fmt.Sprintf("sub%02d@example.net", i) }

const masquerade = `oifname "uplink" ip saddr 100.64.0.0/24 masquerade`

// openTranslator makes the network and starts the agent. The rules are those of
// nftables behind the translation of sources; more is put beside them.
func openTranslator(t *testing.T, subscribers int, rule, more string, o gateway.Options) *translator {
	t.Helper()
	edit := map[string]string{
		"local =": fmt.Sprintf(`local = ["198.51.100.1/32", %q]`, pool), "conntrack =": "conntrack = true",
		"udp =": `udp = "2s"`, "icmp =": `icmp = "2s"`,
	}
	maps.Copy(edit, quickEnds())
	maps.Copy(edit, o.Edit)
	o.Edit = edit
	x := &translator{Gateway: open(t, 0, o), truth: map[flow]netip.AddrPort{}}
	x.server = netip.AddrPortFrom(x.Server4, 8000)
	alice := x.Subscribers[0]
	for i := 1; i <= subscribers; i++ {
		x.must(t, alice.Namespace, "ip", "addr", "add", insideAddr(i).String()+"/32", "dev", "wan")
	}
	if err := errors.Join(x.Gateway.Gateway().Route(insideNet, alice.Addr4), x.Internet.Route(pool, x.Gateway4)); err != nil {
		t.Fatal(err)
	}
	x.nft(t, "table ip nat {\nchain post { type nat hook postrouting priority srcnat; policy accept; "+rule+"; }\n"+more+"\n}\n")
	if err := x.Start(limited(t)); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= subscribers && o.Profile != "access"; i++ {
		x.logOn(t, subscriberName(i), insideAddr(i))
	}
	x.serve(t)
	return x
}

func (x *translator) must(t *testing.T, n *lab.Namespace, path string, args ...string) string {
	t.Helper()
	out, err := n.Run(limited(t), path, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (x *translator) nft(t *testing.T, rules string) {
	t.Helper()
	if out, err := x.Gateway.Gateway().RunCommand(limited(t), lab.Command{Path: "nft", Args: []string{"-f", "-"}, Stdin: strings.NewReader(rules)}); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

func (x *translator) logOn(t *testing.T, who string, a netip.Addr) {
	t.Helper()
	err := x.Gateway.Gateway().Accounting(limited(t), netip.MustParseAddrPort("127.0.0.1:1813"), x.Secret,
		"Acct-Status-Type = Start", fmt.Sprintf("Acct-Session-Id = %q", a), fmt.Sprintf("User-Name = %q", who), "Framed-IP-Address = "+a.String())
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers TCP and UDP with what it got, and notes who that was.
func (x *translator) serve(t *testing.T) {
	l, err := x.Internet.Listen(x.server)
	if err != nil {
		t.Fatal(err)
	}
	var udp *net.UDPConn
	err = x.Internet.Do(func() (err error) {
		udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(x.server))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = udp.SetReadBuffer(8 << 20)
	var wg sync.WaitGroup
	wg.Go(func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { x.answer(c) }) // ends with the client
		}
	})
	wg.Go(func() { // ends when udp is closed
		buf := make([]byte, 100)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			x.note(session.UDP, from, string(buf[:n]))
			_, _ = udp.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		x.end()
		_ = l.Close()
		_ = udp.Close()
		wg.Wait()
	})
}

func (x *translator) answer(c net.Conn) {
	defer c.Close()
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		x.note(session.TCP, c.RemoteAddr().(*net.TCPAddr).AddrPort(), line)
		_, _ = io.WriteString(c, line)
	}
}

func (x *translator) note(proto uint8, public netip.AddrPort, line string) {
	inside, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.truth[flow{proto, netip.AddrPortFrom(public.Addr().Unmap(), public.Port())}] = inside
}

// talk opens a session of a subscriber, and keeps it until end.
func (x *translator) talk(ctx context.Context, network string, subscriber int, port uint16) error {
	c, err := x.Subscribers[0].Dial(ctx, network, netip.AddrPortFrom(insideAddr(subscriber), port), x.server.String())
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.held = append(x.held, c)
	x.mu.Unlock()
	line := c.LocalAddr().String() + "\n"
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	_, err = bufio.NewReader(c).ReadString('\n')
	return err
}

// burst has each of so many subscribers open n sessions, a fifth of them UDP, and
// returns how many there are.
func (x *translator) burst(t *testing.T, subscribers, n int) int {
	t.Helper()
	ctx := limited(t)
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // ends when jobs is closed
			for i := range jobs {
				network, port := "tcp4", uint16(0)
				if i%5 == 0 { // a port that is taken again within the idle time would be the same session
					network, port = "udp4", uint16(20000+x.ports.Add(1)%12000)
				}
				if err := x.talk(ctx, network, 1+i%subscribers, port); err != nil {
					t.Errorf("session %d: %v", i, err)
				}
			}
		})
	}
	for i := range subscribers * n {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return subscribers * n
}

// end ends all sessions.
func (x *translator) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.held {
		_ = c.Close()
	}
	x.held = nil
}

// stored waits until that many sessions are stored.
func (x *translator) stored(t *testing.T, n int) {
	t.Helper()
	if _, err := x.Until(limited(t), "all is stored", func(s *gateway.Status) bool { return s.Probe.Table.Stored >= uint64(n) && s.Probe.Table.Open == 0 }); err != nil {
		t.Fatal(err)
	}
}

// named compares every stored session of the server with the truth. It returns
// how many have the right inside end and name, and how many have none.
func (x *translator) named(t *testing.T) (right, without int) {
	t.Helper()
	if err := x.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	seen := map[flow]bool{}
	err := eachRecord(t.Context(), x.Gateway, x.DataDir(), func(s *session.Session) {
		if s.ResponderPort != x.server.Port() || s.Responder.Netip() != x.server.Addr() {
			return
		}
		f := flow{s.Proto, netip.AddrPortFrom(s.Initiator.Netip(), s.InitiatorPort)}
		inside, known := x.truth[f]
		got := netip.AddrPortFrom(s.Inside.Netip(), s.InsidePort)
		switch {
		case !known:
			t.Errorf("a session of %v that nobody made", f)
		case s.Inside == (session.Addr{}):
			without++
			if s.Subscriber != "" {
				t.Errorf("%v has no inside end and the name %q", f, s.Subscriber)
			}
		case got != inside || s.Subscriber != nameOf(inside.Addr()):
			t.Errorf("%v is said to be %v, %q, and is %v", f, got, s.Subscriber, inside)
		default:
			right++
		}
		seen[f] = true
	})
	if err != nil {
		t.Fatal(err)
	}
	for f := range x.truth {
		if !seen[f] {
			t.Errorf("the session of %v is not stored", f)
		}
	}
	return right, without
}

func nameOf(inside netip.Addr) string { return subscriberName(int(inside.As4()[3])) }

// conntrackTruth reads what "conntrack -E -o extended" printed: the inside end
// of each public one.
func conntrackTruth(t *testing.T, text string, server netip.AddrPort) map[flow]netip.AddrPort {
	t.Helper()
	out := map[flow]netip.AddrPort{}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "[NEW]") {
			continue
		}
		var proto uint8
		var src, dst []string
		var sport, dport []uint16
		for _, w := range strings.Fields(line) {
			key, value, _ := strings.Cut(w, "=")
			n, _ := strconv.ParseUint(value, 10, 16)
			switch key {
			case "tcp":
				proto = session.TCP
			case "udp":
				proto = session.UDP
			case "src":
				src = append(src, value)
			case "dst":
				dst = append(dst, value)
			case "sport":
				sport = append(sport, uint16(n))
			case "dport":
				dport = append(dport, uint16(n))
			}
		}
		if len(src) != 2 || len(sport) != 2 || dst[0] != server.Addr().String() || dport[0] != server.Port() {
			continue
		}
		public := netip.AddrPortFrom(netip.MustParseAddr(dst[1]), dport[1])
		out[flow{proto, public}] = netip.AddrPortFrom(netip.MustParseAddr(src[0]), sport[0])
	}
	return out
}
