package disclose

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"maps"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// history is a ledger's entries as a gate writes them.
type history struct {
	records []ledger.Record
	at      time.Time
}

func (h *history) add(kind ledger.Kind, fields ...string) int64 {
	f := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		f[fields[i]] = fields[i+1]
	}
	r := ledger.Record{Index: int64(len(h.records)), Time: h.at, Kind: kind, Fields: f}
	h.records = append(h.records, r)
	return r.Index
}

// file files a request and returns its id.
func (h *history) file(ask string) string {
	return strconv.FormatInt(h.add(ledger.Request, FieldState, string(Filed), FieldAsk, ask), 10)
}

func (h *history) step(id string, state State) {
	h.add(ledger.Request, FieldState, string(state), FieldRequest, id)
}

func (h *history) answer(id, ask string, records int, more ...string) {
	intent := h.add(ledger.Intent, FieldAction, ask, FieldRequest, id)
	h.add(ledger.Outcome, append([]string{
		FieldAction, ask, FieldIntent, strconv.FormatInt(intent, 10), FieldRequest, id, FieldResult, ResultAnswered, FieldRecords, strconv.Itoa(records),
	}, more...)...)
}

func (h *history) year(year int) *Art10 {
	var t Tally
	for i := range h.records { // in small pieces, as from a long ledger
		t.Add(h.records[i : i+1])
	}
	return t.Year(year, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
}

// said are all counts that are not 0.
func said(a *Art10) map[string]int {
	out := map[string]int{"filed": a.Filed, "open": a.Open, "overdue": a.Overdue, "broken": a.BrokenOff, "unread": a.Unread}
	for _, c := range a.Kinds {
		out[c.Kind+" given"], out[c.Kind+" in part"], out[c.Kind+" not met"] = c.Given, c.Incomplete, c.NotMet
		for _, n := range append(c.Ages, c.Whys...) {
			out[c.Kind+" "+n.What] = n.Cases
		}
	}
	maps.DeleteFunc(out, func(_ string, n int) bool { return n == 0 })
	return out
}

var june = time.Date(2025, 6, 15, 12, 0, 0, 0, time.UTC)

var caseTests = []struct {
	name string
	do   func(h *history)
	want map[string]int
}{
	{"nothing happened", func(*history) {}, map[string]int{}},
	{"answered", func(h *history) {
		id := h.file(AskedLookup)
		h.step(id, Approved)
		h.answer(id, AskedLookup, 17, FieldAge, "90")
		h.step(id, Answered)
	}, map[string]int{"filed": 1, "sessions given": 1, "sessions 0-3 months": 1}},
	{"answered twice", func(h *history) {
		id := h.file(AskedWho)
		h.answer(id, AskedWho, 1, FieldAge, "91")
		h.answer(id, AskedWho, 1, FieldAge, "91")
	}, map[string]int{"filed": 1, "who given": 1, "who 3-6 months": 1}},
	{"answered, but not all of it could be read", func(h *history) {
		h.answer(h.file(AskedAccess), AskedAccess, 2, FieldAge, "300", FieldWhy, string(WhyIncomplete))
	}, map[string]int{"filed": 1, "access given": 1, "access in part": 1, "access 9-12 months": 1}},
	{"nothing was found, and why is said", func(h *history) {
		h.answer(h.file(AskedCommunications), AskedCommunications, 0, FieldAge, "366", FieldWhy, string(WhyDestroyed))
	}, map[string]int{"filed": 1, "communications not met": 1, "communications destroyed": 1}},
	{"nothing was found, and why is not said", func(h *history) {
		h.answer(h.file(AskedLookup), AskedLookup, 0, FieldWhy, "hidden by Anna")
	}, map[string]int{"filed": 1, "sessions not met": 1, "sessions unmatched": 1}},
	{"refused, withdrawn, expired", func(h *history) {
		h.step(h.file(AskedLookup), Refused)
		h.step(h.file(AskedLookup), Withdrawn)
		id := h.file(AskedWho)
		h.step(id, Approved)
		h.step(id, Expired)
	}, map[string]int{"filed": 3, "sessions not met": 2, "sessions refused": 1, "sessions withdrawn": 1, "who not met": 1, "who expired": 1}},
	{"an emergency was read for, and refused afterwards: the information was given", func(h *history) {
		id := h.file(AskedLookup)
		h.answer(id, AskedLookup, 3, FieldAge, "0")
		h.add(ledger.Request, FieldState, StateOverdue, FieldRequest, id)
		h.step(id, Refused)
	}, map[string]int{"filed": 1, "overdue": 1, "sessions given": 1, "sessions 0-3 months": 1}},
	{"broken off, and then answered", func(h *history) {
		id := h.file(AskedLookup)
		h.add(ledger.Outcome, FieldAction, AskedLookup, FieldRequest, id, FieldResult, "stream cut off", FieldRecords, "5")
		h.answer(id, AskedLookup, 1, FieldAge, "200")
	}, map[string]int{"filed": 1, "broken": 1, "sessions given": 1, "sessions 6-9 months": 1}},
	{"filed, and nothing more", func(h *history) { h.step(h.file(AskedLookup), Approved) }, map[string]int{"filed": 1, "open": 1}},
	{"readings of before there were requests", func(h *history) {
		h.add(ledger.Outcome, FieldAction, AskedLookup, FieldIntent, "7", FieldResult, ResultAnswered, FieldRecords, "4")
		h.add(ledger.Outcome, FieldAction, AskedWho, FieldIntent, "9", FieldResult, ResultAnswered, FieldRecords, "0")
		h.add(ledger.Outcome, FieldAction, AskedLookup, FieldIntent, "11", FieldResult, reasonNothing, FieldRecords, "0")
		h.add(ledger.Outcome, FieldAction, AskedLookup, FieldIntent, "13", FieldResult, "no outcome given")
	}, map[string]int{"sessions given": 1, "sessions unknown length": 1, "who not met": 1, "who unmatched": 1, "sessions not met": 1, "sessions profile": 1, "broken": 1}},
	{"holds and verifications give nobody anything", func(h *history) {
		h.add(ledger.Outcome, FieldAction, WantHold, FieldIntent, "7", FieldResult, ResultAnswered, FieldRecords, "4")
		h.add(ledger.Outcome, FieldAction, WantVerify, FieldIntent, "9", FieldResult, ResultAnswered, FieldRecords, "99")
	}, map[string]int{}},
	{"a kind of data of a later version", func(h *history) { h.answer(h.file("dreams"), "dreams", 1, FieldAge, "1") },
		map[string]int{"filed": 1, "other given": 1, "other 0-3 months": 1}},
	{"what is not understood", func(h *history) {
		h.step("77", Refused)
		h.step(h.file(AskedLookup), "sold")
		h.answer("78", AskedLookup, 1)
		h.answer(h.file(AskedWho), AskedWho, -5)
	}, map[string]int{"filed": 2, "unread": 4, "open": 1, "who not met": 1, "who unmatched": 1}},
	{"entries of other kinds", func(h *history) { h.add(ledger.Refused, FieldAction, AskedLookup); h.add(ledger.Start) }, map[string]int{}},
}

func TestARequestIsOneCaseOfTheYearInWhichItEnded(t *testing.T) {
	for _, c := range caseTests {
		t.Run(c.name, func(t *testing.T) {
			h := &history{at: june}
			c.do(h)
			a := h.year(2025)
			if d := cmp.Diff(c.want, said(a)); d != "" {
				t.Error(d)
			}
			given, notMet := 0, 0
			for _, k := range a.Kinds {
				given, notMet = given+k.Given, notMet+k.NotMet
				sum := 0
				for _, n := range k.Ages {
					sum += n.Cases
				}
				if sum != k.Given {
					t.Errorf("%s: %d given, and ages of %d", k.Kind, k.Given, sum)
				}
			}
			if given != a.Total.Given || notMet != a.Total.NotMet {
				t.Errorf("the total is not the sum: %+v", a.Total)
			}
		})
	}
}

func TestARequestThatGoesOverTheTurnOfTheYearIsOpenInTheOneAndACaseOfTheOther(t *testing.T) {
	h := &history{at: time.Date(2024, 12, 31, 23, 59, 59, 999e6, time.UTC)}
	id := h.file(AskedLookup)
	h.at = h.at.Add(time.Millisecond)
	h.answer(id, AskedLookup, 1, FieldAge, "3")
	if d := cmp.Diff(map[string]int{"filed": 1, "open": 1}, said(h.year(2024))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]int{"sessions given": 1, "sessions 0-3 months": 1}, said(h.year(2025))); d != "" {
		t.Error(d)
	}
	if len(said(h.year(2023)))+len(said(h.year(2026))) != 0 {
		t.Error("it is in another year too")
	}
	if !h.year(2025).Over || h.year(2026).Over {
		t.Error("2026 is over, or 2025 is not")
	}
}

