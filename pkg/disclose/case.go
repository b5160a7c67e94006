package disclose

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// Caller is who speaks: as the kernel vouches for him, and as the configuration
// names him.
type Caller struct {
	Person   string // "" for one whom it does not name
	Key      string // his age recipient
	UID, GID uint32

	Officer, Custodian, Auditor, Operator bool

	Lapsed bool // his security clearance is over: he is neither officer nor custodian any more
}

// Policy is what the configuration says about requests.
type Policy struct {
	Limits
	Country   string // where none is given, ISO 3166-1
	Approvals int    // different custodians that a request needs

	Wait   time.Duration // from filing to approval, at most
	Run    time.Duration // from approval to run, at most
	Ratify time.Duration // from the approval of an emergency to the second one, at most

	Custodians []Holder // who may approve, with their keys
	Readers    []string // age recipients of those who may read requests beside them: auditors

	// Seal seals to age recipients, nobody else.
	Seal func(to []string, plaintext []byte) ([]byte, error)
}

// Holder is a person with his key.
type Holder struct {
	Person string `json:"person"`
	Key    string `json:"key"` // age recipient
}

// Case is what can be said of a request without saying whom it is about, or who
// filed or approved it. It is in the ledger with each step.
type Case struct {
	ID         int64     `json:"id"` // number of the ledger entry of its filing
	State      State     `json:"state"`
	Ask        string    `json:"ask"`        // lookup, who, access or communications
	Commitment string    `json:"commitment"` // SHA-256 of the request's text, hex
	Filed      time.Time `json:"filed"`
	Until      time.Time `json:"until"` // when it must have been approved, or run

	// Persons are tags: HMAC-SHA256 of their names under the request's nonce, hex.
	// Who presents the request can tell whether somebody is one of them; nobody else.
	Officer   string   `json:"officer"`
	Approvals []string `json:"approvals,omitempty"`
	Needed    int      `json:"needed"` // approvals before its grant may be used

	// These are tags of uids and keys, by which a person is known who has another name
	// in the configuration by now.
	OfficerAs  []string `json:"officer_as,omitempty"`
	ApprovedAs []string `json:"approved_as,omitempty"`

	Grant string `json:"grant,omitempty"` // SHA-256 of the grant as it is kept, hex

	Emergency bool      `json:"emergency,omitempty"` // one approval was enough for now
	Ratify    time.Time `json:"ratify,omitzero"`     // when another must have come
	Overdue   bool      `json:"overdue,omitempty"`   // it has not

	Ended time.Time `json:"ended,omitzero"`
}

// over reports whether nothing more will happen to the case.
func (c *Case) over() bool { return c.State != Filed && c.State != Approved && !c.unratified() }

// unratified reports whether an emergency still waits for its second approval.
func (c *Case) unratified() bool {
	return c.Emergency && !c.Overdue && len(c.Approvals) == 1 && (c.State == Approved || c.State == Answered)
}

// tag names a person to who has the request.
func tag(r *Request, person string) string {
	m := hmac.New(sha256.New, r.Nonce)
	m.Write([]byte(person)) // never fails
	return hex.EncodeToString(m.Sum(nil))
}

// tags are those of a caller's uid and key.
func (c *Caller) tags(r *Request) []string {
	return []string{tag(r, fmt.Sprintf("\x00uid %d", c.UID)), tag(r, "\x00key "+c.Key)} // no name has a \x00
}

// filedBy reports whether c filed the case, whatever he was called then.
func (k *Case) filedBy(c *Caller, r *Request) bool {
	return k.Officer == tag(r, c.Person) || anyOf(k.OfficerAs, c.tags(r))
}

// approvedBy reports the same of an approval.
func (k *Case) approvedBy(c *Caller, r *Request) bool {
	return slices.Contains(k.Approvals, tag(r, c.Person)) || anyOf(k.ApprovedAs, c.tags(r))
}

func anyOf(list, of []string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(of, s) })
}

// entry is the ledger's entry of a step.
func (c *Case) entry(step string, said statement) (ledger.Entry, error) {
	record, err := json.Marshal(c)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("describe request %d: %w", c.ID, err)
	}
	payload, err := json.Marshal(said)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("describe request %d: %w", c.ID, err)
	}
	fields := map[string]string{FieldStep: step, FieldState: string(c.State), FieldAsk: c.Ask, "commitment": c.Commitment, "record": string(record)}
	if step != stepFile {
		fields[FieldRequest] = strconv.FormatInt(c.ID, 10)
	}
	if step == stepOverdue {
		fields[FieldState] = StateOverdue
	}
	return ledger.Entry{Kind: ledger.Request, Fields: fields, Payload: payload}, nil
}

