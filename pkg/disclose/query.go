package disclose

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
)

// maxText is the most bytes of a reference or subscriber.
const maxText = 256

// MaxWindow is longer than anything is kept.
const MaxWindow = 400 * 24 * time.Hour

// ErrQuery is wrapped by every error about a question itself.
var ErrQuery = errors.New("the question cannot be asked")

// Query is one question: one reference, one identifier, one window. It goes
// over the control socket as JSON, and sealed into the ledger.
type Query struct {
	Reference string `json:"reference"` // the case it is asked for

	// Exactly one of these three is set.
	Subscriber string     `json:"subscriber,omitempty"`
	Address    netip.Addr `json:"address,omitzero"` // an end user's address, before or behind a translation
	Remote     netip.Addr `json:"remote,omitzero"`  // an address outside the border

	Port *uint16 `json:"port,omitempty"` // of Address or Remote; nil: any

	From int64 `json:"from"` // UTC, nanoseconds since 1970
	To   int64 `json:"to"`   // UTC, nanoseconds since 1970, not included
}

// Check reports whether the question may be asked at the time now. The error
// wraps ErrQuery and speaks to the one who typed it.
func (q *Query) Check(now time.Time) error {
	switch {
	case strings.TrimSpace(q.Reference) == "":
		return bad("a reference is missing", `name the case: --reference "2025-1234"`)
	case !plain(q.Reference):
		return bad("the reference is longer than 256 bytes or holds control characters", "write it in one line")
	case q.identifiers() == 0:
		return bad("no identifier is given", "give one of --subscriber, --address, --remote")
	case q.identifiers() > 1:
		return bad("more than one identifier is given", "ask with one of --subscriber, --address, --remote")
	case !plain(q.Subscriber):
		return bad("the subscriber is longer than 256 bytes or holds control characters", "write it as the access records have it")
	case q.Port != nil && q.Subscriber != "":
		return bad("a port says nothing about a subscriber", "take --port out, or ask with --address")
	case q.From == 0 || q.To == 0:
		return bad("the window is missing", `give both ends: --from 2025-03-01T12:00:00Z --to 2025-03-01T13:00:00Z`)
	case q.From >= q.To:
		return bad("the window ends before it begins", "--from must be before --to")
	case q.To > now.UnixNano():
		return bad("the window ends in the future", "set --to to now or earlier")
	case uint64(q.To)-uint64(q.From) > uint64(MaxWindow):
		return bad("the window is longer than 400 days", "nothing is kept so long: ask for less")
	}
	return nil
}

func bad(what, remedy string) error { return fmt.Errorf("%w: %s; %s", ErrQuery, what, remedy) }

func (q *Query) identifiers() int {
	n := 0
	for _, set := range []bool{q.Subscriber != "", q.Address.IsValid(), q.Remote.IsValid()} {
		if set {
			n++
		}
	}
	return n
}

// Kind names the identifier without telling it.
func (q *Query) Kind() string {
	switch {
	case q.Subscriber != "":
		return "subscriber"
	case q.Address.IsValid() && q.Port != nil:
		return "address and port"
	case q.Address.IsValid():
		return "address"
	case q.Remote.IsValid() && q.Port != nil:
		return "remote address and port"
	case q.Remote.IsValid():
		return "remote address"
	}
	return "none"
}

// Days returns the UTC days of the window. Sessions that were going on in it
// may be filed under later days: under those on which they ended.
func (q *Query) Days() (first, last session.Day) {
	return session.DayOf(q.From), session.DayOf(q.To - 1)
}

// BindingDays returns the UTC days of binding blocks that are read: from the
// day before the window to two days after it, for access records that came
// late.
func (q *Query) BindingDays() (first, last session.Day) {
	first, last = q.Days()
	return first - 1, last + 2
}

// rows returns what can be said to a block about the rows that are needed. The
// subscriber is left out: whose a session was is known only when it has been
// joined with the bindings as they are now.
func (q *Query) rows() block.Query {
	b := block.Query{From: q.From, To: q.To}
	if q.Address.IsValid() {
		b.Address = block.Exactly(q.Address)
	}
	if q.Remote.IsValid() {
		b.Remote = block.Exactly(q.Remote)
	}
	return b
}

// plain reports whether s is short and printable.
func plain(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}
