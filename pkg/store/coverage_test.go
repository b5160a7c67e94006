package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/session"
)

// noon of a day, and the midnight after it.
const (
	coverNoon     = int64(aDay)*daySeconds + daySeconds/2
	coverMidnight = int64(aDay+1) * daySeconds
)

// openCover opens the record in a directory without the rest of a store.
func openCover(t testing.TB, dir string) *Coverage {
	t.Helper()
	s := &Store{dir: dir, o: Options{Log: slog.New(slog.DiscardHandler)}}
	c, err := s.OpenCoverage()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cover(uplink string, from, to int64, state session.Cover, reasons session.CoverReasons) session.Span {
	return session.Span{Uplink: uplink, From: from, To: to, State: state, Reasons: reasons}
}

func allLines(t testing.TB, c *Coverage) []session.Timeline {
	t.Helper()
	lines, damaged, err := c.Lines(0, coverMidnight+10*daySeconds)
	if err != nil || damaged != nil {
		t.Fatal(damaged, err)
	}
	return lines
}

func (c *Coverage) mustAdd(t testing.TB, m CoverageMark, spans ...session.Span) {
	t.Helper()
	if err := c.Add(spans, m); err != nil {
		t.Fatal(err)
	}
}

func TestCoverageIsThereAfterEveryAddWhateverWasSaid(t *testing.T) {
	for seed := range uint64(20) {
		dir := t.TempDir()
		c := openCover(t, dir)
		r := rand.New(rand.NewPCG(seed, 3))
		want := map[string]session.Timeline{}
		at := coverMidnight - 200
		for i := range 40 {
			var spans []session.Span
			for range r.IntN(4) {
				s := cover([]string{"eth0", "eth1"}[r.IntN(2)], at+r.Int64N(50), 0, session.Cover(r.IntN(4)), session.CoverReasons(r.IntN(8)))
				s.To = s.From + 1 + r.Int64N(20)
				if s.State > session.CoverComplete {
					s.Refused, s.Sampled = r.Uint64N(5), r.Uint64N(5)
				}
				spans = append(spans, s)
				if line := want[s.Uplink].Add(s); len(line) > 0 {
					want[s.Uplink] = line
				}
			}
			at += r.Int64N(20)
			m := CoverageMark{StoredThrough: at, OldestOpen: at - 7, Drained: r.IntN(2) == 0,
				Uplinks: []UplinkMark{{Uplink: "eth0", Until: at, Counters: []uint64{1, uint64(i)}}, {Uplink: "eth1", Until: at - 1}}}
			c.mustAdd(t, m, spans...)
			switch r.IntN(5) {
			case 0:
				c = openCover(t, dir)
			case 1:
				if err := c.Tidy(); err != nil {
					t.Fatal(err)
				}
			}
			lines := map[string]session.Timeline{}
			for _, line := range allLines(t, c) {
				lines[line[0].Uplink] = line
			}
			if d := cmp.Diff(want, lines); d != "" {
				t.Fatalf("seed %d, step %d: %s", seed, i, d)
			}
			if got, ok := c.Mark(); len(want) > 0 {
				m.Seq = got.Seq
				if d := cmp.Diff(m, got); d != "" || !ok {
					t.Fatalf("seed %d, step %d: %v %s", seed, i, ok, d)
				}
			}
		}
	}
}

func TestADayOfCompleteSecondsIsSmall(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	for at := int64(aDay) * daySeconds; at < coverMidnight; at += 10 {
		c.mustAdd(t, CoverageMark{StoredThrough: at, Uplinks: []UplinkMark{{Uplink: "eth0", Until: at + 10, Counters: make([]uint64, 6)}}},
			cover("eth0", at, at+10, session.CoverComplete, 0))
	}
	c.mustAdd(t, CoverageMark{}, cover("eth0", coverMidnight, coverMidnight+1, session.CoverComplete, 0))
	fi, err := os.Stat(c.path(aDay))
	if err != nil || fi.Size() > 60 {
		t.Errorf("%d bytes, %v", fi.Size(), err)
	}
	if len(c.hot) != 1 {
		t.Errorf("%d days are held in memory", len(c.hot))
	}
	lines := allLines(t, openCover(t, dir))
	want := []session.Timeline{{cover("eth0", int64(aDay)*daySeconds, coverMidnight+1, session.CoverComplete, 0)}}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
}

// story adds n things one after the other and returns what was known after each.
func story(t testing.TB, c *Coverage, n int) (known [][]session.Timeline) {
	t.Helper()
	known = append(known, allLines(t, c))
	for i := range int64(n) {
		state := session.CoverComplete + session.Cover(i%3)
		c.mustAdd(t, CoverageMark{StoredThrough: coverNoon + i}, cover("eth0", coverNoon+i, coverNoon+i+1, state, 0))
		known = append(known, allLines(t, c))
	}
	return known
}

func TestAFileCutOffAnywhereTellsWhatItToldBefore(t *testing.T) {
	dir := t.TempDir()
	known := story(t, openCover(t, dir), 12)
	path := filepath.Join(dir, "coverage", coverFile(aDay))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := coverHead; n <= len(whole); n++ {
		for _, tail := range []int{0, 100} { // some file systems leave zeros
			if err := os.WriteFile(path, append(slices.Clone(whole[:n]), make([]byte, tail)...), 0o600); err != nil {
				t.Fatal(err)
			}
			c := openCover(t, dir)
			d, err := decodeCover(aDay, whole[:n])
			if err != nil {
				t.Fatal(err)
			}
			if tail > 0 && n > coverHead && d.bad != nil {
				continue // a frame that was begun, and zeros: damage, and said to be
			}
			if diff := cmp.Diff(known[d.frames], allLines(t, c)); diff != "" {
				t.Fatalf("%d bytes of %d: %s", n, len(whole), diff)
			}
			c.mustAdd(t, CoverageMark{}, cover("eth1", coverNoon, coverNoon+1, session.CoverComplete, 0))
			if lines := allLines(t, openCover(t, dir)); len(lines) == 0 || lines[len(lines)-1][0].Uplink != "eth1" {
				t.Fatalf("cut off at %d it could not be added to", n)
			}
		}
	}
}

func TestAFlippedBitIsSeenAndNothingFalseIsTold(t *testing.T) {
	dir := t.TempDir()
	known := story(t, openCover(t, dir), 6)
	path := filepath.Join(dir, "coverage", coverFile(aDay))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		d, err := decodeCover(aDay, b)
		if err != nil {
			continue
		}
		if d.bad == nil {
			t.Fatalf("bit %d was changed and nobody saw it", bit)
		}
		if diff := cmp.Diff(known[d.frames], d.timelines()); diff != "" && d.frames > 0 {
			t.Fatalf("bit %d: %s", bit, diff)
		}
	}
}

