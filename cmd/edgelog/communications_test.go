package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/disclose/delivery"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/office"
)

// desk is a directory that the officer may write to.
func (h *house) desk() string {
	h.t.Helper()
	dir := filepath.Join(h.dir, "desk")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, int(h.office.Officer.UID), 0)); err != nil && !errors.Is(err, os.ErrExist) {
		h.t.Fatal(err)
	}
	return dir
}

// packed has the officer run a request, and the authority check what it got.
func (h *house) packed(id string, code int) (*delivery.Report, string) {
	h.t.Helper()
	file := filepath.Join(h.desk(), id+".age")
	out, errs, got := h.as(h.office.Officer, "request", "run", id, "--identity", h.office.Officer.Identity, "--out", file)
	if got != code {
		h.t.Fatalf("run: %d\n%s%s", got, out, errs)
	}
	text, errs2, got := h.run("package", "verify", file, "--identity", h.office.Authority.Identity, "--public-key", h.rec.Evidence().VerifierKey(), "--json")
	var r struct {
		Whole bool
		delivery.Report
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil || got != 0 || !r.Whole {
		h.t.Fatalf("verify: %d %v\n%s%s", got, err, text, errs2)
	}
	return &r.Report, errs
}

// show is what the authority sees of a package.
func (h *house) show(id string, more ...string) string {
	h.t.Helper()
	out, errs, code := h.run(append([]string{"package", "show", filepath.Join(h.desk(), id+".age"), "--identity", h.office.Authority.Identity}, more...)...)
	if code != 0 {
		h.t.Fatalf("show: %d %s", code, errs)
	}
	return out
}

// withCalls is a house that has imported people, calls and mail.
func withCalls(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	people := h.write("people.csv", "id,name,address,valid_from\n4711,Anna Berg,Gade 1,2020-01-01\n")
	calls := h.write("calls.csv", "start;end;service;from;to;forwarded;subscriber;imei;delivered\n"+
		minutesAgo(20)+";"+minutesAgo(18)+";voice;+4512345678;+4687654321;\"112;+4511223344\";4711;351234567890123;yes\n"+
		minutesAgo(10)+";;sms;DSB;+4512345678;;4711;;no\n"+minutesAgo(9)+";;voice;;+4512345678;;;;\n")
	for _, args := range [][]string{{"subscribers", "--config", h.config, "import", people}, {"import", "--config", h.config, "calls", calls}} {
		if out, errs, code := h.run(args...); code != 0 {
			t.Fatalf("%q: %d %s%s", args, code, out, errs)
		}
	}
	return h
}

func TestARequestForCallsGivesAPackageThatTheAuthorityVerifies(t *testing.T) {
	h := withCalls(t)
	window := []string{"--from", minutesAgo(60), "--to", minutesAgo(1)}
	id := h.approved("communications", append(window, "--number", "+4512345678")...)
	r, errs := h.packed(id, 0)
	m := r.Manifest
	if m.Request.Asked != "communications" || m.Request.Identifier != "number" || m.Answer.Delivered != 3 || m.Answer.AsOf == "" || m.Recording.Imports == nil || len(m.Recording.Imports.Files) != 1 ||
		m.Recording.Imports.Files[0].Records != 3 || len(m.Members) != 5 || r.Needed != 1 || len(r.Approvals) != 1 || r.Emergency != "" {
		t.Errorf("%+v", m)
	}
	if !strings.Contains(errs, "from the own records of Net") || !strings.Contains(errs, "3 records, ledger entry") || strings.Contains(errs, "coverage") || strings.Contains(errs, "4512345678") {
		t.Errorf("what the officer is told:\n%s", errs)
	}
	show := h.show(id)
	for _, want := range []string{"asked: communications of one number", "found: 3; delivered: 3", "as of the approval, ", "a communication: ", "imported at ", "1 of 1 approvals"} {
		if !strings.Contains(show, want) {
			t.Errorf("%q is not in\n%s", want, show)
		}
	}
	page := h.show(id, "--html")
	for _, want := range []string{"call voice: &#43;4512345678 → &#43;4687654321, forwarded to 112, &#43;4511223344", "call voice: withheld → ", "4711: Anna Berg, Gade 1"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
	year := fmt.Sprint(time.Now().UTC().Year())
	if out, errs, code := h.run("report", "art10", "--config", h.config, "--year", year, "--json"); code != 0 || given(t, out, "communications") != 1 || given(t, out, "sessions") != 0 {
		t.Errorf("%d %s%s", code, out, errs)
	}
	_, errs, code := h.as(h.office.Custodian, "hold", "add", "--request", id, "--identity", h.office.Custodian.Identity)
	if code != exitFailure && code != exitUsage || !strings.Contains(errs, "calls and mail are not held: a hold keeps sessions") || !strings.Contains(errs, "its package keeps them") {
		t.Errorf("a hold of calls: %d %s", code, errs)
	}
}

// given is in how many cases of a kind information was given.
func given(t *testing.T, text, kind string) int {
	t.Helper()
	var a disclose.Art10
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	for i := range a.Kinds {
		if a.Kinds[i].Kind == kind {
			return a.Kinds[i].Given
		}
	}
	t.Fatalf("no %q in %s", kind, text)
	return 0
}

func TestAPackageOfNothingAndOneThatIsCutAndOneThatIsBehindSaySo(t *testing.T) {
	h := withCalls(t)
	window := []string{"--from", minutesAgo(60), "--to", minutesAgo(1)}
	for kind, asks := range map[string][]string{
		"communications": append(window, "--mail", "nobody@example.net"), "lookup": append(window, "--subscriber", "nobody"), "access": append(window, "--subscriber", "nobody"),
	} {
		id := h.approved(kind, asks...)
		code := 0
		if kind != "access" { // no mail was imported, and the profile has no sessions
			code = exitFailure
		}
		if kind == "lookup" && h.rec.Config().Profile.RecordsSessions() {
			code = 0
		}
		r, _ := h.packed(id, code)
		if r.Manifest.Answer.Found != 0 || (len(r.Manifest.Answer.Incomplete) > 0) != (code != 0) {
			t.Errorf("%s: %+v", kind, r.Manifest.Answer)
		}
	}
	cut := h.mustAs(h.office.Officer, append([]string{"request", "new", "communications", "--reference", "case 8", "--authority", "Police", "--legal-basis", "an order", "--recipient",
		h.office.Authority.Key, "--max-hits", "2", "--number", "+4512345678", "--json"}, window...)...)
	var c struct{ ID int64 }
	if err := json.Unmarshal([]byte(cut), &c); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(c.ID)
	h.mustAs(h.office.Custodian, "request", "approve", id, "--yes", "--identity", h.office.Custodian.Identity)
	late := h.write("late.csv", "start,end,from,to\n"+minutesAgo(5)+",,+4512345678,112\n") // after the approval
	if out, errs, code := h.importFile("calls", late); code != 0 {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	r, errs := h.packed(id, exitFailure)
	a := &r.Manifest.Answer
	if a.Found != 3 || a.Delivered != 2 || !a.LimitReached || len(a.Incomplete) != 1 || !strings.Contains(a.Later, "1 block of the window was stored later") {
		t.Errorf("%+v\n%s", a, errs)
	}
	if show := h.show(id); !strings.Contains(show, "STORED LATER: 1 block") || !strings.Contains(show, "INCOMPLETE: 3 communications were found and only 2 are delivered") {
		t.Errorf("%s", show)
	}
}

// second has another custodian come.
func (h *house) second() office.Person {
	h.t.Helper()
	pair, err := vault.GenerateIdentity()
	if err != nil {
		h.t.Fatal(err)
	}
	p := office.Person{Name: "Dora Deputy", UID: 61004, Identity: filepath.Join(h.dir, "office", "deputy.key"), Key: pair.Recipient}
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	text = fmt.Appendf(text, "\n[[person]]\nname = %q\nuid = %d\nroles = [\"custodian\"]\nkey = %q\nclearance_until = 2999-12-31\n", p.Name, p.UID, p.Key)
	if err := errors.Join(os.WriteFile(p.Identity, pair.File(), 0o600), os.Chown(p.Identity, int(p.UID), 0), os.WriteFile(h.config, text, 0o600)); err != nil {
		h.t.Fatal(err)
	}
	conf, err := config.Load(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.rec.Reload(h.t.Context(), conf); err != nil {
		h.t.Fatal(err)
	}
	return p
}

func TestAnEmergencyThatASecondCustodianHasNotApprovedIsLoudInItsPackage(t *testing.T) {
	h := withCalls(t)
	dora := h.second()
	for _, ratified := range []bool{false, true} {
		out := h.mustAs(h.office.Officer, "request", "emergency", "communications", "--reference", "case 9", "--authority", "Police", "--legal-basis", "an order", "--recipient",
			h.office.Authority.Key, "--number", "+4512345678", "--from", minutesAgo(60), "--to", minutesAgo(1), "--reason", "a child is missing", "--json")
		var c struct{ ID int64 }
		if err := json.Unmarshal([]byte(out), &c); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(c.ID)
		h.mustAs(h.office.Custodian, "request", "approve", id, "--yes", "--identity", h.office.Custodian.Identity)
		if ratified {
			h.mustAs(dora, "request", "approve", id, "--yes", "--identity", dora.Identity)
		}
		r, errs := h.packed(id, 0)
		q, loud := &r.Manifest.Request, "READ WITH 1 APPROVAL OF 2: ANOTHER CUSTODIAN HAD UNTIL "
		if want := 1 + btoi(ratified); q.Approvals != want || q.ApprovalsNeeded != 2 || len(r.Approvals) != want || r.Emergency != "a child is missing" || (r.Due != "") == ratified {
			t.Errorf("ratified %v: %+v\n%+v", ratified, q, r)
		}
		for what, text := range map[string]string{"the officer": errs, "show": h.show(id), "the page": h.show(id, "--html")} {
			if strings.Contains(text, loud) == ratified || what != "the officer" && !strings.Contains(text, "a child is missing") {
				t.Errorf("ratified %v: %s sees:\n%s", ratified, what, text)
			}
		}
	}
}
