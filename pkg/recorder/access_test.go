package recorder

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q is there %d times", old, strings.Count(s, old))
	}
	return strings.Replace(s, old, new, 1)
}

// bindingKinds are the kinds of blocks that hold bindings.
var bindingKinds = []store.Kind{store.KindBindings, store.KindLate, store.KindInForce, store.KindEnds}

// writtenOn counts the binding blocks filed under a day.
func (r *room) writtenOn(day session.Day) int {
	r.t.Helper()
	n := 0
	for _, kind := range bindingKinds {
		err := r.store.ScanDays(r.t.Context(), kind, day, day, math.MinInt64, math.MaxInt64, func(vault.Place, store.Sealed) error { n++; return nil })
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return n
}

func TestEachDayHasWhatWasInForce(t *testing.T) {
	r := newRoom(t, "")
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	today := session.DayOf(evening.UnixNano())
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	first := r.writtenOn(today)
	if first == 0 {
		t.Fatal("nothing was written at the start")
	}
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if n := r.writtenOn(today); n != first {
		t.Errorf("written again on the same day: %d, then %d", first, n)
	}
	for d := session.Day(1); d <= 3; d++ {
		r.clock.add(24 * time.Hour)
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
		if n := r.writtenOn(today + d); n != 1 {
			t.Errorf("%d blocks on day %d", n, d)
		}
	}
	_, bindings, _ := r.read()
	for i := range bindings {
		if bindings[i].Subscriber != "anna" || bindings[i].To != session.Forever {
			t.Errorf("%+v", bindings[i])
		}
	}
}

func TestAStartWritesWhatIsInForceAgain(t *testing.T) {
	r := newRoom(t, "")
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	r.shut()
	r.clock.add(48 * time.Hour)
	r.open()
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if n := r.writtenOn(session.DayOf(r.clock.Now().UnixNano())); n != 1 {
		t.Errorf("%d blocks on the day of the second start", n)
	}
}

func TestAccessRecordsThatCannotBeStoredAreKeptForLater(t *testing.T) {
	r := newRoom(t, "")
	f := &faulty{Store: r.store, err: store.ErrNoSpace}
	r.access.shelf.store = f
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	if _, err := r.access.step(t.Context(), false); !errors.Is(err, store.ErrNoSpace) {
		t.Fatal(err)
	}
	if n := r.book.Stats().NotSealed; n != 1 {
		t.Errorf("%d bindings wait", n)
	}
	f.err = nil
	r.clock.add(time.Minute)
	if _, err := r.access.step(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, bindings, _ := r.read(); len(bindings) == 0 || r.book.Stats().NotSealed != 0 {
		t.Errorf("%d bindings stored, %d wait", len(bindings), r.book.Stats().NotSealed)
	}
}

// TestACorrectionThatComesDaysLaterIsFoundWithoutReadingTheDaysBetween lets the
// start of a session come ten days late, and counts what is read for its hour.
func TestACorrectionThatComesDaysLaterIsFoundWithoutReadingTheDaysBetween(t *testing.T) {
	r := newRoom(t, "")
	r.logOn("long", "10.0.0.9", evening.Add(-time.Hour)) // goes on all the time
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	for d := range 10 {
		r.clock.add(24 * time.Hour)
		r.logOn("somebody", fmt.Sprintf("10.0.1.%d", d), r.clock.Now().Add(-time.Minute)) // a change of each day
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
	}
	r.logOn("anna", "10.0.0.1", evening.Add(-30*time.Minute))
	r.logOff("long", "10.0.0.9", r.clock.Now())
	r.clock.add(time.Minute)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if n := r.access.count.late; n != 1 {
		t.Errorf("%d access records are late", n)
	}
	read, found := 0, false
	unseal := r.opener()
	_, err := r.Shelf().Bindings(t.Context(), evening.Add(-20*time.Minute).UnixNano(), evening.UnixNano(), func(sealed []byte) error {
		read++
		_, list, err := block.DecodeBindings(unseal(sealed))
		for i := range list {
			found = found || list[i].Subscriber == "anna"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := r.store.Health().Blocks; !found || read > 8 || all < 20 {
		t.Errorf("found %v, %d blocks of %d were read", found, read, all)
	}
}

// TestALogOffThatComesDaysLaterIsAmongTheEnds asks for the ends that became known
// long after an hour in which the session was in force, and long after its last
// hour, before they are merged and after.
func TestALogOffThatComesDaysLaterIsAmongTheEnds(t *testing.T) {
	r := newRoom(t, "")
	r.logOn("long", "10.0.0.9", evening.Add(-time.Hour))
	for d := range 10 {
		who := fmt.Sprintf("short%d", d)
		r.logOn(who, "10.0.0.1", r.clock.Now().Add(-time.Minute))
		r.logOff(who, "10.0.0.1", r.clock.Now())
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
		r.clock.add(24 * time.Hour)
	}
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	ended := r.clock.Now()
	r.logOff("long", "10.0.0.9", ended)
	r.clock.add(time.Minute)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []store.Kind{store.KindEnds, store.KindEndsMerged} {
		unseal := r.opener()
		ends := func(to time.Time) (list []session.Binding) {
			damaged, err := r.Shelf().Ends(t.Context(), to.Add(-20*time.Minute).UnixNano(), to.UnixNano(), vault.MaxFrames, func(sealed []byte) error {
				p, err1 := vault.ParsePlace(sealed)
				_, more, err2 := block.DecodeBindings(unseal(sealed))
				list = append(list, more...)
				if store.Kind(p.Kind) != kind {
					t.Errorf("a block of kind %d, not %d", p.Kind, kind)
				}
				return errors.Join(err1, err2)
			})
			if err != nil || damaged > 0 {
				t.Fatal(damaged, err)
			}
			return list
		}
		if list := ends(evening); len(list) != 1 || list[0].Subscriber != "long" || list[0].To != ended.UnixNano() {
			t.Errorf("kind %d: %+v", kind, list)
		}
		if list := ends(ended); len(list) != 0 {
			t.Errorf("kind %d: not known long after, but at once: %+v", kind, list)
		}
		if err := r.merger.finish(); err != nil {
			t.Fatal(err)
		}
	}
}
