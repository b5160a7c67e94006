package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// people are four persons who may stand beside each other; they begin in line 24
// of the good text with this behind it.
const people = `[[person]]
name = "Olga Officer"
uid = 4001
roles = ["officer", "operator"]
key = "age1olga"
clearance_until = 2026-06-30
[[person]]
name = "Carl Custodian"
account = "daemon"
roles = ["custodian"]
key = "age1carl"
clearance_until = 2026-06-30
[[person]]
name = "Ada Åberg"
uid = 4003
roles = ["auditor"]
key = "age1ada"
[[person]]
name = "Otto Operator"
uid = 4004
roles = ["operator"]
[roles]
operator_groups = [4500, "daemon"]
auditor_groups = [4600]
[[contact]]
name = "Duty desk"
phone = "+45 12 34 56 78"
mail = "duty@example.net"
hours = "Mon-Fri 08:00-16:00"
[disclose]
approvals = 1
max_window = "31d"
max_hits = 10000
[agent]
socket_group = 4500
`

func parsePeople(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(good+text), "/etc/edgelog/edgelog.toml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPersonsAreReadAndCustodiansNeedNotBeListedTwice(t *testing.T) {
	c := parsePeople(t, people)
	day := time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	want := People{
		Persons: []Person{
			{Name: "Olga Officer", UID: 4001, Roles: Officer | Operator, Key: "age1olga", ClearanceUntil: day},
			{Name: "Carl Custodian", Account: "daemon", UID: 1, Roles: Custodian, Key: "age1carl", ClearanceUntil: day},
			{Name: "Ada Åberg", UID: 4003, Roles: Auditor, Key: "age1ada"},
			{Name: "Otto Operator", UID: 4004, Roles: Operator},
		},
		OperatorGroups: []Group{{GID: 4500}, {Name: "daemon", GID: 1}}, AuditorGroups: []Group{{GID: 4600}},
	}
	if d := cmp.Diff(want, c.People); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"age1qqq", "age1carl"}, c.Custodians.Recipients); d != "" {
		t.Error(d)
	}
	if c.Agent.SocketGroup != (Group{GID: 4500}) {
		t.Errorf("%+v", c.Agent)
	}
	both := parsePeople(t, strings.Replace(people, "age1carl", "age1qqq", 1))
	if d := cmp.Diff([]string{"age1qqq"}, both.Custodians.Recipients); d != "" {
		t.Errorf("a custodian's key that is listed too: %s", d)
	}
	alone, err := Parse([]byte(strings.Replace(good, `recipients = ["age1qqq"]`, "", 1)+people), "/c.toml")
	if err != nil || len(alone.Custodians.Recipients) != 1 {
		t.Errorf("a person alone is no custodian: %v", err)
	}
	if d := Default().Disclose; c.Disclose != d || d.MaxWindow != 31*24*time.Hour || d.MaxHits != 10000 || d.Grant != 72*time.Hour || d.File != 14*24*time.Hour {
		t.Errorf("%+v", c.Disclose)
	}
}

