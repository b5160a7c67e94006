package lab

import (
	"context"
	"crypto/md5"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPacketsCrossTheBorderBothWays(t *testing.T) {
	b := NewBorder(t)
	for _, s := range b.Subscribers {
		for _, to := range []netip.Addr{b.Server4, b.Server6} {
			must(t, s.Ping(t.Context(), to, 1))
		}
		must(t, b.Internet.Ping(t.Context(), s.Addr4, 1))
		must(t, b.Internet.Ping(t.Context(), s.Addr6, 1))
		if !b.Local[0].Contains(s.Addr4) || !b.Local[1].Contains(s.Addr6) || !s.Prefix6.Contains(s.Addr6) {
			t.Errorf("the addresses of %s are not in the provider's prefixes", s.Name)
		}
	}
}

func TestRealProgramsTalkAcrossTheBorder(t *testing.T) {
	b, ctx := NewBorder(t), t.Context()
	alice, bob := b.Subscribers[0], b.Subscribers[1]

	web := netip.AddrPortFrom(b.Server4, 80)
	must(t, b.Internet.ServeHTTP(web, "hello"))
	page, flow, err := alice.GetHTTP(ctx, "http://"+web.String()+"/")
	if err != nil || page != "hello" || flow.Responder != web || flow.Initiator.Addr() != alice.Addr4 || flow.Initiator.Port() == 0 {
		t.Errorf("HTTP: %q, %+v, %v", page, flow, err)
	}

	dns := netip.AddrPortFrom(b.Server6, 53)
	want := netip.MustParseAddr("198.51.100.77")
	_, err = b.Internet.ServeDNS(ctx, dns, map[string]netip.Addr{"www.example.net": want})
	must(t, err)
	got, flow, err := bob.Lookup(ctx, dns, "ip4", "www.example.net")
	if err != nil || got != want || flow.Proto != 17 || flow.Initiator.Addr() != bob.Addr6 || flow.Responder != dns {
		t.Errorf("DNS: %v, %+v, %v", got, flow, err)
	}

	meter := netip.AddrPortFrom(b.Server6, 5201)
	_, err = b.Internet.ServeIperf3(ctx, meter)
	must(t, err)
	report, err := alice.Iperf3(ctx, meter, "--bytes", "1M")
	if err != nil || !strings.Contains(report, `"sum_received"`) {
		t.Errorf("iperf3: %v, %s", err, report)
	}

	closed := netip.AddrPortFrom(b.Server6, 9)
	flow, err = bob.Refused(ctx, closed)
	if err != nil || flow.Responder != closed || flow.Initiator.Addr() != bob.Addr6 || flow.Initiator.Port() == 0 {
		t.Errorf("refused: %+v, %v", flow, err)
	}
	if _, err := bob.Refused(ctx, web); err == nil {
		t.Error("a connection that came about was taken for a refused one")
	}
}

func TestAHalfOpenConnectionIsOneSYNWithoutAnswer(t *testing.T) {
	b, ctx := NewBorder(t), t.Context()
	out := filepath.Join(b.Dir(), "rules")
	must(t, os.WriteFile(out, []byte(`table inet lab {
	counter out { packets 0 bytes 0; }
	counter other { packets 0 bytes 0; }
	chain f {
		type filter hook forward priority 0;
		tcp flags == syn counter name "out"
		tcp flags != syn counter name "other"
	}
}
`), 0o600))
	_, err := b.Gateway.Run(ctx, "nft", "-f", out)
	must(t, err)
	for _, to := range []netip.Addr{b.Blackhole4, b.Blackhole6} {
		flow, err := b.Subscribers[0].HalfOpen(netip.AddrPortFrom(to, 443))
		if err != nil || flow.Initiator.Port() == 0 || flow.Responder.Addr() != to {
			t.Errorf("half-open to %v: %+v, %v", to, flow, err)
		}
	}
	// One ping behind each, so that what was to come back has come back.
	must(t, b.Subscribers[0].Ping(ctx, b.Server4, 1))
	must(t, b.Subscribers[0].Ping(ctx, b.Server6, 1))
	counters, err := b.Gateway.Run(ctx, "nft", "list", "counters")
	must(t, err)
	if strings.Count(counters, "packets 2 ") != 1 || strings.Count(counters, "packets 0 ") != 1 {
		t.Fatalf("not two SYNs and nothing else:\n%s", counters)
	}
}

// radius answers accounting requests whose authenticator is right (RFC 2866
// §3), and sends each User-Name to names.
func radius(c net.PacketConn, secret string, names chan<- string) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			close(names)
			return
		}
		p := append([]byte(nil), buf[:n]...)
		got := [16]byte(p[4:20])
		clear(p[4:20])
		if md5.Sum(append(p, secret...)) != got {
			continue
		}
		for a := p[20:]; len(a) > 2; a = a[a[1]:] {
			if a[0] == 1 {
				names <- string(a[2:a[1]])
			}
		}
		answer := append([]byte{5, p[1], 0, 20}, got[:]...)
		sum := md5.Sum(append(answer, secret...))
		_, _ = c.WriteTo(append(answer[:4], sum[:]...), from)
	}
}

