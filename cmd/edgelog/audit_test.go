package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
)

// audit runs "edgelog audit" over the agent's socket and demands an exit code.
func (h *house) audit(want int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	return h.auditOf(want, append(args, "--config", h.config)...)
}

// auditOf runs "edgelog audit" and demands an exit code.
func (h *house) auditOf(want int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	out, errs, code := h.run(append([]string{"audit"}, args...)...)
	if code != want {
		h.t.Fatalf("audit %q ended with %d, want %d\n%s%s", args, code, want, out, errs)
	}
	return out, errs
}

func demand(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// askedAbout has a question asked, so that the ledger has an intent and an outcome.
func (h *house) askedAbout(address string) {
	h.t.Helper()
	h.table.add(web(4001, address))
	if _, errs, code := h.lookup("--address", address); code != 0 {
		h.t.Fatalf("%d %s", code, errs)
	}
}

func TestAnAuditorReadsTheRunningAgentsLedger(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.askedAbout("10.0.0.1")
	key := filepath.Join(h.dir, "custodians", "anna.key")
	out, _ := h.audit(0, "verify")
	demand(t, out, "ledger     edgelog/gw1: 7 entries", "a second; signature, tree and tiles agree", "as the agent itself gave it", "all is well")

	out, _ = h.audit(0, "list")
	demand(t, out, "start ", "request ", "intent ", "outcome ", "act=approve action=lookup", "act=run action=lookup", "| sealed, ")
	if strings.Contains(out, "10.0.0.1") {
		t.Errorf("it names an address without a key\n%s", out)
	}
	out, _ = h.audit(0, "list", "--kind", "intent", "--identity", key, "--json")
	for d, i := json.NewDecoder(strings.NewReader(out)), 0; ; i++ {
		var entry struct {
			Index  int64                `json:"index"`
			Opened disclose.Accountable `json:"opened"`
		}
		err := d.Decode(&entry)
		if i == 2 && errors.Is(err, io.EOF) {
			break
		}
		who := []string{h.office.Custodian.Name, h.office.Officer.Name}
		if err != nil || i == 2 || entry.Index != []int64{2, 5}[i] || entry.Opened.Identifier != "10.0.0.1" || entry.Opened.Person != who[i] {
			t.Fatalf("%v, %+v\n%s", err, entry, out)
		}
	}
	out, _ = h.audit(0, "list", "--from", "2020-01-01T00:00:00Z", "--to", "2021-01-01T00:00:00Z")
	if out != "" {
		t.Errorf("entries of another time:\n%s", out)
	}
	out, _ = h.audit(0, "key")
	if public := strings.TrimSpace(out); public != h.rec.Ledger().VerifierKey() {
		t.Errorf("the key is %q", out)
	}
}

func TestAProofIsCheckedWithoutTheLedger(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.askedAbout("10.0.0.1")
	key := h.rec.Ledger().VerifierKey()
	file := filepath.Join(h.dir, "proof.json")
	h.audit(0, "prove", "5", "--out", file)
	out, _ := h.auditOf(0, "check-proof", file, "--public-key", key)
	demand(t, out, "good: entry 5 of the ledger edgelog/gw1, which had 7 entries then", "intent", "act=run action=lookup")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), `"index": 5`, `"index": 6`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs := h.auditOf(1, "check-proof", file, "--public-key", key)
	demand(t, errs, "it is not proven that this entry is in the ledger")
	_, errs = h.audit(1, "prove", "17")
	demand(t, errs, "no such entries", "the ledger has 7")
}

