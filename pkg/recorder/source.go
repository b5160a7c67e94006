package recorder

import (
	"context"
	"fmt"
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
	// Losses says what was not recorded; Looked, up to when that is on the disk.
	Losses() (probe.Losses, error)
	Looked(ticks uint64)
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
func (n noSource) Losses() (probe.Losses, error)   { return probe.Losses{}, nil }
func (n noSource) Looked(uint64)                   {}
func (n noSource) Events() <-chan probe.Event      { return n.events }
func (n noSource) Close() error                    { return nil }
func (n noSource) Detach() error                   { return nil }

// Clock asks the kernel itself.
func (n noSource) Clock() probe.ClockStatus { s, _ := KernelClock(); return s }

// KernelClock asks the kernel how far its clock may be trusted (adjtimex(2)), by
// the rule of probe.Probe.Clock: it is synchronised when the kernel says so and
// bounds its error by less than the second that BEK 988/2006 allows. With an
// error it is not synchronised.
func KernelClock() (probe.ClockStatus, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return probe.ClockStatus{MaxErrorMicro: 1 << 31}, fmt.Errorf("ask for the state of the clock: %w", err)
	}
	return probe.ClockStatus{Synchronised: t.Status&unix.STA_UNSYNC == 0 && t.Maxerror < 1e6, MaxErrorMicro: t.Maxerror}, nil
}
