package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/office"
)

// affair is a gateway whose persons deal with questions, each on a user of their own.
type affair struct {
	*gateway.Gateway
	t   *testing.T
	out string // a directory of the officer's
}

func newAffair(t *testing.T, g *gateway.Gateway) *affair {
	t.Helper()
	a := &affair{g, t, filepath.Join(g.Dir, "out")}
	if err := errors.Join(os.Mkdir(a.out, 0o700), os.Chown(a.out, int(g.Office.Officer.UID), office.Group)); err != nil {
		t.Fatal(err)
	}
	return a
}

// as runs a command as a person, which must succeed.
func (a *affair) as(p office.Person, args ...string) string {
	a.t.Helper()
	out, err := a.RunAs(limited(a.t), p, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// filed and approved have a question go as far as that.
func (a *affair) filed(kind string, args ...string) int64 {
	a.t.Helper()
	id, err := a.Office.File(limited(a.t), a.RunAs, kind, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return id
}

func (a *affair) approved(kind string, args ...string) int64 {
	a.t.Helper()
	id := a.filed(kind, args...)
	a.approve(id)
	return id
}

func (a *affair) approve(id int64) {
	a.t.Helper()
	c := a.Office.Custodian
	a.as(c, "request", "approve", fmt.Sprint(id), "--yes", "--identity", c.Identity)
}

// run is what the officer types, and where the package then lies.
func (a *affair) run(id int64) (args []string, file string) {
	file = filepath.Join(a.out, fmt.Sprintf("%d.age", id))
	return []string{"request", "run", fmt.Sprint(id), "--identity", a.Office.Officer.Identity, "--out", file}, file
}

// answered has the officer run a request, and returns the package.
func (a *affair) answered(id int64) (file string) {
	a.t.Helper()
	args, file := a.run(id)
	if out := a.as(a.Office.Officer, args...); !strings.Contains(out, fmt.Sprintf("request %d is answered", id)) {
		a.t.Errorf("%s", out)
	}
	return file
}

// states are the requests as they are listed, by number.
func (a *affair) states() map[int64]disclose.Case {
	a.t.Helper()
	var list []disclose.Case
	if err := json.Unmarshal([]byte(a.as(a.Office.Auditor, "request", "list", "--json")), &list); err != nil {
		a.t.Fatal(err)
	}
	out := map[int64]disclose.Case{}
	for _, c := range list {
		if c.State == disclose.Answered {
			c.Ended = time.Time{} // an agent that ended it knows the time after the ledger's entry, and the next one that of it
		}
		out[c.ID] = c
	}
	return out
}

// ledger is what an auditor reads, opened with the auditor's own key.
func (a *affair) ledger(args ...string) (list []disclose.Audited) {
	a.t.Helper()
	args = append([]string{"audit", "list", "--json", "--identity", a.Office.Auditor.Identity}, args...)
	for line := range strings.Lines(a.as(a.Office.Auditor, args...)) {
		var e disclose.Audited
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			a.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// subscribed has the register say who anna is.
func (a *affair) subscribed() {
	a.t.Helper()
	file := filepath.Join(a.Dir, "people.csv")
	if err := os.WriteFile(file, []byte("id,name,address,valid_from\nanna,Anna Berg,Gade 1,2020-01-01\nbo,Bo Dal,Vej 2,2020-01-01\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.Run(limited(a.t), "subscribers", "import", file); err != nil {
		a.t.Fatal(err)
	}
}

// annas is a question for what anna did from then until now.
func (a *affair) annas(from time.Time) []string {
	a.t.Helper()
	return []string{"--subscriber", "anna", "--from", from.UTC().Format(time.RFC3339), "--to", a.decided(time.Now()).Format(time.RFC3339)}
}

// decided waits until it is known how the recording of a time was: an answer about one
// of which that is not known yet says that it is incomplete. It returns until when it is.
func (a *affair) decided(at time.Time) time.Time {
	a.t.Helper()
	s := until(limited(a.t), a.t, a.Gateway, "it is known what was recorded", func(s *recorder.Status) bool {
		return s.Coverage != nil && s.Coverage.Decided.After(at)
	})
	return s.Coverage.Decided.UTC()
}

// TestAQuestionGoesItsWholeWayFromTrafficToTheAuditor is the story of one case: who
// had an address, what the subscriber did now and days ago, a hold, the destruction of
// those days, the answer from the hold, its release, and what the auditor finds of it.
func TestAQuestionGoesItsWholeWayFromTrafficToTheAuditor(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	a, ctx, auditor := newAffair(t, g), limited(t), g.Office.Auditor
	checkpoint := filepath.Join(g.Dir, "checkpoint")
	if err := os.WriteFile(checkpoint, []byte(a.as(auditor, "audit", "witness")), 0o644); err != nil {
		t.Fatal(err)
	}
	a.subscribed()
	caseOf(t, g, 3)
	past := session.DayOf(time.Now().UnixNano()) - 10
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	pastSession(t, g, past.Start().Add(12*time.Hour), g.Subscribers[0].Addr4, "anna")
	x := a.annasSession()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f := newForeign(t, a, checkpoint)

	a.decided(x.Start.Add(3 * time.Second)) // the error of the time is two
	who := a.approved("who", endOf(x.Initiator, x.InitiatorPort), "--at", x.Start.Format(time.RFC3339Nano))
	f.opens(a.answered(who), "who", 1)
	window := append(a.annas(past.Start()), "--reference", "case 77")
	first := a.approved("lookup", window...)
	if text := f.opens(a.answered(first), "sessions", 4); strings.Contains(text, "from hold") {
		t.Errorf("their days are there, and yet:\n%s", text)
	}
	custodian := g.Office.Custodian
	if out := a.as(custodian, "hold", "add", "--request", fmt.Sprint(first), "--identity", custodian.Identity); !strings.Contains(out, "4 sessions") {
		t.Errorf("%s", out)
	}
	a.destroyed(past)
	a.subscribed() // the register has to be imported again before a year is over
	again := a.approved("lookup", window...)
	hold := a.theHold()
	if text := f.opens(a.answered(again), "sessions", 4); !strings.Contains(text, "from hold "+hold+":") {
		t.Errorf("it does not say that it is from the hold:\n%s", text)
	}
	if out := a.as(custodian, "hold", "release", hold); !strings.Contains(out, "destroyed") {
		t.Errorf("%s", out)
	}
	f.holds(a.answered(a.approved("lookup", window...)), 0)
	f.holds(a.answered(a.approved("lookup", "--reference", "case 77", "--subscriber", "anna",
		"--from", past.Start().Format(time.RFC3339), "--to", (past+1).Start().Format(time.RFC3339))), 0) // of days that were destroyed alone
	for _, part := range []string{"holds", "keys"} {
		if left, _ := filepath.Glob(filepath.Join(g.DataDir(), "store", part, past.String()+"*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
	a.audited(checkpoint, map[string]int{"who": 1, "lookup": 4}, 11)
}

func endOf(host string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), port).String()
}

// annasSession is one of those that were stored, as the disk of a stopped gateway has
// them.
func (a *affair) annasSession() gateway.Session {
	a.t.Helper()
	var found gateway.Session
	err := eachRecord(limited(a.t), a.Gateway, a.DataDir(), func(s *session.Session) {
		if s.Subscriber == "anna" && s.Proto == session.TCP && s.ResponderPort == 80 {
			found = gateway.Session{Initiator: s.Initiator.Netip().String(), InitiatorPort: s.InitiatorPort, Start: time.Unix(0, s.Start).UTC()}
		}
	})
	if err != nil || found.Initiator == "" {
		a.t.Fatalf("%+v, %v", found, err)
	}
	return found
}

// destroyed has the day of the past expire by a shorter time of retention, and all
// others lost.
func (a *affair) destroyed(past session.Day) {
	a.t.Helper()
	ctx := limited(a.t)
	if err := a.Reconfigure(map[string]string{"retention_days =": "retention_days = 3"}); err != nil {
		a.t.Fatal(err)
	}
	until(ctx, a.t, a.Gateway, "the new time of retention is in force", func(s *recorder.Status) bool { return s.Store.Expiry.RetentionDays == 3 })
	says(a.t, a.Gateway, true, "destroyed last: "+past.String(), "expire", "--config", a.Config)
	if err := a.Gateway.Stop(ctx); err != nil {
		a.t.Fatal(err)
	}
	loseDays(a.t, a.Gateway)
	if err := a.Start(ctx); err != nil {
		a.t.Fatal(err)
	}
}

// theHold is the number of the only one.
func (a *affair) theHold() string {
	a.t.Helper()
	var list recorder.HoldList
	if err := json.Unmarshal([]byte(a.as(a.Office.Auditor, "hold", "list", "--json")), &list); err != nil || len(list.Holds) != 1 {
		a.t.Fatalf("%+v, %v", list, err)
	}
	return strconv.FormatUint(list.Holds[0].ID, 10)
}

// audited has the auditor find that the ledger is whole, and that it agrees with what
// was done: so many requests of each kind, all of which were answered, two with
// nothing, one of them for the destruction of its day; and so many readings.
func (a *affair) audited(checkpoint string, asked map[string]int, readings int) {
	a.t.Helper()
	auditor := a.Office.Auditor
	for _, args := range [][]string{{"audit", "verify"}, {"audit", "verify", "--against", checkpoint}} {
		if out := a.as(auditor, args...); !strings.Contains(out, "all is well") {
			a.t.Errorf("%v:\n%s", args, out)
		}
	}
	filed, approvals, intents := map[string]int{}, 0, 0
	quarters, years := map[string]int{}, map[int]bool{}
	for _, e := range a.ledger() {
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			a.t.Fatal(err)
		}
		switch {
		case e.Kind == ledger.Request && e.Fields[disclose.FieldStep] == "file":
			filed[e.Fields[disclose.FieldAsk]]++
		case e.Kind == ledger.Request && e.Fields[disclose.FieldStep] == "approve":
			approvals++
		case e.Kind == ledger.Intent:
			intents++
			quarters[fmt.Sprintf("%dQ%d", at.Year(), (at.Month()+2)/3)]++
			a.accounts(&e)
		case e.Kind == ledger.Outcome && e.Fields[disclose.FieldAct] == string(disclose.Run):
			years[at.Year()] = true
		}
	}
	if fmt.Sprint(filed) != fmt.Sprint(asked) || approvals != asked["who"]+asked["lookup"] || intents != readings {
		a.t.Errorf("the ledger has %v, %d approvals and %d readings", filed, approvals, intents)
	}
	for quarter, n := range quarters {
		out := a.as(auditor, "audit", "sample", "--quarter", quarter, "--identity", auditor.Identity)
		if want := fmt.Sprintf("%d of %d accesses chosen", (n+4)/5, n); !strings.Contains(out, want) {
			a.t.Errorf("the sample does not say %q:\n%s", want, out)
		}
	}
	a.counted(years, asked)
}

// accounts checks what only the auditor reads of an access: by whom and for which case.
func (a *affair) accounts(e *disclose.Audited) {
	a.t.Helper()
	said, err := disclose.ParseAccountable(e.Opened)
	if err != nil {
		a.t.Errorf("entry %d: %v", e.Index, err)
		return
	}
	person := a.Office.Custodian.Name
	if e.Fields[disclose.FieldAct] == string(disclose.Run) {
		person = a.Office.Officer.Name
	}
	if said.Person != person || !slices.Contains([]string{"case 7", "case 77"}, said.Reference) || said.Request == nil || fmt.Sprint(*said.Request) != e.Fields[disclose.FieldRequest] {
		a.t.Errorf("entry %d is accounted for with %+v", e.Index, said)
	}
}

// counted compares the statistics of the years with what was asked.
func (a *affair) counted(years map[int]bool, asked map[string]int) {
	a.t.Helper()
	sum := map[string]int{}
	for year := range years {
		var r disclose.Art10
		if err := json.Unmarshal([]byte(a.as(a.Office.Auditor, "report", "art10", "--year", strconv.Itoa(year), "--json")), &r); err != nil {
			a.t.Fatal(err)
		}
		sum["filed"] += r.Filed
		sum["open"] = r.Open
		sum["broken off"] += r.BrokenOff
		sum["not understood"] += r.Unread
		for _, k := range r.Kinds {
			sum[k.Kind+" given"] += k.Given
			sum[k.Kind+" not met"] += k.NotMet
			for _, why := range k.Whys {
				sum[k.Kind+" not met: "+why.What] += why.Cases
			}
		}
	}
	for what, want := range map[string]int{
		"filed": asked["who"] + asked["lookup"], "open": 0, "broken off": 0, "not understood": 0,
		"who given": asked["who"], "who not met": 0, "sessions given": asked["lookup"] - 2, "sessions not met": 2, "sessions not met: destroyed": 1,
	} {
		if sum[what] != want {
			a.t.Errorf("the statistics count %d %s, not %d: %v", sum[what], what, want, sum)
		}
	}
}