func TestADamagedDayIsUnknownReportedAndKeptAside(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	story(t, c, 6)
	path := c.path(aDay)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[coverHead+5] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c = openCover(t, dir)
	lines, damaged, err := c.Lines(0, coverMidnight)
	if err != nil || len(lines) != 0 || len(damaged) != 1 || !strings.Contains(damaged[0], "checksum") {
		t.Errorf("%v, %v, %v", lines, damaged, err)
	}
	c.mustAdd(t, CoverageMark{}, cover("eth0", coverNoon+60, coverNoon+61, session.CoverComplete, 0))
	if lines = allLines(t, openCover(t, dir)); len(lines) != 1 || lines[0][0].From != coverNoon+60 {
		t.Errorf("%+v", lines)
	}
	if kept, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(kept, b) {
		t.Errorf("the damaged file was not kept: %v", err)
	}
}

func TestARecordOfANewerVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	story(t, c, 1)
	b, err := os.ReadFile(c.path(aDay))
	if err != nil {
		t.Fatal(err)
	}
	b[4]++
	if err := os.WriteFile(c.path(aDay), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Store{dir: dir, o: Options{Log: slog.New(slog.DiscardHandler)}}
	if _, err := s.OpenCoverage(); !errors.Is(err, ErrNewer) {
		t.Errorf("%v", err)
	}
}

func TestWhatCouldNotBeWrittenIsAddedAgain(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	known := story(t, c, 3)
	path := c.path(aDay)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	s := cover("eth0", coverNoon+100, coverNoon+101, session.CoverMissing, session.TableFull)
	if c.Add([]session.Span{s}, CoverageMark{}) == nil {
		t.Fatal("it was written nowhere")
	}
	if diff := cmp.Diff(known[3], allLines(t, c)); diff != "" {
		t.Error(diff)
	}
	c.mustAdd(t, CoverageMark{}, s)
	lines := allLines(t, openCover(t, dir))
	if len(lines) != 1 || lines[0][len(lines[0])-1].From != s.From || len(lines[0]) != len(known[3][0])+1 {
		t.Errorf("%+v", lines)
	}
}

// The form of version 1, for ever: hex, so that a change shows in a review.
const goldenCover = "testdata/coverage-v1.hex"

