package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
)

// long says whether the long variants of the fault tests run: "make test-long".
var long = os.Getenv("EDGELOG_LONG") != ""

// times is a number for every day, or the one of the long variant.
func times(short, inFull int) int {
	if long {
		return inFull
	}
	return short
}

// random is a source whose seed is printed; EDGELOG_SEED repeats a run.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// busy makes a gateway whose agent is always writing.
func busy(extra map[string]string) gateway.Options {
	edit := quickEnds()
	edit["flush ="] = `flush = "10ms"`
	for k, v := range extra {
		edit[k] = v
	}
	return gateway.Options{Slots: 1 << 21, Edit: edit}
}

// upgrade is the program of another release.
func upgrade(t *testing.T) string {
	t.Helper()
	next := filepath.Join(t.TempDir(), "edgelog")
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.release=next", "-o", next, "../cmd/edgelog").CombinedOutput(); err != nil {
		t.Fatalf("build edgelog: %v\n%s", err, out)
	}
	return next
}

// quick is the program without the race detector, for tests that want its
// speed. It is built once.
var quick = sync.OnceValues(func() (string, error) {
	name := filepath.Join(filepath.Dir(binary), "edgelog-quick")
	if out, err := exec.Command("go", "build", "-o", name, "../cmd/edgelog").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build edgelog: %w: %s", err, out)
	}
	return name, nil
})

// ending is a way in which an agent ends, again and again, in the middle of
// 50,000 new sessions a second.
type ending struct {
	when        string
	short, full int  // how often
	next        bool // what is started again is the program of another release
	end         func(ctx context.Context, g *gateway.Gateway) error
}

var endings = []ending{
	{"killed", 12, 100, false, func(_ context.Context, g *gateway.Gateway) error { g.Kill(); return nil }},
	{"stopped", 6, 100, false, func(ctx context.Context, g *gateway.Gateway) error { return g.Stop(ctx) }},
	{"stopped and upgraded", 3, 50, true, func(ctx context.Context, g *gateway.Gateway) error { return g.Stop(ctx) }},
	{"killed and upgraded", 3, 50, true, func(_ context.Context, g *gateway.Gateway) error { g.Kill(); return nil }},
}

func TestAgentsThatEndUnderFiftyThousandSessionsASecondStoreEachOnce(t *testing.T) {
	for _, e := range endings {
		t.Run(e.when, func(t *testing.T) {
			rng := random(t)
			program, err := quick()
			if err != nil {
				t.Fatal(err)
			}
			programs := []string{program, program}
			if e.next {
				programs[1] = upgrade(t)
			}
			g := open(t, 0, busy(nil))
			g.Use(program)
			ctx := limited(t)
			if err := g.Start(ctx); err != nil {
				t.Fatal(err)
			}
			checkBalanceAtEnd(t, g)
			p := newPour(g, 50_000, 5_000)
			p.start()
			n := times(e.short, e.full)
			for i := range n {
				if _, err := g.Until(ctx, "the table has room", hasRoom); err != nil {
					t.Fatal(err)
				}
				p.most.Store(p.began.Load() + 100_000) // a slow machine starts an agent in many seconds
				if err := p.until(ctx, p.began.Load()+rng.Int64N(25_000)); err != nil {
					t.Fatal(err)
				}
				if err := e.end(ctx, g); err != nil {
					t.Fatal(err)
				}
				g.Use(programs[(i+1)%2])
				if e.when == "killed" && rng.IntN(4) == 0 { // again, before it is ready
					launched, err := g.Launch()
					if err == nil {
						err = p.until(ctx, p.began.Load()+rng.Int64N(20_000))
					}
					if err != nil {
						t.Fatal(err)
					}
					launched.Kill()
				}
				if err := g.Start(ctx); err != nil {
					t.Fatal(err)
				}
			}
			p.most.Store(0)
			all, err := p.end()
			if err != nil {
				t.Fatal(err)
			}
			allOnce(ctx, t, g, p, g.DataDir(), all)
			t.Logf("%s %d times", e.when, n)
		})
	}
}

// hasRoom: a machine that is slow for other reasons has caught up so far that
// nothing need be refused.
func hasRoom(s *gateway.Status) bool {
	return s.Probe.Table.Open+s.Probe.Table.Closed < 500_000
}

// allOnce waits until all that a pour has sent is stored, and reads it back.
func allOnce(ctx context.Context, t *testing.T, g *gateway.Gateway, p *pour, dataDir string, n int) {
	t.Helper()
	if _, err := allStored(ctx, g, n); err != nil {
		t.Fatal(err)
	}
	s, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if refused := s.Probe.Uplinks[0].In.Outcomes; refused["table_full"]+refused["half_open"]+refused["contended"] > 0 {
		t.Errorf("the table had room, but packets were refused: %v", refused)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	back := readBack(t, g, dataDir, p, n)
	if m := back.missing(); len(m) > 0 {
		t.Errorf("%d of %d sessions are missing: %d ...", len(m), n, m[:min(len(m), 8)])
	}
	back.check(t, p)
	t.Logf("%d sessions, stored by %d records", n, back.records)
}
