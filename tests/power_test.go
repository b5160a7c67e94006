package tests

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/tests/disk"
	"github.com/edgelog/edgelog/tests/gateway"
)

// onDisk makes a gateway that keeps its data on a disk of its own.
func onDisk(t *testing.T, o gateway.Options) (*gateway.Gateway, *disk.Disk) {
	t.Helper()
	program, err := quick()
	if err != nil {
		t.Fatal(err)
	}
	g := open(t, 0, o)
	g.Use(program)
	d, err := disk.Open(filepath.Join(g.Lab.Dir(), "power"), 2<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if g.Agent() != nil {
			g.Kill()
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := g.Reconfigure(map[string]string{"data_dir =": fmt.Sprintf("data_dir = %q", filepath.Join(d.Dir(), "data"))}); err != nil {
		t.Fatal(err)
	}
	return g, d
}

// cut takes the power from the disk between two writes, and ends the agent that
// used it.
func cut(ctx context.Context, d *disk.Disk, g *gateway.Gateway, rng *rand.Rand) (lost int, err error) {
	select {
	case <-d.CutPower(rng, rng.IntN(20)):
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the agent to write: %w", ctx.Err())
	}
	g.Kill()
	return d.Lost(), nil
}

func TestAPowerCutLosesAndDoublesNothingWhileTheTableSurvives(t *testing.T) {
	rng := random(t)
	g, d := onDisk(t, busy(map[string]string{"block_sessions =": "block_sessions = 1024"}))
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	p := newPour(g, 20_000, 2_000)
	p.start()
	unsynced := 0
	cuts := times(4, 100)
	for range cuts {
		if err := p.until(ctx, p.began.Load()+rng.Int64N(10_000)); err != nil {
			t.Fatal(err)
		}
		lost, err := cut(ctx, d, g, rng)
		if err := errors.Join(err, d.Power(), g.Start(ctx)); err != nil {
			t.Fatal(err)
		}
		unsynced += lost
	}
	n, err := p.end()
	if err != nil {
		t.Fatal(err)
	}
	allOnce(ctx, t, g, p, filepath.Join(d.Dir(), "data"), n)
	if unsynced == 0 {
		t.Error("no write was ever lost with the power, so this test proves little")
	}
	t.Logf("%d cuts took %d writes", cuts, unsynced)
}

func TestAPowerCutThatTakesTheTableLosesOnlyWhatTheTableStillHeld(t *testing.T) {
	rng := random(t)
	for range times(2, 30) {
		g, d := onDisk(t, busy(nil))
		ctx := limited(t)
		if err := g.Start(ctx); err != nil {
			t.Fatal(err)
		}
		checkBalanceAtEnd(t, g)
		data := filepath.Join(d.Dir(), "data")
		p := newPour(g, 20_000, 2_000)
		p.start()
		err := p.until(ctx, 20_000+rng.Int64N(20_000))
		if err == nil {
			_, err = cut(ctx, d, g, rng)
		}
		n, err2 := p.end()
		if err := errors.Join(err, err2, d.Power(), startWith(ctx, g, filepath.Join(g.BPFFS(), "after")), g.Stop(ctx)); err != nil {
			t.Fatal(err)
		}
		back := readBack(t, g, data, p, n)
		back.check(t, p)
		lost := len(back.missing())
		if lost == 0 || lost == n {
			t.Errorf("%d of %d sessions were lost, so this test proves little", lost, n)
		}
		// The old table is still pinned: all that was lost must be in it.
		if err := startWith(ctx, g, g.BPFFS()); err != nil {
			t.Fatal(err)
		}
		s, err := g.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if held := s.Probe.Table.Started + s.Probe.Table.Reopened - s.Probe.Table.Stored + s.Sessions.Stored; held < uint64(lost) {
			t.Errorf("the disk lost %d sessions, and the table still held %d", lost, held)
		}
		allOnce(ctx, t, g, p, data, n)
		t.Logf("%d of %d sessions were only in the table when the power went", lost, n)
	}
}

// startWith starts an agent with its pins in another directory: as after the
// machine went down, what was pinned is not there.
func startWith(ctx context.Context, g *gateway.Gateway, pins string) error {
	if err := g.Reconfigure(map[string]string{"bpf_dir =": fmt.Sprintf("bpf_dir = %q", pins)}); err != nil {
		return err
	}
	return g.Start(ctx)
}
