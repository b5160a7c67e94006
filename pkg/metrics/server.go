package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// Path is where the metrics are.
const Path = "/metrics"

// Options of a Server.
type Options struct {
	// MinAge is how old the numbers of a scrape may be; 0: 5 seconds.
	MinAge time.Duration
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// DefaultOptions returns the options that stand for 0.
func DefaultOptions() Options {
	return Options{MinAge: 5 * time.Second, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.MinAge <= 0 {
		o.MinAge = d.MinAge
	}
	if o.Now == nil {
		o.Now = d.Now
	}
	if o.Logger == nil {
		o.Logger = d.Logger
	}
	return o
}

// Limits of the listener: a scrape is short, and few ask.
const (
	scrapesAtOnce = 4
	scrapeTime    = 20 * time.Second
	stopPatience  = 2 * time.Second
)

// Server listens for scrapes.
type Server struct {
	o  Options
	ln net.Listener
}

// Listen binds the address. Nothing is answered before Serve.
func Listen(at netip.AddrPort, o Options) (*Server, error) {
	o = o.withDefaults()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %q: %w", at, recorder.ListenError(err))
	}
	return &Server{o: o, ln: ln}, nil
}

// Addr returns the address that it listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close gives the address back. It may be called twice.
func (s *Server) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop listening for metrics: %w", err)
	}
	return nil
}

// Serve answers scrapes from what status returns, until ctx ends.
func (s *Server) Serve(ctx context.Context, status func() *recorder.Status) error {
	registry := prometheus.NewPedanticRegistry()
	for _, c := range []prometheus.Collector{
		newCollector(status, s.o), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	log := slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: log, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTime,
	}))
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 1 << 14,
		ErrorLog: slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		if err := srv.Shutdown(patience); err != nil {
			_ = srv.Close()
		}
	})
	s.o.Logger.Info("metrics can be scraped", "listen", s.ln.Addr().String(), "path", Path)
	err := srv.Serve(s.ln)
	if !stop() {
		<-stopped
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %q: %w", s.ln.Addr(), err)
}
