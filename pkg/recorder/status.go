package recorder

import (
	"encoding/hex"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/store"
)

// Status is what the agent knows about itself. It holds no person's data.
type Status struct {
	Version    string    `json:"version"`
	Gateway    string    `json:"gateway"`
	Provider   string    `json:"provider"`
	Profile    string    `json:"profile"`
	LegalBasis string    `json:"legal_basis"`
	Now        time.Time `json:"now"`
	Started    time.Time `json:"started"`
	State      string    `json:"state"` // starting, recording, not storing, stopping
	Config     string    `json:"configuration"`

	Probe    *probe.Status   `json:"probe,omitempty"` // nil: no uplink is configured
	Lately   Lately          `json:"lately"`
	Sums     []Sum           `json:"sums"`
	Sessions SessionStatus   `json:"sessions"`
	Store    StoreStatus     `json:"store"`
	Bindings BindingStatus   `json:"bindings"`
	RADIUS   *RADIUSStatus   `json:"radius,omitempty"` // nil: no listener is configured
	NAT      *NATStatus      `json:"nat,omitempty"`    // nil: no translations are followed
	DHCP     *DHCPStatus     `json:"dhcp,omitempty"`   // nil: no server is configured
	Ledger   LedgerStatus    `json:"ledger"`
	Coverage *CoverageStatus `json:"coverage,omitempty"` // nil: no sessions are recorded, or not yet

	Register   RegisterStatus  `json:"register"` // of subscribers
	Imports    ImportStatus    `json:"imports"`  // of calls and of mail
	Custodians CustodianStatus `json:"custodians"`
	Refused    RefusedStatus   `json:"refused"`
	Breaches   *BreachStatus   `json:"breaches,omitempty"` // nil: not known yet
	Requests   *RequestStatus  `json:"requests,omitempty"` // nil: there is no gate

	LastError *Trouble `json:"last_error,omitempty"`
}

// SessionStatus counts what this agent wrote since its start.
type SessionStatus struct {
	Collected uint64    `json:"collected"` // taken from the table
	Stored    uint64    `json:"stored"`    // of those, made durable
	Expired   uint64    `json:"expired"`   // of those, not stored: their day has been destroyed
	Returned  uint64    `json:"returned"`  // of those, given back to the table because they could not be stored; they are tried again
	Waiting   uint64    `json:"waiting"`   // of those, for their block
	Named     uint64    `json:"named"`     // of those stored, with a subscriber
	Inside    uint64    `json:"inside"`    // of those stored, with the inside end of a translation
	Blocks    uint64    `json:"blocks"`
	Bytes     uint64    `json:"bytes"` // sealed
	Last      time.Time `json:"last"`  // of the last block; zero when there was none

	BatchSizes measure.Reading `json:"batch_sessions"` // sessions stored at once
	Delay      measure.Reading `json:"delay_s"`        // seconds from taking the first session of a batch from the table to durable
	Age        measure.Reading `json:"age_s"`          // seconds from the last packet of the oldest session of a batch to durable; the silence that ended it included
}

// StoreStatus is the health of the store.
type StoreStatus struct {
	OK     bool      `json:"ok"`               // what is recorded is stored
	Since  time.Time `json:"since,omitzero"`   // of the trouble
	Text   string    `json:"text,omitempty"`   // what it is
	State  string    `json:"state"`            // of the disk: ok, low, stopped; stalled: it does not answer; failed: it is not for want of room
	Free   int64     `json:"free_bytes"`       // that may still be written to the disk
	Stop   int64     `json:"stop_bytes"`       // below it nothing is written
	Blocks uint64    `json:"blocks"`           // in the store
	Bytes  uint64    `json:"bytes"`            // of them
	Rows   uint64    `json:"records"`          // in them
	Keys   int       `json:"keys"`             // wrapped day keys
	Oldest string    `json:"oldest,omitempty"` // day that has blocks, YYYY-MM-DD
	Newest string    `json:"newest,omitempty"`

	Merge    MergeStatus  `json:"merge"`
	Expiry   ExpiryStatus `json:"expiry"`
	Broken   int          `json:"broken_runs,omitempty"`     // of which it is not known what is in them
	SetAside int          `json:"databases_aside,omitempty"` // that could not be opened
	Lost     int          `json:"lost_blocks,omitempty"`     // that could not be read when they were to be merged

	Commit measure.Reading `json:"commit_s"` // seconds that each write took until it was durable

	// The store's own count of records, beside what the agent thinks it stored.
	Counted uint64 `json:"counted"`  // records in the store when the agent last looked
	AtStart uint64 `json:"at_start"` // of them, there when the agent started
	Again   uint64 `json:"again"`    // of them, stored once more since, because the rest of their load failed; read as one
}

