package tests

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/edgelog/edgelog/tests/gateway"
)

// doctor runs it in the gateway's namespace and returns its lines about
// leftovers, each with its remedy.
func doctor(t *testing.T, g *gateway.Gateway, args ...string) (lines []string) {
	t.Helper()
	out, err := g.Gateway().Run(limited(t), binary, append([]string{"doctor", "--config", g.Config}, args...)...)
	if out == "" {
		t.Fatal(err)
	}
	all := strings.Split(out, "\n") // it fails for want of an NTP server, too
	for i, line := range all {
		if strings.Contains(line, " leftover") {
			lines = append(lines, strings.Join(strings.Fields(line+" "+all[i+1]), " "))
		}
	}
	return lines
}

// lists checks that there are so many leftovers, and that one has these words.
func lists(t *testing.T, lines []string, n int, words ...string) {
	t.Helper()
	ok := len(lines) == n
	for _, w := range words {
		ok = ok && slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, w) })
	}
	if !ok {
		t.Errorf("%d leftovers with the words %q are not in\n  %s", n, words, strings.Join(lines, "\n  "))
	}
}

func TestTheDoctorRemovesWhatDeadVersionsLeftAndNothingElse(t *testing.T) {
	next := otherLayout(t)
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	lists(t, doctor(t, g), 0)
	g.Use(next)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	dirs, _ := pinned(t, g)
	old := filepath.Join(g.BPFFS(), dirs[0])
	lists(t, doctor(t, g, "--fix"), 0) // a living agent's is none
	calls := dial(t, g, 1)
	if _, err := g.Until(ctx, "it is in the table", func(s *gateway.Status) bool { return s.Probe.Table.Open >= 2 }); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	lists(t, doctor(t, g, "--fix"), 1, "2 sessions that are not on disk → start the agent once")
	g.Use(next)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		c.hangUp(t)
	}
	if _, err := allStored(ctx, g, len(calls)); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	lists(t, doctor(t, g, "--fix"), 1, "programs record into → start the agent once")

	if err := g.Border.Gateway.Unlink(g.Uplink); err != nil { // its device goes, and with it what hung there
		t.Fatal(err)
	}
	foreign := foreignPins(t, g, old)
	half := filepath.Join(g.BPFFS(), "abcdefabcdef")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	lists(t, doctor(t, g), 4, "--fix", "device is gone", "by halves", "not edgelog's: theirs")
	lists(t, doctor(t, g, "--fix"), 4, "removed: "+half, "removed: "+filepath.Join(old, "xdp_"), "not edgelog's: theirs, xdp_1 → ask")
	lists(t, doctor(t, g), 1, "not edgelog's")
	for _, path := range foreign {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a pin of another program: %v", err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(old, "theirs")), os.Remove(filepath.Join(old, "xdp_1"))); err != nil {
		t.Fatal(err)
	}
	lists(t, doctor(t, g, "--fix"), 1, "removed: "+old+": an older table that holds nothing")
	lists(t, doctor(t, g), 0)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// foreignPins puts pins of other programs beside ours and among them, one under
// a name as we have.
func foreignPins(t *testing.T, g *gateway.Gateway, dir string) (paths []string) {
	t.Helper()
	p := program(t, ebpf.XDP, 2)
	theirs := filepath.Join(dir, "theirs")
	if err := p.Pin(theirs); err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(g.BPFFS(), "firewall")
	if err := os.Mkdir(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	var l link.Link
	err := g.Gateway().Do(func() (err error) {
		l, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: 1, Flags: link.XDPGenericMode})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.Pin(filepath.Join(dir, "xdp_1")); err != nil {
		t.Fatal(err)
	}
	return []string{theirs, beside, filepath.Join(dir, "xdp_1")}
}

func TestTheDoctorRemovesFiltersOfATableThatIsGoneAndNoOthers(t *testing.T) {
	g := open(t, 0, gateway.Options{Edit: map[string]string{"attach =": `attach = "clsact"`}})
	ctx := limited(t)
	if err := neighbourFilters(t, g); err != nil {
		t.Fatal(err)
	}
	before := hung(t, g)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	lists(t, doctor(t, g, "--fix"), 0)
	g.Kill()
	lists(t, doctor(t, g, "--fix"), 0) // the next agent adopts the table, and replaces them
	dirs, _ := pinned(t, g)
	for _, dir := range dirs {
		if err := os.RemoveAll(filepath.Join(g.BPFFS(), dir)); err != nil {
			t.Fatal(err)
		}
	}
	lists(t, doctor(t, g), 2, "ingress of", "egress of", "--fix")
	lists(t, doctor(t, g, "--fix"), 2, "removed: ingress of", "removed: egress of")
	lists(t, doctor(t, g), 0)
	if after := hung(t, g); !slices.Equal(before, after) {
		t.Errorf("before\n  %s\nafter\n  %s", strings.Join(before, "\n  "), strings.Join(after, "\n  "))
	}
}
