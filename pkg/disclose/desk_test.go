package disclose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// annasRoom has one session of anna and one of bo, each in a block of its own.
func annasRoom(t *testing.T, wrap func(Ledger) Ledger) *gateRoom {
	r := newGateRoom(t, wrap)
	r.shelf.addBindings(held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever))
	r.shelf.addBindings(held("bo", "10.0.0.2/32", at(-2*time.Hour), session.Forever))
	r.shelf.addSessions(lived(-time.Minute, 0))
	bo := lived(-time.Minute, 0)
	bo.Initiator = addr("10.0.0.2")
	r.shelf.addSessions(bo)
	return r
}

func (r *gateRoom) state(t *testing.T, id int64) State {
	t.Helper()
	by := r.by.Load()
	defer r.by.Store(by)
	r.as(r.olga())
	l, err := ListRequests(t.Context(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range l.Cases {
		if c.ID == id {
			return c.State
		}
	}
	return ""
}

// denied fails unless err is a refusal that says word and is in the ledger with why.
func (r *gateRoom) denied(t *testing.T, err error, word, why string) {
	t.Helper()
	if !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), word) {
		t.Errorf("%v", err)
	}
	for _, e := range r.entries(t) {
		if e.Kind == ledger.Refused && e.Fields["why"] == why {
			return
		}
	}
	t.Errorf("the ledger does not have the refusal %q", why)
}

func TestAGrantOpensTheBlocksOfItsAnswerAndNoOther(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		r := newGateRoom(t, nil)
		r.shelf.fresh = fresh
		r.shelf.addBindings(held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever))
		r.shelf.addSessions(lived(-time.Minute, 0))
		bo := lived(-time.Minute, 0)
		bo.Initiator = addr("10.0.0.2")
		r.shelf.addSessions(bo)
		id := r.filed(t, askAnna())
		if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
			t.Fatal(err)
		}
		r.as(r.olga())
		l, err := GetRequest(t.Context(), r.client, id)
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := RunPermit(l, r.officer.ids)
		if err != nil {
			t.Fatal(err)
		}
		k := newKeyring(r.officer.ids)
		if err := k.take(p.Grant); err != nil {
			t.Fatal(err)
		}
		_, annas := k.open(r.shelf.session[0])
		_, bos := k.open(r.shelf.session[1])
		if annas != nil || !fresh && !errors.Is(bos, errOutside) || fresh && bos != nil {
			t.Errorf("fresh %v: anna %v, bo %v", fresh, annas, bos)
		}
		if got := len(p.Grant.Days) > 0; got != fresh {
			t.Errorf("fresh %v, and the key of the day is granted: %v", fresh, got)
		}
		for _, wrapped := range r.shelf.wrapped {
			if _, err := vault.OpenKey(wrapped, r.officer.ids); err == nil {
				t.Error("the officer opens the day")
			}
		}
	}
}

