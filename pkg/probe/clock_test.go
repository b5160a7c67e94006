package probe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// handClock is a clock whose two sources are set by hand.
func handClock(t *testing.T, dir string, mono *uint64, utc *int64) *clock {
	t.Helper()
	c := &clock{bootID: "this boot", read: func() (uint64, int64, int64) { return *mono, *utc, 50 }}
	if dir != "" {
		c.path = filepath.Join(dir, clockFile)
		if err := c.load(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.measure(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestATimeStaysTheSameHoweverTheClockIsDisciplinedLater(t *testing.T) {
	mono, utc := uint64(1000*second), int64(1700000000*second)
	c := handClock(t, "", &mono, &utc)
	packet := uint64(1001 * second)
	first := c.utc(packet)
	for range 100 { // the clock is slewed, 0.1 ms a second
		mono += uint64(second)
		utc += second + 100_000
		if step, err := c.measure(); step != 0 || err != nil {
			t.Fatal(step, err)
		}
	}
	if got := c.utc(packet); got != first {
		t.Errorf("the packet's time moved by %v", time.Duration(got-first))
	}
	if off := time.Duration(c.utc(mono) - utc); off.Abs() > offsetTolerance {
		t.Errorf("now is %v off", off)
	}
}

func TestAStepOfTheClockIsToldAndDoesNotTouchThePast(t *testing.T) {
	mono, utc := uint64(1000*second), int64(1700000000*second)
	c := handClock(t, "", &mono, &utc)
	before := c.utc(1000 * uint64(second))
	mono += uint64(10 * second)
	utc += 10*second + 3600*second
	step, err := c.measure()
	if err != nil || step != time.Hour {
		t.Errorf("step %v, %v", step, err)
	}
	if c.utc(1000*uint64(second)) != before || c.utc(mono) != utc || c.steps != 1 {
		t.Errorf("past %d, now %d, steps %d", c.utc(1000*uint64(second)), c.utc(mono), c.steps)
	}
}

func TestTheHistoryOfThisBootOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	mono, utc := uint64(1000*second), int64(1700000000*second)
	c := handClock(t, dir, &mono, &utc)
	early := c.utc(900 * uint64(second))
	mono, utc = mono+uint64(second), utc+second+5_000_000
	if _, err := c.measure(); err != nil {
		t.Fatal(err)
	}
	mono, utc = mono+uint64(second), utc+second+5_000_000
	again := handClock(t, dir, &mono, &utc)
	if got := again.utc(900 * uint64(second)); got != early {
		t.Errorf("after a restart a time is %v off", time.Duration(got-early))
	}
	other := handClock(t, dir, &mono, &utc)
	other.bootID, other.segments = "another boot", nil
	if err := other.load(); err != nil || len(other.segments) != 0 {
		t.Errorf("the history of another boot was used: %v, %v", other.segments, err)
	}
}

func TestADamagedHistoryIsAnErrorThatSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, clockFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openClock(dir, time.Now); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("%v", err)
	}
}

func TestTheProgramsClockIsTheMonotonicClock(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: MinSlots}, 4096, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o := Options{}.withDefaults()
	coll, err := loadPrograms(r.maps, &o, knobs{}, "edgelog_clock")
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for range 1000 {
		if off, err := checkTicks(coll.Programs["edgelog_clock"], r.t.meta); err != nil || off != 0 {
			t.Fatalf("the programs' clock is %v off, %v", off, err)
		}
	}
	before := programsNow()
	if err := r.Packet(tcp4(false, "S"), 0); err != nil {
		t.Fatal(err)
	}
	after := programsNow()
	for i := range r.t.slots {
		if s := &r.t.slots[i]; s.State&phaseMask == phaseLive {
			if tick := r.t.meta.TickNs; s.First+2*tick < before || s.First > after+2*tick {
				t.Errorf("first packet at %d, between %d and %d", s.First, before, after)
			}
		}
	}
}
