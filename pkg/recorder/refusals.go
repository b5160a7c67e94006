package recorder

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
)

// RefusedStatus counts what was refused since the agent started, for want of a role.
type RefusedStatus struct {
	Total   uint64 `json:"total"`
	Entries uint64 `json:"entries"` // of the ledger, each for one or more
}

const (
	// refusedEvery is how often one uid gets an entry about one route. What comes
	// before is counted in the next one.
	refusedEvery = time.Minute
	// mostRefused bounds the pairs of uid and route that are told apart.
	mostRefused = 1024
)

// refusals puts into the ledger who was refused what, without letting anybody fill
// it.
type refusals struct {
	evidence *evidence
	elapsed  func() time.Duration // however the clock is set
	log      *slog.Logger

	mu     sync.Mutex
	seen   map[refusedKey]*refused
	swept  time.Duration
	status RefusedStatus
}

type refusedKey struct {
	uid   uint32
	route string
}

// refused is what is remembered of the last entry, and what came since.
type refused struct {
	at      time.Duration // of the entry
	more    uint64        // refusals since
	fields  map[string]string
	payload []byte
}

// note records a refusal, or counts it when the last one like it is not a minute
// ago.
func (f *refusals) note(c *config.Caller, p Peer, known bool, route string, needed config.Roles) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Total++
	now := f.elapsed()
	if now-f.swept >= refusedEvery {
		f.sweep(now)
	}
	key := refusedKey{c.UID, route}
	if f.seen[key] == nil && len(f.seen) >= mostRefused {
		key = refusedKey{0, "others"}
	}
	x := f.seen[key]
	if x != nil && now-x.at < refusedEvery {
		x.more++
		return
	}
	payload, err := json.Marshal(struct {
		Person string `json:"person,omitempty"`
		Known  bool   `json:"known"` // the kernel said who it is
		Peer
	}{c.Person, known, p})
	if err != nil {
		f.log.Error("a refusal cannot be described", "error", err)
	}
	fields := map[string]string{"route": route, "needed": needed.String(), "held": c.Roles.String()}
	if c.Lapsed {
		fields["clearance"] = "over"
	}
	count := uint64(1)
	if x != nil {
		count += x.more
	}
	x = &refused{at: now, fields: fields, payload: payload}
	f.seen[key] = x
	f.log.Warn("a request was refused for want of a role", "uid", c.UID, "route", route, "needed", needed.String(), "held", c.Roles.String(), "times", count)
	f.record(x, count)
}

// record appends an entry for a number of refusals. f.mu is held.
func (f *refusals) record(x *refused, count uint64) {
	fields := map[string]string{"count": strconv.FormatUint(count, 10)}
	for k, v := range x.fields {
		fields[k] = v
	}
	f.status.Entries++
	f.evidence.noteSealed(ledger.Refused, fields, x.payload)
}

// sweep forgets what is long past, after recording what was only counted. f.mu is
// held.
func (f *refusals) sweep(now time.Duration) {
	f.swept = now
	for key, x := range f.seen {
		if now-x.at < refusedEvery {
			continue
		}
		if x.more > 0 {
			f.record(x, x.more)
		}
		delete(f.seen, key)
	}
}

// settle records what was only counted so far.
func (f *refusals) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweep(f.elapsed() + refusedEvery)
}

func (f *refusals) counts() RefusedStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}
