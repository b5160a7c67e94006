package recorder

import (
	"errors"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
)

// losing is a source that says what it lost.
type losing struct {
	losses probe.Losses
	err    error
}

func (l *losing) Losses() (probe.Losses, error) { return l.losses, l.err }

func TestWhatWasRefusedLatelyIsToldApartFromWhatWasRefusedEver(t *testing.T) {
	var p pace
	src := &losing{losses: probe.Losses{Sampled: 4, Uplinks: []probe.Loss{
		{Refused: probe.Refusals{TableFull: 1000}}, {Refused: probe.Refusals{HalfOpen: 500}},
	}}}
	p.look(src, evening)
	if p.lately != (Lately{}) {
		t.Errorf("known at the first look: %+v", p.lately)
	}
	src.losses.Uplinks[0].Refused.TableFull += 20
	src.losses.Uplinks[1].Refused.Contended += 3
	src.losses.Sampled++
	p.look(src, evening.Add(5*time.Second))
	if want := (Lately{Seconds: 5, Refused: 23, Sampled: 1}); p.lately != want {
		t.Errorf("%+v", p.lately)
	}
	p.look(src, evening.Add(10*time.Second))
	if want := (Lately{Seconds: 5}); p.lately != want {
		t.Errorf("it is over: %+v", p.lately)
	}
	src.losses.Uplinks = src.losses.Uplinks[:1] // reconfigured
	p.look(src, evening.Add(15*time.Second))
	if p.lately != (Lately{}) {
		t.Errorf("an uplink less is no loss: %+v", p.lately)
	}
	src.err = errors.New("no")
	p.look(src, evening.Add(20*time.Second))
	p.look(noSource{}, evening.Add(25*time.Second))
	if p.lately != (Lately{}) {
		t.Errorf("%+v", p.lately)
	}
}
