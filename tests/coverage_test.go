package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/load"
)

// covered asks for the coverage since a time, until it is decided up to another.
func covered(ctx context.Context, g *gateway.Gateway, from, until time.Time) (*session.CoverageReport, error) {
	for {
		out, err := g.Run(ctx, "coverage", "--json", "--from", from.UTC().Format(time.RFC3339Nano), "--to", "now")
		r := new(session.CoverageReport)
		if err == nil {
			err = json.Unmarshal([]byte(out), r)
		}
		if err == nil && !r.Decided.Before(until) {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait until %v is decided: %w", until, ctx.Err()), err)
		}
	}
}

// gaps returns what is not complete of the uplink in the window, and fails for
// what is not known. The window must begin when the agent was already watching.
func gaps(t *testing.T, r *session.CoverageReport) (out []session.Span) {
	t.Helper()
	if len(r.Damaged) > 0 {
		t.Error(r.Damaged)
	}
	for _, s := range session.Together(r.Spans) {
		switch s.State {
		case session.CoverComplete:
		case session.CoverUnknown:
			t.Errorf("nothing is known of %+v", s)
		default:
			out = append(out, s)
		}
	}
	return out
}

// within fails unless the spans lie between two times, which are seconds apart
// at most by what one look at the counters cannot tell.
func within(t *testing.T, spans []session.Span, from, to time.Time) {
	t.Helper()
	for _, s := range spans {
		if s.From < from.Unix()-1 || s.To > to.Unix()+2 {
			t.Errorf("%s … %s (%s) is not within %s … %s", time.Unix(s.From, 0).UTC(), time.Unix(s.To, 0).UTC(), s.Text(), from.UTC(), to.UTC())
		}
	}
}

// counted adds up what was refused.
func counted(spans []session.Span) (n uint64) {
	for _, s := range spans {
		n += s.Refused
	}
	return n
}

// asTheStatus fails unless the spans count what the status counts.
func asTheStatus(ctx context.Context, t *testing.T, g *gateway.Gateway, spans []session.Span) {
	t.Helper()
	s, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, u := range s.Probe.Uplinks {
		for _, why := range []string{"table_full", "half_open", "contended", "fragment_lost"} {
			n += u.In.Outcomes[why] + u.Out.Outcomes[why]
		}
	}
	if n == 0 || counted(spans) != n {
		t.Errorf("coverage counts %d refused packets, the status %d", counted(spans), n)
	}
}

// overrun sends more sessions than the table has slots, and returns when the
// first and the last of them left.
func overrun(ctx context.Context, t *testing.T, g *gateway.Gateway, seed uint64) (from, to time.Time) {
	t.Helper()
	o := load.On(g.Border, load.New)
	o.Count, o.Rate, o.Seed = 200_000, 80_000, seed
	gen, err := load.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	from = time.Now()
	_, err = gen.Run(ctx)
	to = time.Now()
	if err = errors.Join(err, gen.Close()); err != nil {
		t.Fatal(err)
	}
	return from, to
}

