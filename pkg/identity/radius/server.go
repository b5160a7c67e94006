package radius

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/session"
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

	// MACSubscriber takes a User-Name that is a MAC address for a subscriber,
	// where access is sold by equipment. Otherwise it names nobody.
	MACSubscriber bool

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
	tables  atomic.Pointer[tables]
	cache   *cache
	count   counters
	tracker *tracker
	streams streams

	troubles troubles
	jobs     sync.Pool
	logged   atomic.Int64 // when the last failure of the book was logged, UTC ns
}

// New returns a server that gives its events to book.
func New(book Book, list []Client, opts Options) (*Server, error) {
	s := &Server{book: book, opts: opts.withDefaults(), troubles: troubles{said: map[string]time.Time{}}, tracker: newTracker()}
	if b, ok := book.(interface{ InForce() []session.Binding }); ok {
		s.tracker.resume(b.InForce())
	}
	s.tables.Store(&tables{})
	s.streams.open = map[*stream]struct{}{}
	s.count.delay = measure.New(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
	s.cache = newCache(s.opts.CacheSize, s.opts.CacheAge)
	s.jobs.New = func() any { return new(job) }
	if err := s.SetClients(list); err != nil {
		return nil, err
	}
	return s, nil
}

// Tables say what cannot be known from RFCs.
type Tables struct {
	Blocks []PortBlock
	Places []Place
}

// tables are Tables in use.
type tables struct {
	blocks []PortBlock
	places []Place
}

// SetTables replaces the tables. On an error nothing changes.
func (s *Server) SetTables(t Tables) error {
	next := &tables{blocks: slices.Clone(t.Blocks), places: slices.Clone(t.Places)}
	for i := range next.blocks {
		if err := next.blocks[i].Validate(); err != nil {
			return err
		}
	}
	for i := range next.places {
		next.places[i].Called = station(next.places[i].Called)
		next.places[i].Text = shorten(next.places[i].Text, maxPlace)
	}
	s.tables.Store(next)
	return nil
}
