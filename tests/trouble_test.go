package tests

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/edgelog/edgelog/tests/gateway"
)

// What happens to a gateway while sessions come and go, and must not be seen in
// what is stored. How long each trouble lasts is counted in sessions.

// pourAll starts a pour, has trouble in the middle of it, and reads all back.
func pourAll(ctx context.Context, t *testing.T, g *gateway.Gateway, dataDir string, rate int, trouble func(p *pour) error) {
	t.Helper()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	p := newPour(g, rate, rate/10)
	p.start()
	err := p.until(ctx, int64(rate))
	if err == nil {
		err = trouble(p)
	}
	if err == nil {
		err = p.until(ctx, p.began.Load()+int64(rate))
	}
	n, err2 := p.end()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	allOnce(ctx, t, g, p, dataDir, n)
}

func TestADiskThatAnswersNothingForAWhileLosesNothingAndIsReported(t *testing.T) {
	const rate = 10_000
	g, d := onDisk(t, busy(nil))
	ctx := limited(t)
	pourAll(ctx, t, g, filepath.Join(d.Dir(), "data"), rate, func(p *pour) error {
		goOn := d.Stall()
		defer goOn()
		from := p.began.Load()
		s, err := g.Until(ctx, "the status says so", func(s *gateway.Status) bool { return s.Store.State == "stalled" })
		if err != nil {
			return err
		}
		if s.Store.OK || !strings.Contains(s.State, "NOT storing") || !strings.Contains(s.Store.Text, "not answered") {
			t.Errorf("the disk stands still, and the status says %q, %q", s.State, s.Store.Text)
		}
		if err := p.until(ctx, from+int64(times(5, 60))*rate); err != nil {
			return err
		}
		goOn()
		_, err = g.Until(ctx, "it stores again", func(s *gateway.Status) bool { return s.Store.OK })
		return err
	})
}

func TestAnAgentThatDoesNotRunForAWhileLosesNothing(t *testing.T) {
	const rate = 5_000
	for name, rest := range map[string]func(g *gateway.Gateway) (goOn func(ctx context.Context) error, err error){
		"frozen": func(g *gateway.Gateway) (func(context.Context) error, error) {
			a := g.Agent()
			return func(context.Context) error { return a.Signal(syscall.SIGCONT) }, a.Signal(syscall.SIGSTOP)
		},
		"killed and started later": func(g *gateway.Gateway) (func(context.Context) error, error) {
			g.Kill()
			return g.Start, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, 0, busy(nil))
			ctx := limited(t)
			pourAll(ctx, t, g, g.DataDir(), rate, func(p *pour) error {
				goOn, err := rest(g)
				if err == nil {
					err = p.until(ctx, p.began.Load()+int64(times(5, 300))*rate)
				}
				return errors.Join(err, goOn(ctx))
			})
		})
	}
}

func TestAnUplinkThatGoesAndComesBackLosesNoSessionThatWasOpen(t *testing.T) {
	g := open(t, 0, busy(nil))
	ctx := limited(t)
	pourAll(ctx, t, g, g.DataDir(), 10_000, func(p *pour) error {
		for range times(3, 30) {
			if err := g.Border.Gateway.Unlink(g.Uplink); err != nil {
				return err
			}
			if _, err := g.Until(ctx, "the agent waits for its uplink", waits); err != nil {
				return err
			}
			if err := joinUplink(g.Border); err != nil {
				return err
			}
			if _, err := g.Until(ctx, "the uplink is watched", attached); err != nil {
				return err
			}
			if err := p.until(ctx, p.began.Load()+2_000); err != nil {
				return err
			}
		}
		return nil
	})
}

// resize changes MTU and queues of both ends of the uplink.
func resize(ctx context.Context, g *gateway.Gateway, mtu int, queues string) error {
	change := func(name string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(l, mtu)
	}
	err := errors.Join(
		g.Border.Gateway.Do(func() error { return change(g.Uplink) }), g.Internet.Do(func() error { return change("border") }))
	for _, more := range [][]string{{g.Uplink, queues, "1"}, {g.Uplink, queues, queues}} { // receiving ones may not be fewer than the peer's sending ones
		_, e := g.Border.Gateway.Run(ctx, "ethtool", "-L", more[0], "rx", more[1], "tx", more[2])
		err = errors.Join(err, e)
	}
	return err
}

func TestMTUAndQueuesThatChangeUnderTrafficLoseNothing(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	const all = 8000
	w := newCrowd(t, g, 8080)
	made := make(chan error, 1)
	wait := w.call(ctx, all)
	go func() { made <- wait() }() // ends with the last connection
	changes := 0
	for done := false; !done; changes++ {
		if err := resize(ctx, g, []int{1500, 1400, 1280, 3000}[changes%4], []string{"2", "1"}[changes%2]); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-made:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	if changes < 4 {
		t.Errorf("MTU and queues were changed %d times only", changes)
	}
	if _, err := allStored(ctx, g, all); err != nil {
		t.Fatal(err)
	}
	storedOnce(t, g, w)
	t.Logf("%d changes under %d connections", changes, all)
}
