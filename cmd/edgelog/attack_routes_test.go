package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// routeWalk has bodies for each route of the socket. {text} is the text of the filed
// request, {ours} that of the approved one, {forged} the latter about somebody else.
var routeWalk = map[string][]string{
	"GET /v1/status":                {""},
	"GET /v1/coverage":              {""},
	"GET /v1/report/volume":         {""},
	"GET /v1/report/art10":          {""},
	"POST /v1/accounting/import":    {"", "Acct-Status-Type = Start\n"},
	"POST /v1/subscribers/import":   {"", `{"id":"x"}`},
	"POST /v1/import/calls":         {"", "start,end,from,to\n"},
	"POST /v1/import/mail":          {"", "start,end,from,to\n"},
	"GET /v1/keys":                  {""},
	"POST /v1/keys":                 {"", `{}`, `[]`},
	"GET /v1/keys/facts":            {""},
	"GET /v1/expiry":                {""},
	"POST /v1/expiry":               {""},
	"GET /v1/holds":                 {""},
	"POST /v1/holds/{id}/release":   {"", `{"reference":"x"}`},
	"POST /v1/verify":               {""},
	"POST /v1/backup":               {""},
	"POST /v1/backup/keys":          {""},
	"GET /v1/ledger/{name...}":      {""},
	"POST /v1/ledger/witness":       {"", `{"to":"mail","note":"x"}`},
	"GET /v1/breach":                {""},
	"POST /v1/breach":               {"", `{}`},
	"GET /v1/requests":              {""},
	"POST /v1/requests":             {"", `{}`, `{"officer":"Carl Custodian","officer_key":"age1x"}`},
	"GET /v1/requests/{id}":         {""},
	"POST /v1/requests/{id}/{step}": {"", `{}`, `{"text":"{forged}","grant":"eHh4","reason":"x"}`, `{"text":"{forged}"}`, `{"text":"bm90aGluZw==","reason":"x"}`},
	"POST /v1/lookup": {
		"", `{}`, `[]`, `{"act":"run"}`, `{"act":"run","request":{filed},"text":"{text}"}`, `{"act":"run","request":{answered},"text":"{ours}"}`,
		`{"act":"run","request":{approved},"text":"{forged}"}`, `{"act":"approve","request":{approved},"text":"{forged}"}`, `{"act":"hold","request":{filed},"text":"{text}"}`,
		`{"act":"approve","request":{approved},"text":"{ours}"}`, `{"act":"approve","request":{answered},"text":"{text}"}`, `{"act":"run","request":-1,"text":"{text}"}`,
		`{"act":"run","request":99999999999999999999,"text":"{text}"}`, `{"act":"look","request":{approved},"text":"{ours}"}`,
		`{"act":"verify","query":{"ask":"who","address":"10.0.0.1"}}`, `{"act":"verify","request":{approved},"text":"{ours}","query":{"ask":"verify"}}`,
		`{"act":"run","request":{approved},"text":"{forged}","query":{"address":"10.0.0.2"}}`,
	},
	"GET /v1/lookup/{id}/{what}":                        {""},
	"POST /v1/lookup/{id}/outcome":                      {"", `{}`, `{"records":1}`, `{"error":"Anna Berg"}`},
	"POST /v1/lookup/{id}/hold":                         {"", `{}`},
	"POST /v1/lookup/{id}/blocks":                       {"", `[]`, `[{"kind":1,"day":20000,"epoch":1,"seq":1}]`},
	"GET /v1/lookup/{id}/register/{day}/{epoch}/{page}": {""},
}

// What stands in for a wildcard of a route. {our} is something that is there.
var wildcards = map[string][]string{
	"{name...}": {
		"checkpoint", "public.key", "signer.key", "../store", "../../edgelog.toml", "..%2f..%2fedgelog.toml", "%2e%2e/%2e%2e/edgelog.toml", "tile/../signer.key", "tile/%2e%2e/signer.key",
		"tile/0/000%00", "//etc/passwd", "%2fetc%2fpasswd", "tile/0/x" + strings.Repeat("9", 400), "..\\..\\edgelog.toml", "./signer.key", "signer.key%00checkpoint",
	},
	"{id}": {
		"{our}", "-1", "0", "99999999999999999999", "9223372036854775807", "..", "%2e%2e", "..%2f..%2foffice%2fcustodian.key", "%2e%2e%2f%2e%2e%2fedgelog.toml", "{our}%00", "{our}.request", "0x1",
		"{our}%2f..%2f{our}", "+{our}", "%20{our}", strings.Repeat("1", 3000),
	},
	"{step}":  {"approve", "refuse", "withdraw", "run", "..", "%2e%2e", "approve%2f..", "Approve"},
	"{what}":  {"bindings", "sessions", "ends", "registers", "communications", "everything", "..", "%2e%2e%2fbindings"},
	"{day}":   {"20000", "-1", ".."},
	"{epoch}": {"1", "99999999999999999999"},
	"{page}":  {"1", "-1", "%2e%2e"},
}

