package disclose

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Breach is one notification of a breach of personal data, as it stands in the
// register that BEK 1882/2020 § 6 wants: the seventeen fields of Annex I of
// regulation (EU) 611/2013. It goes into the ledger sealed.
type Breach struct {
	// Field 3: whether it is the first or a second notification (BreachFirst,
	// BreachSecond). Number is that of the breach; 0 for a new one. A form that
	// Corrects another stands in its place; that is the index of its entry, 0 for none.
	Notification string `toml:"notification" json:"notification"`
	Number       int    `toml:"number" json:"number,omitempty"`
	Corrects     int64  `toml:"corrects" json:"corrects,omitempty"`

	// Sent is when it was sent to the authority, RFC 3339; "" when that is still to
	// be done. Complete says that the authority needs no further one.
	Sent     string `toml:"sent" json:"sent,omitempty"`
	Complete bool   `toml:"complete" json:"complete,omitempty"`

	Provider       string `toml:"provider" json:"provider"`                                 // 1
	Contact        string `toml:"contact" json:"contact"`                                   // 2
	Incident       string `toml:"incident" json:"incident,omitempty"`                       // 4, date and time or an estimate
	Detected       string `toml:"detected" json:"detected"`                                 // 4, RFC 3339
	Circumstances  string `toml:"circumstances" json:"circumstances"`                       // 5
	Data           string `toml:"data" json:"data"`                                         // 6
	Measures       string `toml:"measures" json:"measures"`                                 // 7
	OtherProviders string `toml:"other_providers" json:"other_providers,omitempty"`         // 8
	Summary        string `toml:"summary" json:"summary,omitempty"`                         // 9
	Individuals    *int64 `toml:"individuals" json:"individuals,omitempty"`                 // 10; nil: not known
	Consequences   string `toml:"consequences" json:"consequences,omitempty"`               // 11
	Mitigation     string `toml:"mitigation" json:"mitigation,omitempty"`                   // 12
	NoticeText     string `toml:"notice_text" json:"notice_text,omitempty"`                 // 13
	NoticeMeans    string `toml:"notice_means" json:"notice_means,omitempty"`               // 14
	Notified       *int64 `toml:"notified" json:"notified,omitempty"`                       // 15; nil: nobody
	OtherStates    string `toml:"other_member_states" json:"other_member_states,omitempty"` // 16
	OtherAuthority string `toml:"other_authorities" json:"other_authorities,omitempty"`     // 17
}

// The words of Breach.Notification.
const (
	BreachFirst  = "first"
	BreachSecond = "second"
)

// How long a provider has for each notification: regulation (EU) 611/2013 article
// 2 (2), from the detection, and article 2 (3), from the first notification.
const (
	FirstWithin  = 24 * time.Hour
	SecondWithin = 3 * 24 * time.Hour
)

// ErrBreach is wrapped by every error about a form itself.
var ErrBreach = errors.New("the breach cannot be registered")

// maxBreach is the most bytes of a form as JSON: an entry of the ledger has 64 KiB,
// in which it stands sealed and in base64, with a header for each who may open it.
const maxBreach = 40 << 10

// breachField is one of the fields that a form must or may fill.
type breachField struct {
	no    int // of Annex I
	key   string
	label string
	help  string // on the empty form
	of    func(*Breach) *string
	count func(*Breach) **int64 // instead of "of", where it is a number
	first bool                  // needed from the first notification on
	whole bool                  // needed of one that is complete, and of a second
}

// breachFields are those of Annex I, in its order; 3 is Breach.Notification.
var breachFields = []breachField{
	{no: 1, key: "provider", label: "name of the provider", first: true, of: func(b *Breach) *string { return &b.Provider }},
	{no: 2, key: "contact", label: "data protection officer or other contact point", help: "name, telephone, mail", first: true, of: func(b *Breach) *string { return &b.Contact }},
	{no: 4, key: "incident", label: "date and time of the incident", help: "or an estimate, in words", of: func(b *Breach) *string { return &b.Incident }},
	{no: 4, key: "detected", label: "date and time of its detection", help: "RFC 3339 with zone: \"2025-03-01T12:00:00Z\"; the 24 hours run from it", first: true, of: func(b *Breach) *string { return &b.Detected }},
	{no: 5, key: "circumstances", label: "circumstances", help: "loss, theft, copying …", first: true, of: func(b *Breach) *string { return &b.Circumstances }},
	{no: 6, key: "data", label: "nature and content of the data", first: true, of: func(b *Breach) *string { return &b.Data }},
	{no: 7, key: "measures", label: "technical and organisational measures applied, or to be applied, to the data", help: "what was sealed, and to whom, belongs here", first: true, of: func(b *Breach) *string { return &b.Measures }},
	{no: 8, key: "other_providers", label: "use of other providers, where relevant", of: func(b *Breach) *string { return &b.OtherProviders }},
	{no: 9, key: "summary", label: "summary of the incident", help: "with the place and the storage media", whole: true, of: func(b *Breach) *string { return &b.Summary }},
	{no: 10, key: "individuals", label: "number of subscribers or individuals concerned", help: "a number without quotes", whole: true, count: func(b *Breach) **int64 { return &b.Individuals }},
	{no: 11, key: "consequences", label: "potential consequences and adverse effects on them", whole: true, of: func(b *Breach) *string { return &b.Consequences }},
	{no: 12, key: "mitigation", label: "measures taken to mitigate them", whole: true, of: func(b *Breach) *string { return &b.Mitigation }},
	{no: 13, key: "notice_text", label: "content of the notification to subscribers", of: func(b *Breach) *string { return &b.NoticeText }},
	{no: 14, key: "notice_means", label: "means of communication used for it", of: func(b *Breach) *string { return &b.NoticeMeans }},
	{no: 15, key: "notified", label: "number of subscribers or individuals notified", help: "a number without quotes", count: func(b *Breach) **int64 { return &b.Notified }},
	{no: 16, key: "other_member_states", label: "subscribers or individuals in other member states", of: func(b *Breach) *string { return &b.OtherStates }},
	{no: 17, key: "other_authorities", label: "notification of other competent authorities", of: func(b *Breach) *string { return &b.OtherAuthority }},
}

