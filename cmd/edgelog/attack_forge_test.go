package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/office"
)

// aboutAnna is a question that finds something, and aboutBo another that does.
func aboutAnna() []string {
	return []string{"--from", hourAgo(), "--to", "now", "--address", "10.0.0.1"}
}

func aboutBo() []string {
	return []string{"--from", hourAgo(), "--to", "now", "--address", "10.0.0.2"}
}

// twoPeople is an agent with sessions of two.
func twoPeople(t *testing.T) *house {
	t.Helper()
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"), web(4001, "10.0.0.2"))
	return h
}

// newRequest files a request as an officer.
func (h *house) newRequest(p office.Person, kind string, args ...string) string {
	h.t.Helper()
	out := h.mustAs(p, append([]string{"request", "new", kind, "--reference", "case 7", "--authority", "Police", "--legal-basis", "law", "--recipient", h.office.Authority.Key}, args...)...)
	return strings.Fields(out)[1]
}

// refused demands that a command of a person fails, says why, and prints nothing.
func (h *house) refused(p office.Person, why string, args ...string) {
	h.t.Helper()
	before := h.readings()
	out, errs, code := h.as(p, append(args, "--identity", p.Identity)...)
	if code == 0 || out != "" || !strings.Contains(errs, why) {
		h.t.Errorf("%s: %q: %d, and not %q\n%s%s", p.Name, args, code, why, out, errs)
	}
	if n := h.readings() - before; n != 0 {
		h.t.Errorf("%s: %q: %d readings began", p.Name, args, n)
	}
}

// kept is a file of the requests.
func (h *house) kept(request, kind string) string {
	return filepath.Join(h.dir, "data", "requests", request+"."+kind)
}

