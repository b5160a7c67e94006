package disclose

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// imported has the ledger know of a file.
func (r *gateRoom) imported(t *testing.T, of, first, last, result string) int64 {
	t.Helper()
	f := map[string]string{"of": of, "result": result, "file_sha256": strings.Repeat("ab", 32), "entries": "12", "rejected": "3"}
	if first != "" {
		f["first_day"], f["last_day"] = first, last
	}
	i, err := r.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Import, Fields: f})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAnAnswerAboutCommunicationsNamesTheFilesThatItCanBeOf(t *testing.T) {
	r := exchangeRoom(t)
	day := func(n int) string { return (session.DayOf(at(0)) + session.Day(n)).String() }
	r.imported(t, "calls", day(-9), day(-8), "done") // before the window
	part := r.imported(t, "calls", day(-3), day(-2), "not to its end")
	r.imported(t, "calls", "", "", "refused")
	mail := r.imported(t, "mail", day(-1), day(0), "done")
	r.imported(t, "mail", day(1), day(2), "done") // after it
	four := func(q *Query) { q.From = at(-4 * 24 * time.Hour) }
	a := r.exchanged(t, func(q *Query) { four(q); q.Subscriber = "anna" })
	if len(a.Imports.Files) != 2 || a.Imports.Files[0].Entry != part || !a.Imports.Files[0].Part || a.Imports.Files[1].Entry != mail || a.Imports.Files[1].Rejected != 3 || a.Imports.Files[1].Records != 12 {
		t.Fatalf("%+v", a.Imports)
	}
	if want := []string{"calls of " + day(-4), "calls of " + day(-1) + " to " + day(0), "mail of " + day(-4) + " to " + day(-2)}; !slices.Equal(a.Imports.Without(a.Query), want) {
		t.Errorf("%q instead of %q", a.Imports.Without(a.Query), want)
	}
	lines := strings.Join(a.Lines(), "\n")
	for _, want := range []string{"calls of " + day(-3) + " to " + day(-2) + ", 12 records", "3 lines were bad and LEFT OUT; the import was BROKEN OFF", "NOTHING was imported of calls of " + day(-4)} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is not in\n%s", want, lines)
		}
	}
	one := strings.Join(a.Imports.Lines(a.Query, 1), "\n")
	if !strings.Contains(one, "and 1 file more, imported before") || !strings.Contains(one, "and NOTHING of 2 intervals more") {
		t.Errorf("%s", one)
	}
	if a := r.exchanged(t, func(q *Query) { four(q); q.Mail = "c@example.net" }); len(a.Imports.Files) != 1 || a.Imports.Files[0].Of != "mail" {
		t.Errorf("of a mail address: %+v", a.Imports)
	}
	if lines := (*Imports)(nil).Lines(a.Query, 9); len(lines) != 1 || !strings.Contains(lines[0], "NOT KNOWN") {
		t.Errorf("%q", lines)
	}
}

func TestCommunicationsOfWhichNothingWasImportedAreUnrecordedForTheStatistics(t *testing.T) {
	r := exchangeRoom(t)
	why := func() string {
		t.Helper()
		a := r.exchanged(t, func(q *Query) { q.Number = "+4599999999" })
		return r.entries(t)[a.Summary.LedgerOutcome].Fields[FieldWhy]
	}
	if got := why(); got != string(WhyUnrecorded) {
		t.Errorf("nothing imported: %q", got)
	}
	today := session.DayOf(at(0)).String()
	r.imported(t, "calls", today, today, "done")
	if got := why(); got != string(WhyUnmatched) {
		t.Errorf("imported: %q", got)
	}
}

func TestAnImportThatEndedWithTheAgentIsListedAndOneThatEndedIsListedOnce(t *testing.T) {
	r := newGateRoom(t, nil)
	today := session.DayOf(at(0)).String()
	add := func(begun, result, first string) int64 {
		f := map[string]string{"of": "calls", "file_sha256": strings.Repeat("ab", 32), "begun": begun, "result": result, "entries": "0"}
		if first != "" {
			f["first_day"], f["last_day"] = first, first
		}
		i, err := r.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Import, Fields: f})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	killed := add("10:00", "begun", today)
	add("", "refused", "")
	add("11:00", "begun", today)
	done := add("11:00", "done", today)
	add("12:00", "begun", today) // the disk was full
	add("12:00", "refused", "")
	m, err := findImports(t.Context(), r.ledger, &Query{Ask: WantCommunications, Number: "112", From: at(-time.Hour), To: at(0)})
	if err != nil || len(m.Files) != 2 || m.Files[0].Entry != killed || !m.Files[0].Part || m.Files[1].Entry != done || m.Files[1].Part {
		t.Fatalf("%v, %+v", err, m)
	}
	if lines := ImportLines(m, nil, 9); !strings.Contains(lines[0], "NOT KNOWN") || !strings.Contains(lines[0], "BROKEN OFF") || strings.Contains(lines[1], "NOT KNOWN") {
		t.Errorf("%q", lines)
	}
}