// Steps of a request, as the ledger has them. The words never change their meaning.
const (
	stepFile     = "file"
	stepApprove  = "approve"
	stepRefuse   = "refuse"
	stepWithdraw = "withdraw"
	stepExpire   = "expire"
	stepOverdue  = "overdue"
)

// statement is the sealed part of an entry about a request.
type statement struct {
	Request json.RawMessage `json:"request,omitempty"` // its text, with its filing
	Person  string          `json:"person,omitempty"`
	UID     uint32          `json:"uid"`
	GID     uint32          `json:"gid"`
	Reason  string          `json:"reason,omitempty"`
}

func (c *Caller) says(reason string) statement {
	return statement{Person: c.Person, UID: c.UID, GID: c.GID, Reason: reason}
}

// caseOf reads a case from a ledger entry about a request.
func caseOf(r *ledger.Record) (*Case, error) {
	c := new(Case)
	if err := json.Unmarshal([]byte(r.Fields["record"]), c); err != nil {
		return nil, fmt.Errorf("read ledger entry %d: %w", r.Index, err)
	}
	if r.Fields[FieldStep] == stepFile {
		c.ID = r.Index
	}
	return c, nil
}

// Denied is why somebody may not do something. It names nobody, and is put into
// the ledger.
type Denied struct {
	Status int    // of HTTP
	Word   string // for the ledger
	Text   string
}

func (d *Denied) Error() string { return d.Text }

func deny(word, format string, v ...any) error {
	return &Denied{http.StatusForbidden, word, fmt.Sprintf(format, v...)}
}

// lacks says that a role is missing.
func (c *Caller) lacks(role string) error {
	if c.Lapsed {
		return deny("clearance over", "your security clearance is over, so you may not do that; have clearance_until renewed in the configuration")
	}
	return deny("no "+role, "that is for a person with the role %q; the configuration ([[person]]) says who that is", role)
}

// permits reports why c may not do act with the case, whose request is r; nil: he may.
func (k *Case) permits(act Act, c *Caller, r *Request, now time.Time) error {
	own := k.filedBy(c, r)
	switch act {
	case Run:
		switch {
		case !c.Officer:
			return c.lacks("officer")
		case k.Officer != tag(r, c.Person):
			return deny("not his", "request %d was filed by another person", k.ID)
		case k.State == Filed:
			return deny("not approved", "request %d needs to be approved by a custodian first: edgelog request approve %d", k.ID, k.ID)
		case k.State != Approved:
			return deny("state "+string(k.State), "request %d is %s, so it is not run; file another one", k.ID, k.State)
		case now.After(k.Until):
			return deny("expired", "the approval of request %d is over since %s; file another one", k.ID, k.Until.Format(time.RFC3339))
		}
	case Approve:
		switch {
		case !c.Custodian:
			return c.lacks("custodian")
		case own:
			return deny("self-approval", "who filed a request cannot approve it")
		case k.approvedBy(c, r):
			return deny("approved twice", "you have approved request %d already; it needs another custodian", k.ID)
		case k.State == Filed && now.After(k.Until):
			return deny("expired", "request %d was not approved by %s; it must be filed again", k.ID, k.Until.Format(time.RFC3339))
		case k.State != Filed && !k.unratified():
			return deny("state "+string(k.State), "request %d is %s, so it is not approved", k.ID, k.State)
		}
	case Preserve:
		switch {
		case !c.Custodian:
			return c.lacks("custodian")
		case own:
			return deny("his own", "who filed a request cannot hold its records")
		case k.State != Approved && k.State != Answered:
			return deny("state "+string(k.State), "request %d is %s; records are held for one that was approved", k.ID, k.State)
		}
	}
	return nil
}

// errNoCase is for numbers that no request has.
var errNoCase = &Denied{http.StatusNotFound, "no such request", "there is no request of that number; \"edgelog request list\" shows them"}

// asDenied returns the Denied in err, nil when there is none.
func asDenied(err error) *Denied {
	var d *Denied
	if errors.As(err, &d) {
		return d
	}
	return nil
}
