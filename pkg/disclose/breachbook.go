package disclose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// PathBreach is where the agent takes a Breach (POST), and answers with a
// BreachList (GET).
const PathBreach = "/v1/breach"

// BreachState is how far the notification of a breach has come. The words are
// stored and never change their meaning.
type BreachState string

// The states.
const (
	BreachUnsent     BreachState = "unsent"     // the first notification was not sent yet
	BreachIncomplete BreachState = "incomplete" // it was, and the authority needs a second one
	BreachComplete   BreachState = "complete"   // nothing more is due
)

// BreachFacts are what the ledger says of one entry of the register in the clear.
// They name nobody.
type BreachFacts struct {
	Entry        int64       `json:"entry"` // index in the ledger
	At           time.Time   `json:"at"`    // when it was registered
	Number       int         `json:"number"`
	Notification string      `json:"notification"`
	Detected     time.Time   `json:"detected"`
	Sent         time.Time   `json:"sent,omitzero"` // to the authority; zero: not yet
	Whole        bool        `json:"whole"`         // the authority needs no further notification, says the form
	Corrects     int64       `json:"corrects,omitempty"`
	State        BreachState `json:"state"`        // of the breach, after this entry
	Due          time.Time   `json:"due,omitzero"` // when the next notification is to be sent at the latest; zero: none is, or there is no date for it
	Sealed       []byte      `json:"sealed,omitempty"`
}

// BreachList is the register, in the order of its entries.
type BreachList struct {
	Gateway string        `json:"gateway"`
	Entries []BreachFacts `json:"entries"`
	Unread  int           `json:"unread"` // entries that this version does not understand
}

// Names of the Fields of an entry.
const (
	breachNumber       = "number"
	breachNotification = "notification"
	breachDetected     = "detected"
	breachSent         = "sent"
	breachWhole        = "complete"
	breachCorrects     = "corrects"
	breachState        = "state"
	breachDue          = "due"
)

// fields are what is kept in the clear.
func (f *BreachFacts) fields() map[string]string {
	out := map[string]string{
		breachNumber: strconv.Itoa(f.Number), breachNotification: f.Notification, breachDetected: session.FormatTime(f.Detected.UnixNano()),
		breachWhole: strconv.FormatBool(f.Whole), breachState: string(f.State),
	}
	for name, t := range map[string]time.Time{breachSent: f.Sent, breachDue: f.Due} {
		if !t.IsZero() {
			out[name] = session.FormatTime(t.UnixNano())
		}
	}
	if f.Corrects > 0 {
		out[breachCorrects] = strconv.FormatInt(f.Corrects, 10)
	}
	return out
}

