package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/probe"
)

// hours is a room whose kernel counts; its clock begins a minute before midnight.
func hours(t *testing.T) *room {
	r := newRoom(t, "")
	r.table.volume = probe.Volume{Settled: true, Uplinks: []probe.UplinkVolume{{Uplink: "eth9"}}}
	r.volume.look()
	return r
}

// crosses counts packets and sessions that come in.
func (r *room) crosses(packets, sessions uint64) {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	in := &r.table.volume.Uplinks[0].In
	in.Packets, in.Sessions = in.Packets+packets, in.Sessions+sessions
}

// lives passes time with a look every five seconds, as an agent does.
func (r *room) lives(d time.Duration) {
	for ; d > 0; d -= lookEvery {
		r.clock.add(lookEvery)
		r.volume.look()
	}
}

// until lives on to a time of the second of March.
func (r *room) until(hour, minute int) {
	r.t.Helper()
	r.lives(time.Date(2025, 3, 2, hour, minute, 0, 0, time.UTC).Sub(r.clock.Now()))
}

// restart stops the agent, in good order or not, and starts it after a while.
func (r *room) restart(down time.Duration, killed bool) {
	r.t.Helper()
	if !killed {
		r.volume.stop()
	}
	r.shut()
	r.clock.add(down)
	r.open()
	r.volume.look()
}

// rows are those of one direction, in short form.
func (r *room) rows(direction string) (out []string) {
	r.t.Helper()
	v, err := r.Volume(evening.AddDate(0, 0, -1), evening.AddDate(0, 1, 0))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, row := range v.Rows {
		if row.Direction != direction {
			continue
		}
		s := fmt.Sprintf("%s+%d %s %d/%d", row.Hour.Format("02T15"), row.Hours, row.Uplink, row.Packets, row.Sessions)
		if row.Below {
			s = fmt.Sprintf("%s+%d %s <%d", row.Hour.Format("02T15"), row.Hours, row.Uplink, row.K)
		}
		if row.Partial {
			s += " partial"
		}
		out = append(out, s)
	}
	return out
}

func (r *room) mustCount(want ...string) {
	r.t.Helper()
	if d := cmp.Diff(want, r.rows("in")); d != "" {
		r.t.Error(d)
	}
}

