package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// datagrams is the link of a UDP socket.
type datagrams struct{ conn *net.UDPConn }

func (d *datagrams) reply(j *job, answer []byte) error {
	_, err := d.conn.WriteToUDPAddrPort(answer, j.from)
	return err
}

// Serve answers requests on conn until ctx is done or conn fails, and returns
// when all that it took has been answered or dropped: nil when ctx was done. It
// does not close conn. On a host with several addresses bind conn to the one
// that clients send to: an answer from another address is not accepted.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	queue := make(chan *job, s.opts.Queue)
	var workers sync.WaitGroup
	for range s.opts.Workers {
		workers.Go(func() { s.work(context.WithoutCancel(ctx), queue) }) // ends when queue is closed, below
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	err := s.read(&datagrams{conn}, queue)
	close(queue)
	workers.Wait()
	if !stop() && ctx.Err() != nil {
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return conn.SetReadDeadline(time.Time{})
	}
	return fmt.Errorf("receive radius on %s: %w", conn.LocalAddr(), err)
}

// read puts datagrams into the queue until conn fails.
func (s *Server) read(d *datagrams, queue chan<- *job) error {
	for {
		j := s.jobs.Get().(*job)
		n, from, err := d.conn.ReadFromUDPAddrPort(j.buf[:])
		if err != nil {
			s.free(j)
			return err
		}
		j.n, j.from, j.link = n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), d
		s.count.received.Add(1)
		s.count.inFlight.Add(1)
		j.at = s.opts.Clock()
		j.client = s.client(j.from.Addr())
		if j.client == nil {
			s.unknownClient(j.at, j.from.Addr())
			s.drop(j, dropUnknownClient)
			continue
		}
		j.client.received.Add(1)
		if why, ok := form(j.data()); !ok {
			s.drop(j, why)
			continue
		}
		select {
		case queue <- j:
		default:
			s.drop(j, dropQueue)
		}
	}
}
