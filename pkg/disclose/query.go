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

	// Ask says what is wanted: "" for sessions, or one of the words below.
	Ask string `json:"ask,omitempty"`

	// Exactly one of these is set; Line with WantAccess only, Equipment with that or
	// WantCommunications, Number and Mail with the latter.
	Subscriber string     `json:"subscriber,omitempty"`
	Address    netip.Addr `json:"address,omitzero"` // an end user's address, before or behind a translation
	Remote     netip.Addr `json:"remote,omitzero"`  // an address outside the border
	Line       string     `json:"line,omitempty"`
	Equipment  string     `json:"equipment,omitempty"` // a MAC address, lower case with colons; an IMEI or IMSI, digits
	Number     string     `json:"number,omitempty"`    // in the form of session.Numbering.ParseSender
	Mail       string     `json:"mail,omitempty"`      // in the form of session.ParseMailAddress

	Port *uint16 `json:"port,omitempty"` // of Address or Remote; nil: any

	// With WantWho: the time that is asked about, UTC, nanoseconds since 1970; how
	// wrong it may be, in nanoseconds; the IP protocol, 0 for any.
	At    int64 `json:"at,omitempty"`
	Error int64 `json:"error,omitempty"`
	Proto uint8 `json:"proto,omitempty"`

	From int64 `json:"from"` // UTC, nanoseconds since 1970
	To   int64 `json:"to"`   // UTC, nanoseconds since 1970, not included
}

// What may be asked for beside sessions.
const (
	WantWho    = "who"    // who held an address at a time
	WantAccess = "access" // the access records of one identifier
	WantHold   = "hold"   // sessions, to be kept beyond the destruction of their days
	WantVerify = "verify" // everything, to be opened and compared; nothing of it is shown

	WantCommunications = "communications" // calls and mails of one identifier, imported from the provider's own systems
)

var wants = map[string]bool{"": true, WantWho: true, WantAccess: true, WantHold: true, WantVerify: true, WantCommunications: true}

// MaxError is the largest error of the time that a question of who held an
// address may have. Whoever knows less asks for the access records of a window.
const MaxError = time.Hour

// Who returns the question of who held an address, or one of its ports, at a
// time that may be wrong by the error, either way.
func Who(reference string, a netip.Addr, port *uint16, at int64, err time.Duration) *Query {
	return &Query{
		Reference: reference, Ask: WantWho, Address: a, Port: port, At: at, Error: int64(err),
		From: at - int64(err), To: at + int64(err) + 1,
	}
}

// Check reports whether the question may be asked at the time now. The error
// wraps ErrQuery and speaks to the one who typed it.
func (q *Query) Check(now time.Time) error {
	switch {
	case strings.TrimSpace(q.Reference) == "":
		return bad("a reference is missing", `name the case: --reference "2025-1234"`)
	case !plain(q.Reference):
		return bad("the reference is longer than 256 bytes or holds control characters", "write it in one line")
	case !wants[q.Ask]:
		return bad("it is not known what is asked for", "use lookup, who, access, communications, hold or verify")
	case q.Ask == WantVerify && (q.identifiers() > 0 || q.Port != nil):
		return bad("what is verified is everything", "give no identifier")
	case q.Ask == WantWho:
		return q.checkWho(now)
	case q.identifiers() == 0 && q.Ask != WantVerify:
		return bad("no identifier is given", "give one of "+q.flags())
	case q.identifiers() > 1:
		return bad("more than one identifier is given", "ask with one of "+q.flags())
	case !plain(q.Subscriber), !plain(q.Line), !plain(q.Equipment), !plain(q.Number), !plain(q.Mail):
		return bad("the identifier is longer than 256 bytes or holds control characters", "write it as the access records have it")
	case q.Ask != WantCommunications && q.Number+q.Mail != "":
		return bad("a number or mail address is found among calls and mail only", "ask with \"edgelog communications\"")
	case q.Ask == WantCommunications:
		if what, remedy := q.notAsked(); what != "" {
			return bad(what, remedy)
		}
	case q.Ask != WantAccess && (q.Line != "" || q.Equipment != ""):
		return bad("sessions are not found by line or equipment", "ask with \"edgelog access\" which addresses it had")
	case q.Ask == WantAccess && (q.Remote.IsValid() || q.Port != nil):
		return bad("access records have no far end and no port", "ask with --subscriber, --address, --line or --equipment")
	case q.Port != nil && q.Subscriber != "":
		return bad("a port says nothing about a subscriber", "take --port out, or ask with --address")
	}
	return q.checkWindow(now)
}

// checkWindow is Check of the window.
func (q *Query) checkWindow(now time.Time) error {
	switch {
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

// checkWho is Check of a question of who held an address.
func (q *Query) checkWho(now time.Time) error {
	switch {
	case !q.Address.IsValid() || q.identifiers() != 1:
		return bad("it is asked about one address", "write edgelog who ADDRESS:PORT")
	case q.At <= 0:
		return bad("the time is missing", "give it with its zone: --at 2025-03-01T12:00:00Z")
	case q.At > now.UnixNano():
		return bad("the time lies in the future", "set --at to now or earlier, and mind its zone")
	case q.Error < 0 || q.Error > int64(MaxError):
		return bad("the error of the time is more than an hour", "ask for the access records of a window: edgelog access --address")
	case q.From != q.At-q.Error || q.To != q.At+q.Error+1:
		return bad("the window is not that of the time and its error", "ask with edgelog who")
	}
	return nil
}

// flags are those that name an identifier.
func (q *Query) flags() string {
	switch q.Ask {
	case WantAccess:
		return "--subscriber, --address, --line, --equipment"
	case WantCommunications:
		return "--number, --mail, --subscriber, --equipment"
	}
	return "--subscriber, --address, --remote"
}

func bad(what, remedy string) error { return fmt.Errorf("%w: %s; %s", ErrQuery, what, remedy) }

func (q *Query) identifiers() int {
	n := 0
	for _, set := range []bool{q.Subscriber != "", q.Address.IsValid(), q.Remote.IsValid(), q.Line != "", q.Equipment != "", q.Number != "", q.Mail != ""} {
		if set {
			n++
		}
	}
	return n
}

// action names what is asked for, for the ledger.
func (q *Query) action() string {
	if q.Ask == "" {
		return "lookup"
	}
	return q.Ask
}

// Kind names the identifier without telling it.
func (q *Query) Kind() string {
	switch {
	case q.Subscriber != "":
		return "subscriber"
	case q.Line != "":
		return "line"
	case q.Equipment != "":
		return "equipment"
	case q.Number != "":
		return "number"
	case q.Mail != "":
		return "mail address"
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

// BindingsSince returns since when access records are read: from the day before
// the window. What was in force then was written down on that day.
func (q *Query) BindingsSince() session.Day {
	first, _ := q.Days()
	return first - 1
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
	if q.Port != nil {
		b.Port, b.RemotePort = *q.Port, *q.Port // each goes with its address
	}
	return b
}

// heads is how many frames of a block of sessions say whether it may hold an
// answer.
func (q *Query) heads() int {
	if q.Address.IsValid() {
		return block.ZoneHeads
	}
	return block.Heads
}

// plain reports whether s is short and printable.
func plain(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}
