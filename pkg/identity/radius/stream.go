package radius

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	codec "layeh.com/radius"
)

// streamSecret is the shared secret within TLS (RFC 6614 §2.3).
const streamSecret = "radsec"

const (
	handshakeTime = 10 * time.Second // from accepting a connection to its client's certificate being accepted
	packetTime    = 10 * time.Second // from the first byte of a packet to its last
	writeTime     = 10 * time.Second // for an answer to be taken
	answersQueued = 1024             // that wait for a client to take them
	perAddress    = 16               // connections of one address
	keepAlive     = 30 * time.Second // between probes of a silent connection
)

// StreamOptions of ServeTLS.
type StreamOptions struct {
	Connections int           // at once, the ones that shake hands included; 0: 256
	Idle        time.Duration // after which a connection without a request is closed; 0: an hour
}

// streams are all connections, and what became of earlier ones.
type streams struct {
	credentials atomic.Pointer[credentials]

	mu       sync.Mutex
	open     map[*stream]struct{}
	of       map[netip.Addr]int // connections of an address
	accepted uint64
	ended    [ends]uint64
}

// stream is one connection.
type stream struct {
	server  *Server
	raw     net.Conn
	conn    *tls.Conn
	from    netip.AddrPort
	since   time.Time
	client  *client
	peer    atomic.Pointer[[]*x509.Certificate] // nil: it shakes hands; after client is set
	answers chan []byte

	received, answered atomic.Uint64

	stopping atomic.Bool // nothing more is read

	once sync.Once
	why  atomic.Int32  // the end
	gone chan struct{} // closed at the end
}

var errStreamGone = errors.New("the connection is closed")

// reply queues the answer for the goroutine that writes. A client that does not
// take its answers loses the connection.
func (st *stream) reply(_ *job, answer []byte) error {
	select {
	case <-st.gone:
		return errStreamGone
	default:
	}
	select {
	case st.answers <- bytes.Clone(answer):
		st.answered.Add(1)
		return nil
	default:
		st.end(endSlow)
		return errStreamGone
	}
}

// end closes the connection; the first reason counts.
func (st *stream) end(why end) {
	st.once.Do(func() {
		st.why.Store(int32(why))
		close(st.gone)
		_ = st.raw.Close() // what waits for it sees that it is closed
	})
}

// ServeTLS answers requests that come by RADIUS over TLS (RFC 6614) on ln until
// ctx is done or ln fails, and returns when all that it took has been answered
// or dropped and all connections are closed: nil when ctx was done. It does not
// close ln. SetCredentials must have been called.
func (s *Server) ServeTLS(ctx context.Context, ln *net.TCPListener, o StreamOptions) error {
	if o.Connections <= 0 {
		o.Connections = 256
	}
	if o.Idle <= 0 {
		o.Idle = time.Hour
	}
	serving := &streaming{queue: make(chan *job, s.opts.Queue), drained: make(chan struct{}), idle: o.Idle}
	var workers sync.WaitGroup
	durable := context.WithoutCancel(ctx)
	for range s.opts.Workers {
		workers.Go(func() { s.work(durable, serving.queue) }) // ends when queue is closed, below
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ln.SetDeadline(time.Unix(1, 0)) })
	err := s.accept(ctx, ln, serving, o.Connections)
	asked := ctx.Err() != nil
	cancel()
	stop()
	serving.readers.Wait()
	close(serving.queue)
	workers.Wait()
	close(serving.drained)
	serving.conns.Wait()
	if asked {
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return ln.SetDeadline(time.Time{})
	}
	return fmt.Errorf("accept radius over tls on %s: %w", ln.Addr(), err)
}

// streaming is what the connections of one listener share.
type streaming struct {
	queue   chan *job
	drained chan struct{} // closed when the workers have answered all that was in queue
	idle    time.Duration

	readers, conns sync.WaitGroup
}

// acceptPause is how long accepting waits when the process has too many files
// open.
const acceptPause = 100 * time.Millisecond

// accept takes connections until ctx is done or ln fails.
func (s *Server) accept(ctx context.Context, ln *net.TCPListener, serving *streaming, most int) error {
	for {
		raw, err := ln.AcceptTCP()
		switch {
		case errors.Is(err, unix.ECONNABORTED): // that one was gone before it was accepted
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		case err != nil:
			return err
		default:
			if st := s.streams.begin(s, raw, most); st != nil {
				serving.readers.Add(1)
				serving.conns.Go(func() { s.stream(ctx, st, serving) }) // ends with ctx, or with its connection
			}
		}
	}
}