// Each case spoils the good persons in one place, and has one whole sentence for it;
// of long ones the beginning.
var personProblems = []struct{ name, old, new, want string }{
	{"officer and custodian", `"officer", "operator"`, `"officer", "custodian"`,
		`line 27: person[1].roles has officer and custodian: who asks would approve it; four eyes are two persons: leave one of the roles to somebody else`},
	{"officer and auditor", `"officer", "operator"`, `"officer", "auditor"`,
		`line 27: person[1].roles has auditor beside officer: an auditor would look at their own work; leave one of the roles to somebody else`},
	{"custodian and auditor", `["custodian"]`, `["auditor", "custodian"]`,
		`line 33: person[2].roles has auditor beside custodian: an auditor would look at their own work; leave one of the roles to somebody else`},
	{"root as an officer", `uid = 4001`, `uid = 0`, `line 27: person[1].roles gives root officer; root is whoever runs this machine: give the person a user of their own`},
	{"root by its name", `account = "daemon"`, `account = "root"`, `line 33: person[2].roles gives root custodian; root is whoever runs this machine: give the person a user of their own`},
	{"the same uid", `uid = 4001`, `uid = 4003`, `line 38: person[3].uid is uid 4003, as that of person[1] "Olga Officer": two names of the same person; give each person one section, and a user of their own`},
	{"the same uid under a user name", `uid = 4001`, `uid = 1`, `line 32: person[2].account is uid 1, as that of person[1] "Olga Officer": two names of the same person; give each person one section, and a user of their own`},
	{"the same key", `age1carl`, `age1olga`, `line 34: person[2].key is that of person[1] "Olga Officer": two names of the same person; give each person one section, and a key of their own`},
	{"the same key with a space", `age1ada`, ` age1olga`, `line 40: person[3].key is that of person[1] "Olga Officer": two names of the same person; give each person one section, and a key of their own`},
	{"the same name in other letters", `Carl Custodian`, `OLGA  officer`, `line 31: person[2].name "OLGA  officer" is the name of person[1] "Olga Officer", however it is written; give each person one section, and two persons names that tell them apart`},
	{"the same name with its ring apart", `Carl Custodian`, "ada A\u030aberg", `line 37: person[3].name`},
	{"the same name in full width", `Carl Custodian`, `Ｏｌｇａ Officer`, `line 31: person[2].name`},
	{"the same name with a filler", `Carl Custodian`, "Olga\u3164 Officer", `line 31: person[2].name`},
	{"a name with a sign that does not show", `Carl Custodian`, "Olga\u200b Officer", `line 31: person[2].name must be at most 64 bytes of letters, digits, signs and single spaces; shorten it, or write it in one line`},
	{"an officer with a custodian's key", `age1olga`, `age1qqq`, `line 28: person[1].key is also in custodians.recipients: this person could open everything alone; take it out there, or give the person another key`},
	{"an officer without a key", `key = "age1olga"`, ``, `line 24: person[1].key is missing; give the person's public key, key = "age1…"; "age-keygen" makes one`},
	{"an operator with a key", "uid = 4004", "uid = 4004\nkey = \"age1o\"", `line 44: person[4].key is of no use: an operator opens nothing; take it out`},
	{"a private key", `age1carl`, `AGE-SECRET-KEY-1ABC`, `line 34: person[2].key holds a private key; only public keys, age1…, may be on the gateway: take it out, and treat that key as exposed`},
	{"an officer without a clearance", `clearance_until = 2026-06-30`, ``, `line 24: person[1].clearance_until is missing: an officer or custodian has a security clearance (BEK 1144/2006); give its last day, for example clearance_until = 2027-06-30`},
	{"a clearance as a text", `2026-06-30`, `"2026-06-30"`, `line 29: person[1].clearance_until must be a day, not the text "2026-06-30"; write it without quotes and time, for example 2027-06-30`},
	{"a clearance with a time", `2026-06-30`, `2026-06-30T12:00:00Z`, `line 29: person[1].clearance_until must be a day, not a date; write it without quotes and time, for example 2027-06-30`},
	{"an operator with a clearance", "uid = 4004", "uid = 4004\nclearance_until = 2026-01-01", `line 44: person[4].clearance_until is only looked at for officers and custodians; take it out`},
	{"a role that is none", `["auditor"]`, `["inspector"]`, `line 39: person[3].roles "inspector" is not known; use operator, officer, custodian, auditor`},
	{"no role", `roles = ["auditor"]`, `roles = []`, `line 39: person[3].roles is missing: this person may do nothing; give for example roles = ["officer"]`},
	{"neither user nor uid", `uid = 4003`, ``, `line 36: person[3].account or uid is needed, and only one of them; give the person's user name on this machine, for example account = "anna"`},
	{"both", `uid = 4003`, "uid = 4003\naccount = \"daemon\"", `line 39: person[3].account or uid is needed, and only one of them; give the person's user name on this machine, for example account = "anna"`},
	{"a user that is none", `"daemon"`, `"no-such-user"`, `line 32: person[2].account "no-such-user" is no user of this machine; "adduser no-such-user" makes one; or give uid = NUMBER`},
	{"the uid of everybody else", `uid = 4003`, `uid = 65534`, `line 36: person[3].account is uid 65534, which the kernel gives for everybody whom it cannot name; give the person a user of their own`},
	{"a group that is none", `"daemon"]`, `"no-such-group"]`, `line 46: roles.operator_groups "no-such-group" is no group of this machine; "groupadd --system no-such-group" makes one; a number stands without quotes`},
	{"the group of root", `[4600]`, `[0]`, `line 47: roles.auditor_groups names the group of root, in which many programs run; make a group for this: groupadd --system edgelog`},
	{"a group twice", `[4500, "daemon"]`, `["daemon", 1]`, `line 46: roles.operator_groups names the group 1 twice; leave one of them out`},
	{"a contact without a number", "phone = \"+45 12 34 56 78\"\n", "", `line 48: contact[1].phone is missing; give the number that is answered at these hours, for example "+45 12 34 56 78"`},
	{"hours of no day", `Mon-Fri 08`, `Man-Fri 08`, `line 52: contact[1].hours "Man-Fri" are no days; they are Mon, Tue, Wed, Thu, Fri, Sat, Sun; write for example "00:00-24:00" or "Mon-Fri 08:00-16:00; Sat,Sun 10:00-14:00", in UTC`},
	{"a mail address that is none", `duty@example.net`, `duty`, `line 51: contact[1].mail "duty" is not a mail address; write for example "desk@example.net", or take the line out`},
	{"more approvals than custodians", `approvals = 1`, `approvals = 2`, `line 54: disclose.approvals is 2, and 1 persons are custodians: nothing could ever be approved; lower it, or add sections [[person]] with roles = ["custodian"]`},
	{"a window that is too long", `"31d"`, `"401d"`, `line 55: disclose.max_window is 401d; it must be from 1s to 400d`},
	{"a window that is no time", `"31d"`, `"31 days"`, `line 55: disclose.max_window must be a time, not the text "31 days"; write for example "31d" or "36h"`},
	{"more hits than an answer holds", `10000`, `200001`, `line 56: disclose.max_hits is 200001; it must be from 1 to 200000`},
	{"a country in words", "[disclose]", "[disclose]\ncountry = \"Danmark\"", `line 54: disclose.country "Danmark" is not two capital letters of ISO 3166-1; write for example "DK"`},
}