// value is what stands in a field, for people; "" when it is empty.
func (f *breachField) value(b *Breach) string {
	if f.count == nil {
		return *f.of(b)
	}
	if n := *f.count(b); n != nil {
		return strconv.FormatInt(*n, 10)
	}
	return ""
}

// Check reports whether b can be registered at the time now. The error wraps
// ErrBreach and has a line for each problem, with its remedy.
func (b *Breach) Check(now time.Time) error {
	var errs []error
	bad := func(key, what, remedy string) {
		errs = append(errs, fmt.Errorf("%w: %s %s; %s", ErrBreach, key, what, remedy))
	}
	whole := b.Notification == BreachSecond || b.Complete
	for i := range breachFields {
		f := &breachFields[i]
		switch text := f.value(b); {
		case strings.TrimSpace(text) == "" && (f.first || f.whole && whole):
			bad(f.key, "is empty", fmt.Sprintf("it is field %d of Annex I: %s", f.no, f.label))
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
			bad(f.key, "holds a control character", "write plain text")
		case f.count != nil && *f.count(b) != nil && **f.count(b) < 0:
			bad(f.key, "is less than 0", "leave it out if it is not known")
		}
	}
	if n := b.Notified; (n != nil && *n > 0 || b.NoticeText != "" || b.NoticeMeans != "") && (n == nil || b.NoticeText == "" || b.NoticeMeans == "") {
		bad("notice_text, notice_means and notified", "belong together", "say what the subscribers were told, how, and how many")
	}
	b.checkNumbers(bad)
	b.checkTimes(now, bad)
	if text, err := b.Text(); err != nil || len(text) > maxBreach {
		bad("the form", fmt.Sprintf("has %d bytes, at most %d fit into an entry of the ledger", len(text), maxBreach), "shorten it, and name the document that has the rest")
	}
	return errors.Join(errs...)
}

func (b *Breach) checkNumbers(bad func(key, what, remedy string)) {
	switch {
	case b.Notification != BreachFirst && b.Notification != BreachSecond:
		bad("notification", fmt.Sprintf("is %q", b.Notification), `write "first" or "second"`)
	case b.Number < 0 || b.Corrects < 0:
		bad("number or corrects", "is less than 0", "\"edgelog breach list\" shows both")
	case b.Notification == BreachSecond && b.Number == 0:
		bad("number", "is missing", "a second notification refers to the number of the first: \"edgelog breach list\" shows it")
	case b.Notification == BreachFirst && b.Number > 0 && b.Corrects == 0:
		bad("number", "is given", "leave it out of a new breach; to correct the first notification of one, say with corrects which entry it replaces")
	case b.Corrects > 0 && b.Number == 0:
		bad("number", "is missing", "say of which breach an entry is corrected")
	}
}

func (b *Breach) checkTimes(now time.Time, bad func(key, what, remedy string)) {
	read := func(key, s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, s)
		switch {
		case err != nil:
			bad(key, fmt.Sprintf("is no time: %q", s), `write it with its zone, for example "2025-03-01T12:00:00Z"`)
		case t.After(now):
			bad(key, "lies in the future", "mind its zone")
		}
		return t
	}
	detected, sent := read("detected", b.Detected), read("sent", b.Sent)
	if !sent.IsZero() && sent.Before(detected) {
		bad("sent", "is before the detection", "put right one of the two")
	}
}

// Text returns the form as JSON, which is the same for the same form.
func (b *Breach) Text() ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("write the form of a breach: %w", err)
	}
	return text, nil
}
