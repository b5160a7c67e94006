package recorder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// The year of the test, day by day: it begins so that 29 February 2028 lies in it.
const (
	yearDays  = 400
	yearKept  = 365
	yearTail  = 370 // from this day on nothing may grow any more
	holdMade  = 10
	holdFreed = 390
)

// year is an agent that lives 400 days.
type year struct {
	*room
	first session.Day
	day   int // of the year, from 0
	tail  []footprint
}

// footprint is what the agent takes at the end of a day.
type footprint struct {
	disk  int64 // bytes of files of the store
	files int   // of the store
	fds   int
	heap  uint64
}

func TestAYearInMinutes(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than a minute")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > 1<<30 { // 400 days wait for a disk 10,000 times
		t.Setenv("TMPDIR", "/dev/shm")
	}
	r := newRoom(t, fmt.Sprintf("retention_days = %d\n", yearKept))
	r.clock.jump(730*oneDay - 12*time.Hour + time.Minute) // 2027-03-01T12:00
	y := &year{room: r, first: session.DayOf(r.clock.Now().UnixNano())}
	for y.day = 0; y.day < yearDays; y.day++ {
		y.noon()
		y.night()
		if t.Failed() {
			t.Fatalf("on day %d, %s", y.day, y.first+session.Day(y.day))
		}
	}
	y.level()
	y.whole()
	if n := len(y.destructions()); n != yearDays-yearKept {
		t.Errorf("the ledger has the destruction of %d days, not %d", n, yearDays-yearKept)
	}
}

// noon is the traffic of a day, and what befalls its clock.
func (y *year) noon() {
	y.keep(3)
	switch {
	case y.day == holdMade:
		if err := y.hold(7, "gw1", seen(2, y.clock.Now())); err != nil {
			y.t.Fatal(err)
		}
	case y.day == holdFreed:
		if _, err := y.release(y.t.Context(), 7, "case"); err != nil {
			y.t.Fatal(err)
		}
	case y.day%50 == 20: // a step that is put right an hour later
		y.astray(5*time.Hour, true)
	case y.day%50 == 40:
		y.astray(-5*time.Hour, true)
	case y.day == 200 || y.day == 380: // a battery was empty
		y.astray(100*oneDay, false)
		y.astray(-300*oneDay, false)
	}
	y.keep(1)
}

// astray sets the clock, lets an hour pass, and sets it back. Nothing goes meanwhile.
func (y *year) astray(by time.Duration, synchronised bool) {
	before := y.store.Kept()
	y.table.clock.Synchronised = synchronised
	y.clock.jump(by)
	y.clock.add(time.Hour)
	y.look()
	if got := y.store.Kept(); !slices.Equal(got, before) {
		y.t.Errorf("the clock is set by %v, and %d of %d days are kept", by, len(got), len(before))
	}
	y.clock.jump(-by)
	y.table.clock.Synchronised = true
	y.clock.add(lookExpired)
	y.look()
	y.exactly("after a step of the clock", y.oldest())
}

// oldest is the oldest day that must be there in the present day.
func (y *year) oldest() session.Day {
	return max(y.first, session.DayOf(y.clock.Now().UnixNano())-yearKept)
}

// night goes from one day to the next: until its last second all is there, and a
// minute later exactly what is due is gone.
func (y *year) night() {
	today := y.first + session.Day(y.day)
	if err := y.merger.finish(); err != nil {
		y.t.Fatal(err)
	}
	y.clock.add((today + 1).Start().Add(-time.Second).Sub(y.clock.Now()))
	y.look()
	y.exactly("a second before midnight", y.oldest())
	restart := y.day >= yearKept-5 && y.day%5 == 0
	if restart {
		y.shut()
	}
	y.clock.add(time.Minute)
	if restart {
		y.open()
	}
	y.look()
	y.exactly("a minute after midnight", y.oldest())
	if y.day%50 == 0 {
		y.whole()
	}
	y.clock.add((today + 1).Start().Add(12 * time.Hour).Sub(y.clock.Now()))
	y.look()
	if y.day >= yearTail {
		y.tail = append(y.tail, y.footprint())
	}
}

// exactly fails the test unless what is kept are the days from oldest until now,
// by the store's word and by the names on the disk.
func (y *year) exactly(when string, oldest session.Day) {
	y.t.Helper()
	var want []session.Day
	for d := oldest; d <= y.first+session.Day(y.day); d++ {
		want = append(want, d)
	}
	if got := y.store.Kept(); !slices.Equal(got, want) {
		y.t.Errorf("%s: kept are %v, and not %v", when, got, want)
	}
	for _, part := range []string{"keys", "days"} {
		entries, err := os.ReadDir(filepath.Join(y.dir, "data", "store", part))
		if err != nil {
			y.t.Fatal(err)
		}
		for _, e := range entries {
			if name := e.Name(); name[:len(time.DateOnly)] < oldest.String() {
				y.t.Errorf("%s: %s/%s is there", when, part, name)
			}
		}
	}
	if s := y.expiry.status; s.Due != 0 || s.Text != "" {
		y.t.Errorf("%s: %+v", when, s)
	}
}

// whole checks all that is stored, and the ledger's word on it.
func (y *year) whole() {
	y.t.Helper()
	bad, err := y.store.Check(context.Background(), nil)
	if err != nil || len(bad) > 0 {
		y.t.Errorf("check: %v %v", bad, err)
	}
	if bad, end := y.verified(); len(bad) > 0 {
		y.t.Errorf("verify: %q %+v", bad, end)
	}
}

func (y *year) footprint() (f footprint) {
	y.t.Helper()
	err := filepath.WalkDir(filepath.Join(y.dir, "data", "store"), func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			f.disk, f.files = f.disk+fi.Size(), f.files+1
		}
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		y.t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers let go
	runtime.ReadMemStats(&m)
	f.fds, f.heap = len(fds), m.HeapAlloc
	return f
}

// level compares the first ten days of the tail with the last ten.
func (y *year) level() {
	most := func(list []footprint) (f footprint) {
		for _, x := range list {
			f = footprint{max(f.disk, x.disk), max(f.files, x.files), max(f.fds, x.fds), max(f.heap, x.heap)}
		}
		return f
	}
	a, b := most(y.tail[:10]), most(y.tail[len(y.tail)-10:])
	y.t.Logf("days %d to %d: %+v; the last ten: %+v", yearTail, yearTail+9, a, b)
	if b.disk > a.disk+a.disk/50 || b.files > a.files+5 {
		y.t.Errorf("the disk does not level off: %+v, then %+v", a, b)
	}
	if b.fds > a.fds {
		y.t.Errorf("file descriptors: %d, then %d", a.fds, b.fds)
	}
	if b.heap > a.heap+a.heap/10 {
		y.t.Errorf("memory: %d bytes, then %d", a.heap, b.heap)
	}
}
