package radius

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/measure"
)

// Book keeps events. Apply returns when they are durable; *identity.Book is
// one.
type Book interface {
	Apply(ctx context.Context, events []identity.Event) error
}

// Options of a Server.
type Options struct {
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged

	Workers int // for each connection; 0: 4
	Queue   int // requests that may wait, for each connection; 0: 8192

	CacheSize int           // answered requests remembered; 0: 65536
	CacheAge  time.Duration // for how long; 0: 30 seconds

	// MaxAhead is how far in the future an Event-Timestamp may lie. 0: 5 minutes.
	MaxAhead time.Duration
	// MaxAge is how far in the past it may lie: the time of retention, since
	// what is older may not be kept. 0: 366 days.
	MaxAge time.Duration

	// PreferCUI takes Chargeable-User-Identity (RFC 4372) for the subscriber
	// where a request has both. Otherwise User-Name comes first, unless it is
	// anonymous.
	PreferCUI bool

	// Trouble is told, in a sentence, what needs an operator: an unknown client,
	// a wrong secret, a client whose clock is off. nil: only the log is.
	Trouble func(text string)
}

// DefaultOptions returns the options that stand for 0.
func DefaultOptions() Options {
	return Options{
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Workers: 4, Queue: 8192,
		CacheSize: 65536, CacheAge: 30 * time.Second, MaxAhead: 5 * time.Minute, MaxAge: 366 * 24 * time.Hour,
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Clock == nil {
		o.Clock = d.Clock
	}
	if o.Logger == nil {
		o.Logger = d.Logger
	}
	for _, p := range [...]struct {
		to   *int
		zero int
	}{{&o.Workers, d.Workers}, {&o.Queue, d.Queue}, {&o.CacheSize, d.CacheSize}} {
		if *p.to <= 0 {
			*p.to = p.zero
		}
	}
	for _, p := range [...]struct {
		to   *time.Duration
		zero time.Duration
	}{{&o.CacheAge, d.CacheAge}, {&o.MaxAhead, d.MaxAhead}, {&o.MaxAge, d.MaxAge}} {
		if *p.to <= 0 {
			*p.to = p.zero
		}
	}
	return o
}

// Server is a RADIUS accounting server. All its methods may be called at any
// time from several goroutines.
type Server struct {
	book    Book
	opts    Options
	setMu   sync.Mutex // one SetClients at a time
	clients atomic.Pointer[clients]
	cache   *cache
	count   counters

	troubles troubles
	jobs     sync.Pool
	logged   atomic.Int64 // when the last failure of the book was logged, UTC ns
}

// New returns a server that gives its events to book.
func New(book Book, list []Client, opts Options) (*Server, error) {
	s := &Server{book: book, opts: opts.withDefaults(), troubles: troubles{said: map[string]time.Time{}}}
	s.count.delay = measure.New(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
	s.cache = newCache(s.opts.CacheSize, s.opts.CacheAge)
	s.jobs.New = func() any { return new(job) }
	if err := s.SetClients(list); err != nil {
		return nil, err
	}
	return s, nil
}

// maxDatagram is a little more than the longest packet (RFC 2865 §3: 4096
// bytes), so that what is longer is seen to be.
const maxDatagram = 4096 + 1

// job is a datagram on its way.
type job struct {
	buf    [maxDatagram]byte
	n      int
	from   netip.AddrPort
	reply  net.Addr // nil: from
	at     time.Time
	client *client

	key    requestKey
	req    request
	answer []byte
	tried  bool // it is in the cache and waits for its answer
}

func (j *job) data() []byte { return j.buf[:j.n] }

// batch is how many waiting requests a worker takes at once.
const batch = 256

// Serve answers requests on conn until ctx is done or conn fails, and returns
// when all that it took has been answered or dropped: nil when ctx was done. It
// does not close conn. On a host with several addresses bind conn to the one
// that clients send to: an answer from another address is not accepted.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	queue := make(chan *job, s.opts.Queue)
	var workers sync.WaitGroup
	for range s.opts.Workers {
		workers.Go(func() { s.work(context.WithoutCancel(ctx), conn, queue) }) // ends when queue is closed, below
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	err := s.read(conn, queue)
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
func (s *Server) read(conn net.PacketConn, queue chan<- *job) error {
	for {
		j := s.jobs.Get().(*job)
		err := j.receive(conn)
		if err != nil {
			s.free(j)
			return err
		}
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

func (j *job) receive(conn net.PacketConn) (err error) {
	if u, ok := conn.(*net.UDPConn); ok {
		j.n, j.from, err = u.ReadFromUDPAddrPort(j.buf[:])
		j.reply = nil
	} else {
		j.n, j.reply, err = conn.ReadFrom(j.buf[:])
		if u, ok := j.reply.(*net.UDPAddr); ok && err == nil {
			j.from = u.AddrPort()
		}
	}
	j.from = netip.AddrPortFrom(j.from.Addr().Unmap(), j.from.Port())
	return err
}

func (s *Server) free(j *job) {
	j.client, j.req, j.answer, j.reply, j.tried = nil, request{}, nil, nil, false
	s.jobs.Put(j)
}

// drop counts j and is done with it.
func (s *Server) drop(j *job, why reason) {
	if j.tried {
		s.cache.failed(j.key)
	}
	s.count.dropped[why].Add(1)
	s.count.inFlight.Add(-1)
	s.free(j)
}

// work takes what waits, checks it, has the book keep it, and answers.
func (s *Server) work(ctx context.Context, conn net.PacketConn, queue <-chan *job) {
	jobs := make([]*job, 0, batch)
	events := make([]identity.Event, 0, batch)
	for j := range queue {
		jobs, events = s.check(conn, j, jobs[:0], events[:0])
	fill:
		for len(jobs) < batch {
			select {
			case j, ok := <-queue:
				if !ok {
					break fill
				}
				jobs, events = s.check(conn, j, jobs, events)
			default:
				break fill
			}
		}
		s.keep(ctx, conn, jobs, events)
		clear(jobs)
		clear(events)
	}
}

// check brings one datagram to the point where only the book is missing, and
// appends it to jobs, with its event to events; or it drops or answers it.
// The event of jobs[i] is events[i]; one of kind 0 has nothing to be kept.
func (s *Server) check(conn net.PacketConn, j *job, jobs []*job, events []identity.Event) ([]*job, []identity.Event) {
	req, why, ok := open(j.data(), j.client)
	if !ok {
		if why == dropAuthenticator || why == dropMessageAuth {
			j.client.badAuthenticator.Add(1)
			s.wrongSecret(j.at, j.client)
		}
		s.drop(j, why)
		return jobs, events
	}
	j.req = req
	if j.buf[0] == codeStatusServer {
		s.send(conn, j, response(j.data(), &j.req, j.client.Secret), false)
		return jobs, events
	}
	j.key = requestKey{from: j.from, identifier: j.buf[1], authenticator: [16]byte(j.buf[4:headerLen])}
	if answer, known := s.cache.begin(j.key, j.at); known {
		if answer == nil {
			s.drop(j, dropInFlight)
		} else {
			s.send(conn, j, answer, true)
		}
		return jobs, events
	}
	j.tried = true
	r := reader{opts: &s.opts, attrs: req.attrs}
	e, v, why := r.event(j.from.Addr(), j.at)
	if v == drop {
		s.drop(j, why)
		return jobs, events
	}
	if r.stamped {
		s.judgeClock(j.at, j.client, r.lag)
	}
	for i, noted := range r.notes {
		if noted {
			s.count.remarks[i].Add(1)
		}
	}
	if v == acknowledge {
		e = identity.Event{}
	}
	return append(jobs, j), append(events, e)
}

// keep has the book keep the events, and answers the requests whose events are
// durable.
func (s *Server) keep(ctx context.Context, conn net.PacketConn, jobs []*job, events []identity.Event) {
	useful := make([]identity.Event, 0, len(events))
	for i := range events {
		if events[i].Kind != 0 {
			useful = append(useful, events[i])
		}
	}
	var err error
	if len(useful) > 0 {
		err = s.book.Apply(ctx, useful)
	}
	for i, j := range jobs {
		mine := err
		if mine != nil && events[i].Kind == 0 {
			mine = nil
		}
		if errors.Is(mine, identity.ErrInvalid) { // of one of them: which?
			mine = s.book.Apply(ctx, events[i:i+1])
		}
		switch {
		case errors.Is(mine, identity.ErrInvalid):
			s.count.remarks[noteBadAttribute].Add(1)
			fallthrough
		case mine == nil:
			j.answer = response(j.data(), &j.req, j.client.Secret)
			s.cache.answered(j.key, j.answer)
			s.count.delay.Seconds(s.opts.Clock().Sub(j.at))
			s.send(conn, j, j.answer, false)
		default:
			s.logFailure(mine)
			s.drop(j, dropNotDurable)
		}
	}
}

// send sends an answer and is done with j.
func (s *Server) send(conn net.PacketConn, j *job, answer []byte, again bool) {
	var err error
	if u, ok := conn.(*net.UDPConn); ok {
		_, err = u.WriteToUDPAddrPort(answer, j.from)
	} else {
		_, err = conn.WriteTo(answer, j.reply)
	}
	j.tried = false // its event is kept, whatever becomes of the answer
	if err != nil {
		s.drop(j, dropSend)
		return
	}
	j.client.answered.Add(1)
	if again {
		s.count.repeated.Add(1)
	} else {
		s.count.answered.Add(1)
	}
	if j.buf[0] == codeStatusServer {
		s.count.status.Add(1)
	}
	s.count.inFlight.Add(-1)
	s.free(j)
}

// logEvery is how often a failure of the book is logged, at most.
const logEvery = int64(10 * time.Second)

func (s *Server) logFailure(err error) {
	now, last := s.opts.Clock().UnixNano(), s.logged.Load()
	if now-last < logEvery || !s.logged.CompareAndSwap(last, now) {
		return
	}
	s.opts.Logger.Error("accounting is not answered: the bindings cannot be stored, the NAS will send it again",
		slog.Any("error", err))
}
