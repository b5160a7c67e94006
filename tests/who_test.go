package tests

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
)

// whoAnswer is what tests look at of "edgelog who --format csv".
type whoAnswer struct {
	verdict string
	rows    []map[string]string
	notes   string // what stands beside the rows
}

func who(ctx context.Context, t *testing.T, g *gateway.Gateway, what string, at time.Time, more ...string) whoAnswer {
	t.Helper()
	args := append([]string{"--at", at.UTC().Format(time.RFC3339Nano), what}, more...)
	text, err := g.Ask(ctx, "who", args...)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(text, "\n")
	a := whoAnswer{notes: text}
	a.verdict, _, _ = strings.Cut(first, ":")
	if text, err = g.Ask(ctx, "who", append(args, "--format", "csv")...); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, r := range rows[1:] {
		m := map[string]string{}
		for i, name := range rows[0] {
			m[name] = r[i]
		}
		a.rows = append(a.rows, m)
	}
	return a
}

// names are the subscribers of the answer, in its order.
func (a *whoAnswer) names() string {
	var out []string
	for _, r := range a.rows {
		out = append(out, r["subscriber"])
	}
	return strings.Join(out, " ")
}

func TestWhoNamesTheSubscriberBehindASharedAddressAndAsksForThePort(t *testing.T) {
	x := openTranslator(t, 5, masquerade, "", gateway.Options{})
	ctx := limited(t)
	n := x.burst(t, 5, 4)
	x.end()
	x.stored(t, n)
	_, list, err := x.Sessions(ctx, "--subscriber", subscriberName(3))
	if err != nil || len(list) == 0 {
		t.Fatalf("%d sessions, %v", len(list), err)
	}
	for _, s := range list {
		a := who(ctx, t, x.Gateway, netip.AddrPortFrom(netip.MustParseAddr(s.Initiator), s.InitiatorPort).String(), s.Start)
		if a.names() != subscriberName(3) || a.verdict == "CERTAIN" || a.verdict == "NOT KNOWN" || !strings.Contains(a.rows[0]["chain"], s.Inside) || a.rows[0]["sessions"] == "0" {
			t.Errorf("%s %s:%d is of %q:\n%s", a.verdict, s.Initiator, s.InitiatorPort, a.names(), a.notes)
		}
	}
	a := who(ctx, t, x.Gateway, list[0].Initiator, list[0].Start, "--error", "1m")
	if a.verdict != "UNCERTAIN" || !strings.Contains(a.notes, "shared by 5 subscribers") || !strings.Contains(a.notes, "source port is needed") {
		t.Errorf("without a port:\n%s", a.notes)
	}
	if a := who(ctx, t, x.Gateway, "203.0.113.200:4000", list[0].Start); a.verdict != "NOT KNOWN" || len(a.rows) != 0 {
		t.Errorf("an address that nobody had:\n%s", a.notes)
	}
}

func TestWhoAndAccessTellTheTimeOfAHandOverAndWhoCameLate(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	now := time.Now().Truncate(time.Second)
	account := func(kind, who string, at time.Time, more ...string) {
		t.Helper()
		err := g.Gateway().Accounting(ctx, netip.MustParseAddrPort("127.0.0.1:1813"), g.Secret, append([]string{
			"Acct-Status-Type = " + kind, fmt.Sprintf("Acct-Session-Id = %q", who), "NAS-Identifier = bng-1", fmt.Sprintf("User-Name = %q", who),
			fmt.Sprintf("Event-Timestamp = %d", at.Unix())}, more...)...)
		if err != nil {
			t.Fatal(err)
		}
	}
	address, prefix := "Framed-IP-Address = 192.0.2.77", "Delegated-IPv6-Prefix = 2001:db8:a:700::/56"
	change := now.Add(-30 * time.Minute)
	account("Start", "anna", now.Add(-2*time.Hour), address, prefix) // an hour and more late
	account("Stop", "anna", change, address, prefix)
	account("Start", "bo", change.Add(time.Second), address)
	for _, c := range []struct {
		what, verdict, names string
		at                   time.Time
	}{
		{"192.0.2.77:4000", "UNCERTAIN", "bo anna", change},
		{"192.0.2.77:4000", "LIKELY", "anna", change.Add(-time.Hour)},
		{"192.0.2.77:4000", "LIKELY", "bo", change.Add(10 * time.Minute)},
		{"[2001:db8:a:7ff::1]:53", "LIKELY", "anna", change.Add(-time.Hour)},
		{"[2001:db8:a:7ff::1]:53", "NOT KNOWN", "", change.Add(10 * time.Minute)},
		{"192.0.2.77:4000", "NOT KNOWN", "", now.Add(-3 * time.Hour)},
	} {
		if a := who(ctx, t, g, c.what, c.at); a.verdict != c.verdict || a.names() != c.names {
			t.Errorf("%s at %v: %s %q, not %s %q\n%s", c.what, c.at, a.verdict, a.names(), c.verdict, c.names, a.notes)
		}
	}
	// Names come from the register, as they were then.
	file := filepath.Join(g.Dir, "people.csv")
	if err := os.WriteFile(file, []byte("id,name,address,valid_from\nanna,Anna Berg,Gade 1,2020-01-01\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(ctx, "subscribers", "import", file); err != nil {
		t.Fatal(err)
	}
	if a := who(ctx, t, g, "192.0.2.77:4000", change.Add(-time.Hour)); a.rows[0]["name"] != "Anna Berg" || a.rows[0]["address"] != "Gade 1" {
		t.Errorf("%+v", a.rows)
	}
	accessOf(ctx, t, g, "anna", now.Add(-2*time.Hour), change)
}

// accessOf checks that a subscriber held an address and a delegated prefix from
// and to those times.
func accessOf(ctx context.Context, t *testing.T, g *gateway.Gateway, subscriber string, from, to time.Time) {
	t.Helper()
	out, err := g.Ask(ctx, "access", "--subscriber", subscriber, "--from", from.Add(-time.Hour).UTC().Format(time.RFC3339), "--to", "now", "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	prefixes := map[string]bool{}
	for line := range strings.Lines(out) {
		var r struct {
			Prefix string    `json:"prefix"`
			From   time.Time `json:"from"`
			To     time.Time `json:"to"`
		}
		if err := json.Unmarshal([]byte(line), &r); err == nil && r.Prefix != "" && r.From.Equal(from) && r.To.Equal(to) {
			prefixes[r.Prefix] = true
		}
	}
	if len(prefixes) != 2 || !prefixes["2001:db8:a:700::/56"] {
		t.Errorf("access records %v:\n%s", prefixes, out)
	}
}
