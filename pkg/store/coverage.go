package store

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// coverFrames is how many frames a day's file may have before it is written
// anew as one.
const coverFrames = 3600

// Coverage keeps what was recorded of each second of each uplink, a file for
// each UTC day. It holds no person's data and is not sealed; the ledger holds
// its hashes. It goes on where there is too little room for blocks. It is safe
// for use by several goroutines.
type Coverage struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	days   map[session.Day]string // the files, and what is wrong with each, if anything
	hot    map[session.Day]*coverDay
	anew   map[session.Day]bool // not to be appended to: what is on disk behind its last good frame is not known
	mark   CoverageMark
	marked bool
	home   session.Day // of the file that has the mark
}

// OpenCoverage opens the record of coverage beside the blocks, and reads all of
// it once. A file that cannot be understood is no error: its seconds are unknown,
// and Report says so.
func (s *Store) OpenCoverage() (*Coverage, error) {
	c := &Coverage{
		dir: filepath.Join(s.dir, coverDir), log: s.o.Log,
		days: map[session.Day]string{}, hot: map[session.Day]*coverDay{}, anew: map[session.Day]bool{},
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of coverage: %w", translate(err))
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", translate(err))
	}
	for _, e := range entries {
		day, ok := parseCoverFile(e.Name())
		switch {
		case strings.HasPrefix(e.Name(), unfinished):
			if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("read coverage: %w", translate(err))
			}
		case !ok:
			continue // among them what was put aside as damaged
		default:
			if err := c.openDay(day); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

const coverDir = "coverage"

func coverFile(day session.Day) string { return day.String() + ".coverage" }

func parseCoverFile(name string) (session.Day, bool) {
	text, ok := strings.CutSuffix(name, ".coverage")
	t, err := time.Parse(time.DateOnly, text)
	day := session.Day(t.Unix() / daySeconds)
	return day, ok && err == nil && day >= 0 && coverFile(day) == name
}

func (c *Coverage) path(day session.Day) string { return filepath.Join(c.dir, coverFile(day)) }

// openDay learns what a file is worth, and whether it has the newest mark.
func (c *Coverage) openDay(day session.Day) error {
	d, err := c.read(day)
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("read coverage of %s: %w", day, err)
	}
	if err != nil {
		c.log.Error("a day's record of coverage cannot be read: its seconds are unknown", "day", day.String(), "error", err)
		c.days[day], c.anew[day] = err.Error(), true
		return nil
	}
	c.days[day] = ""
	if d.bad != nil {
		c.anew[day] = true
		if !d.torn {
			c.log.Error("a part of a day's record of coverage cannot be read: its seconds are unknown", "day", day.String(), "error", d.bad)
			c.days[day] = d.bad.Error()
		}
	}
	if d.mark != nil && (!c.marked || d.mark.Seq >= c.mark.Seq) {
		c.mark, c.marked, c.home = *d.mark, true, day
	}
	return nil
}

// read reads a day from its file. One that is not there is empty.
func (c *Coverage) read(day session.Day) (*coverDay, error) {
	b, err := os.ReadFile(c.path(day))
	if errors.Is(err, fs.ErrNotExist) {
		return &coverDay{lines: map[string]session.Timeline{}}, nil
	}
	if err != nil {
		return nil, translate(err)
	}
	return decodeCover(day, b)
}

// load returns a day to be added to. c.mu is held.
func (c *Coverage) load(day session.Day) (*coverDay, error) {
	if d := c.hot[day]; d != nil {
		return d, nil
	}
	d, err := c.read(day)
	if errors.Is(err, errCover) { // nothing of it can be understood
		return &coverDay{lines: map[string]session.Timeline{}}, nil
	}
	return d, err
}

// Mark returns the mark of the last Add; ok is false when there was none.
func (c *Coverage) Mark() (m CoverageMark, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mark.clone(), c.marked
}

// Add keeps what is newly said of some seconds together with the mark from which
// to go on. When it returns nil, both are on the disk. When it returns an error,
// the same may be added again; what was said of an earlier day than the last may
// be kept all the same, and is counted twice then.
func (c *Coverage) Add(spans []session.Span, m CoverageMark) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m = m.clone()
	m.Seq = c.mark.Seq + 1
	parts := byCoverDay(spans)
	home := c.home
	if len(parts) > 0 {
		home = slices.Max(slices.Collect(maps.Keys(parts)))
	} else if !c.marked {
		for _, u := range m.Uplinks {
			home = max(home, session.Day(u.Until/daySeconds))
		}
	}
	for _, day := range slices.Sorted(maps.Keys(parts)) {
		if day == home {
			continue
		}
		if err := c.write(day, parts[day], nil); err != nil {
			return err
		}
	}
	if err := c.write(home, parts[home], &m); err != nil {
		return err
	}
	old := c.home
	c.mark, c.marked, c.home = m, true, home
	for day := range c.hot { // days that are over are written as one
		if day != home && day != home-1 || day == old && old != home {
			if err := c.tidy(day); err != nil {
				c.log.Warn("a day's record of coverage stays longer than it need be", "day", day.String(), "error", err)
			}
		}
	}
	return nil
}

// byCoverDay sorts spans into days; one that reaches over midnight into both.
func byCoverDay(spans []session.Span) map[session.Day][]session.Span {
	out := map[session.Day][]session.Span{}
	for _, s := range spans {
		for s.From < s.To {
			day := session.Day(s.From / daySeconds)
			part := s
			part.To = min(s.To, int64(day+1)*daySeconds)
			out[day] = append(out[day], part)
			s.From, s.Refused, s.Sampled = part.To, 0, 0
		}
	}
	return out
}

