package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
)

// What becomes known of a session after it was sealed is in the next answer:
// accounting that comes an hour late names it, and a correction shows both what
// was believed and what is known now.
func TestAccountingThatComesAnHourLateNamesTheSessionAndACorrectionShowsBoth(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	web := netip.AddrPortFrom(g.Server4, 80)
	if err := g.Internet.ServeHTTP(web, "hello\n"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	agent := netip.MustParseAddrPort("127.0.0.1:1813")
	account := func(status, who, session string, at time.Time, delay int, more string) {
		t.Helper()
		radclient(ctx, t, g, agent, g.Secret, fmt.Sprintf("Acct-Status-Type = %s\nUser-Name = %s\nAcct-Session-Id = %s\nNAS-Identifier = bng\nEvent-Timestamp = \"%d\"\nAcct-Delay-Time = %d\n%s",
			status, who, session, at.Unix(), delay, more))
	}
	stored := uint64(0)
	visit := func(from int) {
		t.Helper()
		if _, _, err := g.Subscribers[from].GetHTTP(ctx, "http://"+web.String()+"/"); err != nil {
			t.Fatal(err)
		}
		stored++
		until(ctx, t, g, "the session is stored", func(s *recorder.Status) bool { return s.Sessions.Stored >= stored })
	}
	address := func(i int) string { return "Framed-IP-Address = " + g.Subscribers[i].Addr4.String() + "\n" }

	visit(0) // nobody is known
	account("Start", "anna", "s1", now.Add(-time.Hour), 3600, address(0))

	// For the second one an old session of bo's is believed, whose end was lost.
	account("Start", "bo", "s2", now.Add(-2*time.Hour), 0, address(1))
	visit(1)
	account("Stop", "bo", "s2", now.Add(-time.Hour), 3600, address(1))
	account("Start", "cy", "s3", now.Add(-50*time.Minute), 3000, address(1))

	for _, c := range []struct{ who, remark string }{{"anna", "subscriber when sealed: -"}, {"cy", "subscriber when sealed: bo"}} {
		out, err := g.Lookup(ctx, "--subscriber", c.who)
		if err != nil || !strings.Contains(out, "1 session in") || !strings.Contains(out, c.remark) {
			t.Errorf("%s: %v\n%s", c.who, err, out)
		}
	}
	out, err := g.Lookup(ctx, "--address", g.Subscribers[1].Addr4.String())
	if err != nil || !strings.Contains(out, "cy") || !strings.Contains(out, "subscriber when sealed: bo") {
		t.Errorf("%v\n%s", err, out)
	}
}
