package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// staff are the persons of these tests, with the private keys of each.
type staff struct {
	text string
	ids  map[string]*vault.Identities
}

func newStaff(t testing.TB) *staff {
	t.Helper()
	s := &staff{ids: map[string]*vault.Identities{}}
	for i, who := range []string{"officer", "custodian", "auditor"} {
		pair, err := vault.GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		if s.ids[who], err = vault.ParseIdentities(bytes.NewReader(pair.File())); err != nil {
			t.Fatal(err)
		}
		s.text += fmt.Sprintf("[[person]]\nname = \"The %s\"\nuid = %d\nroles = [%q]\nkey = %q\n", who, 4001+i, who, pair.Recipient)
		if who != "auditor" {
			s.text += "clearance_until = 2025-03-31\n"
		}
	}
	s.text += "[[person]]\nname = \"The operator\"\nuid = 4004\nroles = [\"operator\"]\n" +
		"[roles]\noperator_groups = [4500]\nauditor_groups = [4600]\n"
	return s
}

// The peers of these tests by what they are.
var peers = map[string]Peer{
	"root": {}, "officer": {UID: 4001, GID: 1}, "custodian": {UID: 4002, GID: 1}, "auditor": {UID: 4003, GID: 1}, "operator": {UID: 4004, GID: 1},
	"one of the operators' group": {UID: 5001, GID: 4500}, "one of the auditors' group": {UID: 5002, GID: 1, Groups: []uint32{4600}},
	"stranger": {UID: 5003, GID: 1, Groups: []uint32{0}},
}

// send has a peer ask; one who is not in peers is not known to the kernel.
func (r *room) send(who, method, path string) *httptest.ResponseRecorder {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if p, ok := peers[who]; ok {
		ctx = context.WithValue(ctx, peerKey{}, p)
	}
	w := httptest.NewRecorder()
	r.serveHTTP(w, httptest.NewRequestWithContext(ctx, method, path, nil))
	return w
}

const (
	o = config.Operator
	f = config.Officer
	c = config.Custodian
	a = config.Auditor
)

// wantRoles says who may use each route. A new route belongs here, too.
var wantRoles = map[string]config.Roles{
	"GET /v1/status":                     o | a,
	"GET /v1/coverage":                   o | f | c | a,
	"POST /v1/accounting/import":         o,
	"POST /v1/subscribers/import":        o,
	"GET /v1/keys":                       c,
	"POST /v1/keys":                      c,
	"GET /v1/keys/facts":                 o | c | a,
	"GET /v1/expiry":                     o | c | a,
	"POST /v1/expiry":                    o | c,
	"POST /v1/expiry?clock_is_right=1":   c, // not a route of its own
	"GET /v1/holds":                      o | f | c | a,
	"POST /v1/holds/{id}/release":        c,
	"POST /v1/verify":                    o | c | a,
	"POST /v1/backup":                    o,
	"POST /v1/backup/keys":               o,
	"GET /v1/ledger/{name...}":           o | c | a,
	"POST /v1/ledger/witness":            o | a,
	"GET /v1/report/volume":              o | a,
	"POST /v1/import/calls":              o,
	"POST /v1/import/mail":               o,
	"GET /v1/nothing":                    o | f | c | a, // no route: who has a role is told that it is none
	"DELETE /v1/keys":                    o | f | c | a,
	"GET /v1/status/../keys/./../status": o | f | c | a, // a redirection
}

