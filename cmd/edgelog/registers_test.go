package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
)

func (h *house) form(name string, more ...string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	text := "provider = \"Net\"\ncontact = \"dpo\"\ncircumstances = \"theft of a laptop\"\ndata = \"names\"\nmeasures = \"encrypted\"\n" + strings.Join(more, "\n")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *house) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.run(append(args, "--config", h.config)...)
	if code != 0 {
		h.t.Fatalf("%v: %d %s", args, code, errs)
	}
	return out
}

func TestABreachIsRegisteredNotifiedAndExported(t *testing.T) {
	h := newHouse(t)
	key := filepath.Join(h.dir, "custodians", "anna.key")
	if out := h.must("breach", "list"); out != "no breach is registered\n" {
		t.Error(out)
	}
	detected := "detected = \"" + time.Now().Add(-25*time.Hour).UTC().Format(time.RFC3339) + "\""
	out := h.must("breach", "add", "--file", h.form("first.toml", "notification = \"first\"", detected))
	if !strings.HasPrefix(out, "breach 1, first notification: ledger entry ") || !strings.Contains(out, "first notification OVERDUE by 60 min") && !strings.Contains(out, "OVERDUE by 61 min") {
		t.Error(out)
	}
	status := h.must("status")
	for _, want := range []string{"LOOK AT    1 notification OVERDUE: a breach of personal data was not notified in time", "breaches   1 not completely notified, 1 overdue\n"} {
		if !strings.Contains(status, want) {
			t.Errorf("%q is not in\n%s", want, status)
		}
	}
	list := h.must("breach", "list")
	if strings.Contains(list, "laptop") || strings.Contains(list, "dpo") || !strings.Contains(list, "OVERDUE") {
		t.Errorf("without a key:\n%s", list)
	}
	if list = h.must("breach", "list", "--identity", key); !strings.Contains(list, "theft of a laptop") {
		t.Errorf("with a key:\n%s", list)
	}
	var first disclose.BreachFacts
	sent := "sent = \"" + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) + "\""
	corrects := "corrects = " + strings.Fields(strings.Split(list, "\n")[1])[1]
	out = h.must("breach", "add", "--json", "--file", h.form("again.toml", "notification = \"first\"", "number = 1", corrects, detected, sent))
	if err := json.Unmarshal([]byte(out), &first); err != nil || first.State != disclose.BreachIncomplete {
		t.Errorf("%v\n%s", err, out)
	}
	form := h.must("breach", "form", "--number", "1", "--identity", key)
	for _, want := range []string{"notification = \"second\"\n", "number = 1\n", "corrects = 0\n", "sent = \"\"\n", "circumstances = \"theft of a laptop\"\n"} {
		if !strings.Contains(form, want) {
			t.Errorf("%q is not in\n%s", want, form)
		}
	}
	second := h.form("second.toml", "notification = \"second\"", "number = 1", detected, "summary = \"a car\"", "individuals = 12",
		"consequences = \"none\"", "mitigation = \"new keys\"", sent, "complete = true")
	if out = h.must("breach", "add", "--file", second); !strings.HasSuffix(out, "; complete\n") {
		t.Error(out)
	}
	if out = h.must("breach", "show", "1", "--identity", key); strings.Count(out, "theft of a laptop") != 3 {
		t.Error(out)
	}
	if out = h.must("breach", "export", "1", "--identity", key, "--format", "html"); !strings.HasPrefix(out, "<!DOCTYPE html>") {
		t.Error(out)
	}
	if status = h.must("status"); strings.Contains(status, "breach") {
		t.Errorf("all is done:\n%s", status)
	}
	if _, errs, code := h.run("breach", "show", "2", "--identity", key, "--config", h.config); code != 1 || !strings.Contains(errs, "there is no breach number 2") {
		t.Errorf("%d %s", code, errs)
	}
	_, errs, code := h.run("breach", "add", "--file", h.form("wrong.toml", "notification = \"first\"", "number = 1", "corrects = 99", detected), "--config", h.config)
	if code != 1 || !strings.Contains(errs, "the agent answered 400 Bad Request: the breach cannot be registered: entry 99 is no first notification of breach number 1") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestTheStatisticsOfThisYearAreMadeFromTheLedger(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"))
	if _, errs, code := h.lookup("--address", "10.0.0.1"); code != 0 {
		t.Fatal(errs)
	}
	early := []string{"--from", minutesAgo(180), "--to", minutesAgo(120)} // the agent did not run then
	if _, errs, code := h.ask("lookup", append(early, "--address", "10.0.0.7")...); code != 0 {
		t.Fatal(errs)
	}
	year := time.Now().UTC().Format("2006")
	out := h.must("report", "art10", "--year", year)
	if !strings.Contains(out, "information was given                      1    0") || !strings.Contains(out, "  nothing was recorded then                1    0") || !strings.Contains(out, "gw1, so far, until ") {
		t.Error(out)
	}
	var a disclose.Art10
	if err := json.Unmarshal([]byte(h.must("report", "art10", "--year", year, "--json")), &a); err != nil || a.Total.Given != 1 || a.Total.NotMet != 1 {
		t.Errorf("%v %+v", err, a)
	}
	if out = h.must("report", "art10", "--year", year, "--csv"); !strings.Contains(out, year+",given,sessions,1\n") {
		t.Error(out)
	}
	for _, never := range []string{"case 7", "10.0.0"} {
		if strings.Contains(out, never) {
			t.Errorf("%q is in\n%s", never, out)
		}
	}
}