func TestWhatNamesTwicePersonsOrMixesRolesIsRefused(t *testing.T) {
	for _, tc := range personProblems {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(people, tc.old, tc.new, 1)
			if text == people {
				t.Fatalf("the good text does not hold %q", tc.old)
			}
			_, err := Parse([]byte(good+text), "/etc/edgelog/edgelog.toml")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			if len(e.Problems) != 1 {
				t.Errorf("one cause, %d sentences:\n%v", len(e.Problems), err)
			}
			if got := e.Problems[0].String(); got != tc.want && !strings.HasPrefix(got, tc.want+` "`) {
				t.Errorf("\nwant %s\n got %s", tc.want, got)
			}
		})
	}
}

func TestACallerHasTheRolesOfHisSectionElseOfHisGroups(t *testing.T) {
	p := parsePeople(t, people).People
	last := time.Date(2026, 6, 30, 23, 59, 59, 999_999_999, time.UTC)
	for _, tc := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		now      time.Time
		want     Caller
	}{
		{"root", 0, 0, nil, last, Caller{Roles: Operator}},
		{"root in the auditors' group", 0, 4600, nil, last, Caller{GID: 4600, Roles: Operator}},
		{"an officer on the last day", 4001, 4001, nil, last, Caller{Person: "Olga Officer", UID: 4001, GID: 4001, Roles: Officer | Operator, Key: "age1olga"}},
		{"an officer on the day after", 4001, 4001, nil, last.Add(1), Caller{Person: "Olga Officer", UID: 4001, GID: 4001, Roles: Operator, Key: "age1olga", Lapsed: true}},
		{"the same, by a clock in another zone", 4001, 4001, nil, last.In(time.FixedZone("", 12*3600)), Caller{Person: "Olga Officer", UID: 4001, GID: 4001, Roles: Officer | Operator, Key: "age1olga"}},
		{"a custodian on the day after, in the operators' group", 1, 1, nil, last.Add(1), Caller{Person: "Carl Custodian", UID: 1, GID: 1, Key: "age1carl", Lapsed: true}},
		{"an auditor has no clearance to lose", 4003, 4003, []uint32{4500}, last.AddDate(9, 0, 0), Caller{Person: "Ada Åberg", UID: 4003, GID: 4003, Roles: Auditor, Key: "age1ada"}},
		{"somebody in the operators' group", 5000, 4500, nil, last, Caller{UID: 5000, GID: 4500, Roles: Operator}},
		{"somebody in it besides", 5000, 5000, []uint32{7, 4500}, last, Caller{UID: 5000, GID: 5000, Roles: Operator}},
		{"somebody in the auditors' group", 5000, 5000, []uint32{4600}, last, Caller{UID: 5000, GID: 5000, Roles: Auditor}},
		{"somebody in both", 5000, 4600, []uint32{4500}, last, Caller{UID: 5000, GID: 4600, Roles: Operator}},
		{"a stranger", 5000, 5000, []uint32{0}, last, Caller{UID: 5000, GID: 5000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, p.Caller(tc.uid, tc.gid, tc.now, tc.groups...)); d != "" {
				t.Error(d)
			}
		})
	}
	if s := (Officer | Auditor).String() + "/" + Roles(0).String(); s != "officer, auditor/none" {
		t.Error(s)
	}
}

