package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Flow is a session as its initiator knows it.
type Flow struct {
	Proto     uint8 // IP protocol number
	Initiator netip.AddrPort
	Responder netip.AddrPort
}

// IP protocol numbers (IANA).
const (
	protoTCP = 6
	protoUDP = 17
)

// Dial connects from the namespace. address has a numeric host; local is where
// from, the zero AddrPort for a free choice.
func (n *Namespace) Dial(ctx context.Context, network string, local netip.AddrPort, address string) (net.Conn, error) {
	var c net.Conn
	err := n.Do(func() error {
		var d net.Dialer
		d.SetMultipathTCP(false)
		switch {
		case !local.IsValid():
		case strings.HasPrefix(network, "udp"):
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		default:
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
		var err error
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen opens a TCP socket in the namespace. It is closed with the lab.
func (n *Namespace) Listen(address netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() error {
		var c net.ListenConfig
		c.SetMultipathTCP(false)
		var err error
		l, err = c.Listen(context.Background(), "tcp", address.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s in namespace %q: %w", address, n.Name, err)
	}
	n.lab.atClose(func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

// ServeHTTP answers each HTTP request to address with body, until the lab is
// closed.
func (n *Namespace) ServeHTTP(address netip.AddrPort, body string) error {
	l, err := n.Listen(address)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }),
	}
	ended := make(chan struct{})
	go func() { // ends when the lab closes the server
		defer close(ended)
		_ = server.Serve(l)
	}()
	n.lab.atClose(func() error {
		err := server.Close()
		<-ended
		return err
	})
	return nil
}

// GetHTTP fetches a page with curl and returns it with its TCP session.
func (n *Namespace) GetHTTP(ctx context.Context, url string) (string, Flow, error) {
	const mark = "\n-- flow "
	out, err := n.Run(ctx, "curl", "--silent", "--show-error", "--fail", "--noproxy", "*",
		"--write-out", mark+"%{local_ip} %{local_port} %{remote_ip} %{remote_port}", url)
	if err != nil {
		return "", Flow{}, err
	}
	body, ends, _ := strings.Cut(out, mark)
	f := strings.Fields(ends)
	if len(f) != 4 {
		return "", Flow{}, fmt.Errorf("curl named no session: %q", out)
	}
	from, err1 := addrPort(f[0], f[1])
	to, err2 := addrPort(f[2], f[3])
	return body, Flow{protoTCP, from, to}, errors.Join(err1, err2)
}

func addrPort(host, port string) (netip.AddrPort, error) {
	return netip.ParseAddrPort(net.JoinHostPort(host, port))
}

// ServeDNS runs dnsmasq on address, answering with the given addresses for the
// given names and for nothing else.
func (n *Namespace) ServeDNS(ctx context.Context, address netip.AddrPort, names map[string]netip.Addr) (*Process, error) {
	args := []string{"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-hosts", "--no-resolv",
		"--bind-interfaces", "--listen-address=" + address.Addr().String(), "--port=" + strconv.Itoa(int(address.Port()))}
	for name, a := range names {
		args = append(args, "--host-record="+name+","+a.String())
	}
	p, err := n.Start(Command{Path: "dnsmasq", Args: args})
	if err != nil {
		return nil, err
	}
	return p, p.WaitListening(ctx, "udp", address.Port())
}

// Lookup asks a DNS server over UDP for one address of a name: network is
// "ip4" (A) or "ip6" (AAAA). It sends one query.
func (n *Namespace) Lookup(ctx context.Context, server netip.AddrPort, network, name string) (netip.Addr, Flow, error) {
	var flow Flow
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := n.Dial(ctx, "udp", netip.AddrPort{}, server.String())
		if err == nil {
			flow = Flow{protoUDP, c.LocalAddr().(*net.UDPAddr).AddrPort(), server}
		}
		return c, err
	}}
	got, err := r.LookupNetIP(ctx, network, strings.TrimSuffix(name, ".")+".")
	if err != nil {
		return netip.Addr{}, flow, fmt.Errorf("look up %q from namespace %q: %w", name, n.Name, err)
	}
	return got[0].Unmap(), flow, nil
}

// Ping sends that many echo requests, a fifth of a second apart, and demands
// an answer to each.
func (n *Namespace) Ping(ctx context.Context, to netip.Addr, count int) error {
	out, err := n.Run(ctx, "ping", "-n", "-i", "0.2", "-c", strconv.Itoa(count), to.String())
	if err != nil {
		return err
	}
	if !strings.Contains(out, fmt.Sprintf("%d received", count)) {
		return fmt.Errorf("ping %s from namespace %q: not every request was answered: %s", to, n.Name, lastLines(out))
	}
	return nil
}

// ServeIperf3 runs an iperf3 server on address.
func (n *Namespace) ServeIperf3(ctx context.Context, address netip.AddrPort) (*Process, error) {
	port := strconv.Itoa(int(address.Port()))
	p, err := n.Start(Command{Path: "iperf3", Args: []string{"--server", "--bind", address.Addr().String(), "--port", port}})
	if err != nil {
		return nil, err
	}
	return p, p.WaitListening(ctx, "tcp", address.Port())
}

// Iperf3 runs an iperf3 client with more arguments, such as "--bytes", "1M",
// and returns its report in JSON.
func (n *Namespace) Iperf3(ctx context.Context, server netip.AddrPort, args ...string) (string, error) {
	args = append([]string{"--client", server.Addr().String(), "--port", strconv.Itoa(int(server.Port())), "--json"}, args...)
	return n.Run(ctx, "iperf3", args...)
}

// Refused connects to a port that nobody listens on, and returns the session.
// A connection that is not refused is an error.
func (n *Namespace) Refused(ctx context.Context, to netip.AddrPort) (Flow, error) {
	flow, err := n.connect(ctx, to, true)
	if err == nil {
		return flow, fmt.Errorf("connect to %s from namespace %q: it was not refused", to, n.Name)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return flow, err
	}
	return flow, nil
}

// HalfOpen sends one SYN to an address that does not answer, and gives up.
func (n *Namespace) HalfOpen(to netip.AddrPort) (Flow, error) {
	return n.connect(context.Background(), to, false)
}

// connect opens a TCP connection by hand, so that its local port is known
// although it does not come about. When wait is false, it is closed after its
// SYN.
func (n *Namespace) connect(ctx context.Context, to netip.AddrPort, wait bool) (Flow, error) {
	flow := Flow{Proto: protoTCP, Responder: to}
	domain, sa := sockaddr(to)
	var fd int
	err := n.Do(func() error {
		var err error
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return flow, fmt.Errorf("open socket in namespace %q: %w", n.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return flow, fmt.Errorf("connect to %s from namespace %q: %w", to, n.Name, err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return flow, fmt.Errorf("connect to %s: own address: %w", to, err)
	}
	flow.Initiator = addrPortOf(local)
	for wait {
		if err := ctx.Err(); err != nil {
			return flow, fmt.Errorf("connect to %s from namespace %q: %w", to, n.Name, err)
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 100) // ms; ctx is looked at between
		if err != nil && !errors.Is(err, unix.EINTR) {
			return flow, fmt.Errorf("connect to %s: %w", to, err)
		}
		wait = ready < 1
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return flow, fmt.Errorf("connect to %s from namespace %q: %w", to, n.Name, err)
	}
	return flow, nil
}

func sockaddr(a netip.AddrPort) (domain int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Accounting sends one RADIUS accounting request with radclient and waits for
// its answer. Attributes are written as in "User-Name = alice".
func (n *Namespace) Accounting(ctx context.Context, server netip.AddrPort, secret string, attributes ...string) error {
	file := filepath.Join(n.lab.dir, "radius.secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("send accounting: %w", err)
	}
	_, err := n.RunCommand(ctx, Command{
		Path: "radclient", Args: []string{"-S", file, "-r", "3", "-t", "2", server.String(), "acct"},
		Stdin: strings.NewReader(strings.Join(attributes, "\n") + "\n"),
	})
	return err
}
