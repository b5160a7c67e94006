package tests

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
)

// inNamespace is a probe whose links are those of the gateway although the rest
// of this process is not there.
type inNamespace struct {
	*probe.Probe
	g *gateway.Gateway
}

func (n inNamespace) Run(ctx context.Context) error {
	return n.g.Gateway().Do(func() error { return n.Probe.Run(ctx) })
}

// ownTime opens the agent's recorder in this process, with a wall clock that the
// test sets. Only what measures that clock has it: all else goes by the time
// that has passed, which no step of the wall clock changes.
func ownTime(ctx context.Context, t *testing.T, g *gateway.Gateway, now func() time.Time) *recorder.Recorder {
	t.Helper()
	c, err := config.Load(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recorder.Open(ctx, recorder.Options{
		Config: c,
		OpenSource: func(o probe.Options) (s recorder.Source, err error) {
			err = g.Gateway().Do(func() error {
				o.Now = now
				p, err := probe.Open(o)
				s = inNamespace{p, g}
				return err
			})
			return s, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stepped waits until the recorder has seen so many steps of the clock.
func stepped(ctx context.Context, r *recorder.Recorder, n uint64) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.Status().Probe.Clock.Steps < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the step of the clock was not seen")
		}
	}
	return nil
}

func TestAClockThatIsSetByAnHourLosesNothingAndMovesNoTimeOfThePast(t *testing.T) {
	ctx := limited(t)
	g := open(t, 0, busy(nil))
	var shift atomic.Int64
	r := ownTime(ctx, t, g, func() time.Time { return time.Now().Add(time.Duration(shift.Load())) })
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }() // ends with stop

	p := newPour(g, 0, 1000)
	hours := []time.Duration{0, time.Hour, -time.Hour, 0} // of the clock, while a thousand sessions begin and the thousand before end
	for i, h := range hours {
		shift.Store(int64(h))
		err := stepped(ctx, r, uint64(i))
		for range 10 {
			err = errors.Join(err, p.burst(100))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := p.end()
	if err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		if s := r.Status(); s.Sessions.Stored >= uint64(n) && s.Probe.Table.Open+s.Probe.Table.Closed == 0 {
			break
		}
	}
	if err := r.Status().Balance(); err != nil {
		t.Error(err)
	}
	stop()
	if err := errors.Join(<-ran, r.Close()); err != nil {
		t.Fatal(err)
	}
	checkSteps(t, readBack(t, g, g.DataDir(), p, n), p, hours)
}

// checkSteps compares times with a clock that stood at hours while each
// thousand sessions began.
func checkSteps(t *testing.T, back *poured, p *pour, hours []time.Duration) {
	t.Helper()
	if m := back.missing(); len(m) > 0 || back.strange > 0 {
		t.Fatalf("%d sessions are missing, %d are strange", len(m), back.strange)
	}
	wrong := 0
	for i := range back.sessions {
		f := &back.sessions[i]
		begin, end := hours[i/1000], hours[min(i/1000+1, len(hours)-1)]
		began, ended := p.when(i), p.when(min(i+p.open, len(back.sessions)))
		right := began.holds(f.start-int64(begin)) && f.reason == session.EndRST && !f.doubled
		if end >= begin {
			right = right && ended.holds(f.end-int64(end))
		} else { // it ended before it began: it is given no time at all
			right = right && f.end == f.start
		}
		if !right {
			if wrong++; wrong < 5 {
				t.Logf("session %d: %+v, began at %v and ended at %v", i, *f, began.before.Add(begin), ended.before.Add(end))
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d sessions are stored with wrong times, or twice", wrong, len(back.sessions))
	}
}
