package disclose

import (
	"fmt"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// TestALogOffThatCameWeeksLaterMakesAnAnswerCertain asks who held an address that
// was held for weeks: its end lies in a block that only its head tells from others.
func TestALogOffThatCameWeeksLaterMakesAnAnswerCertain(t *testing.T) {
	ended := bind("anna", hour, -500*hour)
	for _, c := range []struct {
		name    string
		before  session.Binding // as it is among the changes of the day
		end     session.Binding
		damage  bool
		verdict Verdict
		blocks  int
	}{
		{"it is found", bind("anna", hour, 0), ended, false, Certain, 2},
		{"another log-on of his ended", bind("anna", hour, 0), bind("anna", hour+sec, -500*hour), false, Likely, 2},
		{"another address of his was given up", bind("anna", hour, 0), bind("anna", hour, -500*hour, on("10.9.0.1/32")), false, Likely, 1},
		{"the block is damaged", bind("anna", hour, 0), ended, true, Uncertain, 1},
		{"nothing is missing, so nothing is asked for", bind("anna", hour, -minute), ended, true, Certain, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newGateRoom(t, nil)
			r.shelf.addBindings(c.before)
			for i := range 6 { // heads of every other one
				list := []session.Binding{bind("bo", hour, -500*hour, on(fmt.Sprintf("10.0.%d.1/32", i+1)))}
				if i == 3 {
					list = append(list, c.end)
				}
				r.shelf.addEnds(list...)
			}
			if c.damage {
				r.shelf.ended[3][len(r.shelf.ended[3])-1] ^= 1
			}
			a, err := r.askWho(t, asks(nil))
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != c.verdict || a.Candidates[0].Subscriber != "anna" || a.Summary.BindingBlocks != c.blocks {
				t.Errorf("%s (%s), %d blocks of bindings", a.Verdict, a.Reason, a.Summary.BindingBlocks)
			}
			if c.verdict == Certain && a.Candidates[0].To == session.Forever {
				t.Error("the end is not said")
			}
		})
	}
}

// TestLookupSaysNothingOfStillLoggedOnWhenTheLogOffCameWeeksLater joins sessions
// with an end that lies among those of later days.
func TestLookupSaysNothingOfStillLoggedOnWhenTheLogOffCameWeeksLater(t *testing.T) {
	for _, known := range []bool{false, true} {
		r := newGateRoom(t, nil)
		r.shelf.addBindings(bind("anna", hour, 0))
		r.shelf.addSessions(lived(-31*minute, -29*minute))
		if known {
			r.shelf.addEnds(bind("anna", hour, -500*hour))
		}
		a, err := r.ask(t, askAnna())
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Hits) != 1 || a.Hits[0].Subscriber != "anna" || (len(a.Hits[0].Doubts) == 0) != known {
			t.Errorf("known %v: %+v", known, a.Hits)
		}
	}
}
