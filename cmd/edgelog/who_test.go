package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhoNamesTheHolderAndAccessShowsTheRecord(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	if !h.account(h.secret(), logOn(subscriber, "10.0.0.1", time.Now().Add(-10*time.Minute))) {
		t.Fatal("the access server got no answer")
	}
	h.table.add(web(4001, "10.0.0.1"))
	moment := time.Now().Add(-30 * time.Second).UTC().Format(time.RFC3339)
	out, errs, code := h.ask("who", "10.0.0.1:4001", "--at", moment)
	if code != 0 || !strings.HasPrefix(out, "LIKELY: "+subscriber+": no log-off is known") || !strings.Contains(out, "tcp 10.0.0.1:4001 -> 192.0.2.9:443") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	out, errs, code = h.ask("who", "--at", moment, "10.0.0.2:4001")
	if code != 0 || !strings.HasPrefix(out, "NOT KNOWN: nobody is known") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	out, errs, code = h.ask("access", "--subscriber", subscriber, "--from", hourAgo(), "--to", "now")
	if code != 0 || !strings.Contains(out, "10.0.0.1\n") || !strings.Contains(out, "1 access record in") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
}

func TestWhoRefusesWhatCannotBeAsked(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct{ args, want string }{
		{"who", "0 words were given"},
		{"who 10.0.0.1 10.0.0.2", "2 words were given"},
		{"who 10.0.0.1", "--at is missing"},
		{"who 10.0.0.1:70000 --at now", "is not an IP address"},
		{"who 10.0.0.1 --at 2999-01-01T00:00:00Z", "out of range"},
		{"who 10.0.0.1 --at 2200-01-01T00:00:00Z", "lies in the future"},
		{"who 10.0.0.1 --at now --error 2h", "more than an hour"},
		{"who 10.0.0.1 --at now --proto smoke", "is not known"},
		{"access --from now --to now", "no identifier is given"},
		{"access --equipment x --from now --to now", "is not a MAC address"},
	} {
		if _, errs, code := h.ask(strings.Fields(c.args)[0], strings.Fields(c.args)[1:]...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", c.args, code, errs)
		}
	}
}

func TestAnAnswerNamesTheSubscriberAsTheRegisterHadHim(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	if !h.account(h.secret(), logOn(subscriber, "10.0.0.1", time.Now().Add(-10*time.Minute))) {
		t.Fatal("the access server got no answer")
	}
	h.table.add(web(4001, "10.0.0.1"))
	file := filepath.Join(h.dir, "people.csv")
	imported := func(text string, args ...string) (stdout, stderr string, code int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return h.run(append(append([]string{"subscribers", "--config", h.config}, args...), "import", file)...)
	}
	head := "id,name,address,valid_from\n"
	year := time.Now().AddDate(-1, 0, 0).UTC().Format(time.DateOnly)
	if out, errs, code := imported(head + subscriber + ",Anna Berg,\"Gade 1, 8000 Aarhus\"," + year + "\n" + subscriber + ",x,y,\n"); code == 0 || !strings.Contains(errs, "lines 2 and 3") || strings.Contains(errs, "Anna") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if out, errs, code := imported(head + subscriber + ",Anna Berg,\"Gade 1, 8000 Aarhus\"," + year + "\n"); code != 0 || !strings.Contains(out, "1 subscriber sealed") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	moment := time.Now().Add(-30 * time.Second).UTC().Format(time.RFC3339)
	ask := func(want string) {
		t.Helper()
		for _, q := range [][]string{{"who", "10.0.0.1:4001", "--at", moment}, {"access", "--subscriber", subscriber, "--from", hourAgo(), "--to", "now"},
			{"lookup", "--address", "10.0.0.1", "--from", hourAgo(), "--to", "now"}} {
			if out, errs, code := h.ask(q[0], q[1:]...); code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: %d %s\n%s", q[0], code, errs, out)
			}
		}
	}
	ask("Anna Berg")
	ask("Gade 1, 8000 Aarhus")
	// A new name from now on is not the name of then.
	if _, errs, code := imported(head+subscriber+",Anna Holm,Gade 2,\nother,Carl,,\n", "--partial"); code != 0 {
		t.Fatal(errs)
	}
	ask("Anna Berg")
	if out, _, code := h.run("status", "--config", h.config); code != 0 || !strings.Contains(out, "register   imported 20") {
		t.Errorf("%d %s", code, out)
	}
}
