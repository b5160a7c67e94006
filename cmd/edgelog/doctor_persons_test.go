package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/tests/office"
)

func TestARequestMayAskForAsManyHitsAsAnAnswerHolds(t *testing.T) {
	if config.MostHits != disclose.MostHits {
		t.Errorf("%d, and an answer holds %d", config.MostHits, disclose.MostHits)
	}
}

// examined returns what doctor says of persons and the contact point on a day, and
// how many warnings that are.
func examined(t *testing.T, config string, day time.Time) (string, int) {
	t.Helper()
	var b bytes.Buffer
	d := &doctor{w: &b}
	d.checkConfig(config)
	if d.conf == nil {
		t.Fatal(b.String())
	}
	b.Reset()
	d.checkPersons(day)
	d.checkRoster()
	return b.String(), d.warned
}

func TestDoctorTellsOfClearancesApprovalsAndTheContactPoint(t *testing.T) {
	dir := t.TempDir()
	h := &house{t: t}
	if _, errs, code := h.run("init", "--dir", filepath.Join(dir, "gw"), "--gateway", "gw1", "--socket-group", "4700", "--clearance-until", "2026-06-30",
		"--person", "officer:olga:4001", "--person", "custodian:carl:4002", "--person", "auditor:ada:4003"); code != 0 {
		t.Fatal(errs)
	}
	path := filepath.Join(dir, "gw", "edgelog.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, add string
		day       time.Time
		warned    int
		want      []string
	}{
		{"far from its end", "[[contact]]\nname = \"Desk\"\nphone = \"+45 1\"\nhours = \"00:00-24:00\"\n", time.Date(2026, 5, 31, 0, 0, 0, 0, time.UTC), 0,
			[]string{"3 persons: 1 officers, 1 custodians, 1 auditors, 0 operators", "1 of 1 custodian", "1 contact, at all hours of the week"}},
		{"a month before its end", "", time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), 3,
			[]string{`person "olga"                the clearance ends with 2026-06-30, in 30 days`, `person "carl"`, "nobody is named, and a provider that records is reached at all hours"}},
		{"on the day after", "[[contact]]\nname = \"Desk\"\nphone = \"+45 1\"\nhours = \"Mon-Fri 08:00-16:00\"\n", time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), 5,
			[]string{"the clearance ended with 2026-06-30: no longer officer or custodian", "disclose.approvals is 1, and 0 custodians with a clearance that holds",
				"none with a clearance that holds: no request can be filed", "nobody answers Mon 16:00 to Tue 08:00, Tue 16:00 to Wed 08:00, Wed 16:00 to Thu 08:00 and 2 more times (UTC)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(string(text)+tc.add), 0o600); err != nil {
				t.Fatal(err)
			}
			got, warned := examined(t, path, tc.day)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in\n%s", want, got)
				}
			}
			if warned != tc.warned {
				t.Errorf("%d warnings, want %d:\n%s", warned, tc.warned, got)
			}
		})
	}
}

func TestDoctorTellsWhoDoesNotReachTheSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gw")
	h := &house{t: t}
	if _, errs, code := h.run("init", "--dir", dir, "--gateway", "gw1", "--person", "operator:dan:daemon"); code != 0 {
		t.Fatal(errs)
	}
	path := filepath.Join(dir, "edgelog.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{
		"":          `person "dan"                 does not reach the control socket: agent.socket_group is not set`,
		`"games"`:   "uid 1 is not in the socket's group, gid 60",
		`"daemon"`:  "",
		`"no such"`: `agent.socket_group "no such" is no group of this machine`,
	} {
		edited := string(text)
		if group != "" {
			edited = strings.Replace(edited, `# socket_group = "edgelog"`, "socket_group = "+group, 1)
		}
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		d := &doctor{w: &b}
		if d.checkConfig(path); d.conf != nil {
			d.checkPersons(time.Now())
		}
		if got := b.String(); want != "" && !strings.Contains(got, want) || want == "" && strings.Contains(got, "socket") {
			t.Errorf("%s: %q is not in\n%s", group, want, got)
		}
	}
}

func TestDoctorTellsWhoElseMayChangeTheConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gw")
	h := &house{t: t}
	if _, errs, code := h.run("init", "--dir", dir, "--gateway", "gw1"); code != 0 {
		t.Fatal(errs)
	}
	path := filepath.Join(dir, "edgelog.toml")
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	out, _, code := h.run("doctor", "--config", path)
	if want := "→ chmod go-w " + path; code == 0 || !strings.Contains(out, want) || !strings.Contains(out, "FAIL  ownership") {
		t.Errorf("%d, %q is not in\n%s", code, want, out)
	}
	_, errs, code := h.process(office.Person{}, false, "agent", "--config", path) // it changes the umask
	if want := "run: chmod go-w " + path; code == 0 || !strings.Contains(errs, want) {
		t.Errorf("the agent starts: %d %s", code, errs)
	}
}

func TestRootReadsNothingWhereThereArePersons(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root is the user of this test")
	}
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"))
	key := h.office.Custodian.Identity // root reads any file of this machine
	request := h.approved("lookup", "--from", hourAgo(), "--to", "now", "--address", "10.0.0.1")
	for want, args := range map[string][]string{
		"this needs the role officer or custodian or auditor, and uid 0 has only operator; the refusal is recorded": {"lookup", "--config", h.config,
			"--request", request, "--identity", h.office.Officer.Identity},
		"ask for the wrapped keys on":                                         {"keys", "rotate", "--config", h.config, "--identity", key},
		"refused: this needs the role custodian, and uid 0 has only operator": {"expire", "--config", h.config, "--clock-is-right"},
	} {
		out, errs, code := h.run(args...)
		if code != 1 || out != "" || !strings.Contains(errs, want) || !strings.Contains(errs, "uid 0 has only operator; the refusal is recorded") {
			t.Errorf("%s: %d %s%s", args[0], code, out, errs)
		}
	}
	if out, errs, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, "refused    3 requests for want of a role since start") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	e, err := h.rec.Ledger().Entries(t.Context(), 0, h.rec.Ledger().Size())
	refused := 0
	for i := range e {
		if e[i].Kind == ledger.Refused {
			refused++
		}
	}
	if err != nil || refused != 3 {
		t.Errorf("%v, %d refusals in the ledger", err, refused)
	}
}
