package tests

import (
	"strings"
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
)

// ours counts the programs on the uplink; nobody else puts one there here.
func ours(t *testing.T, g *gateway.Gateway) (n int) {
	t.Helper()
	for _, line := range hung(t, g) {
		if strings.HasPrefix(line, "xdp ") || strings.HasPrefix(line, "TCX") || strings.Contains(line, "edgelog") {
			n++
		}
	}
	return n
}

func TestALinkThatIsNoLongerAnUplinkIsNotWatchedAfterARestart(t *testing.T) {
	for _, attach := range []string{"auto", "clsact"} {
		t.Run(attach, func(t *testing.T) {
			g := open(t, 0, gateway.Options{Edit: map[string]string{"attach =": `attach = "` + attach + `"`}})
			ctx := limited(t)
			if err := g.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if n := ours(t, g); n != 2 {
				t.Fatalf("%d programs on the uplink: %v", n, hung(t, g))
			}
			g.Kill()
			if n := ours(t, g); n != 2 {
				t.Fatalf("a killed agent left %d programs", n)
			}
			if err := g.Reconfigure(map[string]string{"name =": `name = "another"`}); err != nil {
				t.Log("the killed agent was told, too:", err)
			}
			if err := g.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if n := ours(t, g); n != 0 {
				t.Errorf("still watched by %d programs: %v", n, hung(t, g))
			}
		})
	}
}

func TestATableIsNotTakenOverUnderAnotherProfile(t *testing.T) {
	g := open(t, 0, gateway.Options{})
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Reconfigure(map[string]string{"profile =": `profile = "source"`}); err != nil {
		t.Log("the stopped agent was told, too:", err)
	}
	if err := g.Start(ctx); err == nil || !strings.Contains(err.Error(), `was filled with profile "session"`) || !strings.Contains(err.Error(), "drain") {
		t.Fatalf("%v", err)
	}
	if err := g.Reconfigure(map[string]string{"profile =": `profile = "session"`, "on_stop =": `on_stop = "drain"`}); err != nil {
		t.Log("the stopped agent was told, too:", err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Reconfigure(map[string]string{"profile =": `profile = "source"`}); err != nil {
		t.Log("the stopped agent was told, too:", err)
	}
	if err := g.Start(ctx); err != nil {
		t.Errorf("after a drain: %v", err)
	}
}