// parseBreachFacts is the inverse of fields.
func parseBreachFacts(r *ledger.Record) (BreachFacts, error) {
	f := BreachFacts{Entry: r.Index, At: r.Time, Notification: r.Fields[breachNotification], State: BreachState(r.Fields[breachState]), Sealed: r.Sealed}
	var errs []error
	var err error
	note := func(err error) { errs = append(errs, err) }
	f.Number, err = strconv.Atoi(r.Fields[breachNumber])
	note(err)
	f.Whole, err = strconv.ParseBool(r.Fields[breachWhole])
	note(err)
	if s := r.Fields[breachCorrects]; s != "" {
		f.Corrects, err = strconv.ParseInt(s, 10, 64)
		note(err)
	}
	f.Detected, err = time.Parse(time.RFC3339, r.Fields[breachDetected])
	note(err)
	for name, into := range map[string]*time.Time{breachSent: &f.Sent, breachDue: &f.Due} {
		if s := r.Fields[name]; s != "" {
			*into, err = time.Parse(time.RFC3339, s)
			note(err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return f, fmt.Errorf("read entry %d of the register of breaches: %w", r.Index, err)
	}
	return f, nil
}

// settle sets State and Due from the notifications of the breach that are in
// force, f among them: of those given with the same words the last one.
func (f *BreachFacts) settle(earlier []BreachFacts) {
	in := map[string]BreachFacts{}
	for _, e := range append(slices.Clip(earlier), *f) {
		if e.Number == f.Number {
			in[e.Notification] = e
		}
	}
	first, second := in[BreachFirst], in[BreachSecond]
	f.Due = time.Time{}
	switch {
	case first.Sent.IsZero():
		f.State, f.Due = BreachUnsent, first.Detected.Add(FirstWithin)
	case first.Whole || second.Whole && !second.Sent.IsZero():
		f.State = BreachComplete
	case second.Sent.IsZero():
		f.State, f.Due = BreachIncomplete, first.Sent.Add(SecondWithin)
	default: // what is still missing follows as soon as it is known: article 2 (3)
		f.State = BreachIncomplete
	}
}

// BreachStanding counts the breaches that are not done with.
type BreachStanding struct {
	Open    int       // not complete
	Overdue int       // of them, a notification should have been sent
	Next    time.Time // when the next one is due; zero: none is
}

// Current returns the last entry of each breach, in the order of their numbers as
// they were given.
func (l *BreachList) Current() []BreachFacts {
	var out []BreachFacts
	place := map[int]int{}
	for _, e := range l.Entries {
		if i, known := place[e.Number]; known {
			out[i] = e
			continue
		}
		place[e.Number] = len(out)
		out = append(out, e)
	}
	return out
}

// Standing counts what is open at a time.
func (l *BreachList) Standing(now time.Time) (s BreachStanding) {
	for _, e := range l.Current() {
		if e.State == BreachComplete {
			continue
		}
		s.Open++
		switch {
		case e.Due.IsZero():
		case now.After(e.Due):
			s.Overdue++
		case s.Next.IsZero() || e.Due.Before(s.Next):
			s.Next = e.Due
		}
	}
	return s
}

// BreachBook is the register of breaches: entries of the ledger, whose forms only
// custodians and auditors can open. Its methods may be called from several
// goroutines at once.
type BreachBook struct {
	o BreachOptions

	mu   sync.Mutex                 // held while the ledger is read or written for it
	list atomic.Pointer[BreachList] // nil: not read yet; replaced as a whole
}

// BreachOptions configure a BreachBook; all are required.
type BreachOptions struct {
	Entries Entries // of the ledger
	Ledger  Ledger  // the same one
	Gateway string
	Now     func() time.Time
	// Peer describes who registers, for the sealed part; "" when that is not known.
	Peer func(*http.Request) string
}

// NewBreachBook returns a register that reads the ledger when it is first needed.
func NewBreachBook(o BreachOptions) *BreachBook { return &BreachBook{o: o} }

// Load reads the ledger, once, and returns the register. The error is the ledger's.
func (b *BreachBook) Load(ctx context.Context) (*BreachList, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.load(ctx)
}

// load is Load; b.mu is held.
func (b *BreachBook) load(ctx context.Context) (*BreachList, error) {
	if list := b.list.Load(); list != nil {
		return list, nil
	}
	list := &BreachList{Gateway: b.o.Gateway, Entries: []BreachFacts{}}
	err := eachEntries(ctx, b.o.Entries, func(records []ledger.Record) error {
		for i := range records {
			if records[i].Kind != ledger.Breach {
				continue
			}
			f, err := parseBreachFacts(&records[i])
			if err != nil {
				list.Unread++
				continue
			}
			list.Entries = append(list.Entries, f)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the register of breaches: %w", err)
	}
	b.list.Store(list)
	return list, nil
}

// Standing counts what is open now; false before the register was read.
func (b *BreachBook) Standing() (BreachStanding, bool) {
	list := b.list.Load()
	if list == nil {
		return BreachStanding{}, false
	}
	return list.Standing(b.o.Now()), true
}

// Add registers a notification and returns what is kept of it in the clear; a
// first one without number gets the next. Errors wrap ErrBreach, or are the
// ledger's: then nothing is registered.
func (b *BreachBook) Add(ctx context.Context, form *Breach, peer string) (*BreachFacts, error) {
	if err := form.Check(b.o.Now()); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	list, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	f, err := list.place(form)
	if err != nil {
		return nil, err
	}
	kept := *form
	kept.Number = f.Number
	payload, err := json.Marshal(breachPayload{&kept, peer})
	if err != nil {
		return nil, fmt.Errorf("register a breach: %w", err)
	}
	f.Entry, err = b.o.Ledger.Append(ctx, ledger.Entry{Kind: ledger.Breach, Fields: f.fields(), Payload: payload})
	if errors.Is(err, ledger.ErrTooLarge) {
		return nil, fmt.Errorf("%w: sealed for all who may read it, the form is longer than an entry of the ledger; shorten it, and name the document that has the rest", ErrBreach)
	}
	if err != nil {
		return nil, fmt.Errorf("register a breach: %w", err)
	}
	records, err := b.o.Entries.Entries(context.WithoutCancel(ctx), f.Entry, f.Entry+1)
	if err != nil {
		b.list.Store(nil) // it is in the ledger: found there with the next reading
		return f, nil
	}
	f.At, f.Sealed = records[0].Time, records[0].Sealed
	next := *list
	next.Entries = append(slices.Clip(list.Entries), *f)
	b.list.Store(&next)
	return f, nil
}

// breachPayload is what is sealed.
type breachPayload struct {
	Breach *Breach `json:"breach"`
	Peer   string  `json:"peer"`
}

// place finds out where a form belongs.
func (l *BreachList) place(form *Breach) (*BreachFacts, error) {
	f := &BreachFacts{Number: form.Number, Notification: form.Notification, Whole: form.Complete, Corrects: form.Corrects}
	f.Detected, _ = time.Parse(time.RFC3339, form.Detected) // Check has read both
	if form.Sent != "" {
		f.Sent, _ = time.Parse(time.RFC3339, form.Sent)
	}
	f.Detected, f.Sent = f.Detected.UTC(), f.Sent.UTC()
	highest, sent, corrected := 0, false, false
	for _, e := range l.Entries {
		highest = max(highest, e.Number)
		if e.Number != f.Number {
			continue
		}
		if e.Notification == BreachFirst {
			sent = !e.Sent.IsZero()
		}
		corrected = corrected || e.Entry == f.Corrects && e.Notification == f.Notification
	}
	switch {
	case f.Number > highest:
		return nil, fmt.Errorf("%w: there is no breach number %d; \"edgelog breach list\" shows them", ErrBreach, f.Number)
	case f.Corrects > 0 && !corrected:
		return nil, fmt.Errorf("%w: entry %d is no %s notification of breach number %d; \"edgelog breach list\" shows the entries", ErrBreach, f.Corrects, f.Notification, f.Number)
	case f.Notification == BreachSecond && !sent:
		return nil, fmt.Errorf("%w: the first notification of breach number %d is not said to be sent; correct that entry, with sent = the time", ErrBreach, f.Number)
	case f.Number == 0:
		f.Number = highest + 1
	}
	f.settle(l.Entries)
	return f, nil
}

// Serve has handle, of the control socket, answer PathBreach.
func (b *BreachBook) Serve(handle func(pattern string, h http.HandlerFunc)) {
	handle("POST "+PathBreach, b.post)
	handle("GET "+PathBreach, b.get)
}

func (b *BreachBook) post(w http.ResponseWriter, r *http.Request) {
	form := new(Breach)
	if err := decode(w, r, form); err != nil {
		http.Error(w, fmt.Sprintf("the form is not understood, or longer than %d KiB: %v", maxRequest>>10, err), http.StatusBadRequest)
		return
	}
	peer := b.o.Peer(r)
	if peer == "" {
		http.Error(w, "it is not known who asks, so nothing is registered; use the control socket of this machine", http.StatusForbidden)
		return
	}
	f, err := b.Add(context.WithoutCancel(r.Context()), form, peer)
	switch {
	case errors.Is(err, ErrBreach):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, fmt.Sprintf("nothing is registered: %v; see \"edgelog status\"", err), http.StatusServiceUnavailable)
	default:
		answerJSON(w, f)
	}
}

func (b *BreachBook) get(w http.ResponseWriter, r *http.Request) {
	list, err := b.Load(r.Context())
	if err != nil {
		http.Error(w, fmt.Sprintf("%v; see \"edgelog status\"", err), http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, list)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader may be gone
}
