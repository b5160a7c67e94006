package disclose

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// call is a call of a minute that began so long before noon.
func call(before time.Duration, from string, to ...string) session.Communication {
	return session.Communication{
		Kind: session.Call, Service: "voice", From: from, To: to, Start: at(before), End: at(before) + 60e9, Subscriber: "anna", Equipment: "351234567890123",
		SIM: "238010123456789", Cell: "17", CellEnd: "18", Place: "mast 1", Delivered: session.Delivered,
	}
}

func letter(before time.Duration, from string, to ...string) session.Communication {
	return session.Communication{Kind: session.Mail, From: from, To: to, Start: at(before), End: at(before), Subscriber: "bo", User: "bo@login"}
}

// exchangeRoom has calls and mail, and enough of others that filters are kept.
func exchangeRoom(t *testing.T) *gateRoom {
	t.Helper()
	r := newGateRoom(t, nil)
	crowd := make([]session.Communication, 50)
	for i := range crowd {
		crowd[i] = call(-10*minute, fmt.Sprintf("+46%08d", i), fmt.Sprintf("+47%08d", i))
		crowd[i].Subscriber, crowd[i].Equipment, crowd[i].SIM = fmt.Sprint("c", i), fmt.Sprintf("99%012d", i), fmt.Sprintf("99%013d", i)
	}
	first := call(-30*minute, "+4511111111", "+4522222222")
	forwarded := call(-20*minute, "", "+4533333333")
	forwarded.Forwarded, forwarded.Subscriber = []string{"+4511111111", "112"}, "cy"
	r.shelf.addCommunications(append(crowd, first)...)
	r.shelf.addCommunications(append(crowd, first, forwarded)...)
	r.shelf.addCommunications(crowd...)
	r.shelf.addCommunications(crowd...)
	r.shelf.addCommunications(letter(-15*minute, "Anna@example.net", "b@example.net", "c@example.net"))
	return r
}

func (r *gateRoom) exchanged(t *testing.T, change func(*Query)) *CommunicationsAnswer {
	t.Helper()
	q := &Query{Reference: "case 7", Ask: WantCommunications, From: at(-time.Hour), To: at(0)}
	change(q)
	f, err := r.whole(t, q)
	if err != nil {
		t.Fatal(err)
	}
	return f.Communications
}

func TestCommunicationsAreFoundByEachIdentifierAndOnce(t *testing.T) {
	for name, c := range map[string]struct {
		ask  func(*Query)
		want string // minutes before noon
	}{
		"the caller, and where it was forwarded to": {func(q *Query) { q.Number = "+4511111111" }, "30 20"},
		"the called":                {func(q *Query) { q.Number = "+4522222222" }, "30"},
		"a service number":          {func(q *Query) { q.Number = "112" }, "20"},
		"nobody's number":           {func(q *Query) { q.Number = "+4599999999" }, ""},
		"a sender":                  {func(q *Query) { q.Mail = "Anna@example.net" }, "15"},
		"a receiver":                {func(q *Query) { q.Mail = "c@example.net" }, "15"},
		"capitals are others":       {func(q *Query) { q.Mail = "anna@example.net" }, ""},
		"a subscriber":              {func(q *Query) { q.Subscriber = "anna" }, "30"},
		"a subscriber who mailed":   {func(q *Query) { q.Subscriber = "bo" }, "15"},
		"the account of him":        {func(q *Query) { q.Subscriber = "bo@login" }, "15"},
		"an IMEI":                   {func(q *Query) { q.Equipment = "351234567890123" }, "30 20"},
		"an IMEI with its software": {func(q *Query) { q.Equipment = "3512345678901299" }, "30 20"},
		"an IMSI":                   {func(q *Query) { q.Equipment = "238010123456789" }, "30 20"},
		"in a window that it meets": {func(q *Query) { q.Number, q.From, q.To = "+4511111111", at(-29*minute), at(-28*minute) }, "30"},
		"before the window":         {func(q *Query) { q.Number, q.From = "+4511111111", at(-28*minute) }, "20"},
		"after the window":          {func(q *Query) { q.Number, q.To = "+4511111111", at(-30*minute) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := exchangeRoom(t).exchanged(t, c.ask)
			var got []string
			for i := range a.Communications {
				got = append(got, fmt.Sprint(int(time.Duration(at(0)-a.Communications[i].Start)/minute)))
			}
			if strings.Join(got, " ") != c.want || a.Summary.Records != len(got) || !a.Summary.Complete() {
				t.Errorf("%v instead of %s, %+v", got, c.want, a.Summary)
			}
		})
	}
}

func TestAQuestionAboutCommunicationsIsInTheLedgerAndOpensWhatMayAnswer(t *testing.T) {
	r := exchangeRoom(t)
	a := r.exchanged(t, func(q *Query) { q.Number = "+4511111111" })
	if r.shelf.fetched == 0 { // of one block that has an answer the head was sent at first
		t.Error("no block was read behind its head")
	}
	r.shelf.fetched = 0
	for i := range 10 { // of each, the heads of two blocks say that there is nothing, but for 1 in 256
		r.exchanged(t, func(q *Query) { q.Number = fmt.Sprint("+4599999990", i) })
	}
	if r.shelf.fetched > 5 {
		t.Errorf("%d blocks of 20 were read behind their heads for nothing", r.shelf.fetched)
	}
	list := r.entries(t)
	intent, outcome := list[a.Summary.LedgerIntent], list[a.Summary.LedgerOutcome]
	if intent.Fields["action"] != "communications" || outcome.Fields["records"] != "2" || outcome.Fields["blocks_failed"] != "0" || bytes.Contains(intent.Sealed, []byte("+451111")) {
		t.Errorf("%+v\n%+v", intent, outcome)
	}
}

