package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// destroyed is an agent that has destroyed a day and a hold.
func destroyed(t *testing.T) (h *house, day, hold string, e *recorder.Expiry) {
	t.Helper()
	h = newHouse(t, sessionProfile...)
	old := web(4001, "10.0.0.1")
	old.Start, old.End = old.Start-int64(400*24*time.Hour), old.End-int64(400*24*time.Hour)
	day = time.Unix(0, old.End).UTC().Format(time.DateOnly)
	h.table.add(old, web(4002, "10.0.0.2"))
	if err := h.rec.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	carl := h.office.Custodian
	request := h.approved("lookup", "--from", hourAgo(), "--to", "now", "--address", "10.0.0.2")
	h.mustAs(carl, "hold", "--request", request, "--identity", carl.Identity, "add")
	var list recorder.HoldList
	out, _, _ := h.run("hold", "--config", h.config, "--json", "list")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Holds) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	hold = "hold " + jsonText(t, list.Holds[0].ID)
	h.mustAs(carl, "hold", "release", strings.TrimPrefix(hold, "hold "))
	h.must("expire")
	e = new(recorder.Expiry)
	out, _, _ = h.run("expire", "--config", h.config, "--dry-run", "--json")
	if err := json.Unmarshal([]byte(out), e); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return h, day, hold, e
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCertificatesOfDaysAndOfHoldsAreListedAndChecked(t *testing.T) {
	h, day, hold, e := destroyed(t)
	out, errs, code := h.run("expire", "--config", h.config, "--certificates")
	if code != 0 || errs != "" || strings.Contains(out, "NOT") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	for _, want := range []string{"\n" + day + "  ", "\n" + hold + "  "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	var list []certificate
	out, _, code = h.run("expire", "--config", h.config, "--certificates", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != 2 {
		t.Fatalf("%d %v\n%s", code, err, out)
	}
	for i, of := range []string{day, hold} {
		c := &list[i]
		if c.Of != of || c.Keys != 1 || c.Records != 1 || c.Blocks == 0 || c.Bytes == 0 || c.Entry == 0 || c.Ended.Before(c.Begun) || c.Gateway != "gw1" || c.Bad != "" {
			t.Errorf("%s: %+v", of, c)
		}
		out, errs, code := h.run("expire", "--verify", c.File, "--public-key", e.PublicKey)
		if code != 0 || !strings.HasPrefix(out, "good: "+of+" of gateway gw1 (Net)") || !strings.Contains(out, "1 records; ledger entry "+jsonText(t, c.Entry)+"\n") {
			t.Errorf("%d %s\n%s", code, errs, out)
		}
	}
}

func TestACertificateThatIsNotGoodMakesTheCommandFail(t *testing.T) {
	h, _, hold, e := destroyed(t)
	file := filepath.Join(e.Certificates, strings.Replace(hold, " ", "-", 1)+".note")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(b, []byte(`"sessions": 1`), []byte(`"sessions": 0`), 1)
	if bytes.Equal(forged, b) {
		t.Fatal("it does not say how many sessions")
	}
	if err := os.WriteFile(file, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--certificates"}, {"--certificates", "--json"}} {
		out, errs, code := h.run(append([]string{"expire", "--config", h.config}, args...)...)
		if code != exitFailure || !strings.Contains(errs, "1 of 2 certificates are not good") || !strings.Contains(out, file) {
			t.Errorf("%q: %d %s\n%s", args, code, errs, out)
		}
	}
	if out, errs, code := h.run("expire", "--verify", file, "--public-key", e.PublicKey); code != exitFailure || strings.Contains(out, "good") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
}

func TestADestructionThatIsNotFinishedIsSaidToBeThat(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"2024-01-01.begun": `{"day":"2024-01-01","begun":"2025-01-02T00:00:30Z","ended":"0001-01-01T00:00:00Z","keys":[{"epoch":1}],"records":5}`,
		"hold-31.begun":    `{"hold":{"id":31,"sessions":2,"bindings":1},"begun":"2025-01-02T00:00:31Z","key_sha256":"ab"}`,
		"clock":            "2025-01-02T00:00:00Z\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	e := &recorder.Expiry{Certificates: dir}
	if err := listCertificates(&b, e, false); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"\n2024-01-01  begun 2025-01-02T00:00:30.000Z, NOT FINISHED  1     5        " + dir,
		"\nhold 31     begun 2025-01-02T00:00:31.000Z, NOT FINISHED  1     3        " + dir,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 3 {
		t.Errorf("%d lines\n%s", n, b.String())
	}
	if err := os.WriteFile(filepath.Join(dir, "2024-01-02.begun"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := listCertificates(&b, e, false); err == nil || !strings.Contains(err.Error(), "1 of 3") {
		t.Errorf("a draft that is noise: %v", err)
	}
	e.Certificates = filepath.Join(dir, "none")
	if err := listCertificates(&b, e, false); err == nil {
		t.Error("a directory that cannot be read has no certificates")
	}
}