func TestTheAgeIsCountedInWholeDaysFromTheEndOfTheWindow(t *testing.T) {
	q := &Query{From: june.Add(-time.Hour).UnixNano(), To: june.UnixNano()}
	for after, want := range map[time.Duration]string{
		0: "0", 24*time.Hour - 1: "0", 24 * time.Hour: "1", 364 * 24 * time.Hour: "364", -time.Hour: "0",
	} {
		if got := AgeDays(q, june.Add(after)); got != want {
			t.Errorf("%v after: %s days, want %s", after, got, want)
		}
	}
	for days, want := range map[int]string{
		0: "0-3 months", 90: "0-3 months", 91: "3-6 months", 181: "3-6 months", 182: "6-9 months", 272: "6-9 months",
		273: "9-12 months", 364: "9-12 months", 365: "12 months and more", 5000: "12 months and more", -1: "unknown length",
	} {
		if got := ages[bucket(days)].what; got != want {
			t.Errorf("%d days: %s, want %s", days, got, want)
		}
	}
}

func TestWhyNothingWasFoundIsSaidByOneWord(t *testing.T) {
	day := session.DayOf(june.UnixNano())
	q := &Query{Subscriber: "s", From: june.UnixNano(), To: june.Add(time.Hour).UnixNano()}
	far := &Query{Remote: netip.MustParseAddr("192.0.2.9"), From: q.From, To: q.To}
	access := &Query{Ask: WantAccess, Subscriber: "s", From: q.From, To: q.To}
	missing := &session.CoverageReport{Totals: []session.CoverTotal{{Missing: 3600}}}
	sampled := &session.CoverageReport{Totals: []session.CoverTotal{{Missing: 3599, Sampled: 1}}}
	for _, c := range []struct {
		name string
		q    *Query
		n    Nothing
		want Why
	}{
		{"all was there", q, Nothing{Profile: session.ProfileSession, Complete: true, Kept: day, Coverage: sampled}, WhyUnmatched},
		{"nothing else is known", q, Nothing{Complete: true}, WhyUnmatched},
		{"sessions with the profile access", q, Nothing{Profile: session.ProfileAccess, Complete: true}, WhyProfile},
		{"access records with the profile access", access, Nothing{Profile: session.ProfileAccess, Complete: true}, WhyUnmatched},
		{"the far end with the profile source", far, Nothing{Profile: session.ProfileSource, Complete: true}, WhyProfile},
		{"the day before the first that is kept", q, Nothing{Kept: day + 1}, WhyDestroyed},
		{"a block does not open", q, Nothing{Coverage: missing}, WhyIncomplete},
		{"the agent did not run", q, Nothing{Complete: true, Coverage: missing}, WhyUnrecorded},
		{"coverage says nothing of access records", access, Nothing{Complete: true, Coverage: missing}, WhyUnmatched},
	} {
		if got := c.n.Why(c.q); got != c.want || !got.Valid() {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestALedgerOfManyBundlesIsCountedToItsEnd(t *testing.T) {
	now := june
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"), ledger.Options{Origin: "test/gw1", Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()      //nolint:errcheck // of a test
	const requests = 300 // 600 entries, so the end of none is in a bundle of its own
	for i := range 2 * requests {
		e := ledger.Entry{Kind: ledger.Request, Fields: map[string]string{FieldState: string(Filed), FieldAsk: AskedWho}}
		if i >= requests {
			e.Fields = map[string]string{FieldState: string(Refused), FieldRequest: strconv.Itoa(i - requests)}
		}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	a, err := CountArt10(t.Context(), l, 2025, now)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"filed": requests, "who not met": requests, "who refused": requests}, said(a)); d != "" || a.Entries != 2*requests {
		t.Error(a.Entries, d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := CountArt10(ctx, l, 2025, now); err == nil {
		t.Error("counted by nobody's wish")
	}
}

func TestTheFiguresArePrintedForPeopleAndForPrograms(t *testing.T) {
	h := &history{at: june}
	h.answer(h.file(AskedLookup), AskedLookup, 5, FieldAge, "100")
	h.step(h.file(AskedWho), Refused)
	a := h.year(2025)
	a.Gateway = "gw1"
	var text, table bytes.Buffer
	if err := PrintArt10(&text, a); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2025                                SESSIONS  WHO  ACCESS  COMMUNICATIONS  OTHER  TOTAL",
		"information was given                      1    0       0               0      0      1",
		"  of an age of 3-6 months                  1    0       0               0      0      1",
		"  refused by a custodian                   0    1       0               0      0      1",
		"gw1, the whole year: 2 requests filed, 0 without an end yet; from 5 entries of the ledger",
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	if err := CSVArt10(&table, a); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&table).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, r := range rows[1:] {
		if r[1] == "given: data 3-6 months" && r[2] == "sessions" || r[1] == "not met: refused" && r[2] == "total" {
			n, _ := strconv.Atoi(r[3])
			sum += n
		}
	}
	if sum != 2 || len(rows) != 1+6*(3+len(ages)+len(whys))+5 {
		t.Errorf("%d lines:\n%v", len(rows), rows)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back Art10
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*a, back); d != "" {
		t.Error(d)
	}
}

func TestAYearThatCannotHaveStatisticsIsRefused(t *testing.T) {
	for s, want := range map[string]string{"2025": "", "2005": "of the years 2006 to 2025", "2026": "not of 2026", "last": `"last" is not a year`, "": "is not a year"} {
		_, err := ParseYear(s, june)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