func TestWhatTheRosterLeavesUncoveredIsSaidOnceForEachGap(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hours []string
		want  []string
	}{
		{"nobody", nil, []string{"the whole week"}},
		{"around the clock", []string{"00:00-24:00"}, nil},
		{"office hours of two days", []string{"Mon,Tue 08:00-16:00"}, []string{"Mon 16:00 to Tue 08:00", "Tue 16:00 to Mon 08:00"}},
		{"two who take turns over midnight", []string{"08:00-20:00", "20:00-08:00"}, nil},
		{"a week that turns at its end", []string{"Sat-Thu 00:00-24:00", "Fri 00:00-23:59"}, []string{"Fri 23:59 to Sat 00:00"}},
		{"the night of Sunday belongs to Monday", []string{"Sun 22:00-06:00", "Mon 06:00-24:00; Tue-Sat 00:00-24:00; Sun 00:00-22:00"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var list []Contact
			for _, h := range tc.hours {
				list = append(list, Contact{Name: "x", Hours: h})
			}
			if d := cmp.Diff(tc.want, Uncovered(list)); d != "" {
				t.Error(d)
			}
		})
	}
	for _, hours := range []string{"", "8:00-16:00", "08:00", "08:00-08:00", "24:00-08:00", "08:00-25:00", "Mon 08:00-16:00 CET", "Mon- 08:00-16:00", ";"} {
		if _, err := weekOf(hours); err == nil {
			t.Errorf("%q passed", hours)
		}
	}
}

func TestDaysMayStandBeforeATime(t *testing.T) {
	for in, want := range map[string]time.Duration{"31d": 744 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute} {
		if got, err := parseDays(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "d", "-1d", "1d-1h", "1dd", "99999d", "1d999999h", "1.5d"} {
		if got, err := parseDays(in); err == nil {
			t.Errorf("%q gave %v", in, got)
		}
	}
}

func TestASampleWithPersonsParsesBackToThem(t *testing.T) {
	until := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	text, err := Sample(Values{
		Gateway: "gw1", Provider: "Net", DataDir: "/d", RunDir: "/r", Profile: "access", SecretFile: "s",
		Recipients: []Recipient{{"spare", "age1spare"}},
		Persons: []SamplePerson{
			{Name: `Olga "O"`, UID: 4001, Roles: []string{"officer"}, Key: "age1olga", Until: until},
			{Name: "Carl", Account: "daemon", Roles: []string{"custodian", "operator"}, Key: "age1carl", Until: until},
			{Name: "Otto", UID: 4004, Roles: []string{"operator"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, "/etc/edgelog.toml")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := []Person{
		{Name: `Olga "O"`, UID: 4001, Roles: Officer, Key: "age1olga", ClearanceUntil: until},
		{Name: "Carl", Account: "daemon", UID: 1, Roles: Custodian | Operator, Key: "age1carl", ClearanceUntil: until},
		{Name: "Otto", UID: 4004, Roles: Operator},
	}
	if d := cmp.Diff(want, c.People.Persons); d != "" {
		t.Error(d)
	}
	if c.Custodians.Minimum != 2 || len(c.Custodians.Recipients) != 2 || c.Disclose != Default().Disclose {
		t.Errorf("%+v, %+v", c.Custodians, c.Disclose)
	}
}
