package recorder

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
)

// began is the second in which the tests' agents start.
var began = evening.Unix()

// watchedRoom is a room whose table watches one uplink, or more.
func watchedRoom(t *testing.T, uplinks ...string) *room {
	t.Helper()
	r := newRoom(t, "")
	if len(uplinks) == 0 {
		uplinks = []string{"eth9"}
	}
	for _, name := range uplinks {
		r.table.losses.Uplinks = append(r.table.losses.Uplinks, probe.Loss{Uplink: name, Present: true, In: true, Out: true})
	}
	r.table.losses.Ticks = 1e12
	return r
}

// pass lets time pass, and the agent look once a second.
func (r *room) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		r.idle(min(d, time.Second))
		r.cover.step(false)
	}
}

// idle lets time pass without an agent.
func (r *room) idle(d time.Duration) {
	r.clock.add(d)
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	r.table.losses.Ticks += uint64(d)
}

// refuse has an uplink refuse packets now.
func (r *room) refuse(uplink int, n uint64) {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	u := &r.table.losses.Uplinks[uplink]
	u.Refused.TableFull += n
	now := r.clock.Now().UnixNano()
	if u.LastRefused == 0 || r.table.losses.Looked > r.ticksOf(u.LastRefused) {
		u.FirstRefused = now
	}
	u.LastRefused = now
}

// ticksOf converts a time while the clock is not set.
func (r *room) ticksOf(ns int64) uint64 {
	return r.table.losses.Ticks - uint64(r.clock.Now().UnixNano()-ns)
}

// killed ends the agent without a word and starts another.
func (r *room) killed(down time.Duration, meanwhile func()) {
	r.t.Helper()
	r.shut()
	if meanwhile != nil {
		meanwhile()
	}
	r.idle(down)
	r.table.closed = false
	r.open()
	r.cover.step(true)
}

// says returns what is known, in short: seconds from the start, state, reasons.
func (r *room) says(uplink string) (out []string) {
	r.t.Helper()
	report, err := r.Coverage(evening.Add(-time.Hour), evening.Add(24*time.Hour), uplink)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range session.Together(report.Spans) {
		if s.State == session.CoverUnknown {
			continue
		}
		from, to := time.Duration(s.From-began)*time.Second, time.Duration(s.To-began)*time.Second
		out = append(out, strings.TrimSpace(from.String()+"-"+to.String()+" "+s.Text()))
	}
	return out
}

func (r *room) mustSay(uplink string, want ...string) {
	r.t.Helper()
	if d := cmp.Diff(want, r.says(uplink)); d != "" {
		r.t.Errorf("%s: %s", uplink, d)
	}
}

func TestSecondsThatWereSeenWhollyAreComplete(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(10 * time.Second)
	r.mustSay("eth9", "1s-10s complete") // the first was not seen from its beginning, the last is not over
}

func TestRefusedPacketsAreSaidOfTheirSecondsAndCountedOnce(t *testing.T) {
	r := watchedRoom(t, "eth8", "eth9")
	r.cover.step(true)
	r.pass(5 * time.Second)
	r.idle(300 * time.Millisecond)
	r.refuse(1, 700)
	r.table.losses.Sampled += 2
	r.idle(300 * time.Millisecond)
	r.cover.step(true)
	r.refuse(1, 5) // in the same second, after the agent had looked
	r.idle(400 * time.Millisecond)
	r.pass(4 * time.Second)
	r.mustSay("eth8", "1s-10s complete")
	r.mustSay("eth9", "1s-5s complete", "5s-6s sampled: table full; 705 packets refused, 2 samples", "6s-10s complete")
	r.table.losses.Uplinks[0].Refused.Contended++
	r.pass(time.Second)
	r.table.losses.Uplinks[0].Refused.FragmentsLost++
	r.pass(2 * time.Second)
	// Without a time each stands for both seconds in which it can have been.
	r.mustSay("eth8", "1s-10s complete", "10s-11s missing: contended; 1 packets refused, 0 samples",
		"11s-12s missing: contended, fragments lost; 1 packets refused, 0 samples", "12s-13s missing: fragments lost")
	if got := r.Status().Coverage.Uplinks[1].Total; got.Refused != 705 || got.Samples != 2 || got.Sampled != 1 || got.Complete != 11 {
		t.Errorf("%+v", got)
	}
}

