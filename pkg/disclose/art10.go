package disclose

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// PathArt10 is where the agent answers with an Art10 (GET, ?year=).
const PathArt10 = "/v1/report/art10"

// Art10 is the statistics of one calendar year (UTC) that article 10 of directive
// 2006/24/EC asks for: in how many cases information was given, how old the data
// were, and how many requests could not be met.
//
// A case is a request, and counts in the year in which it ended. What is counted
// are cases, not persons: that one request about sessions was answered says
// neither about whom, nor for whom, nor in which matter, and no two numbers here
// can be taken together to say it. So small counts are shown as they are; to
// leave them out would hide from the public what it is to see.
type Art10 struct {
	Year    int       `json:"year"`
	Gateway string    `json:"gateway"`
	At      time.Time `json:"at"`      // when it was made, UTC
	Over    bool      `json:"over"`    // the year was: else these are the figures so far
	Entries int64     `json:"entries"` // of the ledger that were read

	Filed     int `json:"filed"`      // requests filed in the year
	Open      int `json:"open"`       // filed in it or before, and without an end at its end
	Overdue   int `json:"overdue"`    // emergencies in it whose approval did not come in time
	BrokenOff int `json:"broken_off"` // readings in it that gave no answer; the request stays as it is
	Unread    int `json:"unread"`     // entries that are not understood

	Kinds []Cases `json:"kinds"` // by kind of data, always the same ones in the same order
	Total Cases   `json:"total"`
}

// Cases are the counts of one kind of data.
type Cases struct {
	Kind       string  `json:"kind"`
	Given      int     `json:"given"`      // information was given
	Incomplete int     `json:"incomplete"` // of them: not all that was stored could be read
	Ages       []Count `json:"ages"`       // of those given, by the age of the data at the request
	NotMet     int     `json:"not_met"`
	Whys       []Count `json:"why"` // of those not met
}

// Count is how often something was so.
type Count struct {
	What  string `json:"what"`
	Cases int    `json:"cases"`
}

// kindsOfData are the kinds, and by which words of FieldAsk they are asked for.
var kindsOfData = []struct {
	kind string
	asks []string
}{
	{"sessions", []string{AskedLookup}},
	{"who", []string{AskedWho}},
	{"access", []string{AskedAccess}},
	{"communications", []string{AskedCommunications}},
	{"other", nil},
}

// ages are the buckets, with the first day that is too old for them. A quarter of
// a year is 91 days.
var ages = []struct {
	what string
	days int
}{
	{"0-3 months", 91}, {"3-6 months", 182}, {"6-9 months", 273}, {"9-12 months", 365}, {"12 months and more", 1 << 30}, {"unknown length", 0},
}

const ageUnknown = -1

// Tally counts the cases of a ledger. The zero value is ready.
type Tally struct {
	cases   map[string]*aCase
	entries int64
	other   []event
}

// aCase is one request, or one reading of before there were requests.
type aCase struct {
	ask      string
	filed    time.Time // zero: a reading without a request
	ended    time.Time // by its first answer, or else by its state; zero: it is open
	answered bool
	records  int
	age      int
	why      Why
}

// event is what counts by itself.
type event struct {
	at   time.Time
	what eventKind
}

type eventKind uint8

const (
	eventFiled eventKind = iota
	eventOverdue
	eventBroken
	eventUnread
)

// Add takes the next entries of the ledger, which must come in their order.
func (t *Tally) Add(records []ledger.Record) {
	if t.cases == nil {
		t.cases = map[string]*aCase{}
	}
	t.entries += int64(len(records))
	for i := range records {
		switch r := &records[i]; r.Kind {
		case ledger.Request:
			t.request(r)
		case ledger.Outcome:
			t.outcome(r)
		}
	}
}

func (t *Tally) note(r *ledger.Record, what eventKind) {
	t.other = append(t.other, event{r.Time, what})
}

// request takes a step of a request.
func (t *Tally) request(r *ledger.Record) {
	id, state := r.Fields[FieldRequest], r.Fields[FieldState]
	if id == "" && state == string(Filed) {
		id = strconv.FormatInt(r.Index, 10)
	}
	c := t.cases[id]
	if state == string(Filed) && id != "" && c == nil {
		t.cases[id] = &aCase{ask: r.Fields[FieldAsk], filed: r.Time}
		t.note(r, eventFiled)
		return
	}
	if c == nil {
		t.note(r, eventUnread)
		return
	}
	end := map[string]Why{string(Refused): WhyRefused, string(Withdrawn): WhyWithdrawn, string(Expired): WhyExpired}
	switch why, ends := end[state]; {
	case ends && c.ended.IsZero():
		c.ended, c.why = r.Time, why
	case state == StateOverdue:
		t.note(r, eventOverdue)
	case !ends && state != string(Filed) && state != string(Approved) && state != string(Answered): // one of several approvals; the answer is counted with its outcome
		t.note(r, eventUnread)
	}
}