func TestACopyIsVerifiedOnAnyMachine(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.askedAbout("10.0.0.1")
	key := filepath.Join(h.dir, "gw1.pub")
	out, _ := h.audit(0, "key")
	if err := os.WriteFile(key, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"copy", "copy.tar"} {
		to := filepath.Join(h.dir, name)
		out, _ := h.audit(0, "export", "--out", to)
		demand(t, out, "7 entries, verified", "edgelog audit verify --ledger")
		out, _ = h.auditOf(0, "verify", "--ledger", to, "--public-key", key)
		demand(t, out, "7 entries", "as you gave it", "all is well")
		out, _ = h.auditOf(0, "list", "--ledger", to, "--public-key", key, "--kind", "start")
		demand(t, out, "gateway=gw1")
		_, errs := h.audit(1, "export", "--out", to)
		demand(t, errs, to)
	}
	_, errs := h.auditOf(2, "verify", "--ledger", filepath.Join(h.dir, "copy"))
	demand(t, errs, "--public-key is missing")
	tar := filepath.Join(h.dir, "copy.tar")
	b, err := os.ReadFile(tar)
	if err != nil {
		t.Fatal(err)
	}
	b[strings.Index(string(b), `"kind":"intent"`)+9] ^= 1
	if err := os.WriteFile(tar, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs = h.auditOf(1, "verify", "--ledger", tar, "--public-key", key)
	demand(t, out, "NOT GOOD   1 fault")
	demand(t, errs, "tile/entries/000.p/7, entry 2: it is not the entry that was signed", "keep it as it is")
}

func TestTheLedgerIsComparedWithCheckpointsThatWereKeptElsewhere(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	kept := filepath.Join(h.dir, "kept")
	_, errs := h.audit(0, "witness", "--to", "file:"+kept)
	demand(t, errs, "the checkpoint of 1 entry was sent; ledger entry 1")
	letter, _ := h.audit(0, "witness", "--mail")
	m, err := mail.ReadMessage(strings.NewReader(letter))
	if err != nil || m.Header.Get("Subject") != "checkpoint of the ledger edgelog/gw1: 2 entries" {
		t.Errorf("%v\n%s", err, letter)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	box := filepath.Join(h.dir, "mailbox")
	if err := os.WriteFile(box, []byte("From x\n"+letter+"\nFrom y\n"+letter), 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(h.dir, "old")
	h.audit(0, "export", "--out", old)
	h.askedAbout("10.0.0.1")
	out, _ := h.audit(0, "verify", "--against", kept, "--against", box)
	demand(t, out, "kept: the ledger goes on from 1 checkpoint", "mailbox: the ledger goes on from 2 checkpoints", "all is well")
	note, _ := h.audit(0, "witness")
	later := filepath.Join(h.dir, "later")
	if err := os.WriteFile(later, []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	key := h.rec.Ledger().VerifierKey()
	out, errs = h.auditOf(1, "verify", "--ledger", old, "--public-key", key, "--against", kept, "--against", later)
	demand(t, out, "kept: the ledger goes on from 1 checkpoint", "NOT GOOD   1 fault")
	demand(t, errs, "cut: it has 3 entries, and a checkpoint of 9 was signed: the last 6 were cut off, or an older copy of it was put back")
	out, _ = h.auditOf(1, "verify", "--ledger", old, "--public-key", key, "--against", later, "--json")
	var report auditReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Faults) != 1 || report.Against[0].Entries != 9 || report.Entries != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	_, errs = h.audit(1, "verify", "--against", h.config)
	demand(t, errs, "holds no checkpoint of the ledger")
	list, _ := h.audit(0, "list", "--kind", "witness")
	demand(t, list, "state=sent to=file", "state=sent to=mail", "state=sent to=print")
}

func TestAQuartersSampleIsPrintedWithAPlaceToTick(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	for range 3 {
		h.askedAbout("10.0.0.1")
	}
	now := time.Now().UTC()
	quarter := now.Format("2006") + "Q" + string(rune('1'+(now.Month()-1)/3))
	key := filepath.Join(h.dir, "custodians", "anna.key")
	out, _ := h.audit(0, "sample", "--quarter", quarter, "--percent", "50", "--identity", key)
	demand(t, out, "3 of 6 accesses chosen, at least 50 %", "[ ] yes [ ] no", "the sample may still change", "edgelog/gw1\n19\n")
	out, errs := h.audit(0, "sample", "--quarter", quarter, "--csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	demand(t, errs, "2 of 6 accesses chosen")
	again, _ := h.audit(0, "sample", "--quarter", quarter, "--csv")
	if again != out {
		t.Errorf("drawn again:\n%s\ninstead of\n%s", again, out)
	}
	for _, args := range [][]string{{"--quarter", "2026"}, {}, {"--quarter", quarter, "--percent", "0"}} {
		h.audit(2, append([]string{"sample"}, args...)...)
	}
}

func TestTheAgentsLedgerThatIsDamagedIsNamed(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.askedAbout("10.0.0.1")
	file := filepath.Join(h.dir, "data", "ledger", "tile", "0", "000.p", "7")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs := h.audit(1, "verify")
	demand(t, errs, "tile/0/000.p/7, entry 1: the hash kept for it is not its hash")
	_, errs = h.audit(1, "list")
	demand(t, errs, "do not give the signed root")
}

func TestALedgerOfManyKindsIsListedByKind(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(dir, ledger.Options{Origin: "edgelog/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range ledger.Kinds() {
		if _, err := l.Append(t.Context(), ledger.Entry{Kind: k, Fields: map[string]string{"text": "a\x1b[2Jb"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t}
	out, _ := h.auditOf(0, "list", "--ledger", dir, "--public-key", l.VerifierKey(), "--kind", "breach", "--kind", "request")
	if strings.Count(out, "\n") != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	_, errs := h.auditOf(2, "list", "--ledger", dir, "--public-key", l.VerifierKey(), "--kind", "gossip")
	demand(t, errs, "the kinds are breach clock-step")
	out, errs = h.auditOf(0, "witness", "--ledger", dir, "--public-key", l.VerifierKey())
	demand(t, errs, "of a copy")
	demand(t, out, "edgelog/x\n")
}
