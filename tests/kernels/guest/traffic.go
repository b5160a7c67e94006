package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// traffic makes a TCP connection over the wire, and looks for its session.
func (u *uplink) traffic(ctx context.Context) (string, error) {
	before, err := u.g.Status(ctx)
	if err != nil {
		return "", err
	}
	port := uint16(8000 + u.native)
	u.native++
	from, err := u.call(ctx, netip.AddrPortFrom(u.g.Server4, port))
	if err != nil {
		return "", err
	}
	done := func(s *gateway.Status) bool { return s.Probe.Table.Stored > before.Probe.Table.Stored }
	after, err := u.g.Until(ctx, "the session is stored", done)
	if err != nil {
		return "", err
	}
	if err := u.g.Balance(ctx); err != nil {
		return "", err
	}
	in, out := after.Probe.Uplinks[0].In, after.Probe.Uplinks[0].Out
	if in.Outcomes["recorded"] == 0 || out.Outcomes["recorded"] == 0 {
		return "", fmt.Errorf("one direction saw nothing: in %+v, out %+v", in, out)
	}
	_, sessions, err := u.g.Sessions(ctx, "--address", own.String())
	if err != nil {
		return "", err
	}
	for _, s := range sessions {
		if s.InitiatorPort == from.Port() && s.ResponderPort == port && s.EndReason == "fin" {
			return "a TCP session, seen both ways", nil
		}
	}
	return "", fmt.Errorf("the session from port %d to %d is not among %+v", from.Port(), port, sessions)
}

// call connects, has its line sent back, and lets the other side close.
func (u *uplink) call(ctx context.Context, to netip.AddrPort) (from netip.AddrPort, err error) {
	l, err := u.g.Internet.Listen(to)
	if err != nil {
		return from, err
	}
	answered := make(chan error, 1)
	go func() { // ends with the connection, or when the listener is closed
		c, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(c, c, 5)
			err = errors.Join(err, c.Close())
		}
		answered <- err
	}()
	c, err := u.g.Gateway().Dial(ctx, "tcp", netip.AddrPortFrom(own, 0), to.String())
	if err != nil {
		return from, errors.Join(err, l.Close())
	}
	from = c.LocalAddr().(*net.TCPAddr).AddrPort()
	if _, err = io.WriteString(c, "hello"); err == nil {
		_, err = io.ReadAll(c)
	}
	return from, errors.Join(err, c.Close(), <-answered, l.Close())
}

// Sizes of the short load.
const (
	loadSessions = 10000 // each way
	loadBatch    = 500   // sent before it is waited for: more would overflow the hub between the cards
)

// load sends one-packet sessions each way; each must be stored once.
func (u *uplink) load(ctx context.Context) (string, error) {
	before, err := u.g.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, w := range []way{
		{u.g.Gateway(), u.g.Internet, "eth1", own, netip.MustParseAddr("203.0.113.1")},
		{u.g.Internet, u.g.Gateway(), "eth0", u.g.Server4, netip.MustParseAddr("192.0.2.129")},
	} {
		if err := w.send(ctx); err != nil {
			return "", err
		}
	}
	want := before.Probe.Table.Stored + 2*loadSessions
	if _, err := u.g.Until(ctx, "the load is stored", func(s *gateway.Status) bool { return s.Probe.Table.Stored >= want }); err != nil {
		return "", err
	}
	if err := u.g.Balance(ctx); err != nil {
		return "", err
	}
	s, err := u.g.Status(ctx)
	if err != nil {
		return "", err
	}
	if s.Probe.Table.Stored != want {
		return "", fmt.Errorf("%d sessions are stored, %d were made", s.Probe.Table.Stored-before.Probe.Table.Stored, 2*loadSessions)
	}
	return fmt.Sprintf("%d sessions, each stored once", 2*loadSessions), nil
}

// way is one direction through the cards.
type way struct {
	out, in  *lab.Namespace
	card     string // that receives
	from, to netip.Addr
}

// send sends a datagram to each of many ports, and waits after each batch until
// the receiving card has it.
func (w way) send(ctx context.Context) error {
	var c net.PacketConn
	err := w.out.Do(func() error {
		var o net.ListenConfig
		var err error
		c, err = o.ListenPacket(ctx, "udp4", netip.AddrPortFrom(w.from, 4000).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer c.Close()
	start, err := w.received()
	if err != nil {
		return err
	}
	for i := range uint64(loadSessions) {
		if _, err := c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.to, uint16(10000+i)))); err != nil {
			return fmt.Errorf("send datagram %d: %w", i, err)
		}
		for sent := i + 1; sent%loadBatch == 0; {
			n, err := w.received()
			if err != nil {
				return err
			}
			if n-start >= sent {
				break
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("wait for datagram %d at %q: %w; %d arrived", sent, w.card, err, n-start)
			}
		}
	}
	return nil
}

// received counts what the receiving card has taken.
func (w way) received() (n uint64, err error) {
	err = w.in.Do(func() error {
		card, err := netlink.LinkByName(w.card)
		if err == nil {
			n = card.Attrs().Statistics.RxPackets
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count what %q received: %w", w.card, err)
	}
	return n, nil
}