// outcome takes the end of a reading. What an answered one gave counts, whatever
// became of the request before or after.
func (t *Tally) outcome(r *ledger.Record) {
	f := r.Fields
	if f[FieldAction] == WantHold || f[FieldAction] == WantVerify || f[FieldAct] != "" && f[FieldAct] != string(Run) {
		return // nothing of it is given to anybody
	}
	c := t.cases[f[FieldRequest]]
	if f[FieldRequest] == "" { // before there were requests, each reading was one
		c = &aCase{ask: f[FieldAction]}
		t.cases["intent "+f[FieldIntent]] = c
	}
	if c == nil {
		t.note(r, eventUnread)
		return
	}
	if f[FieldResult] != ResultAnswered && f[FieldResult] != reasonNothing {
		t.note(r, eventBroken)
		if c.filed.IsZero() {
			delete(t.cases, "intent "+f[FieldIntent])
		}
		return
	}
	records, err := strconv.Atoi(f[FieldRecords])
	if err != nil && f[FieldRecords] != "" || records < 0 {
		t.note(r, eventUnread)
		records = 0
	}
	if c.answered && c.records > 0 {
		return // run again: one case
	}
	c.answered, c.ended, c.records, c.age = true, r.Time, records, ageUnknown
	if days, err := strconv.Atoi(f[FieldAge]); err == nil && days >= 0 {
		c.age = days
	}
	c.why = Why(f[FieldWhy])
	if records == 0 && !c.why.Valid() {
		c.why = WhyUnmatched
		if f[FieldResult] == reasonNothing {
			c.why = WhyProfile // that is what it says
		}
	}
}

// Year returns the statistics of a year; now is when it is asked for.
func (t *Tally) Year(year int, now time.Time) *Art10 {
	begin := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	end := begin.AddDate(1, 0, 0)
	within := func(at time.Time) bool { return !at.Before(begin) && at.Before(end) }
	a := &Art10{Year: year, At: now.UTC(), Over: !now.Before(end), Entries: t.entries, Total: newCases("total")}
	for i := range kindsOfData {
		a.Kinds = append(a.Kinds, newCases(kindsOfData[i].kind))
	}
	for _, e := range t.other {
		if within(e.at) {
			switch e.what {
			case eventFiled:
				a.Filed++
			case eventOverdue:
				a.Overdue++
			case eventBroken:
				a.BrokenOff++
			case eventUnread:
				a.Unread++
			}
		}
	}
	for _, c := range t.cases {
		switch {
		case !c.ended.IsZero() && within(c.ended):
			a.Kinds[kindOfData(c.ask)].add(c)
			a.Total.add(c)
		case c.filed.Before(end) && (c.ended.IsZero() || !c.ended.Before(end)) && !c.filed.IsZero():
			a.Open++
		}
	}
	return a
}

func newCases(kind string) Cases {
	c := Cases{Kind: kind}
	for i := range ages {
		c.Ages = append(c.Ages, Count{What: ages[i].what})
	}
	for i := range whys {
		c.Whys = append(c.Whys, Count{What: string(whys[i].why)})
	}
	return c
}

func kindOfData(ask string) int {
	for i := range kindsOfData {
		for _, word := range kindsOfData[i].asks {
			if word == ask {
				return i
			}
		}
	}
	return len(kindsOfData) - 1
}

func (n *Cases) add(c *aCase) {
	if c.answered && c.records > 0 {
		n.Given++
		if c.why == WhyIncomplete {
			n.Incomplete++
		}
		n.Ages[bucket(c.age)].Cases++
		return
	}
	n.NotMet++
	for i := range n.Whys {
		if n.Whys[i].What == string(c.why) {
			n.Whys[i].Cases++
		}
	}
}

func bucket(days int) int {
	if days < 0 {
		return len(ages) - 1
	}
	for i := range ages {
		if days < ages[i].days {
			return i
		}
	}
	return len(ages) - 2
}

// Entries is a ledger to be read.
type Entries interface {
	Size() int64
	Entries(ctx context.Context, from, to int64) ([]ledger.Record, error)
}

// atOnce is how many entries are in memory at a time: a bundle of the ledger.
const atOnce = 256

// eachEntries calls fn with all entries that the ledger has now, in their order.
func eachEntries(ctx context.Context, l Entries, fn func([]ledger.Record) error) error {
	for next, size := int64(0), l.Size(); next < size; next += atOnce {
		records, err := l.Entries(ctx, next, min(size, next+atOnce))
		if err != nil {
			return err
		}
		if err := fn(records); err != nil {
			return err
		}
	}
	return nil
}

// CountArt10 makes the statistics of a year from a ledger. What is sealed in it
// stays so. The error is the ledger's.
func CountArt10(ctx context.Context, l Entries, year int, now time.Time) (*Art10, error) {
	var t Tally
	if err := eachEntries(ctx, l, func(records []ledger.Record) error { t.Add(records); return nil }); err != nil {
		return nil, fmt.Errorf("count the cases of %d: %w", year, err)
	}
	return t.Year(year, now), nil
}

// ParseYear reads a year of which there can be statistics at the time now: from
// that of the directive on.
func ParseYear(s string, now time.Time) (int, error) {
	const first = 2006
	year, err := strconv.Atoi(s)
	last := now.UTC().Year()
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a year; write for example %d", s, last)
	case year < first || year > last:
		return 0, fmt.Errorf("there are statistics of the years %d to %d, not of %d", first, last, year)
	}
	return year, nil
}

// asOf says of which time the figures are.
func (a *Art10) asOf() string {
	if a.Over {
		return "the whole year"
	}
	return "so far, until " + session.FormatTime(a.At.UnixNano())
}