func TestEachRouteIsForItsRolesAndForNobodyElse(t *testing.T) {
	r := newRoom(t, newStaff(t).text)
	stop := r.start()
	routes := maps.Clone(r.routes)
	roles := map[string]config.Roles{
		"root": o, "officer": f, "custodian": c, "auditor": a, "operator": o,
		"one of the operators' group": o, "one of the auditors' group": a, "stranger": 0, "nobody whom the kernel knows": 0,
	}
	for route, may := range wantRoles {
		if has, ok := routes[route]; ok && has != may {
			t.Errorf("%s is for %s, not for %s", route, has, may)
		}
		delete(routes, route)
		method, path, _ := strings.Cut(strings.NewReplacer("{id}", "7", "{name...}", "checkpoint").Replace(route), " ")
		for who, has := range roles {
			w := r.send(who, method, path)
			if refused := w.Code == http.StatusForbidden; refused == has.Has(may) {
				t.Errorf("%s, %s: %d %s", route, who, w.Code, w.Body)
			}
		}
	}
	if len(routes) > 0 {
		t.Errorf("nobody has thought of who may use %v", routes)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestNoRouteGoesAroundHandle(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	uses := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		uses += len(regexp.MustCompile(`\.mux\.Handle(Func)?\(`).FindAll(text, -1))
	}
	if uses != 1 {
		t.Errorf("the mux gets routes in %d places", uses)
	}
	defer func() {
		if recover() == nil {
			t.Error("a route for nobody was taken")
		}
	}()
	newRoom(t, "").Handle("GET /x", 0, nil)
}

func TestAHandlerKnowsWhoAsks(t *testing.T) {
	r := newRoom(t, newStaff(t).text)
	var got config.Caller
	var who string
	r.Handle("GET /me", f, func(_ http.ResponseWriter, req *http.Request) {
		got, _ = CallerOf(req.Context())
		who = WhoAsks(req.Context())
	})
	r.send("officer", "GET", "/me")
	if got.Person != "The officer" || got.Roles != f || got.Key == "" || who != `uid 4001 gid 1 person "The officer"` {
		t.Errorf("%+v, %s", got, who)
	}
	if _, ok := CallerOf(t.Context()); ok || WhoAsks(t.Context()) != "" {
		t.Error("somebody asks without asking")
	}
}

func TestWithoutPersonsWhoRunsTheAgentIsAnOperatorAndNobodyReads(t *testing.T) {
	r := newRoom(t, "")
	if got, _ := r.caller(context.WithValue(t.Context(), peerKey{}, Peer{})); got.Roles != o {
		t.Errorf("%+v", got)
	}
	if got, _ := r.caller(context.WithValue(t.Context(), peerKey{}, Peer{UID: 4001})); got.Roles != 0 {
		t.Errorf("%+v", got)
	}
}

// refusedEntries returns the refusals in the ledger, and what their payloads say.
func (r *room) refusedEntries(ids *vault.Identities) (fields []map[string]string, payloads []string) {
	r.t.Helper()
	for _, e := range r.entries() {
		if e.Kind != ledger.Refused {
			continue
		}
		delete(e.Fields, "at")
		fields = append(fields, e.Fields)
		plain, err := vault.OpenSealed(e.Sealed, ids)
		if err != nil {
			r.t.Fatal(err)
		}
		payloads = append(payloads, string(plain))
	}
	return fields, payloads
}

func TestARefusalSaysWhatIsMissingAndStandsInTheLedgerSealed(t *testing.T) {
	s := newStaff(t)
	r := newRoom(t, s.text)
	w := r.send("officer", "POST", "/v1/holds/7/release")
	var told map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || w.Code != http.StatusForbidden ||
		told["error"] != "this needs the role custodian, and uid 4001 has only officer; the refusal is recorded" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = r.send("stranger", "GET", "/v1/expiry")
	if !strings.Contains(w.Body.String(), "this needs the role operator or custodian or auditor, and uid 5003 has no role; the refusal is recorded") {
		t.Error(w.Body)
	}
	w = r.send("nobody whom the kernel knows", "GET", "/v1/keys")
	if !strings.Contains(w.Body.String(), "it is not known who asks; the refusal is recorded") {
		t.Error(w.Body)
	}
	r.clock.add(31 * 24 * time.Hour)
	w = r.send("custodian", "GET", "/v1/keys")
	if !strings.Contains(w.Body.String(), "this needs the role custodian, and uid 4002 has no role; the security clearance in the configuration is over; the refusal is recorded") {
		t.Error(w.Body)
	}
	want := []map[string]string{
		{"route": "POST /v1/holds/{id}/release", "needed": "custodian", "held": "officer", "count": "1"},
		{"route": "GET /v1/expiry", "needed": "operator, custodian, auditor", "held": "none", "count": "1"},
		{"route": "GET /v1/keys", "needed": "custodian", "held": "none", "count": "1"},
		{"route": "GET /v1/keys", "needed": "custodian", "held": "none", "clearance": "over", "count": "1"},
	}
	fields, payloads := r.refusedEntries(s.ids["custodian"])
	if d := cmp.Diff(want, fields); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{
		`{"person":"The officer","known":true,"uid":4001,"gid":1,"pid":0}`, `{"known":true,"uid":5003,"gid":1,"pid":0,"groups":[0]}`,
		`{"known":false,"uid":0,"gid":0,"pid":0}`, `{"person":"The custodian","known":true,"uid":4002,"gid":1,"pid":0}`,
	}, payloads); d != "" {
		t.Error(d)
	}
	if _, again := r.refusedEntries(s.ids["auditor"]); len(again) != 4 {
		t.Error("an auditor cannot open what was refused")
	}
	for _, e := range r.entries() {
		if _, err := vault.OpenSealed(e.Sealed, s.ids["officer"]); err == nil {
			t.Error("an officer opens what was refused to others")
		}
	}
	if got := r.Status().Refused; got != (RefusedStatus{Total: 4, Entries: 4}) {
		t.Errorf("%+v", got)
	}
}