func TestSamplesThatAreLostLeaveAGap(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(2 * time.Second)
	r.refuse(0, 1000)
	r.table.losses.Sampled, r.table.losses.SamplesLost = 2, 1
	r.pass(2 * time.Second)
	r.mustSay("eth9", "1s-2s complete", "2s-3s missing: table full, samples lost; 1000 packets refused, 1 samples", "3s-4s complete")
}

func TestWhatIsNotAttachedIsMissing(t *testing.T) {
	r := watchedRoom(t)
	u := &r.table.losses.Uplinks[0]
	r.cover.step(true)
	r.pass(3 * time.Second)
	u.Out = false
	r.pass(2 * time.Second)
	u.Out = true
	r.pass(2 * time.Second)
	u.Breaks++ // it was off and on again between two looks
	r.pass(2 * time.Second)
	u.Present, u.In, u.Out = false, false, false
	r.pass(2 * time.Second)
	u.Present, u.In, u.Out = true, true, true
	r.pass(3 * time.Second)
	r.mustSay("eth9",
		"1s-3s complete", "3s-6s missing: what went out was not watched", // the looks at 4 s and 5 s saw it, and it may have begun and ended at others
		"6s-7s complete", "7s-8s missing: not known to be attached", "8s-9s complete", "9s-12s missing: no such link", "12s-14s complete")
}

func TestAStoreThatTakesNothingIsNoGapWhileTheTableHasRoom(t *testing.T) {
	r := watchedRoom(t)
	r.sessions.shelf.store = &faulty{Store: r.store, err: store.ErrNoSpace}
	r.table.add(seen(3, evening)...)
	r.cover.step(true)
	_ = r.step()
	r.pass(4 * time.Second)
	r.mustSay("eth9", "1s-4s complete")
	r.refuse(0, 3)
	r.pass(2 * time.Second)
	r.mustSay("eth9", "1s-4s complete", "4s-5s sampled: table full, store stalled; 3 packets refused, 0 samples", "5s-6s complete")
}