// BindingStatus counts access records.
type BindingStatus struct {
	Book    identity.Stats `json:"book"`
	Static  int64          `json:"static"`  // rows of the static table
	Blocks  uint64         `json:"blocks"`  // sealed since the start
	Records uint64         `json:"records"` // in them: new, changed, and those in force once a day

	Changed      uint64 `json:"changed"`      // of the records, new or changed
	Snapshot     uint64 `json:"snapshot"`     // of the records, all in force at the start and at each change of the UTC day
	Translations uint64 `json:"translations"` // of the records, of translations
	Again        uint64 `json:"again"`        // of the records, handed over once more because others with them could not be stored
}

// RADIUSStatus is the state of the accounting server.
type RADIUSStatus struct {
	Listen    []string `json:"listen"`
	ListenTLS []string `json:"listen_tls,omitempty"`
	radius.Stats
	Moving uint64 `json:"moving,omitempty"` // see Sum
}

// LedgerStatus is the state of the ledger.
type LedgerStatus struct {
	Entries int64 `json:"entries"`
	OK      bool  `json:"ok"` // the last entry could be written, and the ledger is what it was

	Doubt   string          `json:"doubt,omitempty"`   // why it cannot be trusted: nothing is read
	Witness []WitnessStatus `json:"witness,omitempty"` // where checkpoints are sent; none: nobody outside knows the ledger

	Noted   uint64 `json:"noted"`   // entries about this run of the agent
	Written uint64 `json:"written"` // of them
	Waiting uint64 `json:"waiting"` // of them, for a ledger that cannot be written
	Lost    uint64 `json:"lost"`    // of them: too many waited; they are in the log
}

// CustodianStatus says how many can open what is recorded. With the last of
// their private keys all of it is lost.
type CustodianStatus struct {
	Keys    int `json:"keys"`    // different public keys
	Minimum int `json:"minimum"` // that the configuration asks for
}

// BreachStatus says how the register of breaches of personal data stands.
type BreachStatus struct {
	Open    int       `json:"open"`              // breaches whose notification is not complete
	Overdue int       `json:"overdue"`           // of them, those of which a notification should have been sent
	NextDue time.Time `json:"next_due,omitzero"` // when the next one is; zero: none is
}

