package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// account sends one accounting request with radclient, and reports whether it
// was answered.
func (h *house) account(secret, attributes string) bool {
	h.t.Helper()
	program, err := exec.LookPath("radclient")
	if err != nil {
		h.t.Skip("radclient is not installed (Debian: freeradius-utils)")
	}
	cmd := exec.CommandContext(h.t.Context(), program, "-r", "1", "-t", "1", h.rec.Status().RADIUS.Listen[0], "acct", secret)
	cmd.Stdin = strings.NewReader(attributes)
	out, err := cmd.CombinedOutput()
	if !bytes.Contains(out, []byte("Sent Accounting-Request")) {
		h.t.Fatalf("radclient: %v\n%s", err, out)
	}
	return bytes.Contains(out, []byte("Received Accounting-Response"))
}

func (h *house) secret() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "radius.secret"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func logOn(who, addr string, at time.Time) string {
	return fmt.Sprintf("Acct-Status-Type = Start\nAcct-Session-Id = %q\nUser-Name = %q\nFramed-IP-Address = %s\nNAS-IP-Address = 127.0.0.1\nEvent-Timestamp = \"%d\"\n",
		who+"-1", who, addr, at.Unix())
}

const subscriber = "anna-7f3a@example.net"

func TestIdentityThatComesAfterTheSessionWasSealedStillNamesIt(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"))
	out, _, _ := h.lookup("--address", "10.0.0.1")
	if !strings.Contains(out, "1 session in") || strings.Contains(out, subscriber) {
		t.Fatalf("before anybody logged on:\n%s", out)
	}
	if !h.account(h.secret(), logOn(subscriber, "10.0.0.1", time.Now().Add(-10*time.Minute))) {
		t.Fatal("the access server got no answer")
	}
	h.table.add(web(4002, "10.0.0.1")) // sealed with its name
	out, errs, code := h.lookup("--subscriber", subscriber)
	if code != 0 || !strings.Contains(out, "2 sessions in") {
		t.Fatalf("%d %s\n%s", code, errs, out)
	}
	for line := range strings.Lines(out) {
		late := strings.Contains(line, "subscriber when sealed: -")
		if strings.Contains(line, "10.0.0.1:4001") != late || (late && !strings.Contains(line, subscriber)) {
			t.Errorf("%s", line)
		}
	}
	if out, _, _ = h.lookup("--subscriber", "bo"); !strings.Contains(out, "0 sessions in") {
		t.Errorf("somebody else:\n%s", out)
	}
}

func TestAWrongSecretIsRefusedCountedAndShown(t *testing.T) {
	h := newHouse(t)
	if h.account("not the secret", logOn(subscriber, "10.0.0.1", time.Now())) {
		t.Error("it was answered")
	}
	out, _, _ := h.run("status", "--config", h.config)
	for _, want := range []string{"dropped: bad-authenticator", "its secret is most likely another one", "bindings   0 in force", "accounting: received"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestANewSecretHoldsFromTheReloadOn(t *testing.T) {
	h := newHouse(t)
	old := h.secret()
	if err := os.WriteFile(filepath.Join(h.dir, "radius.secret"), []byte("another secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !h.account(old, logOn(subscriber, "10.0.0.1", time.Now())) {
		t.Error("the old one was refused before the reload")
	}
	if _, err := h.rec.Reload(t.Context(), h.rec.Config()); err != nil {
		t.Fatal(err)
	}
	if h.account(old, logOn("bo", "10.0.0.2", time.Now())) || !h.account(h.secret(), logOn("bo", "10.0.0.2", time.Now())) {
		t.Error("the new one is not the one that holds")
	}
}

// TestNoFileNamesASubscriber searches everything that the gateway keeps.
func TestNoFileNamesASubscriber(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	if !h.account(h.secret(), logOn(subscriber, "10.0.0.1", time.Now().Add(-time.Hour))) {
		t.Fatal("the access server got no answer")
	}
	h.table.add(web(4001, "10.0.0.1"))
	if out, errs, code := h.lookup("--subscriber", subscriber); code != 0 || !strings.Contains(out, "1 session in") {
		t.Fatalf("%d %s\n%s", code, errs, out)
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(h.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, word := range []string{subscriber, "10.0.0.1", "case 7", "192.0.2.9"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%s names %q", path, word)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}