func (h *house) copyFile(from, to string) {
	h.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestAnOldGrantThatIsPutBackReadsNothing(t *testing.T) {
	h := twoPeople(t)
	olga := h.office.Officer
	id := h.approved("lookup", aboutAnna()...)
	old := filepath.Join(h.dir, "old.grant")
	h.copyFile(h.kept(id, "grant"), old)
	demand(t, h.mustAs(olga, "lookup", "--request", id, "--identity", olga.Identity), "10.0.0.1:4001")
	for range 2 {
		h.copyFile(old, h.kept(id, "grant"))
		h.refused(olga, "request "+id+" is answered", "lookup", "--request", id)
		h.refused(olga, "request "+id+" is answered", "request", "run", id, "--out", filepath.Join(h.dir, "a"))
		h.stop()
		h.start()
	}
	if _, err := os.Stat(h.kept(id, "grant")); err == nil {
		t.Error("the old grant lies there still")
	}
	_, text := h.text(olga, number(t, id))
	body, err := json.Marshal(map[string]any{"act": "run", "request": number(t, id), "text": text})
	if err != nil {
		t.Fatal(err)
	}
	if code, got := h.knock(olga, knock{"POST", "/v1/lookup", string(body)}); code != 403 || !strings.Contains(got, "is answered, so it is not run") {
		t.Errorf("who has kept a copy of the grant elsewhere: %d %q", code, got)
	}
}

func TestAGrantOfAnotherRequestReadsNothing(t *testing.T) {
	h := twoPeople(t)
	olga := h.office.Officer
	early := append(aboutAnna(), "--to", minutesAgo(30)) // the same of another window, in which nothing was
	for _, c := range []struct {
		what   string
		of, to string
	}{
		{"of another address", h.approved("lookup", aboutBo()...), h.approved("lookup", aboutAnna()...)},
		{"of another window", h.approved("lookup", aboutAnna()...), h.approved("lookup", early...)},
	} {
		own := filepath.Join(h.dir, c.to)
		h.copyFile(h.kept(c.to, "grant"), own)
		h.copyFile(h.kept(c.of, "grant"), h.kept(c.to, "grant"))
		h.refused(olga, "requests cannot be dealt with now", "lookup", "--request", c.to)
		// An officer's own program does not take it either, even if it came from the agent.
		b, err := os.ReadFile(h.kept(c.of, "grant"))
		if err != nil {
			t.Fatal(err)
		}
		_, text := h.text(olga, number(t, c.of))
		if _, err := disclose.OpenGrant(b, h.keys(olga), number(t, c.of), text); err != nil {
			t.Errorf("%s: for its own request: %v", c.what, err)
		}
		h.copyFile(own, h.kept(c.to, "grant"))
		_, text = h.text(olga, number(t, c.to))
		if _, err := disclose.OpenGrant(b, h.keys(olga), number(t, c.to), text); !errors.Is(err, disclose.ErrGrant) {
			t.Errorf("%s: %v", c.what, err)
		}
		if _, err := disclose.OpenGrant(b, h.keys(h.office.Auditor), number(t, c.of), text); !errors.Is(err, disclose.ErrWrongIdentity) {
			t.Errorf("%s: with another key: %v", c.what, err)
		}
		h.mustAs(olga, "lookup", "--request", c.to, "--identity", olga.Identity)
	}
}

func TestAForgedRequestIsApprovedAndRunByNobody(t *testing.T) {
	h := twoPeople(t)
	olga, carl := h.office.Officer, h.office.Custodian
	filed, approved := h.newRequest(olga, "lookup", aboutAnna()...), h.approved("lookup", aboutAnna()...)
	for _, id := range []string{filed, approved} {
		r, _ := h.text(olga, number(t, id))
		for what, change := range map[string]func(*disclose.Request){
			"another address": func(r *disclose.Request) { r.Task.Query.Address = netip.MustParseAddr("10.0.0.2") },
			"a wider window":  func(r *disclose.Request) { r.Task.Query.From -= int64(time.Hour) },
			"more hits":       func(r *disclose.Request) { r.Task.MaxHits++ },
			"another key":     func(r *disclose.Request) { r.OfficerKey = carl.Key },
			"another officer": func(r *disclose.Request) { r.Officer = carl.Name },
			"another nonce":   func(r *disclose.Request) { r.Nonce = make([]byte, 32) },
		} {
			text := forged(t, r, change)
			for who, act := range map[*office.Person]string{&olga: "run", &carl: "approve"} {
				body, err := json.Marshal(map[string]any{"act": act, "request": number(t, id), "text": text})
				if err != nil {
					t.Fatal(err)
				}
				code, got := h.knock(*who, knock{"POST", "/v1/lookup", string(body)})
				if code != 403 || !strings.Contains(got, "is not request "+id+" as it was filed") {
					t.Errorf("%s, %s of request %s: %d %q", what, act, id, code, got)
				}
			}
			if _, err := disclose.RefuseRequest(t.Context(), h.client(carl), number(t, id), text, "x"); err == nil {
				t.Errorf("%s: it is refused", what)
			}
		}
		// The file that the custodian reads is put where it is by whoever is root: what he
		// reads must be what he approves.
		own := filepath.Join(h.dir, "own")
		h.copyFile(h.kept(id, "request"), own)
		sealed, err := vault.SealTo([]string{olga.Key, carl.Key}, forged(t, r, func(r *disclose.Request) { r.Task.Query.Address = netip.MustParseAddr("10.0.0.2") }))
		if err == nil {
			err = os.WriteFile(h.kept(id, "request"), sealed, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.refused(carl, "request "+id+" is not the one of which the ledger has the hash", "request", "approve", id, "--yes")
		h.refused(olga, "request "+id+" is not the one of which the ledger has the hash", "request", "run", id, "--out", filepath.Join(h.dir, "a"))
		h.copyFile(own, h.kept(id, "request"))
	}
	demand(t, h.mustAs(carl, "request", "approve", filed, "--yes", "--identity", carl.Identity), "is approved")
	h.mustAs(olga, "lookup", "--request", approved, "--identity", olga.Identity)
}

func TestWhoFilesARequestIsWhomTheKernelNames(t *testing.T) {
	h := twoPeople(t)
	olga, carl := h.office.Officer, h.office.Custodian
	id := h.newRequest(olga, "lookup", aboutAnna()...)
	r, _ := h.text(olga, number(t, id))
	r.Officer, r.OfficerKey, r.Filed, r.Nonce = carl.Name, carl.Key, time.Unix(0, 0).UTC(), make([]byte, 32)
	f, err := disclose.FileRequest(t.Context(), h.client(olga), r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := disclose.ParseRequest(f.Text)
	if err != nil || got.Officer != olga.Name || got.OfficerKey != olga.Key || time.Since(got.Filed) > time.Hour || string(got.Nonce) == string(r.Nonce) {
		t.Errorf("%v, %+v", err, got)
	}
	h.refused(carl, "was filed by another person", "request", "withdraw", fmt.Sprint(f.Case.ID), "--reason", "x")
}

// becomes has a person of the configuration be another one from now on.
func (h *house) becomes(p office.Person, name, role string) {
	h.t.Helper()
	h.edit(func(text string) string {
		at := strings.Index(text, fmt.Sprintf("uid = %d\n", p.UID))
		at = strings.LastIndex(text[:at], "[[person]]")
		section, rest := text[at:], ""
		if next := strings.Index(section[1:], "[[person]]"); next > 0 {
			section, rest = section[:next+1], section[next+1:]
		}
		section = strings.NewReplacer(fmt.Sprintf("name = %q", p.Name), fmt.Sprintf("name = %q", name), `roles = ["officer"]`, fmt.Sprintf("roles = [%q]", role)).Replace(section)
		return text[:at] + section + rest
	})
	h.reload()
}

func TestNobodyApprovesHisOwnRequestWhateverHeBecomes(t *testing.T) {
	for what, name := range map[string]string{"a custodian": "Olga Officer", "a custodian of another name": "Olga Holm"} {
		t.Run(what, func(t *testing.T) {
			h := twoPeople(t)
			olga, carl := h.office.Officer, h.office.Custodian
			id, approved := h.newRequest(olga, "lookup", aboutAnna()...), h.approved("lookup", aboutAnna()...)
			h.refused(olga, `that is for a person with the role "custodian"`, "request", "approve", id, "--yes")
			h.becomes(olga, name, "custodian")
			for _, args := range [][]string{{"request", "approve", id, "--yes"}, {"hold", "add", "--request", approved}} {
				out, errs, code := h.as(olga, append(args, "--identity", olga.Identity)...)
				if code == 0 || out != "" || !strings.Contains(errs, "who filed a request cannot") {
					t.Errorf("%q: %d %s%s", args, code, out, errs)
				}
			}
			h.refused(olga, `that is for a person with the role "officer"`, "lookup", "--request", approved)
			demand(t, h.mustAs(carl, "request", "approve", id, "--yes", "--identity", carl.Identity), "is approved")
		})
	}
}

func TestTwoNamesOfOnePersonAreNoConfiguration(t *testing.T) {
	h := twoPeople(t)
	olga, carl := h.office.Officer, h.office.Custodian
	good, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	fresh := h.stranger("Otto", 61010)
	person := func(name string, uid uint32, key string) string {
		return fmt.Sprintf("\n[[person]]\nname = %q\nuid = %d\nroles = [\"custodian\"]\nkey = %q\nclearance_until = 2999-12-31\n", name, uid, key)
	}
	for what, c := range map[string]struct{ add, want string }{
		"one uid":  {person("Otto", olga.UID, fresh.Key), "uid"},
		"one key":  {person("Otto", fresh.UID, olga.Key), "key"},
		"one name": {person(olga.Name, fresh.UID, fresh.Key), "name"},
	} {
		if err := os.WriteFile(h.config, append(good[:len(good):len(good)], c.add...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(h.config); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "person") {
			t.Errorf("%s: %v", what, err)
		}
		_, errs, code := h.process(office.Person{}, false, "agent", "--config", h.config) // it changes the umask
		if code == 0 || !strings.Contains(errs, "person[") {
			t.Errorf("%s: an agent starts: %d %s", what, code, errs)
		}
	}
	h.refused(carl, "there is no request of that number", "request", "approve", "0", "--yes")
}

func TestAnOpenReadingIsItsReadersAlone(t *testing.T) {
	h := twoPeople(t)
	olga := h.office.Officer
	otto := h.hire("Otto Officer", "officer", 61010)
	id := h.approved("lookup", aboutAnna()...)
	reading := h.open(olga, "run", id)
	path := "/v1/lookup/" + reading.id
	outcome := knock{"POST", path + "/outcome", `{"records":1}`}
	for _, p := range []office.Person{otto, h.office.Custodian, h.office.Auditor} {
		for _, k := range []knock{{"GET", path + "/bindings", ""}, {"GET", path + "/sessions", ""}, {"GET", path + "/registers", ""}, {"POST", path + "/blocks", "[]"}, {"POST", path + "/hold", ""}, outcome} {
			if code, got := h.knock(p, k); code != 404 {
				t.Errorf("%s: %s %s: %d %q", p.Name, k.method, k.path, code, got)
			}
		}
	}
	if code, got := h.knock(olga, knock{"GET", path + "/everything", ""}); code != 200 || sealedFrames(got) != 0 {
		t.Errorf("all that is stored: %d, %d frames", code, sealedFrames(got))
	}
	if code, got := h.knock(olga, knock{"GET", path + "/sessions", ""}); code != 200 || sealedFrames(got) == 0 {
		t.Errorf("who it is of: %d %q", code, got)
	}
	if _, errs, code := h.as(olga, "lookup", "--request", id, "--identity", olga.Identity); code == 0 || !strings.Contains(errs, "is being run") {
		t.Errorf("twice at a time: %d %s", code, errs)
	}
	if code, got := h.knock(olga, outcome); code != 200 {
		t.Errorf("its outcome: %d %q", code, got)
	}
	if code, _ := h.knock(olga, knock{"GET", path + "/sessions", ""}); code != 404 {
		t.Errorf("after its outcome: %d", code)
	}
}