func TestNobodyFloodsTheLedgerWithRefusals(t *testing.T) {
	s := newStaff(t)
	r := newRoom(t, s.text)
	stop := r.start()
	for range 100 {
		r.send("stranger", "GET", "/v1/keys")
	}
	r.send("officer", "GET", "/v1/keys")
	r.send("stranger", "GET", "/v1/holds")
	r.clock.jump(time.Hour) // set, not passed
	r.send("stranger", "GET", "/v1/keys")
	r.clock.add(time.Minute)
	r.send("stranger", "GET", "/v1/holds")
	counts := func() (out []string) {
		fields, _ := r.refusedEntries(s.ids["custodian"])
		for _, f := range fields {
			out = append(out, f["count"]+" "+f["route"])
		}
		return out
	}
	want := []string{"1 GET /v1/keys", "1 GET /v1/keys", "1 GET /v1/holds", "100 GET /v1/keys", "1 GET /v1/holds"}
	if d := cmp.Diff(want, counts()); d != "" {
		t.Error(d)
	}
	r.send("stranger", "GET", "/v1/holds")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(append(want, "1 GET /v1/holds"), counts()); d != "" {
		t.Errorf("what was only counted is lost at the stop: %s", d)
	}
	if e := r.entries()[0].Fields; e["persons"] != "4" || len(e["people"]) != 64 {
		t.Errorf("the ledger does not say under which persons the agent started: %v", e)
	}
	if got := r.Status().Refused; got != (RefusedStatus{Total: 105, Entries: 6}) {
		t.Errorf("%+v", got)
	}
}

func TestManyWhoAreRefusedAreToldApartOnlySoFar(t *testing.T) {
	r := newRoom(t, "")
	for uid := range uint32(mostRefused + 500) {
		r.refusals.note(&config.Caller{UID: uid + 10_000}, Peer{}, true, "GET /x", o)
	}
	if n := len(r.refusals.seen); n > mostRefused+1 {
		t.Errorf("%d are remembered", n)
	}
	if got := r.refusals.counts(); got.Total != mostRefused+500 || got.Entries != mostRefused+1 {
		t.Errorf("%+v", got)
	}
	r.refusals.settle()
	fields, _ := r.refusedEntries(r.ids)
	if n := len(fields); n != mostRefused+2 || fields[n-1]["count"] != "499" {
		t.Errorf("%d entries, the last %v", n, fields[n-1])
	}
}

func TestARefusalWaitsForALedgerThatCannotBeWritten(t *testing.T) {
	s := newStaff(t)
	r := newRoom(t, s.text)
	b := &brokenLedger{Ledger: r.ledger, err: ledger.ErrNotWritten}
	r.evidence.ledger = b
	if w := r.send("stranger", "GET", "/v1/keys"); w.Code != http.StatusForbidden {
		t.Error(w.Code)
	}
	b.err = nil
	r.clock.add(time.Minute)
	r.evidence.step()
	if _, payloads := r.refusedEntries(s.ids["auditor"]); len(payloads) != 1 || !strings.Contains(payloads[0], `"uid":5003`) {
		t.Error(payloads)
	}
}