func TestTheVolumeIsPrintedWithWhatIsBelowTheThreshold(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	rows := `{"hour":"2025-03-01T12:00:00Z","hours":1,"uplink":"eth9","direction":"in","k":20,"packets":123456,"sessions":789}
{"hour":"2025-03-01T12:00:00Z","hours":1,"uplink":"eth9","direction":"out","k":20,"below":true}
{"hour":"2025-03-01T13:00:00Z","hours":4,"uplink":"eth9","direction":"in","k":20,"packets":12,"sessions":21,"partial":true}
broken
`
	if err := os.WriteFile(filepath.Join(h.dir, "data", "volume", "2025-03.jsonl"), []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	window := []string{"report", "volume", "--from", "2025-03-01T12:00:00Z", "--to", "2025-03-02T00:00:00Z", "--config", h.config}
	out, errs, code := h.run(window...)
	want := `HOUR            HOURS  UPLINK  DIRECTION  PACKETS  SESSIONS  REMARK
2025-03-01T12Z  1      eth9    in         123456   789       
2025-03-01T12Z  1      eth9    out        -        <20       
2025-03-01T13Z  4      eth9    in         12       21        a part of the time is missing

3 rows of gw1; of an hour in which fewer than 20 sessions began no figures are kept; the running hour is not shown
`
	if out != want || errs != "edgelog: 2025-03.jsonl: 1 lines are not understood; they are left out\n" || code != 0 {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	if out, _, _ = h.run(append(window, "--csv")...); !strings.Contains(out, "2025-03-01T12:00:00Z,1,eth9,out,,<20,false\n") {
		t.Error(out)
	}
	var v recorder.VolumeReport
	out, _, _ = h.run(append(window, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil || len(v.Rows) != 3 || v.Rows[0].Packets != 123456 {
		t.Errorf("%v\n%s", err, out)
	}
	if out = h.must("report", "volume"); !strings.HasPrefix(out, "0 rows of gw1; ") {
		t.Error(out)
	}
}

func TestWithoutUplinksTheVolumeSaysThatThereIsNothing(t *testing.T) {
	h := newHouse(t)
	if out := h.must("report", "volume"); !strings.Contains(out, "\nprofile \"access\" begins no sessions, so no hour reaches the threshold\n") && !strings.Contains(out, "\nno uplink is configured") {
		t.Error(out)
	}
}
