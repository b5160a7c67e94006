package disclose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Accountable is what the sealed payload of an intent says: the seven fields that
// TKÜV § 35 wants of every access to retained data, whatever it is for. It never
// holds the data found. Field 6 may be used only to look into misuse or errors.
//
// An auditor opens it (edgelog audit list, sample); nobody who carries out orders
// can (§ 16(2)).
type Accountable struct {
	Reference  string     `json:"reference"`          // 1: of the order; also of a test or another use
	Identifier string     `json:"identifier_entered"` // 2: as it was entered
	Search     SearchData `json:"search"`             // 3: the further data that was searched with
	LegalBasis string     `json:"legal_basis"`        // 4: the provision under which the data was stored
	Delivery   string     `json:"delivery"`           // 5: to whom the answer goes; "none" where nothing is delivered
	Person     string     `json:"person"`             // 6: who entered it: name of the configuration, or uid
	At         time.Time  `json:"at"`                 // 7: when it was entered; UTC, milliseconds

	// Request is the index of the ledger entry that filed the request; nil for an
	// access that has none, such as a verification.
	Request *int64 `json:"request,omitempty"`
}

// SearchData is field 3 of Accountable.
type SearchData struct {
	From    time.Time `json:"from,omitzero"` // the window, from ≤ t < to; UTC; zero: everything there is
	To      time.Time `json:"to,omitzero"`
	Port    *uint16   `json:"port,omitempty"`
	Kind    string    `json:"kind"`               // what was asked for: lookup, who, access, hold, verify
	By      string    `json:"by"`                 // what the identifier is: subscriber, address, remote address …
	MaxHits int       `json:"max_hits,omitempty"` // 0: there is no request that limits them
}

// NoDelivery is the Delivery of an access whose answer goes to nobody else.
const NoDelivery = "none"

// ErrAccountable is wrapped by every error about an incomplete Accountable.
var ErrAccountable = errors.New("the access cannot be accounted for")

// Account fills the seven fields of an access: a query, under what provision the
// data was stored, to whom the answer goes (NoDelivery), and who entered it when.
func Account(q *Query, storedUnder, delivery, person string, at time.Time) *Accountable {
	a := &Accountable{
		Reference: q.Reference, Identifier: q.Identifier(), Search: SearchData{Port: q.Port, Kind: q.action(), By: q.Kind()},
		LegalBasis: storedUnder, Delivery: delivery, Person: person, At: at.UTC().Truncate(time.Millisecond),
	}
	if q.From != 0 || q.To != 0 {
		a.Search.From, a.Search.To = time.Unix(0, q.From).UTC(), time.Unix(0, q.To).UTC()
	}
	return a
}

// AccountRequest fills them from a filed request, whose index in the ledger is id.
func AccountRequest(r *Request, id int64, storedUnder, person string, at time.Time) *Accountable {
	to := r.Delivery.To
	if to == "" {
		to = r.Delivery.Recipient
	}
	a := Account(&r.Task.Query, storedUnder, to, person, at)
	a.Search.MaxHits, a.Request = r.Task.MaxHits, &id
	return a
}

// Check reports whether all seven fields are there. Only a verification, which opens
// everything and shows nothing, has neither identifier nor window.
func (a *Accountable) Check() error {
	missing := []string{}
	for _, f := range []struct{ name, text string }{
		{"reference", a.Reference}, {"legal basis", a.LegalBasis}, {"delivery", a.Delivery}, {"person", a.Person}, {"kind", a.Search.Kind},
	} {
		if strings.TrimSpace(f.text) == "" {
			missing = append(missing, f.name)
		}
	}
	if a.Identifier == "" && a.Search.Kind != WantVerify {
		missing = append(missing, "identifier")
	}
	if a.At.IsZero() {
		missing = append(missing, "time")
	}
	if a.Search.Kind != WantVerify && !a.Search.From.Before(a.Search.To) {
		missing = append(missing, "window")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: without %s (TKÜV § 35)", ErrAccountable, strings.Join(missing, ", "))
	}
	return nil
}

// Payload returns what is sealed. An incomplete one is an error: then nothing may
// be read.
func (a *Accountable) Payload() ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("write what is accounted for: %w", err)
	}
	return b, nil
}

// ParseAccountable is the inverse of Payload. The error wraps ErrAccountable.
func ParseAccountable(payload []byte) (*Accountable, error) {
	a := new(Accountable)
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAccountable, err)
	}
	return a, a.Check()
}

// Window returns the window in words.
func (s *SearchData) Window() string {
	if s.From.IsZero() && s.To.IsZero() {
		return "-"
	}
	return session.FormatTime(s.From.UnixNano()) + " to " + session.FormatTime(s.To.UnixNano())
}
