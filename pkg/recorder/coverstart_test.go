package recorder

import (
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

func TestAKilledAgentMissesNothingWhileTheProgramsGoOn(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(20 * time.Second)
	r.table.losses.Adopted, r.table.losses.Uplinks[0].Kept = true, true
	r.killed(5*time.Minute, nil)
	r.pass(3 * time.Second)
	r.mustSay("eth9", "1s-5m23s complete")
	for _, e := range r.entries() {
		if e.Kind == ledger.Gap {
			t.Errorf("%+v", e)
		}
	}
}

func TestWhatWasRefusedWithoutAnAgentIsSaidOfTheSecondsInWhichItWas(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(20 * time.Second)
	r.refuse(0, 4) // before the kill, after the last look
	r.table.losses.Adopted, r.table.losses.Uplinks[0].Kept = true, true
	r.killed(60*time.Second, func() { r.idle(60 * time.Second); r.refuse(0, 1); r.idle(10 * time.Second); r.refuse(0, 2) })
	r.pass(3 * time.Second)
	r.mustSay("eth9", "1s-20s complete", "20s-1m31s sampled: table full, agent down; 7 packets refused, 0 samples", "1m31s-2m33s complete")
}

func TestWhatTheStampsDoNotCoverIsTakenFromTheMarkOn(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(20 * time.Second)
	r.table.losses.Adopted, r.table.losses.Uplinks[0].Kept = true, true
	r.killed(10*time.Second, func() {
		r.idle(5 * time.Second)
		r.refuse(0, 1)
		r.table.losses.Looked++ // the disk is older than the table
	})
	r.pass(time.Second)
	r.mustSay("eth9", "1s-12s complete", "12s-26s sampled: table full, agent down; 1 packets refused, 0 samples", "26s-36s complete")
}

func TestALinkThatWasMadeAnewWithoutAnAgentIsMissingAllTheTime(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(5 * time.Second)
	r.table.losses.Adopted = true
	r.killed(10*time.Second, nil)
	r.pass(2 * time.Second)
	r.mustSay("eth9", "1s-2s complete", "2s-15s missing: agent down, not known to be attached", "15s-17s complete")
}

func TestADrainIsSaidUntilTheNextStart(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(5 * time.Second)
	r.cover.stop(true)
	r.killed(10*time.Second, nil)
	r.pass(2 * time.Second)
	r.mustSay("eth9", "1s-5s complete", "5s-15s missing: agent stopped", "15s-17s complete")
}

func TestATableThatIsLostTakesBackWhatItHeld(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(100 * time.Second)
	r.table.losses.StoredThrough, r.table.losses.OldestOpen = evening.Add(70*time.Second).UnixNano(), evening.Add(31*time.Second).UnixNano()
	r.table.add(seen(1, evening)...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	r.pass(2 * time.Second)
	r.table.losses.StoredThrough, r.table.losses.OldestOpen = 0, 0
	r.killed(10*time.Second, nil)
	r.pass(2 * time.Second)
	lost := session.OpenLost.Words()[0]
	r.mustSay("eth9", "1s-30s complete", "30s-1m9s complete: "+lost, "1m9s-1m41s missing: table lost",
		"1m41s-1m52s missing: agent down, table lost", "1m52s-1m54s complete")
	var gaps, stretches int
	for _, e := range r.entries() {
		if e.Kind == ledger.Gap && e.Fields["cause"] == "table lost" {
			gaps++
			if e.Fields["stored_through"] != secondText(began+69) || e.Fields["oldest_open"] != secondText(began+30) {
				t.Errorf("%v", e.Fields)
			}
		}
		if e.Kind == ledger.Coverage {
			stretches++
		}
	}
	if gaps != 1 || stretches == 0 { // the hour that was over was said anew
		t.Errorf("%d gaps, %d stretches in the ledger", gaps, stretches)
	}
}

func TestATableThatIsLostASecondTimeTakesBackNothingMore(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(5 * time.Second)
	r.killed(5*time.Second, nil)
	r.pass(12 * time.Second)
	r.killed(5*time.Second, nil)
	r.pass(2 * time.Second)
	for _, s := range r.says("eth9") {
		if strings.HasPrefix(s, "11s") && !strings.Contains(s, "complete") {
			t.Errorf("%v", r.says("eth9"))
		}
	}
}