func TestWhatTheOfficerReadsIsWhatTheCustodianFound(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	_, found, err := r.approve(t, id, r.carl(), r.custodian.ids)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.run(t, id)
	if err != nil {
		t.Fatal(err)
	}
	a, b := *found.Sessions, *got.Sessions
	for _, s := range []*Summary{&a.Summary, &b.Summary} {
		s.LedgerIntent, s.LedgerOutcome, s.CheckpointSize, s.CheckpointRoot, s.AsOf = 0, 0, 0, "", ""
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the custodian found %+v\nthe officer %+v", a, b)
	}
	if got.Sessions.Summary.AsOf == "" || got.Sessions.Summary.Request != id {
		t.Errorf("%+v", got.Sessions.Summary)
	}
	if r.state(t, id) != Answered {
		t.Error("it is not answered")
	}
	if _, err := r.run(t, id); !errors.Is(err, ErrNoGrant) {
		t.Errorf("run twice: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.options.Dir, "*.grant")); len(left) != 0 {
		t.Errorf("grants are left: %q", left)
	}
}

func TestNoMoreIsShownThanTheRequestAllows(t *testing.T) {
	r := annasRoom(t, nil)
	r.shelf.addSessions(lived(-5*time.Minute, -4*time.Minute), lived(-8*time.Minute, -7*time.Minute))
	f, err := r.whole(t, askAnna())
	if err != nil || len(f.Sessions.Hits) != 3 || !f.Summary().Complete() {
		t.Fatalf("%+v %v", f, err)
	}
	first := f.Sessions.Hits[0]
	f.Limit(2)
	if len(f.Sessions.Hits) != 2 || f.Sessions.Hits[0].Session != first.Session || f.Summary().Complete() || f.Summary().LeftOut != 1 ||
		!strings.Contains(strings.Join(f.Summary().Lines(), "\n"), "1 record more than the request allows") {
		t.Errorf("%+v", f.Sessions)
	}
	f.Limit(10)
	if len(f.Sessions.Hits) != 2 {
		t.Errorf("%d", len(f.Sessions.Hits))
	}
}

func TestWhatComesAfterTheApprovalIsCountedAndNotInTheAnswer(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	r.shelf.addSessions(lived(-5*time.Minute, -4*time.Minute))
	f, err := r.run(t, id)
	if err != nil || len(f.Sessions.Hits) != 1 || f.Sessions.Summary.Newer != 1 {
		t.Fatalf("%+v %v", f, err)
	}
	if lines := strings.Join(f.Sessions.Summary.Lines(), "\n"); !strings.Contains(lines, "1 block of the window was stored later") {
		t.Error(lines)
	}
}

func TestABlockThatWasGrantedAndIsGoneMakesTheAnswerIncomplete(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	r.shelf.session = r.shelf.session[1:]
	if f, err := r.run(t, id); err != nil || f.Summary().Failed != 1 || f.Summary().Complete() {
		t.Errorf("%+v %v", f, err)
	}
}

func TestAnotherRequestsTextOrGrantOpensNothing(t *testing.T) {
	r := annasRoom(t, nil)
	first := r.permit(t, askAnna(), r.custodian.ids)
	if _, _, err := r.approve(t, first.Request, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	wide := askAnna()
	wide.From = at(-300 * 24 * time.Hour)
	second := r.permit(t, wide, r.custodian.ids)
	r.as(r.olga())
	forged := *first
	forged.Act, forged.Text, forged.Grant = Run, second.Text, &Grant{}
	_, _, err := Read(t.Context(), r.client, &forged)
	r.denied(t, err, "is not request", "not the request")
	changed, _ := ParseRequest(first.Text)
	changed.Task.Query.From = at(-300 * 24 * time.Hour)
	forged.Text, _ = changed.Text()
	_, _, err = Read(t.Context(), r.client, &forged)
	r.denied(t, err, "is not request", "not the request")

	grant, err := os.ReadFile(filepath.Join(r.options.Dir, name(first.Request, "grant")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGrant(grant, r.officer.ids, second.Request, second.Text); !errors.Is(err, ErrGrant) {
		t.Errorf("the grant of another request: %v", err)
	}
	if _, err := OpenGrant(grant, r.custodian.ids, first.Request, first.Text); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("a custodian opens the officer's grant: %v", err)
	}
	for i := range grant { // each byte, one bit of it
		grant[i] ^= 1 << (i % 8)
		if _, err := OpenGrant(grant, r.officer.ids, first.Request, first.Text); err == nil {
			t.Errorf("byte %d of the grant was changed, and it opens", i)
		}
		grant[i] ^= 1 << (i % 8)
	}
}

func TestAGrantThatWasPutBackOrChangedIsNotHandedOut(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.options.Dir, name(id, "grant"))
	grant, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(grant)
	bad[len(bad)-1] ^= 1
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(t, id); !errors.Is(err, ErrAgent) {
		t.Errorf("changed: %v", err)
	}
	if err := os.WriteFile(file, grant, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(t, id); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, grant, 0o600); err != nil { // an old copy
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.run(t, id); !errors.Is(err, ErrNoGrant) {
			t.Errorf("put back: %v", err)
		}
		r.open() // the agent starts again
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the old copy lies there still")
	}
}

func TestRequestsAreWhereTheyWereAfterARestartAtAnyStep(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	r.open()
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	other := r.filed(t, askAnna())
	r.open()
	f, err := r.run(t, id)
	if err != nil || len(f.Sessions.Hits) != 1 {
		t.Fatal(err)
	}
	r.open()
	if a, b := r.state(t, id), r.state(t, other); a != Answered || b != Filed {
		t.Errorf("%s, %s", a, b)
	}
	if err := os.Remove(filepath.Join(r.options.Dir, name(other, "request"))); err != nil {
		t.Fatal(err)
	}
	r.open() // as if the agent had been killed between ledger and file
	if got := r.state(t, other); got != Expired && got != "" {
		t.Errorf("a request without its file is %s", got)
	}
	if last := r.entries(t)[r.ledger.Size()-1]; last.Fields["state"] != string(Expired) {
		t.Errorf("ledger %v", last.Fields)
	}
}

func TestAnApprovalThatTheLedgerDoesNotTakeIsNone(t *testing.T) {
	fail := false
	r := annasRoom(t, func(l Ledger) Ledger { return &failing{l, &fail} })
	id := r.filed(t, askAnna())
	r.as(r.carl())
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(*Found) error { fail = true; return nil }
	if _, _, err := ApproveRequest(t.Context(), r.client, l, r.custodian.ids, noon, judge); !errors.Is(err, ErrAgent) {
		t.Errorf("%v", err)
	}
	fail = false
	if r.state(t, id) != Filed {
		t.Error("it counts")
	}
	if _, err := r.run(t, id); !errors.Is(err, ErrNoGrant) {
		t.Errorf("run: %v", err)
	}
	fail = true
	if _, err := FileRequest(t.Context(), r.client, r.order(askAnna())); !errors.Is(err, ErrAgent) {
		t.Errorf("filed: %v", err)
	}
}

type failing struct {
	Ledger
	fail *bool
}

func (f *failing) Append(ctx context.Context, e ledger.Entry) (int64, error) {
	if *f.fail {
		return 0, ledger.ErrNotWritten
	}
	return f.Ledger.Append(ctx, e)
}

func TestAWithdrawalDuringARunEndsIt(t *testing.T) {
	r := annasRoom(t, nil)
	p := r.mayRun(t)
	p.Pack = func(*Found, *Paper) (sum [32]byte, err error) { // it has read all, and not yet said so
		_, err = WithdrawRequest(t.Context(), r.client, p.Request, p.Text, "the order was lifted")
		return sum, err
	}
	f, _, err := Read(t.Context(), r.client, p)
	if f != nil || !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "not approved any more") {
		t.Errorf("%+v %v", f, err)
	}
	if e := r.entries(t); e[len(e)-1].Fields["result"] != "withdrawn" {
		t.Errorf("%v", e[len(e)-1].Fields)
	}
	if r.state(t, p.Request) != Withdrawn {
		t.Error("it is not withdrawn")
	}
}

func TestARequestIsRunOnceAtATime(t *testing.T) {
	r := annasRoom(t, nil)
	p := r.mayRun(t)
	second := *p
	p.Pack = func(*Found, *Paper) (sum [32]byte, err error) {
		_, _, err = Read(t.Context(), r.client, &second)
		r.denied(t, err, "is being run", "runs already")
		return sum, nil
	}
	if _, _, err := Read(t.Context(), r.client, p); err != nil {
		t.Error(err)
	}
}

func TestNothingOfAPersonLiesReadableOnTheDisk(t *testing.T) {
	r := annasRoom(t, nil)
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(r.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range []string{"anna", "Olga", "Carl", "case 7", "Police"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s has %q", path, word)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestManyRefusalsMakeFewEntries(t *testing.T) {
	r := annasRoom(t, nil)
	r.as(Caller{UID: 500})
	for range 50 {
		if _, err := ListRequests(t.Context(), r.client); !errors.Is(err, ErrAgent) {
			t.Fatal(err)
		}
	}
	r.now.Add(int64(2 * time.Minute))
	_, _ = ListRequests(t.Context(), r.client)
	e := r.entries(t)
	if len(e) != 2 || e[0].Fields["times"] != "1" || e[1].Fields["times"] != "50" {
		t.Errorf("%d entries, %v", len(e), e[len(e)-1].Fields)
	}
}

func TestAnOpenReadingIsItsReadersAlone(t *testing.T) {
	r := annasRoom(t, nil)
	body, err := post(t.Context(), r.client, PathLookup, r.opening(t))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() //nolint:errcheck // only read
	_, payload, err := newFrameReader(body).next()
	if err != nil {
		t.Fatal(err)
	}
	var b begin
	if err := json.Unmarshal(payload, &b); err != nil {
		t.Fatal(err)
	}
	r.as(Caller{UID: 999, Custodian: true, Officer: true, Person: "Mallory"})
	for _, what := range []string{moreSessions, moreBindings, moreRegisters, "../../status"} {
		if _, err := send(t.Context(), r.client, http.MethodGet, strings.NewReplacer("{id}", b.ID, "{what}", what).Replace(PathMore), nil); err == nil {
			t.Errorf("%s was given to another", what)
		}
	}
	if _, err := post(t.Context(), r.client, strings.Replace(PathOutcome, "{id}", b.ID, 1), Outcome{}); err == nil {
		t.Error("another gave the outcome")
	}
}