func TestAClockThatIsSetMakesNoSecondLastTwiceOrNegative(t *testing.T) {
	for _, c := range []struct {
		name string
		step time.Duration
		want []string
	}{
		{"forward by an hour", time.Hour, []string{"1s-5s complete", "5s-6s complete: clock set", "6s-1h0m5s missing: clock set", "1h0m5s-1h0m6s complete: clock set", "1h0m6s-1h0m9s complete"}},
		{"back by an hour", -time.Hour, []string{"-59m55s--59m51s complete: clock set", "1s-5s complete", "5s-6s complete: clock set"}},
		{"back by three seconds", -3 * time.Second, []string{"1s-2s complete", "2s-6s complete: clock set"}},
		{"slewed", 100 * time.Millisecond, []string{"1s-9s complete"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := watchedRoom(t)
			r.cover.step(true)
			r.pass(5 * time.Second)
			r.clock.add(c.step) // and no tick
			r.idle(time.Second)
			r.cover.step(true)
			r.idle(time.Second)
			r.cover.step(true)
			r.idle(time.Second)
			r.cover.step(true)
			r.idle(time.Second)
			r.cover.step(true)
			if d := cmp.Diff(c.want, r.says("eth9")); d != "" {
				t.Error(d)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTheProfileThatRecordsNoSessionsIsNeverComplete(t *testing.T) {
	r := watchedRoom(t)
	r.cover.outside = func() bool { return true }
	r.cover.step(true)
	r.pass(3 * time.Second)
	r.mustSay("eth9", "1s-3s missing: outside the profile")
	if len(r.entries()) != 0 {
		t.Error("that is no gap")
	}
}

func TestADoubtfulClockIsRemarkedAndLeavesSecondsComplete(t *testing.T) {
	r := watchedRoom(t)
	r.table.clock.Synchronised = false
	r.cover.step(true)
	r.pass(3 * time.Second)
	r.mustSay("eth9", "1s-3s complete: clock not synchronised")
}

func TestUplinksComeAndGo(t *testing.T) {
	r := watchedRoom(t, "eth8")
	r.cover.step(true)
	r.pass(3 * time.Second)
	r.table.losses.Uplinks = append(r.table.losses.Uplinks, probe.Loss{Uplink: "eth9", Present: true, In: true, Out: true})
	r.pass(3 * time.Second)
	r.table.losses.Uplinks = r.table.losses.Uplinks[1:]
	r.pass(3 * time.Second)
	r.mustSay("eth8", "1s-6s complete")
	r.mustSay("eth9", "5s-9s complete")
	r.mustSay("eth7")
}

func TestAGapIsOverOnceAndTheLedgerHasIt(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(3 * time.Second)
	for range 3 { // with less than gapEnd in between: one gap
		r.refuse(0, 10)
		r.pass(3 * time.Second)
	}
	r.pass(10 * time.Second)
	var got []map[string]string
	for _, e := range r.entries() {
		if e.Kind == ledger.Gap {
			delete(e.Fields, "at")
			got = append(got, e.Fields)
		}
	}
	want := []map[string]string{{
		"cause": "coverage", "uplink": "eth9", "from": secondText(began + 3), "to": secondText(began + 10),
		"state": "sampled", "reasons": "table_full", "refused_packets": "30", "samples": "0",
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTheLedgerHasTheHashOfEveryHour(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(2*time.Hour + 3*time.Minute)
	var from []string
	for _, e := range r.entries() {
		if e.Kind != ledger.Coverage {
			continue
		}
		from = append(from, e.Fields["from"]+" "+e.Fields["to"])
		start, err := time.Parse(time.RFC3339, e.Fields["from"])
		if err != nil {
			t.Fatal(err)
		}
		sum, err := r.cover.keep.Hash(start.Unix(), start.Unix()+3600)
		if err != nil || e.Fields["sha256"] != hex.EncodeToString(sum) {
			t.Errorf("%v is not the hash of what is kept, %v", e.Fields, err)
		}
	}
	want := []string{"2025-03-01T23:00:00Z 2025-03-02T00:00:00Z", "2025-03-02T00:00:00Z 2025-03-02T01:00:00Z", "2025-03-02T01:00:00Z 2025-03-02T02:00:00Z"}
	if d := cmp.Diff(want, from); d != "" {
		t.Error(d)
	}
}

// brokenCover takes nothing while err is set.
type brokenCover struct {
	CoverKeeper
	err error
}

func (b *brokenCover) Add(s []session.Span, m store.CoverageMark) error {
	if b.err != nil {
		return b.err
	}
	return b.CoverKeeper.Add(s, m)
}

func TestARecordThatCannotBeKeptWaitsAndIsKeptLater(t *testing.T) {
	r := watchedRoom(t)
	b := &brokenCover{CoverKeeper: r.cover.keep, err: errors.New("no")}
	r.cover.keep = b
	r.cover.step(true)
	r.pass(5 * time.Second)
	r.refuse(0, 3)
	r.pass(5 * time.Second)
	if s := r.Status().Coverage; s.OK || s.Text == "" || r.table.losses.Looked != 0 {
		t.Errorf("%+v", s)
	}
	b.err = nil
	r.pass(40 * time.Second)
	want := []string{"1s-5s complete", "5s-6s sampled: table full; 3 packets refused, 0 samples", "6s-50s complete"}
	r.mustSay("eth9", want...)
	if !r.Status().Coverage.OK {
		t.Error("the alarm stays")
	}
	r.cover.step(true)
	r.table.losses.Adopted, r.table.losses.Uplinks[0].Kept = true, true
	r.killed(0, nil)
	r.mustSay("eth9", want...)
}

func TestCoverageIsAskedForOverTheSocket(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(5 * time.Second)
	stop := r.start()
	resp := r.httpGet("/v1/coverage?from=2025-03-01T23:59:02Z&to=2025-03-01T23:59:04Z&uplink=eth9")
	var got session.CoverageReport
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !got.Plain() || got.Gateway != "gw1" || len(got.Spans) != 1 || got.Totals[0].Complete != 2 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"", "?from=now&to=now", "?from=2025-03-01T23:59:04Z&to=2025-03-01T23:59:02Z"} {
		if resp := r.httpGet("/v1/coverage" + bad); resp.StatusCode != 400 {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestARunOfSecondsCostsOneWriteInTen(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(100 * time.Second)
	fi, err := os.Stat(r.dir + "/data/store/coverage/2025-03-01.coverage")
	if err != nil || fi.Size() > 1000 {
		t.Errorf("%v bytes, %v", fi.Size(), err)
	}
}

// hangingCover keeps Add waiting.
type hangingCover struct {
	CoverKeeper
	asked, answer chan bool
}

func (h *hangingCover) Add(s []session.Span, m store.CoverageMark) error {
	h.asked <- true
	<-h.answer
	return h.CoverKeeper.Add(s, m)
}

func TestTheStatusKnowsTheLastDayAndDoesNotWaitForTheDisk(t *testing.T) {
	r := watchedRoom(t)
	r.cover.step(true)
	r.pass(10 * time.Second)
	r.refuse(0, 7)
	r.pass(10 * time.Second)
	r.cover.step(true)
	r.table.losses.Adopted, r.table.losses.Uplinks[0].Kept = true, true
	r.killed(5*time.Second, nil)
	h := &hangingCover{CoverKeeper: r.cover.keep, asked: make(chan bool), answer: make(chan bool)}
	r.cover.keep = h
	r.idle(time.Second)
	done := make(chan bool)
	go func() { defer close(done); r.cover.step(true) }()
	<-h.asked
	s := r.Status().Coverage
	h.answer <- true
	<-done
	if s == nil || len(s.Day) != 1 || len(s.Uplinks) != 1 {
		t.Fatalf("%+v", s)
	}
	if d := s.Day[0]; d.Seconds != 24*3600 || d.Complete != 24 || d.Sampled != 1 || d.Refused != 7 || d.Unknown != 24*3600-25 {
		t.Errorf("%+v", d)
	}
	if u := s.Uplinks[0]; u.State != "complete" || u.Total.Complete != 6 {
		t.Errorf("%+v", u)
	}
}

// standing is a record of coverage on a disk that does not answer.
type standing struct {
	CoverKeeper
	asked, goOn chan struct{}
}

func (s standing) Add(spans []session.Span, m store.CoverageMark) error {
	select {
	case s.asked <- struct{}{}:
	default: // once more
	}
	<-s.goOn
	return s.CoverKeeper.Add(spans, m)
}

func TestADiskThatKeepsTheRecordOfCoverageWaitingIsReported(t *testing.T) {
	r := watchedRoom(t)
	stop := r.start()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk := standing{r.cover.keep, make(chan struct{}, 1), make(chan struct{})}
	r.cover.mu.Lock()
	r.cover.keep = disk
	r.cover.mu.Unlock()
	flushed := make(chan error, 1)
	go func() { flushed <- r.Flush(context.Background()) }() // ends when the disk goes on
	<-disk.asked
	if s := r.Status(); !s.Store.OK {
		t.Errorf("a disk that has only just been asked is said to be %q", s.Store.State)
	}
	since := r.clock.Now()
	r.clock.add(stalledAfter)
	if s := r.Status(); s.Store.OK || s.Store.State != "stalled" || !s.Store.Since.Equal(since) {
		t.Errorf("the disk has stood still since %v, and the status says %+v", since, s.Store)
	}
	close(disk.goOn)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	r.cover.mu.Lock()
	r.cover.keep = disk.CoverKeeper
	r.cover.mu.Unlock()
	if s := r.Status(); !s.Store.OK {
		t.Errorf("the disk goes on, and the status says %+v", s.Store)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