func TestVersionOneIsReadForEver(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	m := CoverageMark{StoredThrough: coverNoon - 3, OldestOpen: coverNoon - 600, Uplinks: []UplinkMark{{Uplink: "eth0", Until: coverNoon + 60, Counters: []uint64{7, 0, 300, 1 << 40}}}}
	s := cover("eth0", coverNoon+50, coverNoon+60, session.CoverSampled, session.TableFull|session.ClockUnsynced)
	s.Refused, s.Sampled = 1500, 3
	c.mustAdd(t, m, cover("eth0", coverNoon, coverNoon+50, session.CoverComplete, 0), s, cover("eth1", coverNoon, coverNoon+60, session.CoverMissing, session.AttachUnsure))
	c.mustAdd(t, m, cover("eth0", coverNoon, coverNoon+5, session.CoverUnknown, session.OpenLost))
	want := allLines(t, c)
	got, err := os.ReadFile(c.path(aDay))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(goldenCover)
	if err != nil {
		t.Fatalf("%v; the bytes are\n%s", err, hex.Dump(got))
	}
	golden, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, got) {
		t.Errorf("written is another form:\n%x", got)
	}
	d, err := decodeCover(aDay, golden)
	if err != nil || d.bad != nil {
		t.Fatal(err, d.bad)
	}
	if diff := cmp.Diff(want, d.timelines()); diff != "" {
		t.Error(diff)
	}
	m.Seq = 2
	if diff := cmp.Diff(&m, d.mark); diff != "" {
		t.Error(diff)
	}
	sum, err := c.Hash(coverNoon-coverNoon%3600, coverNoon-coverNoon%3600+3600)
	if err != nil || hex.EncodeToString(sum) != goldenCoverHash {
		t.Errorf("the hash is %x, %v", sum, err)
	}
}

const goldenCoverHash = "2fd68d0be991dd03e25fdc4412d16ac869be96aef4a4f0fb647cefc76050546a"

func TestTheHashOfAnHourThatIsOverStaysAndSeesAChange(t *testing.T) {
	dir := t.TempDir()
	c := openCover(t, dir)
	end := coverNoon + 3600
	s := cover("eth0", end-10, end, session.CoverSampled, session.TableFull)
	s.Refused = 5
	c.mustAdd(t, CoverageMark{}, cover("eth0", coverNoon, end-10, session.CoverComplete, 0), s)
	before, err := c.Hash(coverNoon, end)
	if err != nil {
		t.Fatal(err)
	}
	s.From, s.To = end, end+30 // it goes on
	c.mustAdd(t, CoverageMark{}, s)
	if err := c.Tidy(); err != nil {
		t.Fatal(err)
	}
	c = openCover(t, dir)
	if after, err := c.Hash(coverNoon, end); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the hash changed by what came after the hour: %v", err)
	}
	c.mustAdd(t, CoverageMark{}, cover("eth0", coverNoon+1, coverNoon+2, session.CoverMissing, session.TableLost))
	if after, err := c.Hash(coverNoon, end); err != nil || bytes.Equal(before, after) {
		t.Errorf("the hash does not see a change: %v", err)
	}
}

func TestCoverageIsDueLikeSessions(t *testing.T) {
	c := openCover(t, t.TempDir())
	c.mustAdd(t, CoverageMark{}, cover("eth0", coverNoon, coverNoon+daySeconds, session.CoverComplete, 0))
	if d := cmp.Diff([]session.Day{aDay, aDay + 1}, c.Days()); d != "" {
		t.Error(d)
	}
	now := time.Unix(coverNoon, 0).AddDate(0, 0, 366)
	if due := Due(c.Days(), now, 365); !slices.Equal(due, []session.Day{aDay}) {
		t.Errorf("due: %v", due)
	}
}

func FuzzCoverage(f *testing.F) {
	m := &CoverageMark{Seq: 1, StoredThrough: 5, Uplinks: []UplinkMark{{"eth0", 9, []uint64{1, 2}}}}
	lines := [][]session.Span{{cover("eth0", coverNoon, coverNoon+5, session.CoverMissing, session.TableFull)}}
	f.Add(encodeFrame(nil, aDay, lines, m))
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, frames []byte) {
		d, err := decodeCover(aDay, append(encodeCoverHead(aDay), frames...))
		if err != nil {
			t.Fatal(err) // the head is good
		}
		r := coverReader{b: frames} // without a checksum in the way
		spans, mark := r.spans(int64(aDay)*daySeconds), r.mark()
		if r.bad {
			return
		}
		d.say(spans)
		again := encodeFrame(encodeCoverHead(aDay), aDay, asSpans(d.timelines()), mark)
		back, err := decodeCover(aDay, again)
		if err != nil || back.bad != nil {
			t.Fatal(err, back.bad)
		}
		if diff := cmp.Diff(d.timelines(), back.timelines()); diff != "" {
			t.Fatal(diff)
		}
		for _, line := range back.timelines() {
			for _, s := range line {
				if session.DayOf(s.From*1e9) != aDay || session.DayOf((s.To-1)*1e9) != aDay {
					t.Fatalf("%+v is not of the day", s)
				}
			}
		}
	})
}