func TestCoverageSaysWhenTheTableWasFullWithAndWithoutAnAgent(t *testing.T) {
	g := open(t, 0, gateway.Options{})
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	start := time.Now().Add(time.Second).Truncate(time.Second)
	r, err := covered(ctx, g, start, start.Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if len(gaps(t, r)) > 0 {
		t.Fatalf("before anything happened: %+v", r.Spans)
	}
	from, to := overrun(ctx, t, g, 1)
	if r, err = covered(ctx, g, start, to.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	first := gaps(t, r)
	within(t, first, from, to)
	asTheStatus(ctx, t, g, first)
	if last := first[len(first)-1]; last.To < to.Add(-200*time.Millisecond).Unix() || last.Reasons&session.TableFull == 0 {
		t.Errorf("packets were refused until %s; coverage says so until %s: %s", to.UTC(), time.Unix(last.To, 0).UTC(), last.Text())
	}
	// The same again while there is no agent: the programs count on.
	g.Kill()
	down := time.Now()
	from, to = overrun(ctx, t, g, 2)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	if r, err = covered(ctx, g, start, up.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	all := gaps(t, r)
	asTheStatus(ctx, t, g, all)
	var second []session.Span
	for _, s := range all {
		if s.Reasons&session.AgentDown != 0 {
			second = append(second, s)
		}
	}
	within(t, second, from, to)
	if counted(second) == 0 {
		t.Errorf("between %s and %s there was no agent, and packets were refused: %+v", down.UTC(), up.UTC(), all)
	}
	answer, err := g.Lookup(ctx, "--subscriber", "nobody@example.net")
	if err != nil || !strings.Contains(answer, "table full, agent down") {
		t.Errorf("the answer to a question does not say so: %v\n%s", err, answer)
	}
}

func TestCoverageIsCompleteAcrossKillsAndMissingAcrossALostLink(t *testing.T) {
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	w := newCrowd(t, g, 8080)
	start := time.Now().Add(time.Second).Truncate(time.Second)
	for range 3 {
		callAndCheck(ctx, t, g, w, 40)
		if _, err := covered(ctx, g, start, time.Now()); err != nil {
			t.Fatal(err)
		}
		g.Kill()
		if err := g.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	up := time.Now()
	r, err := covered(ctx, g, start, up.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if bad := gaps(t, r); len(bad) > 0 {
		t.Errorf("an agent that was killed left %+v", bad)
	}
	gone := time.Now()
	if err := g.Border.Gateway.Unlink(g.Uplink); err != nil {
		t.Fatal(err)
	}
	if _, err := covered(ctx, g, start, gone.Add(4*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := joinUplink(g.Border); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Until(ctx, "the uplink is watched", attached); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if r, err = covered(ctx, g, start, back.Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	bad := gaps(t, r)
	within(t, bad, gone, back)
	if len(bad) == 0 || bad[0].From > gone.Unix()+1 || bad[len(bad)-1].To < back.Unix() || bad[0].Reasons&session.LinkMissing == 0 {
		t.Errorf("the link was away from %s to %s: %+v", gone.UTC(), back.UTC(), bad)
	}
}

func TestCoverageTakesBackWhatALostTableHeldAndSaysWhenItWasToldToStop(t *testing.T) {
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(time.Second).Truncate(time.Second)
	w := newCrowd(t, g, 8080)
	callAndCheck(ctx, t, g, w, 40)
	if _, err := covered(ctx, g, start, start.Add(8*time.Second)); err != nil {
		t.Fatal(err)
	}
	// As after a power cut: the disk is as it was, the kernel knows nothing.
	g.Kill()
	cut := time.Now()
	pins, err := filepath.Glob(filepath.Join(g.BPFFS(), "*", "sessions"))
	if err != nil || len(pins) != 1 {
		t.Fatal(pins, err)
	}
	if err := os.RemoveAll(filepath.Dir(pins[0])); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	r, err := covered(ctx, g, start, up.Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Status(ctx)
	if err != nil || s.Probe.Adopted {
		t.Fatalf("the table was to be lost: %v, %v", s.Probe.Adopted, err)
	}
	bad := gaps(t, r)
	within(t, bad, cut.Add(-12*time.Second), up)
	if len(bad) == 0 || bad[0].Reasons&session.TableLost == 0 || bad[0].From > cut.Unix() || bad[len(bad)-1].To < up.Unix() {
		t.Errorf("the table was lost at %s, and the agent came at %s: %+v", cut.UTC(), up.UTC(), bad)
	}
	if err := g.Reconfigure(map[string]string{"on_stop =": `on_stop = "drain"`}); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	again := time.Now()
	if r, err = covered(ctx, g, up.Add(2*time.Second), again.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	bad = gaps(t, r)
	within(t, bad, down.Add(-2*time.Second), again)
	if len(bad) != 1 || bad[0].Reasons&session.AgentStopped == 0 {
		t.Errorf("stopped at %s, started at %s: %+v", down.UTC(), again.UTC(), bad)
	}
}
