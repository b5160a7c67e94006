package dhcp

import (
	"context"
	"log/slog"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// Book takes events; identity.Book is one.
type Book interface {
	// Apply returns when the events are durable, and takes each any number of times.
	Apply(ctx context.Context, events []identity.Event) error
	// InForce returns the bindings that have no end.
	InForce() []session.Binding
	// AllOn returns the bindings of an address that hold for any of these ports at
	// some moment of from..to.
	AllOn(a session.Addr, first, last uint16, from, to int64) []session.Binding
}

// Kind is a program.
type Kind string

// The programs.
const (
	Kea     Kind = "kea"
	ISC     Kind = "isc"
	Dnsmasq Kind = "dnsmasq"
)

// Server is a DHCP server whose leases are heard of. "" for what it has not.
type Server struct {
	Name    string // of the source in the book; another name is another server
	Kind    Kind
	Leases4 string // file of DHCPv4 leases
	Leases6 string // file of DHCPv6 leases; dnsmasq has one file for both

	Control4, Control6 string        // Kea: path of the control socket, or address of the control agent: http://127.0.0.1:8000
	Login              string        // "user:password" for the control agent
	Reconcile          time.Duration // between two questions to it; 0: 5 minutes

	// ReportUsers are the user ids whose reports are believed; none: no report
	// is expected.
	ReportUsers []uint32
}

// Options of a Service.
type Options struct {
	Clock      func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: nothing is logged
	Trouble    func(text string)
	Subscriber []string      // what names the subscriber, the first that a lease has; nil: DefaultSubscriber
	Join       Join          // "": JoinWithoutLine
	Listen     string        // path of the socket for reports; "": none
	Poll       time.Duration // at which files are looked at, should the kernel not tell of a change; 0: 1 s
}

// DefaultOptions returns the options that stand for 0.
func DefaultOptions() Options {
	return Options{
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Trouble: func(string) {},
		Subscriber: DefaultSubscriber, Join: JoinWithoutLine, Poll: time.Second,
	}
}

// reconcileEvery stands for a Server.Reconcile of 0.
const reconcileEvery = 5 * time.Minute

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Clock == nil {
		o.Clock = d.Clock
	}
	if o.Logger == nil {
		o.Logger = d.Logger
	}
	if o.Trouble == nil {
		o.Trouble = d.Trouble
	}
	if o.Subscriber == nil {
		o.Subscriber = d.Subscriber
	}
	if o.Join == "" {
		o.Join = d.Join
	}
	if o.Poll <= 0 {
		o.Poll = d.Poll
	}
	return o
}
