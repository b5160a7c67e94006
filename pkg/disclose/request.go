package disclose

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Request is one order of an authority, as an officer files it: authorisation,
// task and delivery as ETSI TS 103 120 divides them; no conformance is claimed.
// Its JSON text is what is sealed, and what the ledger commits to (Commitment).
type Request struct {
	Authorisation Authorisation `json:"authorisation"`
	Task          Task          `json:"task"`
	Delivery      Delivery      `json:"delivery"`

	// Officer is the person of the configuration who filed it, and OfficerKey the
	// age recipient for whom a grant is wrapped.
	Officer    string    `json:"officer"`
	OfficerKey string    `json:"officer_key"`
	Filed      time.Time `json:"filed"` // UTC, whole milliseconds

	// Emergency says why it could not wait for the usual approvals; "" when it could.
	Emergency string `json:"emergency,omitempty"`

	// Nonce is 32 random bytes: with them, a commitment tells nothing to who guesses.
	Nonce []byte `json:"nonce"`
}

// Authorisation says on whose order is read. Country, Authority and Number are the
// request key of ETSI TS 102 657: {countryCode, authorisedOrganisationID, requestNumber}.
type Authorisation struct {
	Country    string `json:"country"`            // ISO 3166-1, two capitals
	Authority  string `json:"authority"`          // who orders it
	Number     string `json:"number"`             // the reference of the case there
	LegalBasis string `json:"legal_basis"`        // provision and order
	Document   string `json:"document,omitempty"` // SHA-256 of the written order, hex; "" when there is none yet
}

// Task is what is to be read.
type Task struct {
	Query    Query    `json:"query"`    // one identifier, one window; its Reference is the Authorisation's Number
	MaxHits  int      `json:"max_hits"` // more than these are not delivered; 1 to MostHits
	Priority Priority `json:"priority"`
}

// Delivery is where the answer goes.
type Delivery struct {
	Recipient string `json:"recipient"`    // age recipient: the authority's public key
	To        string `json:"to,omitempty"` // how it is sent there, in words
}

// Priority is how soon an answer is expected.
type Priority string

// The priorities.
const (
	Routine Priority = "routine"
	Urgent  Priority = "urgent"
)

// State is how far a request has come. The words are stored and never change their
// meaning.
type State string

// The states, in their order.
const (
	Filed     State = "filed"     // waits for approval
	Approved  State = "approved"  // its grant is there
	Answered  State = "answered"  // was run; its grant is destroyed
	Refused   State = "refused"   // by a custodian
	Withdrawn State = "withdrawn" // by its officer
	Expired   State = "expired"   // nobody approved or ran it in time
)

// ErrRequest is wrapped by every error about a request itself.
var ErrRequest = errors.New("the request cannot be filed")

// Limits are what a provider lets be asked for at most.
type Limits struct {
	Window  time.Duration // of one request
	MaxHits int
}

// Check reports whether r may be filed at the time now. The error wraps ErrRequest
// or ErrQuery.
func (r *Request) Check(now time.Time, most Limits) error {
	a, t := &r.Authorisation, &r.Task
	texts := []struct{ what, text, remedy string }{
		{"authority", a.Authority, "say who orders it: --authority"},
		{"legal basis", a.LegalBasis, "name the provision and the order: --legal-basis"},
		{"number", a.Number, "give the reference of the case: --reference"},
	}
	for _, x := range texts {
		if strings.TrimSpace(x.text) == "" {
			return wrong("the "+x.what+" is missing", x.remedy)
		}
	}
	for _, x := range append(texts, []struct{ what, text, remedy string }{
		{"delivery address", r.Delivery.To, ""}, {"reason of the emergency", r.Emergency, ""}, {"officer", r.Officer, ""},
	}...) {
		if !plain(x.text) || !utf8.ValidString(x.text) {
			return wrong("the "+x.what+" is longer than 256 bytes or holds control characters", "write it in one line")
		}
	}
	switch {
	case len(a.Country) != 2 || strings.Trim(a.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return wrong("the country is not two capital letters of ISO 3166-1", "for example --country DK")
	case a.Document != "" && (len(a.Document) != 64 || strings.Trim(a.Document, "0123456789abcdef") != ""):
		return wrong("the hash of the order is not SHA-256 in hex", "name the file of the order: --order FILE")
	case t.Query.Reference != a.Number:
		return wrong("the task has another reference than the authorisation", "file it again")
	case t.Query.Ask == WantVerify || t.Query.Ask == WantHold:
		return wrong("it asks for what is no answer", "use lookup, who, access or communications")
	case t.MaxHits < 1 || t.MaxHits > most.MaxHits:
		return wrong(fmt.Sprintf("the hits are not 1 to %d", most.MaxHits), "lower --max-hits")
	case !slices.Contains([]Priority{Routine, Urgent}, t.Priority):
		return wrong("the priority is not known", "use routine or urgent")
	case len(r.Nonce) != 32:
		return wrong("its nonce is not 32 bytes", "file it with \"edgelog request new\"")
	case uint64(t.Query.To)-uint64(t.Query.From) > uint64(most.Window):
		return wrong(fmt.Sprintf("the window is longer than %v, the most that is configured", most.Window), "ask for less, or file one request for each part")
	}
	return t.Query.Check(now)
}

func wrong(what, remedy string) error { return fmt.Errorf("%w: %s; %s", ErrRequest, what, remedy) }

// Text returns the request's JSON, which is the same for the same request.
func (r *Request) Text() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	return b, nil
}

// ParseRequest is the inverse of Text; it takes nothing that Text does not give.
func ParseRequest(text []byte) (*Request, error) {
	r := new(Request)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%w: it is not understood: %w", ErrRequest, err)
	}
	if again, err := r.Text(); err != nil || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%w: it is not as edgelog writes one", ErrRequest)
	}
	return r, nil
}

// Commitment is what the ledger keeps of a request in the clear: a hash that says
// nothing without the request, and with it proves which it was.
func Commitment(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }

// Identifier returns what is asked about, for people.
func (q *Query) Identifier() string {
	port := func(a netip.Addr) string {
		if q.Port == nil {
			return a.String()
		}
		return netip.AddrPortFrom(a, *q.Port).String()
	}
	switch {
	case q.Address.IsValid():
		return port(q.Address)
	case q.Remote.IsValid():
		return port(q.Remote)
	}
	return q.Subscriber + q.Line + q.Equipment + q.Number + q.Mail
}