// begin takes a connection in, or refuses it.
func (ss *streams) begin(s *Server, raw *net.TCPConn, most int) *stream {
	from, _ := raw.RemoteAddr().(*net.TCPAddr) // of the kind of the listener's
	st := &stream{server: s, raw: raw, since: s.opts.Clock(), gone: make(chan struct{}), answers: make(chan []byte, answersQueued)}
	st.from = netip.AddrPortFrom(from.AddrPort().Addr().Unmap(), from.AddrPort().Port())
	_ = raw.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 4}) // without it the idle time decides
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.accepted++
	a := st.from.Addr()
	if len(ss.open) >= most || ss.of[a] >= perAddress {
		ss.ended[endCrowded]++
		_ = raw.Close()
		return nil
	}
	if ss.of == nil {
		ss.of = map[netip.Addr]int{}
	}
	ss.open[st] = struct{}{}
	ss.of[a]++
	return st
}

// done counts the end of a connection.
func (ss *streams) done(st *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.open, st)
	a := st.from.Addr()
	if ss.of[a]--; ss.of[a] == 0 {
		delete(ss.of, a)
	}
	ss.ended[st.why.Load()]++
}

// stream lives for one connection. When ctx ends, what was taken is answered
// before the connection is closed.
func (s *Server) stream(ctx context.Context, st *stream, serving *streaming) {
	defer s.streams.done(st)
	if why, ok := s.shake(ctx, st); !ok {
		serving.readers.Done()
		st.end(why)
		return
	}
	stop := context.AfterFunc(ctx, func() {
		st.stopping.Store(true)
		_ = st.conn.SetReadDeadline(time.Unix(1, 0)) // on a failure the connection ends by itself
	})
	defer stop()
	var writer sync.WaitGroup
	writer.Go(st.write) // ends with the connection, or when answers is closed
	why := s.readStream(st, st.conn, serving.queue, serving.idle)
	serving.readers.Done()
	if why == endStopped {
		<-serving.drained
		close(st.answers) // no worker is left to put one in
		writer.Wait()
	}
	if why != endFailed && st.conn.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		_ = st.conn.CloseWrite() // says that it ends; a client that is gone need not know
	}
	st.end(why)
	writer.Wait()
}

// write sends the answers until the connection ends.
func (st *stream) write() {
	for {
		select {
		case b, ok := <-st.answers:
			if !ok {
				return
			}
			if err := st.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				st.end(endFailed)
				return
			}
			if _, err := st.conn.Write(b); err != nil {
				st.end(endFailed)
				return
			}
		case <-st.gone:
			return
		}
	}
}

// readStream puts requests into the queue until the connection ends, and says
// why it does. A full queue holds the client up instead of losing anything: it
// must not send again within one connection (RFC 6613 §2.6.1).
func (s *Server) readStream(st *stream, conn net.Conn, queue chan<- *job, idle time.Duration) end {
	in := bufio.NewReaderSize(conn, maxPacket)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return endFailed
		}
		if st.stopping.Load() { // before the deadline was put off
			return endStopped
		}
		if _, err := in.Peek(1); err != nil {
			return st.endOf(err, endIdle)
		}
		now := s.opts.Clock()
		if st.expired(now) {
			s.refusal(now, st, endExpired)
			return endExpired
		}
		if err := conn.SetReadDeadline(time.Now().Add(packetTime)); err != nil {
			return endFailed
		}
		j := s.jobs.Get().(*job)
		j.from, j.link, j.client, j.at = st.from, st, st.client, now
		err := j.receive(in)
		if err != nil && !errors.Is(err, errFrame) { // the rest of it never came
			s.free(j)
			return st.endOf(err, endHalf)
		}
		s.count.received.Add(1)
		s.count.inFlight.Add(1)
		st.client.received.Add(1)
		st.received.Add(1)
		if err != nil {
			s.drop(j, dropLength)
			return endProtocol
		}
		if why, ok := form(j.data()); !ok {
			s.drop(j, why)
			continue
		}
		select {
		case queue <- j:
		case <-st.gone:
			s.drop(j, dropQueue)
			return end(st.why.Load())
		}
	}
}

var errFrame = errors.New("the length of a packet is impossible")

// receive reads one packet, whose length is in its third and fourth byte.
func (j *job) receive(in *bufio.Reader) error {
	j.n = 0
	if _, err := io.ReadFull(in, j.buf[:4]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(j.buf[2:]))
	if n < headerLen || n > codec.MaxPacketLength {
		return errFrame
	}
	if _, err := io.ReadFull(in, j.buf[4:n]); err != nil {
		return err
	}
	j.n = n
	return nil
}

// endOf says why reading ended; a deadline that has passed is late.
func (st *stream) endOf(err error, late end) end {
	switch {
	case st.stopping.Load():
		return endStopped
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late
	case errors.Is(err, io.EOF):
		return endClosed
	}
	return endFailed
}