func TestManyImportsAreCountedAndTheNewestListed(t *testing.T) {
	r := newGateRoom(t, nil)
	today := session.DayOf(at(0)).String()
	var last int64
	for range mostImports + 5 {
		last = r.imported(t, "calls", today, today, "done")
	}
	m, err := findImports(t.Context(), r.ledger, &Query{Ask: WantCommunications, Number: "112", From: at(-time.Hour), To: at(0)})
	if err != nil || len(m.Files) != mostImports || m.Left != 5 || m.Files[mostImports-1].Entry != last || m.Files[0].Entry >= m.Files[1].Entry {
		t.Errorf("%d, %d left, %v", len(m.Files), m.Left, err)
	}
}

func TestCommunicationsAreHandedOverEachWithTheNameOfItsTime(t *testing.T) {
	odd := call(-30*minute, "", "+4522222222", "112")
	odd.Place, odd.Record = "=1+2\r\n", "@r\x07"
	later := call(-10*minute, "+4511111111", "+4522222222")
	nobody := call(-5*minute, "+4511111111", "+4522222222")
	nobody.Subscriber = ""
	a := &CommunicationsAnswer{
		Query: &Query{}, Communications: []session.Communication{odd, later, nobody, letter(-1*minute, "a@b.example", "c@d.example")},
		Names: []Name{{Subscriber: "anna", Name: "Anna Berg", Address: "Gade 1", To: at(-20 * minute)}, {Subscriber: "anna", Name: "Anna Dahl", Address: "Vej 2", From: at(-20 * minute), To: session.Forever}},
	}
	var b bytes.Buffer
	if err := a.WriteCSV(&b); err != nil || bytes.Count(b.Bytes(), []byte("\r\n")) != 5 {
		t.Fatalf("%v\n%s", err, b.String())
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || rows[0][8] != "name" || rows[1][8] != "Anna Berg" || rows[2][8] != "Anna Dahl" || rows[2][9] != "Vej 2" || rows[3][8] != "" || rows[4][8] != "" ||
		rows[1][5] != "'+4522222222;112" || rows[1][15] != "'=1+2\ufffd\ufffd" || rows[1][18] != "'@r\ufffd" {
		t.Errorf("%q, %v", rows, err)
	}
	b.Reset()
	if err := a.WriteJSONLines(&b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		var o struct {
			Place    string
			Register *struct{ Name string }
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%q %v", o.Place, o.Register))
	}
	if len(got) != 4 || got[0] != `"=1+2\r\n" &{Anna Berg}` || got[1] != `"mast 1" &{Anna Dahl}` || got[2] != `"mast 1" <nil>` {
		t.Errorf("%q", got)
	}
	a.Summary = Summary{Records: 4, AsOf: "2025-03-01T12:00:00.000Z", Newer: 2, LeftOut: 1}
	f := &Found{Communications: a}
	lines := strings.Join(f.Beside(), "\n")
	for want, there := range map[string]bool{
		"4 communications in": true, "2 blocks of the window were stored later": true, "1 record more than the request allows": true, "session": false, "coverage": false,
	} {
		if strings.Contains(lines, want) != there {
			t.Errorf("%q: %v in\n%s", want, !there, lines)
		}
	}
}

func TestWhatIsNoSessionIsNotHeld(t *testing.T) {
	r := exchangeRoom(t)
	for name, c := range map[string]struct {
		q    Query
		want string
	}{
		"calls and mail": {Query{Ask: WantCommunications, Subscriber: "anna"}, "calls and mail are not held: a hold keeps sessions"},
		"a line":         {Query{Ask: WantAccess, Line: "line 7"}, "a hold keeps sessions"},
	} {
		c.q.Reference, c.q.From, c.q.To = "case 7", at(-time.Hour), at(0)
		id := r.filed(t, &c.q)
		if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
			t.Fatal(err)
		}
		l, err := GetRequest(t.Context(), r.client, id)
		if err != nil {
			t.Fatal(err)
		}
		_, text, err := l.Cases[0].Open(r.custodian.ids)
		if err != nil {
			t.Fatal(err)
		}
		before, q := r.ledger.Size(), c.q
		q.Ask = WantHold
		// Whatever the custodian's own process says: the gate does not begin.
		_, err = MakeHold(t.Context(), r.client, &Permit{Act: Preserve, Request: id, Text: text, Query: &q, Identities: r.custodian.ids})
		if !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), c.want) || r.ledger.Size() != before {
			t.Errorf("%s: %v, %d entries more", name, err, r.ledger.Size()-before)
		}
		if _, _, err := HoldPermit(l, r.custodian.ids); !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