// write makes one day durable with more said of it. c.mu is held.
func (c *Coverage) write(day session.Day, spans []session.Span, m *CoverageMark) error {
	d, err := c.load(day)
	if err != nil {
		return fmt.Errorf("read coverage of %s: %w", day, err)
	}
	next := d.clone()
	next.say(spans)
	if m != nil {
		next.mark = m
	}
	if d.frames == 0 || d.frames >= coverFrames || c.anew[day] {
		err = c.writeWhole(day, next)
	} else {
		err = c.append(day, next, spans, m)
	}
	if err != nil {
		c.anew[day] = true
		return fmt.Errorf("write coverage of %s: %w", day, translate(err))
	}
	c.hot[day] = next
	if _, known := c.days[day]; !known {
		c.days[day] = ""
	}
	return nil
}

// append adds a frame to a day's file.
func (c *Coverage) append(day session.Day, d *coverDay, spans []session.Span, m *CoverageMark) error {
	frame := encodeFrame(nil, day, groups(spans), m)
	f, err := os.OpenFile(c.path(day), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(frame, d.size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	d.size += int64(len(frame))
	d.frames++
	return nil
}

// groups sorts spans by uplink without joining them: a frame may say two things
// of one second, one after the other, but not in one group.
func groups(spans []session.Span) [][]session.Span {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b session.Span) int { return cmp.Compare(a.Uplink, b.Uplink) })
	var out [][]session.Span
	for i, s := range spans {
		if i == 0 || spans[i-1].Uplink != s.Uplink || spans[i-1].To > s.From {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}

// writeWhole replaces a day's file by one with a single frame. One that is
// damaged is kept beside it.
func (c *Coverage) writeWhole(day session.Day, d *coverDay) error {
	b := encodeFrame(encodeCoverHead(day), day, asSpans(d.timelines()), d.mark)
	tmp := filepath.Join(c.dir, unfinished+coverFile(day))
	if err := writeFile(tmp, b, os.O_TRUNC); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if c.days[day] != "" && c.anew[day] {
		err := os.Link(c.path(day), c.path(day)+".damaged")
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, os.Remove(tmp))
		}
	}
	if err := os.Rename(tmp, c.path(day)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := syncDir(c.dir); err != nil {
		return err
	}
	d.size, d.frames, d.bad, d.torn = int64(len(b)), 1, nil, false
	delete(c.anew, day)
	return nil
}

// tidy writes a day as one frame and forgets it. c.mu is held.
func (c *Coverage) tidy(day session.Day) error {
	d := c.hot[day]
	if day != c.home {
		d.mark = nil
	}
	if d.frames > 1 {
		if err := c.writeWhole(day, d); err != nil {
			c.anew[day] = true
			return translate(err)
		}
	}
	delete(c.hot, day)
	return nil
}

// Tidy writes each file that has grown as one frame.
func (c *Coverage) Tidy() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, day := range slices.Sorted(maps.Keys(c.hot)) {
		if err := c.tidy(day); err != nil {
			return fmt.Errorf("tidy coverage of %s: %w", day, err)
		}
	}
	return nil
}

// Lines returns what is known of the window from ≤ s < to, UTC seconds, by
// uplink, and the files of it that could not be read wholly.
func (c *Coverage) Lines(from, to int64) (lines []session.Timeline, damaged []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var spans []session.Span
	for _, day := range c.within(from, to) {
		if what := c.days[day]; what != "" {
			damaged = append(damaged, coverFile(day)+": "+what)
		}
		d, err := c.load(day)
		if err != nil {
			return nil, damaged, fmt.Errorf("read coverage of %s: %w", day, err)
		}
		for _, t := range d.timelines() {
			spans = append(spans, t.Window(from, to)...)
		}
	}
	return session.Timelines(spans), damaged, nil
}

func (c *Coverage) within(from, to int64) []session.Day {
	var out []session.Day
	for day := range c.days {
		if start := int64(day) * daySeconds; start < to && start+daySeconds > from {
			out = append(out, day)
		}
	}
	slices.Sort(out)
	return out
}

// Hash returns the SHA-256 of what is known of a window, in the one form that
// FORMAT.md gives it: what the ledger keeps.
func (c *Coverage) Hash(from, to int64) ([]byte, error) {
	known, _, err := c.Lines(from, to)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(appendSpans(nil, from, asSpans(known)))
	return sum[:], nil
}

func asSpans(lines []session.Timeline) [][]session.Span {
	out := make([][]session.Span, len(lines))
	for i, t := range lines {
		out[i] = t
	}
	return out
}

// Days returns the days that have a record of coverage, for Due.
func (c *Coverage) Days() []session.Day {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.days))
}

// Destroy removes the record of a day, and what was set aside of it as damaged.
// It is safe to call again. The day that has the mark stays until another has it.
func (c *Coverage) Destroy(day session.Day) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marked && day == c.home {
		return nil
	}
	delete(c.days, day)
	delete(c.hot, day)
	delete(c.anew, day)
	names, err := filepath.Glob(c.path(day) + "*")
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	if err == nil {
		err = syncDir(c.dir)
	}
	if err != nil {
		return fmt.Errorf("destroy record of coverage of %s: %w", day, translate(err))
	}
	return nil
}