func TestRadclientSendsAccounting(t *testing.T) {
	b := NewBorder(t)
	server := netip.MustParseAddrPort("127.0.0.1:1813")
	var c net.PacketConn
	must(t, b.Gateway.Do(func() error {
		var err error
		c, err = net.ListenPacket("udp4", server.String())
		return err
	}))
	names := make(chan string, 1)
	go radius(c, "sesame", names)
	must(t, b.Gateway.Accounting(t.Context(), server, "sesame", "User-Name = alice", "Acct-Status-Type = Start",
		"Acct-Session-Id = 0001", "Framed-IP-Address = "+b.Subscribers[0].Addr4.String()))
	if got := <-names; got != "alice" {
		t.Fatalf("the server got User-Name %q", got)
	}
	must(t, c.Close())
}

func TestTheLabHasABPFFileSystemThatProgramsSee(t *testing.T) {
	b := NewBorder(t)
	var s unix.Statfs_t
	must(t, unix.Statfs(b.BPFFS(), &s))
	if s.Type != unix.BPF_FS_MAGIC {
		t.Fatalf("%s is a file system of type %#x", b.BPFFS(), s.Type)
	}
	pin := filepath.Join(b.BPFFS(), "dir")
	_, err := b.Gateway.Run(t.Context(), "mkdir", pin)
	must(t, err)
	if _, err := os.Stat(pin); err != nil {
		t.Fatal("a program in the namespace sees another file system: ", err)
	}
}

func TestReadinessEndsWhenTheProgramDoes(t *testing.T) {
	b := NewBorder(t)
	for name, wait := range map[string]func(*Process) error{
		"file":   func(p *Process) error { return p.WaitFile(t.Context(), filepath.Join(b.Dir(), "ready")) },
		"socket": func(p *Process) error { return p.WaitListening(t.Context(), "tcp", 1) },
	} {
		p, err := b.Gateway.Start(Command{Path: "sh", Args: []string{"-c", "echo no such luck; exit 3"}})
		must(t, err)
		if err := wait(p); !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "no such luck") {
			t.Errorf("%s: got %v, want ErrExited and what it printed", name, err)
		}
	}
}

func TestReadinessIsSeenWhenItComes(t *testing.T) {
	b := NewBorder(t)
	ready := filepath.Join(b.Dir(), "ready")
	// The program makes the file only when it is told to, while it is waited for.
	r, w, err := os.Pipe()
	must(t, err)
	p, err := b.Gateway.Start(Command{Path: "sh", Args: []string{"-c", `read x; echo ok > "$0"; read x`, ready}, Stdin: r})
	must(t, err)
	waited := make(chan error)
	go func() { waited <- p.WaitFile(t.Context(), ready) }()
	_, err = w.WriteString("go\n")
	must(t, err)
	must(t, <-waited)
	must(t, errors.Join(w.Close(), r.Close()))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q, err := b.Gateway.Start(Command{Path: "sleep", Args: []string{"1000"}})
	must(t, err)
	if err := q.WaitFile(ctx, filepath.Join(b.Dir(), "never")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the end of the context", err)
	}
}
