package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/records"
	"github.com/edgelog/edgelog/pkg/session"
)

// write makes a file of the house.
func (h *house) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *house) importFile(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.run(append([]string{"import", "--config", h.config}, args...)...)
}

// minutesAgo is a time in a file.
func minutesAgo(n int) string {
	return time.Now().Add(-time.Duration(n) * time.Minute).UTC().Format(time.RFC3339)
}

// formats asks about a number in the other formats, and verifies all.
func (h *house) formats(window []string) {
	h.t.Helper()
	out, errs, code := h.ask("communications", append([]string{"--number", "112", "--format", "json"}, window...)...)
	var first struct {
		To []string `json:"to"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &first); code != 0 || err != nil || first.To[0] != "+4687654321" {
		h.t.Errorf("%d %s%s", code, out, errs)
	}
	if out, errs, code = h.ask("communications", append([]string{"--number", "112", "--format", "csv"}, window...)...); code != 0 || !strings.Contains(out, "'+4687654321") || !strings.Contains(errs, "ledger: intent") {
		h.t.Errorf("%d %s%s", code, out, errs)
	}
	if out, errs, code := h.as(h.office.Custodian, "verify", "--identity", h.office.Custodian.Identity); code != 0 || !strings.Contains(out, "4 communications") {
		h.t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestImportedCallsAndMailAreReadByWhoeverHasTheKey(t *testing.T) {
	h := newHouse(t)
	people := h.write("people.csv", "id,name,address,valid_from\n4711,Anna Berg,Gade 1,2020-01-01\n")
	if _, errs, code := h.run("subscribers", "--config", h.config, "import", people); code != 0 {
		t.Fatal(errs)
	}
	calls := h.write("calls.csv", "start;end;service;from;to;forwarded;subscriber;imei;delivered\n"+
		minutesAgo(20)+";"+minutesAgo(18)+";voice;12 34 56 78;+4687654321;\"112;11223344\";4711;35-123456-789012-3;yes\n"+
		minutesAgo(10)+";;sms;DSB;12345678;;4711;;no\n")
	mail := h.write("mail.csv", "start,end,from,to,user\n"+minutesAgo(5)+",,Anna@Example.NET,\"b@example.net;c@example.net\",anna-login\n")
	if out, errs, code := h.importFile("--dry-run", "--country", "45", "calls", calls); code != 0 || !strings.Contains(out, "2 records, ") || !strings.Contains(out, "nothing was imported") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"done: 2 records sealed\n", []string{"calls", calls, "--country", "+45"}}, {"done: 1 record sealed\n", []string{"mail", mail}},
		{"was imported at 20", []string{"calls", calls, "--country", "45"}}, {"done: 1 record sealed\n", []string{"--again", "mail", mail}},
	} {
		if out, errs, code := h.importFile(c.args...); code != 0 || !strings.Contains(out, c.want) {
			t.Fatalf("%v: %d %s%s", c.args, code, out, errs)
		}
	}
	window := []string{"--from", minutesAgo(60), "--to", "now"}
	for _, c := range []struct {
		ask  []string
		want []string
	}{
		{[]string{"--number", "12345678", "--number-country", "45"}, []string{"call voice", "from       +4512345678", "to         +4687654321", "forwarded  112, +4511223344", "imei       351234567890123",
			"delivered  yes", "call sms", "from       DSB", "4711 is Anna Berg, Gade 1", "2 communications in"}},
		{[]string{"--number", "112"}, []string{"1 communication in"}},
		{[]string{"--equipment", "35123456789012"}, []string{"1 communication in"}},
		{[]string{"--subscriber", "4711"}, []string{"2 communications in"}},
		{[]string{"--subscriber", "anna-login"}, []string{"from       Anna@example.net", "1 communication in"}},
		{[]string{"--mail", "c@EXAMPLE.net"}, []string{"mail\n", "to         b@example.net, c@example.net", "1 communication in"}}, // imported twice
		{[]string{"--mail", "12345678@example.net"}, []string{"0 communications in"}},
	} {
		out, errs, code := h.ask("communications", append(slices.Clone(window), c.ask...)...)
		for _, want := range c.want {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: %d %s: %q is not in\n%s", c.ask, code, errs, want, out)
			}
		}
	}
	h.formats(window)
	if out, _, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, "imports    2 calls, 2 mails since start") {
		t.Errorf("%d %s", code, out)
	}
}

func TestABadFileIsNotImportedAndItsBadLinesCanBeLeftOut(t *testing.T) {
	h := newHouse(t)
	lines := []string{"start,end,from,to"}
	for i := range 30 {
		lines = append(lines, minutesAgo(30)+",,+4512345678,hemmelig"+fmt.Sprint(i))
		lines = append(lines, fmt.Sprintf("%s,,+4512345678,+45%08d", minutesAgo(30), 20000000+i))
	}
	file := h.write("calls.csv", strings.Join(lines, "\n")+"\n")
	out, errs, code := h.importFile("calls", file)
	if code != exitFailure || out != "" || !strings.Contains(errs, "line 2, to: it is not a telephone number") || !strings.Contains(errs, "line 40, to") || strings.Contains(errs, "line 42,") ||
		!strings.Contains(errs, "and 10 more that are bad") || !strings.Contains(errs, "30 lines of 60 are bad") || !strings.Contains(errs, "--reject") || strings.Contains(errs, "hemmelig") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if n := h.rec.Status().Imports; n.Calls != 0 || !n.Last.IsZero() {
		t.Errorf("%+v", n)
	}
	other := filepath.Join(h.dir, "bad.csv")
	if out, errs, code = h.importFile("calls", file, "--reject", other); code != 0 || !strings.Contains(out, "done: 30 records sealed, 30 bad ones written to ") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	text, err := os.ReadFile(other)
	if want := lines[0] + "\n" + lines[1] + "\n" + lines[3] + "\n"; err != nil || !strings.HasPrefix(string(text), want) || strings.Count(string(text), "\n") != 31 {
		t.Errorf("%v, %s", err, text)
	}
	if _, errs, code = h.importFile("calls", file, "--reject", other); code != exitFailure || !strings.Contains(errs, "not there yet") {
		t.Errorf("over a file: %d %s", code, errs)
	}
	again := filepath.Join(h.dir, "again.csv")
	if out, errs, code = h.importFile("calls", file, "--reject", again); code != 0 || !strings.Contains(out, "nothing was done") || !strings.Contains(out, "30 bad ones written to "+again) {
		t.Errorf("imported before: %d %s%s", code, out, errs)
	}
	bad, left := h.write("bad-ones.csv", lines[0]+"\n"+lines[1]+"\n"), filepath.Join(h.dir, "left.csv")
	if _, errs, code = h.importFile("calls", bad, "--reject", left); code != exitFailure || !strings.Contains(errs, "it has no good line") {
		t.Errorf("%d %s", code, errs)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("nothing was imported, and the bad lines are left behind")
	}
	good := h.write("good.csv", "start,end,from,to\n"+minutesAgo(3)+",,,112\n")
	none := filepath.Join(h.dir, "none.csv")
	if _, errs, code = h.importFile("calls", good, "--reject", none); code != 0 {
		t.Errorf("%d %s", code, errs)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a file of no bad lines was made")
	}
	old := h.write("old.csv", "start,end,from,to\n2019-03-01T10:00:00Z,,,112\n"+minutesAgo(4)+",,,112\n")
	if out, errs, code = h.importFile("calls", old); code != 0 || !strings.Contains(out, "done: 1 record sealed, 1 left out: their time is over") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestImportRefusesWhatCannotBeImported(t *testing.T) {
	h := newHouse(t)
	empty, half := h.write("empty.csv", ""), h.write("half.csv", "start,end,from\n")
	names, national := h.write("names.csv", "start,end,from,to\n"), h.write("national.csv", "start,end,from,to\n"+minutesAgo(3)+",,,12345678\n")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "name what to import"},
		{"calls", exitUsage, "name what to import"},
		{"letters " + empty, exitUsage, "name what to import"},
		{"calls " + empty + " " + half, exitUsage, "name what to import"},
		{"--country x calls " + empty, exitUsage, "is not a country code"},
		{"--trunk 0 calls " + empty, exitUsage, "--country is missing"},
		{"--short 9 calls " + empty, exitUsage, "is not 1 to 6"},
		{"--country 45 mail " + empty, exitUsage, "mail has none"},
		{"calls " + empty, exitFailure, "it is empty"},
		{"calls " + half, exitFailure, `column "to" is missing`},
		{"calls " + names, exitFailure, "it has no good line"},
		{"calls " + national, exitFailure, "no country code was given"},
		{"calls " + filepath.Join(h.dir, "nowhere.csv"), exitFailure, "no such file"},
		{"calls " + h.dir, exitFailure, "it is not a file that can be read twice"},
	} {
		if _, errs, code := h.importFile(strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", c.args, code, errs)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"--number 12345678", "no country code was given"},
		{"--number 12345678 --number-country DK", "--number-country \"DK\" is not a country code; write it as 45"},
		{"--number x@", "is not a mail address"},
		{"--mail x", "is not a mail address"},
		{"--equipment 02:00:00:00:00:01", "not an IMEI or IMSI"},
		{"--number 112 --mail a@b", "more than one identifier"},
		{"", "no identifier is given"},
	} {
		args := append([]string{"--from", minutesAgo(60), "--to", "now"}, strings.Fields(c.args)...)
		if _, errs, code := h.ask("communications", args...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", c.args, code, errs)
		}
	}
}

func TestAFileThatChangesWhileItIsReadIsNotImported(t *testing.T) {
	h := newHouse(t)
	file := h.write("calls.csv", "start,end,from,to\n"+minutesAgo(3)+",,,112\n")
	out, errs, code := h.importFile("calls", file, "--socket", filepath.Join(h.dir, "nobody"))
	if code != exitFailure || !strings.Contains(errs, "it is not running") {
		t.Errorf("without an agent: %d %s%s", code, out, errs)
	}
	var found checked
	o := recordsOptions()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if err := eachRecord(f, o, &found, keepNone, nil); err != nil || found.good != 1 {
		t.Fatal(err)
	}
	h.write("calls.csv", "start,end,from,to\n"+minutesAgo(3)+",,,113\n")
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	var sent strings.Builder
	if err := writeRecords(&sent, f, o, found); !errors.Is(err, errChanged) {
		t.Errorf("%v, %s", err, sent.String())
	}
}

func recordsOptions() records.Options {
	return records.Options{Kind: session.Call, Now: time.Now()}
}

func keepNone(*session.Communication) error { return nil }
