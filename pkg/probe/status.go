package probe

import (
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/session"
)

// Status is what the probe knows about itself, for "edgelog status". It holds
// no address and no session.
type Status struct {
	Profile session.Profile `json:"-"`
	PinDir  string          `json:"pin_dir"` // directory of the pinned maps and links
	Layout  string          `json:"layout"`  // hash of the table layout; part of PinDir
	Adopted bool            `json:"adopted"` // the table of an earlier agent was taken over at start, or what it held
	// Waiting sessions of an older table found no room in this one yet; they
	// are kept where they are until they do.
	Waiting uint64         `json:"waiting"`
	Uplinks []UplinkStatus `json:"uplinks"`
	Table   TableStatus    `json:"table"`
	Clock   ClockStatus    `json:"clock"`
	Lag     LagStatus      `json:"lag"`

	EventsLost uint64 `json:"events_lost"` // attachments, losses and clock steps that are in the log and not in the ledger
}

// LagStatus says how far the agent is behind the kernel, in seconds.
type LagStatus struct {
	WalkAge float64         `json:"walk_age_s"` // since the last whole walk through the table ended; 0: none has yet
	Walk    measure.Reading `json:"walk_s"`     // from the end of one whole walk to that of the next
	News    measure.Reading `json:"news_s"`     // how long the oldest event of each reading waited in the ring
}

// UplinkStatus is the state of one uplink.
type UplinkStatus struct {
	Name    string        `json:"name"`
	Ifindex int           `json:"ifindex"` // 0 while the link does not exist
	Up      bool          `json:"up"`
	Ingress AttachStatus  `json:"ingress"`
	Egress  AttachStatus  `json:"egress"`
	In      PacketCounter `json:"in"`
	Out     PacketCounter `json:"out"`
	Error   string        `json:"error,omitempty"` // why it is not fully attached; "" when it is
}

// AttachStatus says how one direction of an uplink is watched.
type AttachStatus struct {
	Mode    string `json:"mode"` // xdp, xdp-generic, tcx, clsact or none
	Program uint32 `json:"program_id"`
	Note    string `json:"note,omitempty"` // why a less preferred mode is in use
	Kept    bool   `json:"kept"`           // the attachment of an earlier agent was taken over: no packet passed unseen in between
}

// PacketCounter counts the packets of one direction of one uplink since the
// table was made. Seen is the sum of all the outcomes below it.
type PacketCounter struct {
	Seen     uint64            `json:"seen"`             // packets, and on egress GSO buffers, that the program looked at
	Segments uint64            `json:"segments"`         // packets on the wire: a GSO buffer counts its segments
	Outcomes map[string]uint64 `json:"outcomes"`         // by reason, see bpf/wire.h; their sum is Seen
	Moving   uint64            `json:"moving,omitempty"` // by how much that sum may be off: packets came while it was taken
}

// TableStatus is the fill of the session table and the balance of sessions:
// Started + Reopened + Carried = Stored + Open + Closed, at any moment when
// nothing moves. All of it began with this table.
type TableStatus struct {
	Slots    uint64 `json:"slots"`
	Open     uint64 `json:"open"`     // sessions going on, not yet on disk
	Closed   uint64 `json:"closed"`   // ended, not yet on disk
	Lingers  uint64 `json:"lingers"`  // on disk already, slot kept for stragglers; freed when room is needed
	Negative uint64 `json:"negative"` // remembered as not to be recorded
	// HalfOpen of the open ones are TCP sessions that began with SYN or SYN+ACK
	// and in which every packet since had SYN or RST. New ones are let in up to
	// HalfOpenLimit, their share of each bucket; one that is on disk already and
	// is heard of again counts beyond it.
	HalfOpen      uint64 `json:"half_open"`
	HalfOpenLimit uint64 `json:"half_open_limit"`

	Started   uint64 `json:"started"`   // sessions that got a slot
	Reopened  uint64 `json:"reopened"`  // sessions already on disk that a straggler changed: they are written again
	Carried   uint64 `json:"carried"`   // sessions that came from an older table, of another layout or size
	Stored    uint64 `json:"stored"`    // sessions written to disk, rewriting of reopened ones included
	Full      uint64 `json:"full"`      // packets of new sessions that found no free slot
	Contended uint64 `json:"contended"` // packets of new sessions that gave up waiting for the bucket's lock
	RingSent  uint64 `json:"ring_sent"` // events that went through the ring buffer
	RingFull  uint64 `json:"ring_full"` // events that did not fit; the sweep finds their sessions

	FragmentsHeld     uint64 `json:"fragments_held"`     // fragments that wait for their first fragment now
	FragmentsReleased uint64 `json:"fragments_released"` // held fragments that found their first fragment
	FragmentsOrphaned uint64 `json:"fragments_orphaned"` // held fragments recorded without ports
	FragmentsRefused  uint64 `json:"fragments_refused"`  // held fragments that were not ours to record

	// Refused counts, by reason, the packets of new sessions that got no slot
	// and fragments that found no room to wait. Of those that the full table or
	// the share of half-open sessions refused every 500th of each end user is
	// Sampled; Sampled = SamplesStored + SamplesWaiting + SamplesLost.
	Refused        map[string]uint64 `json:"refused"`
	Sampled        uint64            `json:"sampled"`
	SamplesStored  uint64            `json:"samples_stored"`  // on disk
	SamplesWaiting uint64            `json:"samples_waiting"` // in the ring, not yet on disk
	SamplesLost    uint64            `json:"samples_lost"`    // the ring had no room
	SampleCrowd    uint64            `json:"sample_crowd"`    // refused packets counted together: there were too many end users for a counter each

	Moving   uint64 `json:"moving,omitempty"` // by how much the sum of sessions may be off: some began while they were counted
	Balanced bool   `json:"balanced"`         // the sums above and those of each uplink hold
}

// ClockStatus says how far times can be trusted.
type ClockStatus struct {
	Synchronised  bool    `json:"synchronised"`
	MaxErrorMicro int64   `json:"max_error_us"`   // the kernel's bound (adjtimex maxerror)
	Steps         uint64  `json:"steps"`          // jumps of the clock seen since start
	LastStep      float64 `json:"last_step_s"`    // size of the last one, seconds
	OffsetNanos   int64   `json:"offset_ns"`      // UTC minus the monotonic clock that the programs read
	Uncertainty   int64   `json:"uncertainty_ns"` // of OffsetNanos
}
