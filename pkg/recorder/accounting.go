package recorder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/radius"
)

// socketBuffer is asked for each accounting socket, in bytes: some thousands
// of requests may wait in it while the disk is busy. The kernel may give less.
const socketBuffer = 4 << 20

// accounting is the RADIUS accounting server. A nil one is none: its methods
// do nothing.
type accounting struct {
	server  *radius.Server
	conns   []*net.UDPConn
	streams []*net.TCPListener
	options radius.StreamOptions
}

// openAccounting reads secrets and certificates and binds the listeners.
// Nothing is answered before Run. Without a listener there is a server all the
// same: files may be imported.
func (r *Recorder) openAccounting() error {
	c := &r.o.Config.RADIUS
	clients, err := withSecrets(c.Clients)
	if err != nil && len(c.Listen) > 0 {
		return err
	}
	server, err := radius.New(r.book, clients, radius.Options{
		Clock: r.o.Now, Logger: r.log, PreferCUI: c.PreferCUI, MACSubscriber: c.MACSubscriber,
		Trouble: func(text string) { r.note(errors.New(text)) },
	})
	if err != nil {
		return fmt.Errorf("RADIUS accounting: %w", err)
	}
	a := &accounting{server: server, options: radius.StreamOptions{Connections: c.RadSec.Connections, Idle: c.RadSec.Idle}}
	if err := a.setTables(r.o.Config); err != nil {
		return err
	}
	r.onClose(a.close)
	r.radius = a
	for _, at := range c.Listen {
		conn, err := ListenAccounting(at)
		if err != nil {
			return fmt.Errorf("listen for RADIUS accounting on %q: %w", at, ListenError(err))
		}
		a.conns = append(a.conns, conn)
		if err := enlarge(conn); err != nil {
			r.log.Warn("the RADIUS socket keeps its small buffer", "listen", at.String(), "error", err)
		}
	}
	if len(c.RadSec.Listen) == 0 {
		return nil
	}
	if err := a.setCredentials(&c.RadSec); err != nil {
		return err
	}
	for _, at := range c.RadSec.Listen {
		ln, err := ListenRadSec(at)
		if err != nil {
			return fmt.Errorf("listen for RADIUS over TLS on %q: %w", at, ListenError(err))
		}
		a.streams = append(a.streams, ln)
	}
	return nil
}

// ListenAccounting binds a socket for accounting requests. One for IPv4 is an
// IPv4 socket: it answers with the address that it was asked on.
func ListenAccounting(at netip.AddrPort) (*net.UDPConn, error) {
	network := "udp6"
	if at.Addr().Unmap().Is4() {
		network = "udp4"
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())))
}

// enlarge gives a socket its buffer: beyond net.core.rmem_max where CAP_NET_ADMIN
// permits it, else as much as there is to be had.
func enlarge(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var forced error
	err = raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	})
	if err == nil && forced == nil {
		return nil
	}
	return conn.SetReadBuffer(socketBuffer)
}

// ListenRadSec binds a socket for RADIUS over TLS.
func ListenRadSec(at netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp6"
	if at.Addr().Unmap().Is4() {
		network = "tcp4"
	}
	return net.ListenTCP(network, net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())))
}

// withSecrets reads the secret file of each client.
func withSecrets(list []config.RADIUSClient) ([]radius.Client, error) {
	out := make([]radius.Client, len(list))
	for i, c := range list {
		secret, err := config.ReadSecret(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("RADIUS client %s: %w", c.Address, err)
		}
		out[i] = radius.Client{
			Name: c.Name, Prefix: c.Address, Secret: secret, Permit: radius.Permit{NAS: c.NAS, Prefixes: c.Prefixes},
			RequireMessageAuthenticator: c.RequireMessageAuthenticator,
		}
	}
	return out, nil
}

// run answers until ctx ends and everything that was taken has been answered.
func (a *accounting) run(ctx context.Context) error {
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(a.conns)+len(a.streams))
	serve := func(run func() error) {
		wg.Go(func() { // ends with ctx, or when its socket fails
			if err := run(); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	for _, conn := range a.conns {
		serve(func() error { return a.server.Serve(ctx, conn) })
	}
	for _, ln := range a.streams {
		serve(func() error { return a.server.ServeTLS(ctx, ln, a.options) })
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// setClients replaces the clients; their secrets are read again.
func (a *accounting) setClients(list []config.RADIUSClient) error {
	clients, err := withSecrets(list)
	if err != nil {
		return err
	}
	return a.server.SetClients(clients)
}

// setCredentials reads the files of RADIUS over TLS again.
func (a *accounting) setCredentials(c *config.RadSec) error {
	if len(c.Listen) == 0 {
		return nil
	}
	credentials, err := ReadRadSec(c)
	if err != nil {
		return err
	}
	return a.server.SetCredentials(credentials)
}

// setTables gives the server the tables of a configuration.
func (a *accounting) setTables(c *config.Config) error {
	var t radius.Tables
	for _, b := range c.RADIUS.Blocks {
		t.Blocks = append(t.Blocks, radius.PortBlock{
			Vendor: b.Vendor, Address: b.Address, Range: b.Range, Start: b.Start, End: b.End,
			Update: b.Update, Released: b.Released, Whole: b.Whole,
		})
	}
	for _, p := range c.Places {
		t.Places = append(t.Places, radius.Place{NAS: p.NAS, Called: p.Called, Port: p.Port, Text: p.Text})
	}
	if err := a.server.SetTables(t); err != nil {
		return fmt.Errorf("RADIUS accounting: %w", err)
	}
	return nil
}

func (a *accounting) close() error {
	var errs []error
	for _, conn := range a.conns {
		errs = append(errs, conn.Close())
	}
	for _, ln := range a.streams {
		errs = append(errs, ln.Close())
	}
	a.conns, a.streams = nil, nil
	return errors.Join(errs...)
}

// status returns nil when nothing is listened on.
func (a *accounting) status() *RADIUSStatus {
	if a == nil || len(a.conns)+len(a.streams) == 0 {
		return nil
	}
	s := steadyStats(a.server.Stats)
	for _, conn := range a.conns {
		s.Listen = append(s.Listen, conn.LocalAddr().String())
	}
	for _, ln := range a.streams {
		s.ListenTLS = append(s.ListenTLS, ln.Addr().String())
	}
	return &s
}
