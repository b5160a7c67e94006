package delivery

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/disclose"
)

// TestTheReadmeSaysHowToCheckByHand runs the commands of README.txt as they
// stand there, with the programs of Debian.
func TestTheReadmeSaysHowToCheckByHand(t *testing.T) {
	for _, p := range []string{"age", "unzip", "sha256sum", "openssl", "python3", "sh"} {
		program(t, p)
	}
	d := sessionsDesk(t)
	dir := t.TempDir()
	for name, b := range map[string][]byte{"FILE": d.sealed(), "KEYFILE": []byte(d.to.String() + "\n")} {
		d.ok(os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	sh := func(script string) (string, error) {
		cmd := exec.Command("sh", "-eu", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "KEY="+d.ledger.VerifierKey())
		b, err := cmd.CombinedOutput()
		return string(b), err
	}
	steps := commands(string(member(t, d.zip(), "README.txt")))
	if len(steps) != 5 {
		t.Fatalf("%d commands: %q", len(steps), steps)
	}
	out := make([]string, len(steps))
	for i, step := range steps[1:] { // the first is edgelog's own
		var err error
		if out[i], err = sh(step); err != nil {
			t.Fatalf("%s: %v\n%s", step, err, out[i])
		}
	}
	if n := strings.Count(out[1], ": OK\n"); n != 6 {
		t.Errorf("sha256sum -c:\n%s", out[1])
	}
	if sums := regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(out[2], -1); len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("the hash of the manifest:\n%s", out[2])
	}
	if !strings.Contains(out[3], "Verified Successfully") {
		t.Errorf("openssl:\n%s", out[3])
	}
	// The same steps find what was changed.
	d.ok(os.WriteFile(filepath.Join(dir, "sessions.csv"), []byte("start\r\n"), 0o600))
	if text, err := sh(steps[2]); err == nil || !strings.Contains(text, "sessions.csv: FAILED") {
		t.Errorf("a file that was changed: %v\n%s", err, text)
	}
	d.ok(os.WriteFile(filepath.Join(dir, signatureName), bytes.Replace(member(t, d.zip(), signatureName), []byte("json: "), []byte("json: 0"), 1), 0o600))
	if text, err := sh(steps[4]); err == nil {
		t.Errorf("a signature of something else: %s", text)
	}
}

// commands returns the indented paragraphs of a text.
func commands(text string) []string {
	var out []string
	open := false
	for line := range strings.Lines(text) {
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case ok && !strings.HasPrefix(code, " ") && !open:
			out, open = append(out, code), true
		case ok && open:
			out[len(out)-1] += code
		default:
			open = false
		}
	}
	return out
}

// readCSV has Python read a file.
func readCSV(t *testing.T, file string) [][]string {
	t.Helper()
	b, err := exec.Command(program(t, "python3"), "-c",
		`import csv,json,sys; print(json.dumps(list(csv.reader(open(sys.argv[1],encoding="utf-8",newline=""),strict=True))))`, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestPythonReadsTheCSV(t *testing.T) {
	for kind, d := range kinds(t) {
		b := member(t, d.zip(), kind+".csv")
		rows := readCSV(t, put(t, kind+".csv", b))
		if want := d.build().Manifest().Answer.Delivered; len(rows) != 1+want {
			t.Fatalf("%s: %d rows", kind, len(rows))
		}
		if bytes.Count(b, []byte("\r\n")) != len(rows) || bytes.ContainsAny(bytes.ReplaceAll(b, []byte("\r\n"), nil), "\r\n\x00\x07") {
			t.Errorf("%s: a line does not end as RFC 4180 has it, or a control character is there", kind)
		}
		for _, row := range rows {
			if len(row) != len(rows[0]) {
				t.Errorf("%s: %d cells below %d", kind, len(row), len(rows[0]))
			}
		}
	}
}

// TestASpreadsheetTakesNoTextForAFormula has LibreOffice open the CSV, calculate
// and write it again.
func TestASpreadsheetTakesNoTextForAFormula(t *testing.T) {
	office := program(t, "soffice")
	names := []string{
		"=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\r=1+1", "\"=1+1", " =1+1", "'=1+1", "'quoted", "|cmd", "%0", "＝1+1", "\u200b=1+1",
		`=HYPERLINK("http://x";"y")`, "+4512345678", "-5", "12", "Anna Ærø",
	}
	hits := sampleHits()[:1]
	var who []disclose.Name
	a := &disclose.Answer{Summary: sampleSummary(len(names))}
	for i, n := range names {
		h := hits[0]
		h.Subscriber, h.Stored = n, n
		h.Start += int64(i) * 1e6
		a.Hits = append(a.Hits, h)
		who = append(who, disclose.Name{Subscriber: n, Name: n, Address: n, To: 1 << 62})
	}
	a.Names = who
	d := newDesk(t, a, nil, nil)
	file := put(t, "sessions.csv", member(t, d.zip(), "sessions.csv"))
	got := throughOffice(t, office, file)
	want := readCSV(t, file)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("formulas were calculated (-want +got):\n%s", d)
	}
	control := throughOffice(t, office, put(t, "control.csv", []byte("a,b\r\n=1+1,'=1+1\r\n")))
	if d := cmp.Diff([][]string{{"a", "b"}, {"2", "'=1+1"}}, control); d != "" {
		t.Errorf("a formula without an apostrophe is not calculated, so this shows nothing:\n%s", d)
	}
	for i, n := range names {
		text := strings.TrimPrefix(want[i+1][10], "'")
		if plain := strings.NewReplacer("\t", "\ufffd", "\r", "\ufffd").Replace(n); text != plain {
			t.Errorf("%q is written as %q: without its apostrophe it is not the text", n, want[i+1][10])
		}
	}
}

// throughOffice has LibreOffice open a CSV, formulas allowed, and write it again.
func throughOffice(t *testing.T, office, file string) [][]string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(office, "-env:UserInstallation=file://"+filepath.Join(dir, "profile"), "--headless",
		"--infilter=CSV:44,34,76,1,,0,false,true,false,false,false,0,true", "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,true",
		"--outdir", dir, file)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return readCSV(t, filepath.Join(dir, filepath.Base(file)))
}

func TestTheJSONLinesAreObjects(t *testing.T) {
	for kind, d := range kinds(t) {
		n := 0
		for line := range bytes.Lines(member(t, d.zip(), kind+".jsonl")) {
			var o map[string]any
			if err := json.Unmarshal(line, &o); err != nil {
				t.Fatalf("%s: %v in %s", kind, err, line)
			}
			if o["subscriber"] == "anna" && o["register"].(map[string]any)["name"] != "Anna Ærø" {
				t.Errorf("%s: no name in %s", kind, line)
			}
			n++
		}
		if n != d.build().Manifest().Answer.Delivered {
			t.Errorf("%s: %d lines", kind, n)
		}
	}
}