func TestAnHourHasFiguresFromTheThresholdOn(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(1000, 20)
	r.until(1, 10)
	r.crosses(2000, 19)
	r.until(2, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 1000/20", "02T01+1 eth9 <20")
	if got := r.rows("out"); len(got) != 3 || got[1] != "02T00+1 eth9 <20" {
		t.Errorf("a direction alone: %q", got)
	}
	text, err := os.ReadFile(filepath.Join(r.Config().DataDir, "volume", "2025-03.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{":2000", ":19"} { // the figures of the hour below it
		if strings.Contains(string(text), never) {
			t.Errorf("%s is on the disk:\n%s", never, text)
		}
	}
	if !strings.Contains(string(text), ":1000") {
		t.Errorf("those of the other are not:\n%s", text)
	}
}

func TestTheThresholdIsThatOfTheConfiguration(t *testing.T) {
	r := hours(t)
	c := r.config(r.text + "[statistics]\nk = 10\n")
	if done, err := r.Reload(t.Context(), c); err != nil || len(done.Changed) != 1 || done.Changed[0] != "statistics" {
		t.Errorf("%+v, %v", done, err)
	}
	r.until(0, 10)
	r.crosses(5, 10)
	r.until(1, 10)
	r.mustCount("01T23+1 eth9 <10 partial", "02T00+1 eth9 5/10")
	for _, k := range []string{"9", "0", "-1", "1000000001"} {
		if _, err := config.Parse([]byte(r.text+"[statistics]\nk = "+k+"\n"), "x.toml"); err == nil || !strings.Contains(err.Error(), "statistics.k") {
			t.Errorf("k = %s: %v", k, err)
		}
	}
}

func TestARestartNeitherLosesNorDoublesAnything(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(100, 30)
	r.lives(5 * time.Second)
	r.crosses(10, 1) // after the last look
	r.restart(10*time.Minute, false)
	r.crosses(1, 1)
	r.restart(time.Minute, false)
	r.until(1, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 111/32")
	if _, err := os.Stat(filepath.Join(r.Config().DataDir, "volume", "running.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the figures of a running hour are on the disk: %v", err)
	}
}

func TestWhatIsCountedWithoutAnAgentOverSeveralHoursIsOneRow(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(100, 30)
	r.lives(5 * time.Second)
	r.volume.stop()
	r.crosses(1000, 5)
	r.restart(3*time.Hour, false)
	r.crosses(10000, 1)
	r.until(5, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+4 eth9 11100/36", "02T04+1 eth9 <20")
}

func TestACrashLosesTheRunningHourAtMost(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(100, 30)
	r.until(1, 10)
	r.crosses(1000, 40) // of this hour so far nothing is on the disk
	r.lives(time.Minute)
	r.restart(time.Minute, true)
	r.crosses(10, 25)
	r.until(2, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 100/30", "02T01+1 eth9 10/25 partial")
}

func TestAStateThatIsLeftFromBeforeACrashIsNotTakenTwice(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(100, 30)
	r.restart(time.Minute, false) // the state is taken over, and goes
	r.until(1, 10)
	r.restart(time.Minute, true)
	r.until(2, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 100/30", "02T01+1 eth9 <20 partial")
}

func TestANewTableIsCountedFromItsBeginning(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.crosses(5000, 500)
	r.lives(5 * time.Second)
	r.volume.stop()
	r.table.volume.Uplinks[0].In = probe.Traffic{Packets: 70, Sessions: 7}
	r.restart(time.Minute, false)
	r.until(1, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 5070/507 partial")
}

func TestCountersThatMayYetJumpAreNotRead(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.table.volume.Settled = false
	r.table.volume.Uplinks[0].In = probe.Traffic{Packets: 3, Sessions: 3} // the rest waits in the older table
	r.lives(5 * time.Second)
	r.table.volume.Settled = true
	r.table.volume.Uplinks[0].In = probe.Traffic{Packets: 50, Sessions: 30}
	r.until(1, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 50/30")
}

func TestAnUplinkThatComesLaterBeginsWithItsOwnTraffic(t *testing.T) {
	r := hours(t)
	r.until(0, 10)
	r.table.volume.Uplinks = append(r.table.volume.Uplinks, probe.UplinkVolume{Uplink: "eth8", In: probe.Traffic{Packets: 1e9, Sessions: 1e6}})
	r.lives(5 * time.Second)
	r.table.volume.Uplinks[1].In = probe.Traffic{Packets: 1e9 + 7, Sessions: 1e6 + 21}
	r.until(1, 10)
	r.table.volume.Uplinks = r.table.volume.Uplinks[:1] // and goes
	r.until(3, 10)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth8 7/21", "02T00+1 eth9 <20", "02T01+1 eth8 <20", "02T01+1 eth9 <20", "02T02+1 eth9 <20")
}

func TestAClockThatIsSetMakesNoHourTwice(t *testing.T) {
	r := hours(t)
	r.until(1, 10)
	r.crosses(100, 30)
	r.clock.jump(-30 * time.Minute)
	r.volume.look()
	r.until(1, 50)
	r.clock.jump(3 * time.Hour)
	r.crosses(1000, 1)
	r.until(6, 0)
	r.mustCount("01T23+1 eth9 <20 partial", "02T00+1 eth9 <20", "02T01+1 eth9 1100/31 partial", "02T04+1 eth9 <20 partial", "02T05+1 eth9 <20")
}

func TestRowsThatTheDiskDoesNotTakeAreWrittenLater(t *testing.T) {
	r := hours(t)
	dir := filepath.Join(r.Config().DataDir, "volume")
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	r.crosses(100, 30)
	r.until(0, 10)
	if e := r.Status().LastError; e == nil || !strings.Contains(e.Text, "traffic is not counted: write the rows of 2025-03") {
		t.Errorf("%+v", e)
	}
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	r.lives(5 * time.Second)
	r.mustCount("01T23+1 eth9 100/30 partial")
}

func TestRowsOwedSurviveAStop(t *testing.T) {
	r := hours(t)
	dir := filepath.Join(r.Config().DataDir, "volume")
	blocked := filepath.Join(dir, "2025-03.jsonl") // the only name that cannot be written
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	r.crosses(100, 30)
	r.until(0, 10)
	r.volume.stop()
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	r.restart(0, true)
	r.mustCount("01T23+1 eth9 100/30 partial")
}

func TestLinesThatAreNoRowsAreLeftOutAndSaid(t *testing.T) {
	r := hours(t)
	r.crosses(100, 30)
	r.until(0, 10)
	name := filepath.Join(r.Config().DataDir, "volume", "2025-03.jsonl")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	wrong := []string{
		"not JSON", "{}", `{"hour":"2025-03-02T05:30:00Z","hours":1,"uplink":"a","direction":"in","k":20,"below":true}`,
		`{"hour":"2025-03-02T05:00:00Z","hours":1,"uplink":"a","direction":"in","k":20,"packets":7,"sessions":19}`,
		`{"hour":"2025-03-02T05:00:00Z","hours":1,"uplink":"a","direction":"in","k":20,"below":true,"packets":7}`,
		`{"hour":"2025-03-02T05:00:00Z","hours":1,"uplink":"a","direction":"in","k":2,"packets":7,"sessions":7}`,
		`{"hour":"2025-03-02T05:00:00Z","hours":1,"uplink":"a","direction":"up","k":20,"below":true}`,
		strings.Repeat("x", 1<<20), `{"hour":"2025-03-02T05:0`, // as a power cut leaves it
	}
	if err := os.WriteFile(name, append(text, strings.Join(wrong, "\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.until(1, 10)
	r.mustCount("01T23+1 eth9 100/30 partial", "02T00+1 eth9 <20")
	v, err := r.Volume(evening, evening.AddDate(0, 0, 1))
	if err != nil || len(v.Damaged) != 1 || v.Damaged[0] != fmt.Sprintf("2025-03.jsonl: %d lines are not understood", len(wrong)) {
		t.Errorf("%q, %v", v.Damaged, err)
	}
	if err := os.Truncate(name, maxVolumeFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Volume(evening, evening.AddDate(0, 0, 1)); err == nil || !strings.Contains(err.Error(), "more than a month can have") {
		t.Error(err)
	}
}

func TestAStateThatIsNoneIsNotTaken(t *testing.T) {
	for _, text := range []string{"", "{}", `{"from":"2025-03-01T23:00:00Z","hour":"2025-03-01T22:00:00Z","last":{}}`, "\x00\x00"} {
		r := hours(t)
		name := filepath.Join(r.Config().DataDir, "volume", "running.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.restart(0, true)
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q is still there: %v", text, err)
		}
		r.until(0, 10)
		r.mustCount("01T23+1 eth9 <20 partial")
	}
}

func TestTheAgentAnswersHowMuchCrossedTheBorder(t *testing.T) {
	r := hours(t)
	r.crosses(100, 30)
	r.until(0, 10)
	stop := r.start()
	q := url.Values{"from": {"2025-03-01T23:00:00Z"}, "to": {"2025-03-02T00:00:00Z"}}
	var v VolumeReport
	if err := json.NewDecoder(r.httpGet(PathVolume + "?" + q.Encode()).Body).Decode(&v); err != nil || len(v.Rows) != 2 || v.Gateway != "gw1" || v.None != "" || v.K != 20 {
		t.Errorf("%v %+v", err, v)
	}
	for _, bad := range []string{"", "?from=now&to=now", "?from=2025-03-02T00:00:00Z&to=2025-03-01T00:00:00Z", "?from=1925-03-02T00:00:00Z&to=2025-03-01T00:00:00Z"} {
		if resp := r.httpGet(PathVolume + bad); resp.StatusCode != 400 {
			t.Errorf("%q: %s", bad, resp.Status)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.Config().DataDir, "volume", "running.json")); err != nil {
		t.Errorf("a stop in good order keeps the running hour: %v", err)
	}
}

func TestWithoutUplinksThereIsNothingToCount(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	r.text = strings.NewReplacer(`profile = "session"`, `profile = "access"`, "[[uplink]]\nname = \"eth9\"\n", "").Replace(r.text)
	r.open()
	v, err := r.Volume(evening, evening.Add(time.Hour))
	if err != nil || !strings.Contains(v.None, "no uplink is configured") || len(v.Rows) != 0 {
		t.Errorf("%v %+v", err, v)
	}
	r.volume.look()
	r.volume.stop()
	r.shut()
	r.text = strings.Replace(r.text, "[border]", "[[uplink]]\nname = \"eth9\"\n[border]", 1)
	r.open()
	if v, err = r.Volume(evening, evening.Add(time.Hour)); err != nil || !strings.Contains(v.None, `profile "access" begins no sessions`) {
		t.Errorf("%v %+v", err, v)
	}
}
