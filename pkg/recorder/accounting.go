package recorder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/radius"
)

// socketBuffer is asked for each accounting socket, in bytes: some thousands
// of requests may wait in it while the disk is busy. The kernel may give less.
const socketBuffer = 4 << 20

// accounting is the RADIUS accounting server. A nil one is none: its methods
// do nothing.
type accounting struct {
	server *radius.Server
	conns  []*net.UDPConn
}

// openAccounting reads the clients' secrets and binds the listeners. Nothing is
// answered before Run.
func (r *Recorder) openAccounting() error {
	c := &r.o.Config.RADIUS
	if len(c.Listen) == 0 {
		return nil
	}
	clients, err := withSecrets(c.Clients)
	if err != nil {
		return err
	}
	server, err := radius.New(r.book, clients, radius.Options{
		Clock: r.o.Now, Logger: r.log,
		Trouble: func(text string) { r.note(errors.New(text)) },
	})
	if err != nil {
		return fmt.Errorf("RADIUS accounting: %w", err)
	}
	a := &accounting{server: server}
	r.onClose(a.close)
	for _, at := range c.Listen {
		conn, err := ListenAccounting(at)
		if err != nil {
			return fmt.Errorf("listen for RADIUS accounting on %q: %w", at, ListenError(err))
		}
		a.conns = append(a.conns, conn)
		if err := conn.SetReadBuffer(socketBuffer); err != nil {
			r.log.Warn("the RADIUS socket keeps its small buffer", "listen", at.String(), "error", err)
		}
	}
	r.radius = a
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

// withSecrets reads the secret file of each client.
func withSecrets(list []config.RADIUSClient) ([]radius.Client, error) {
	out := make([]radius.Client, len(list))
	for i, c := range list {
		secret, err := config.ReadSecret(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("RADIUS client %s: %w", c.Address, err)
		}
		out[i] = radius.Client{Prefix: c.Address, Secret: secret}
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
	errs := make([]error, len(a.conns))
	for i, conn := range a.conns {
		wg.Go(func() { // ends with ctx, or when its socket fails
			if errs[i] = a.server.Serve(ctx, conn); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// setClients replaces the clients; their secrets are read again.
func (a *accounting) setClients(list []config.RADIUSClient) error {
	clients, err := withSecrets(list)
	if err != nil {
		return err
	}
	return a.server.SetClients(clients)
}

func (a *accounting) close() error {
	var errs []error
	for _, conn := range a.conns {
		errs = append(errs, conn.Close())
	}
	a.conns = nil
	return errors.Join(errs...)
}

// status returns nil when there is no server.
func (a *accounting) status() *RADIUSStatus {
	if a == nil {
		return nil
	}
	s := steadyStats(a.server.Stats)
	for _, conn := range a.conns {
		s.Listen = append(s.Listen, conn.LocalAddr().String())
	}
	return &s
}
