package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
)

// caseOf records sessions of two subscribers, one of them anna, and returns when
// that began.
func caseOf(t *testing.T, g *gateway.Gateway, visits int) time.Time {
	t.Helper()
	ctx, began := limited(t), time.Now().Add(-time.Minute)
	web := netip.AddrPortFrom(g.Server4, 80)
	if err := g.Internet.ServeHTTP(web, "hello\n"); err != nil {
		t.Fatal(err)
	}
	for i, who := range []string{"anna", "bo"} {
		radclient(ctx, t, g, netip.MustParseAddrPort("127.0.0.1:1813"), g.Secret, fmt.Sprintf(
			"Acct-Status-Type = Start\nUser-Name = %s\nAcct-Session-Id = %s\nNAS-Identifier = bng\nEvent-Timestamp = \"%d\"\nFramed-IP-Address = %s\n",
			who, who, began.Unix(), g.Subscribers[i].Addr4))
	}
	for range visits {
		for i := range 2 {
			if _, _, err := g.Subscribers[i].GetHTTP(ctx, "http://"+web.String()+"/"); err != nil {
				t.Fatal(err)
			}
		}
	}
	until(ctx, t, g, "all is stored", func(s *recorder.Status) bool { return s.Sessions.Stored >= uint64(2*visits) })
	return began
}

// loseDays takes away all keys and blocks of days, as their destruction does.
func loseDays(t *testing.T, g *gateway.Gateway) {
	t.Helper()
	for _, part := range []string{"keys", "days", "fresh"} {
		list, err := filepath.Glob(filepath.Join(g.DataDir(), "store", part, "*"))
		for _, name := range list {
			err = errors.Join(err, os.RemoveAll(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAHoldKeepsTheSessionsOfACaseAndNothingElseOfTheirDay(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	began := caseOf(t, g, 3)
	if out, err := holdOf(ctx, g, began, "nobody"); err == nil || !strings.Contains(err.Error(), "nothing to hold") {
		t.Errorf("a hold of nothing: %v\n%s", err, out)
	}
	out, err := holdOf(ctx, g, began, "anna")
	if err != nil || !strings.Contains(out, "3 sessions and 1 access record") {
		t.Fatalf("%v\n%s", err, out)
	}
	var list recorder.HoldList
	if out, err = g.Run(ctx, "hold", "list", "--json"); err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Holds) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, word := range []string{"anna", "case 77", g.Subscribers[0].Addr4.String()} {
		if strings.Contains(out, word) {
			t.Errorf("the list names %q:\n%s", word, out)
		}
	}
	id := fmt.Sprint(list.Holds[0].ID)
	sealedIn(t, filepath.Join(g.DataDir(), "store", "holds"), "anna", "case 77", g.Subscribers[0].Addr4.String(), string(g.Subscribers[0].Addr4.AsSlice()))
	before, sessions, err := g.Sessions(ctx, "--subscriber", "anna")
	if err != nil || len(sessions) != 3 {
		t.Fatalf("beside its hold: %d sessions, %v", len(sessions), err)
	}
	if out, err := g.Lookup(ctx, "--subscriber", "anna"); err != nil || strings.Contains(out, "from hold") {
		t.Errorf("the day is there, and yet: %v\n%s", err, out)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	loseDays(t, g)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	after, _, err := g.Sessions(ctx, "--subscriber", "anna")
	if err != nil || !slices.Equal(after, before) {
		t.Errorf("from the hold: %v\n%s\nnot\n%s", err, strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	if out, err := g.Lookup(ctx, "--subscriber", "anna"); err != nil || !strings.Contains(out, "from hold "+id+":") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, others, err := g.Sessions(ctx, "--subscriber", "bo"); err != nil || len(others) != 0 {
		t.Errorf("of another subscriber %d sessions are left, %v", len(others), err)
	}
	a := who(ctx, t, g, netip.AddrPortFrom(g.Subscribers[0].Addr4, sessions[0].InitiatorPort).String(), sessions[0].Start)
	if a.names() != "anna" || !strings.Contains(a.notes, "from hold "+id+":") {
		t.Errorf("who: %q\n%s", a.names(), a.notes)
	}
	releaseAndLook(t, g, id)
}

// holdOf has the custodian hold what an approved request for a subscriber finds.
func holdOf(ctx context.Context, g *gateway.Gateway, from time.Time, subscriber string) (string, error) {
	id, _, err := g.Office.Approve(ctx, g.RunAs, "lookup", "--reference", "case 77", "--subscriber", subscriber, "--from", from.UTC().Format(time.RFC3339), "--to", "now")
	if err != nil {
		return "", err
	}
	return g.RunAs(ctx, g.Office.Custodian, "hold", "add", "--request", fmt.Sprint(id), "--identity", g.Identity)
}

// sealedIn fails the test if a file below dir has one of the words in it.
func sealedIn(t *testing.T, dir string, words ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(name)
		for _, w := range words {
			if strings.Contains(string(b), w) {
				t.Errorf("%s has %q in it", name, w)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}

func releaseAndLook(t *testing.T, g *gateway.Gateway, id string) {
	t.Helper()
	ctx := limited(t)
	if out, err := g.RunAs(ctx, g.Office.Custodian, "hold", "release", id); err != nil || !strings.Contains(out, "destroyed") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := g.RunAs(ctx, g.Office.Custodian, "hold", "release", id); err == nil || !strings.Contains(err.Error(), "hold list") {
		t.Errorf("released twice: %v\n%s", err, out)
	}
	if _, sessions, err := g.Sessions(ctx, "--subscriber", "anna"); err != nil || len(sessions) != 0 {
		t.Errorf("after the release: %d sessions, %v", len(sessions), err)
	}
	if left, _ := filepath.Glob(filepath.Join(g.DataDir(), "store", "*", "*hold*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(g.DataDir(), "store", "holds", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if notes, _ := filepath.Glob(filepath.Join(g.DataDir(), "destroyed", "hold-"+id+".note")); len(notes) != 1 {
		t.Error("there is no certificate")
	}
}