var wildcard = regexp.MustCompile(`\{[a-z.]+\}`)

// paths returns the paths of a route, each with one more way to fill a wildcard in.
func paths(route, our string) (list []string) {
	_, list0, _ := strings.Cut(route, " ")
	list = []string{list0}
	for _, name := range wildcard.FindAllString(route, -1) {
		var next []string
		for i, p := range list {
			for j, v := range wildcards[name] {
				if i == 0 || j == 0 { // not all of them with all
					next = append(next, strings.Replace(p, name, strings.ReplaceAll(v, "{our}", our), 1))
				}
			}
		}
		list = next
	}
	return list
}

func TestTheWalkHasEveryRouteOfTheSocket(t *testing.T) {
	h := newHouse(t)
	for route := range h.rec.Routes() {
		if len(routeWalk[route]) == 0 {
			t.Errorf("nobody tries what %q gives away: add it to routeWalk", route)
		}
		for _, name := range wildcard.FindAllString(route, -1) {
			if len(wildcards[name]) == 0 {
				t.Errorf("nobody tries to fill in %s of %q: add it to wildcards", name, route)
			}
		}
	}
	for route := range routeWalk {
		if _, ok := h.rec.Routes()[route]; !ok {
			t.Errorf("there is no route %q", route)
		}
	}
}

// base64Of is as JSON has bytes.
func base64Of(t *testing.T, b []byte) string {
	t.Helper()
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(out), `"`)
}

// forged is a request about somebody else, as it is written by edgelog.
func forged(t *testing.T, r *disclose.Request, change func(*disclose.Request)) []byte {
	t.Helper()
	f := *r
	change(&f)
	text, err := f.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestNoRouteGivesAnythingAwayToAnyRole(t *testing.T) {
	b, attackers := besiege(t)
	olga := b.office.Officer
	_, text := b.text(olga, number(t, b.filed))
	r, ours := b.text(olga, number(t, b.approved))
	fill := strings.NewReplacer("{text}", base64Of(t, text), "{ours}", base64Of(t, ours), "{filed}", b.filed, "{approved}", b.approved, "{answered}", b.answered,
		"{forged}", base64Of(t, forged(t, r, func(r *disclose.Request) { r.Task.Query.From -= int64(time.Hour) })))
	before, waiting := b.readings(), b.standing()
	for i := range attackers {
		a := &attackers[i]
		for route, may := range b.rec.Routes() {
			method, _, _ := strings.Cut(route, " ")
			for _, path := range paths(route, b.approved) {
				for _, body := range routeWalk[route] {
					b.try(a, may, route, knock{method, path, fill.Replace(body)})
				}
			}
		}
	}
	if n := b.readings() - before; n != 0 {
		t.Errorf("%d readings began", n)
	}
	if now := b.standing(); now != waiting {
		t.Errorf("requests stand as %+v, and not as before: %+v", now, waiting)
	}
	b.theRightOnesAreAnswered()
}

// standing says how requests stand.
func (h *house) standing() recorder.RequestStatus {
	s := *h.rec.Status().Requests
	s.Denied = 0
	return s
}

// try demands that one request to the socket gives nothing away, and is refused
// to who has none of the roles.
func (b *besieged) try(a *attacker, may config.Roles, route string, k knock) {
	b.t.Helper()
	code, got := b.knock(a.who, k)
	at := fmt.Sprintf("%s: %s %.100s %.100s: %d %.300q", a.who.Name, k.method, k.path, k.body, code, got)
	if found := leaks(strings.Replace(got, "Anna Berg", "", strings.Count(k.body, "Anna Berg")), slices.Concat(recorded, inRequests)); len(found) > 0 {
		b.t.Errorf("%q is given away to %s", found, at)
	}
	if strings.Contains(got, "AGE-SECRET-KEY") || strings.Contains(got, "PRIVATE+KEY") || strings.Contains(got, "data_dir =") {
		b.t.Errorf("a file is given away to %s", at)
	}
	hostile := strings.Contains(k.path, "..") || strings.Contains(k.path, "%") || strings.Contains(k.path, "//") || strings.Contains(k.path, "/./")
	switch {
	case a.role == 0 && code != http.StatusForbidden:
		b.t.Errorf("who is nobody is answered: %s", at)
	case !a.role.Has(may) && !hostile && code != http.StatusForbidden:
		b.t.Errorf("without the role: %s", at)
	case code == http.StatusOK && (hostile || strings.HasPrefix(route, "POST /v1/lookup") || strings.HasPrefix(route, "POST /v1/requests") || strings.HasPrefix(route, "GET /v1/lookup")):
		b.t.Errorf("it is answered: %s", at)
	case code >= 500 && code != http.StatusServiceUnavailable:
		b.t.Errorf("the agent failed: %s", at)
	}
}
