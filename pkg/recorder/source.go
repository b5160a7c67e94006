package recorder

import (
	"context"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/probe"
)

// Source is where sessions come from: probe.Probe, or in tests a table of
// their own.
type Source interface {
	Collector
	Border
	// Run follows links and reads news until ctx ends.
	Run(ctx context.Context) error
	Clock() probe.ClockStatus
	Status() probe.Status
	Events() <-chan probe.Event
	// Close leaves everything recording in the kernel; Detach removes it.
	Close() error
	Detach() error
}

// Collector hands out sessions and is told what became of them.
type Collector interface {
	// Collect appends up to max sessions that are due.
	Collect(b *probe.Batch, max int) error
	// CollectAll appends sessions that are still going on, too.
	CollectAll(b *probe.Batch, max int) (more bool, err error)
	Stored(b *probe.Batch)  // they are durable
	Release(b *probe.Batch) // they are not: they will be collected again
}

// Border is what can be set while a source runs.
type Border interface {
	SetBorder(local, exempt []netip.Prefix) error
	SetUplinks([]probe.Uplink) error
}

// noSource stands in where no uplink is configured: there are access records
// and no sessions.
type noSource struct{ events chan probe.Event }

func (n noSource) Collect(*probe.Batch, int) error            { return nil }
func (n noSource) CollectAll(*probe.Batch, int) (bool, error) { return false, nil }
func (n noSource) Stored(*probe.Batch)                        {}
func (n noSource) Release(*probe.Batch)                       {}
func (n noSource) SetBorder([]netip.Prefix, []netip.Prefix) error {
	return nil
}
func (n noSource) SetUplinks([]probe.Uplink) error { return nil }
func (n noSource) Run(ctx context.Context) error   { <-ctx.Done(); return nil }
func (n noSource) Status() probe.Status            { return probe.Status{} }
func (n noSource) Events() <-chan probe.Event      { return n.events }
func (n noSource) Close() error                    { return nil }
func (n noSource) Detach() error                   { return nil }

// Clock asks the kernel itself (adjtimex(2)).
func (n noSource) Clock() probe.ClockStatus {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return probe.ClockStatus{MaxErrorMicro: 1 << 31}
	}
	const timeError = 5 // TIME_ERROR: not synchronised
	return probe.ClockStatus{Synchronised: state != timeError && t.Status&unix.STA_UNSYNC == 0, MaxErrorMicro: t.Maxerror}
}