// Trouble is an error with its time.
type Trouble struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Status returns what the agent knows about itself.
func (r *Recorder) Status() *Status {
	c := r.Config()
	r.mu.Lock()
	state, trouble, seen := r.state, r.trouble, r.seen
	r.mu.Unlock()
	s := &Status{
		Version: r.o.Version, Gateway: c.Gateway, Provider: c.Provider, Profile: c.Profile.String(), LegalBasis: c.LegalBasis,
		Now: r.o.Now().UTC(), Started: r.started.UTC(), State: state, Config: hex.EncodeToString(c.Hash[:]),
		Sessions: SessionStatus{
			Collected: seen.sessions.collected, Waiting: seen.sessions.waiting,
			Stored: seen.sessions.stored, Named: seen.sessions.named, Inside: seen.sessions.inside, Blocks: seen.sessions.blocks,
			Bytes: seen.sessions.bytes, Returned: seen.sessions.returned, Expired: seen.sessions.expired, Last: seen.sessions.last,
			BatchSizes: r.sessions.sizes.Read(), Delay: r.sessions.delay.Read(), Age: r.sessions.age.Read(),
		},
		Bindings: BindingStatus{
			Book: r.book.Stats(), Static: r.static.Load(), Blocks: seen.access.blocks, Records: seen.access.records,
			Changed: seen.handedOver, Snapshot: seen.access.snapshot, Translations: seen.access.translations, Again: seen.access.again,
		},
		Ledger:     r.evidence.status(),
		RADIUS:     r.radius.status(),
		NAT:        r.nat.status(c, seen.access),
		DHCP:       r.dhcp.status(),
		Register:   seen.register.at(r.o.Now()),
		Imports:    seen.imports,
		Coverage:   r.cover.status(),
		Custodians: CustodianStatus{Keys: r.custodians, Minimum: c.Custodians.Minimum},
		Refused:    r.refusals.counts(),
		LastError:  trouble,
		Lately:     seen.lately,
	}
	s.Ledger.Witness = r.witness.status()
	s.Store = r.storeStatus(seen)
	if !s.Store.OK && state == "recording" {
		s.State = "recording into the table, NOT storing"
	}
	if _, none := r.src.(noSource); !none {
		p := r.src.Status()
		s.Probe = &p
	}
	s.Sums = s.sums()
	for _, more := range r.describers {
		more(s)
	}
	return s
}

// stalledAfter is how long one write may take before the store is said not to
// store: far more than a disk that is only slow.
const stalledAfter = 5 * time.Second

// stalled returns since when the disk has not answered, the store's or one of
// the other files that the goroutine which stores writes in turn; ok is false
// when it is not that long.
func (r *Recorder) stalled(busy time.Time) (since time.Time, ok bool) {
	if at := r.waiting.Load(); at != 0 && (busy.IsZero() || at < busy.UnixNano()) {
		busy = time.Unix(0, at)
	}
	return busy.UTC(), !busy.IsZero() && r.o.Now().Sub(busy) >= stalledAfter
}

func (r *Recorder) storeStatus(seen counts) StoreStatus {
	h := r.store.Health()
	s := StoreStatus{
		OK: seen.storeErr == nil && h.State != store.StateStopped && h.State != store.StateFailed, State: string(h.State), Free: h.Free, Stop: int64(r.Config().Store.MinFree),
		Blocks: h.Blocks, Bytes: h.Bytes, Rows: h.Rows, Keys: h.Keys, Commit: h.Commit,
		Counted: seen.rows, AtStart: r.rowsAtStart, Again: seen.again,
		Merge: r.merger.status(), Expiry: seen.expiry, Broken: h.Broken, SetAside: h.SetAside, Lost: h.Lost,
	}
	s.Merge.Waiting = h.Waiting
	if h.Blocks > 0 {
		s.Oldest, s.Newest = h.Oldest.String(), h.Newest.String()
	}
	since, stalled := r.stalled(h.Busy)
	switch {
	case seen.storeErr != nil:
		s.Since, s.Text = seen.since.UTC(), seen.storeErr.Error()
	case h.State == store.StateFailed && h.Err != nil:
		s.Since, s.Text = seen.since.UTC(), h.Err.Error()
	case stalled:
		s.OK, s.State, s.Since = false, "stalled", since
		s.Text = "the disk has not answered since then; capture goes on in the table"
	case !s.OK:
		s.Since, s.Text = seen.since.UTC(), "too little disk space; make room, writing then goes on by itself"
	}
	return s
}

// RequestStatus counts requests to read by where they stand. It names nobody.
type RequestStatus struct {
	Filed      int    `json:"filed"`      // wait for approval
	Approved   int    `json:"approved"`   // may be run
	Unratified int    `json:"unratified"` // emergencies that wait for a second custodian
	Overdue    int    `json:"overdue"`    // emergencies for which none came in time, of the last month
	Denied     uint64 `json:"denied"`     // steps and readings that were not permitted, since the start
	Text       string `json:"text"`       // why no request can be dealt with; "" when it can
}
