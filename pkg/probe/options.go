package probe

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Ways to attach to an uplink.
const (
	AttachAuto   = "auto"   // native XDP, else TCX, else clsact
	AttachXDP    = "xdp"    // native or generic XDP on ingress, or fail
	AttachTCX    = "tcx"    // TCX on ingress and egress, or fail
	AttachClsact = "clsact" // clsact filters on ingress and egress
)

// Limits of the table.
const (
	MinSlots   = 1 << 10
	MaxSlots   = 1 << 28
	maxUplinks = 16 // MAX_UPLINKS of bpf/wire.h
)

// Uplink names a link that crosses the border.
type Uplink struct {
	Name   string
	Attach string // one of the Attach constants; "" means AttachAuto
	RawIP  bool   // frames begin with IP; found by itself for links without Ethernet
}

// Timeouts end sessions. Zero fields take the value of DefaultOptions.
type Timeouts struct {
	TCP, UDP, ICMP, Other time.Duration // silence that ends a session
	HalfOpen              time.Duration // a session that is still half-open is recorded after this much silence
	Linger                time.Duration // a closed TCP session is recorded after this much silence
}

// Options configure a Probe. Zero fields take the value of DefaultOptions.
type Options struct {
	Uplinks  []Uplink
	PinDir   string // in a BPF file system; one is mounted there when there is none
	StateDir string // keeps the history of clock offsets
	Profile  session.Profile

	Local, Exempt []netip.Prefix // both empty: no border filter, everything is recorded
	// OverlappingAddresses makes VLAN ids part of a session's key.
	OverlappingAddresses bool

	Slots     uint32 // of the table, a power of two; a pinned table of another size is brought over
	RingBytes uint32 // of the ring of events and of that of samples, a power of two and at least a page
	// HalfOpenShare is the part of each bucket, and so of the table, that
	// half-open sessions may have; 1: all of it.
	HalfOpenShare float64
	Timeouts      Timeouts
	Sweep         time.Duration // how long one walk through the whole table takes; of a large one it takes longer, and less in a rush
	Grace         time.Duration // from closing a slot to reading it
	Logger        *slog.Logger
	// Now is UTC, which CLOCK_MONOTONIC is measured against all the time.
	Now func() time.Time

	step func() error // tests: called where a kill of the agent could follow, see carrier
}

// DefaultOptions returns the values for what is not set.
func DefaultOptions() Options {
	return Options{
		PinDir:  "/sys/fs/bpf/edgelog",
		Profile: session.ProfileAccess,
		Slots:   1 << 20, RingBytes: 1 << 22, HalfOpenShare: 0.5,
		Timeouts: Timeouts{
			TCP: 300 * time.Second, UDP: 60 * time.Second, ICMP: 60 * time.Second, Other: 60 * time.Second,
			HalfOpen: 30 * time.Second, Linger: 2 * time.Second,
		},
		Sweep: 2 * time.Second,
		Grace: 100 * time.Millisecond,
		Now:   time.Now,
	}
}

// ErrOptions is wrapped by every complaint about Options.
var ErrOptions = errors.New("probe options")

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	set(&o.PinDir, d.PinDir)
	set(&o.Profile, d.Profile)
	set(&o.Slots, d.Slots)
	set(&o.RingBytes, d.RingBytes)
	set(&o.HalfOpenShare, d.HalfOpenShare)
	set(&o.Timeouts.TCP, d.Timeouts.TCP)
	set(&o.Timeouts.UDP, d.Timeouts.UDP)
	set(&o.Timeouts.ICMP, d.Timeouts.ICMP)
	set(&o.Timeouts.Other, d.Timeouts.Other)
	set(&o.Timeouts.HalfOpen, d.Timeouts.HalfOpen)
	set(&o.Timeouts.Linger, d.Timeouts.Linger)
	set(&o.Sweep, d.Sweep)
	set(&o.Grace, d.Grace)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = d.Now
	}
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) check() error {
	if bits.OnesCount32(o.Slots) != 1 || o.Slots < MinSlots || o.Slots > MaxSlots {
		return fmt.Errorf("%w: table of %d slots: use a power of two from %d to %d", ErrOptions, o.Slots, MinSlots, MaxSlots)
	}
	if bits.OnesCount32(o.RingBytes) != 1 || o.RingBytes < 4096 {
		return fmt.Errorf("%w: ring of %d bytes: use a power of two from 4096", ErrOptions, o.RingBytes)
	}
	if !(o.HalfOpenShare > 0 && o.HalfOpenShare <= 1) {
		return fmt.Errorf("%w: a share of %v for half-open sessions: use more than 0 and at most 1", ErrOptions, o.HalfOpenShare)
	}
	if len(o.Uplinks) > maxUplinks {
		return fmt.Errorf("%w: %d uplinks: at most %d are supported", ErrOptions, len(o.Uplinks), maxUplinks)
	}
	if o.Profile == session.ProfileSource && len(o.Local) == 0 {
		return fmt.Errorf("%w: profile %q needs local prefixes, to know which side is an end user's", ErrOptions, o.Profile)
	}
	if len(o.Exempt) > 0 && len(o.Local) == 0 {
		return fmt.Errorf("%w: exempt prefixes without local ones leave nothing to record", ErrOptions)
	}
	if o.Profile == session.ProfileSample500 {
		return fmt.Errorf("%w: profile %q is not supported as a standing profile", ErrOptions, o.Profile)
	}
	seen := map[string]bool{}
	for _, u := range o.Uplinks {
		if seen[u.Name] {
			return fmt.Errorf("%w: uplink %q is named twice", ErrOptions, u.Name)
		}
		seen[u.Name] = true
		switch u.Attach {
		case "", AttachAuto, AttachXDP, AttachTCX, AttachClsact:
		default:
			return fmt.Errorf("%w: uplink %q: attach = %q is not known: use auto, xdp, tcx or clsact", ErrOptions, u.Name, u.Attach)
		}
	}
	return nil
}