func TestCommunicationsAreHandedOutToNoOtherQuestion(t *testing.T) {
	r := exchangeRoom(t)
	r.shelf.addSessions(lived(-31*minute, -29*minute))
	for ask, what := range map[string]string{"": moreCommunications, WantAccess: moreCommunications} {
		q := &Query{Reference: "case 7", Ask: ask, Subscriber: "anna", From: at(-time.Hour), To: at(0)}
		handed := r.shelf.handed
		_, err := conduct(t.Context(), r.client, r.permit(t, q, r.custodian.ids), func(ctx context.Context, rd *reader) error {
			rd.exchange = &exchange{seen: map[session.CommunicationID]bool{}}
			return rd.more(ctx, what)
		})
		if !errors.Is(err, ErrAgent) || r.shelf.handed != handed {
			t.Errorf("%q: %v, %d blocks", ask, err, r.shelf.handed-handed)
		}
	}
	// By name neither.
	for ask, name := range map[string]blockName{"": {Kind: kindCalls, Seq: 1}, WantCommunications: {Kind: 1, Seq: 6}} {
		q := &Query{Reference: "case 7", Ask: ask, Subscriber: "anna", From: at(-time.Hour), To: at(0)}
		name.Day, name.Epoch = session.DayOf(at(0)), 1
		var rd *reader
		_, err := conduct(t.Context(), r.client, r.permit(t, q, r.custodian.ids), func(ctx context.Context, x *reader) error {
			rd = x
			x.whole, x.heads = map[blockName]bool{}, []blockName{name}
			return x.rest(ctx)
		})
		if err != nil || rd.sum.Failed != 1 || len(rd.matched) > 0 || rd.sum.SessionBlocks > 0 {
			t.Errorf("%q: %v, %+v", ask, err, rd.sum)
		}
	}
}

func TestADamagedBlockOfCommunicationsIsCountedAndTheRestAnswers(t *testing.T) {
	r := exchangeRoom(t)
	r.shelf.calls[0][len(r.shelf.calls[0])-1] ^= 1
	a := r.exchanged(t, func(q *Query) { q.Number = "+4511111111" })
	if len(a.Communications) != 2 || a.Summary.Failed != 1 || a.Summary.Complete() || !strings.Contains(strings.Join(a.Lines(), "\n"), "INCOMPLETE: 1 block") {
		t.Errorf("%d found, %+v", len(a.Communications), a.Summary)
	}
	q := &Query{Reference: "case 7", Ask: WantCommunications, Subscriber: "anna", From: at(-time.Hour), To: at(0)}
	if _, _, err := Read(t.Context(), r.client, r.permit(t, q, testIdentity(t).ids)); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("with a stranger's key: %v", err)
	}
	q.Number = "112"
	if _, err := FileRequest(t.Context(), r.client, r.order(q)); !errors.Is(err, ErrAgent) {
		t.Errorf("the gate takes two identifiers: %v", err)
	}
}

func TestVerifyOpensCommunicationsAndComparesTheirDay(t *testing.T) {
	r := exchangeRoom(t)
	good := r.shelf.sealCount(t, r.shelf.mail[0], 1)
	if v := r.verifyAll(t, good); !v.OK() || v.Communications != 1 {
		t.Errorf("%+v", v)
	}
	yesterday := letter(-24*time.Hour, "a@b.example", "c@d.example")
	r.shelf.addCommunications(yesterday)
	if v := r.verifyAll(t, r.shelf.mail[1]); v.OK() || !strings.Contains(v.Findings[0].What, "another day") {
		t.Errorf("%+v", v)
	}
}

func TestCommunicationsPrintInEachFormat(t *testing.T) {
	odd := call(-30*minute, "", "+4522222222", "112")
	odd.Forwarded, odd.Place, odd.PlaceEnd, odd.Record, odd.Delivered = []string{"+4533333333"}, "mast \x1b[31m", "=1+2", "@r", session.NotDelivered
	a := &CommunicationsAnswer{
		Query: &Query{}, Communications: []session.Communication{odd},
		Names: []Name{{Subscriber: "anna", Name: "Anna Berg", Address: "Gade 1", To: session.Forever}}, Summary: Summary{Records: 1, Gateway: "gw1", Provider: "Net", Limited: true},
	}
	out := func(format string) string {
		t.Helper()
		var b bytes.Buffer
		if err := PrintCommunications(&b, a, format); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	table := out("table")
	for _, want := range []string{"call voice\n", "from       withheld", "to         +4522222222, 112", "forwarded  +4533333333", "cell       17 -> 18", "place      mast ·[31m -> =1+2",
		"delivered  no", "anna is Anna Berg, Gade 1", "1 communication in", "own records of Net", "INCOMPLETE: there are more than"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}
	var first jsonCommunication
	if err := json.Unmarshal([]byte(strings.SplitN(out("json"), "\n", 2)[0]), &first); err != nil || first.From != "" || first.Kind != "call" || first.To[1] != "112" || first.IMEI != "351234567890123" {
		t.Errorf("%+v, %v", first, err)
	}
	rows, err := csv.NewReader(strings.NewReader(out("csv"))).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][5] != "'+4522222222;112" || rows[1][8] != "Anna Berg" || rows[1][16] != "'=1+2" || rows[1][18] != "'@r" {
		t.Errorf("%q, %v", rows, err)
	}
	if err := PrintCommunications(new(bytes.Buffer), a, "xml"); err == nil {
		t.Error("an unknown format is printed")
	}
}
