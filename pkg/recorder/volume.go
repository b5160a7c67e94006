package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
)

// VolumeRow is how much crossed one direction of one uplink in an hour. It is
// anonymous from the moment of its collection, see doc.go.
type VolumeRow struct {
	Hour      time.Time `json:"hour"`  // its beginning, UTC
	Hours     int       `json:"hours"` // that the row is about; more than 1 when nobody read the counters at the turns between them
	Uplink    string    `json:"uplink"`
	Direction string    `json:"direction"` // in or out, as seen from the provider's own network
	K         int       `json:"k"`         // statistics.k when it was written
	// Below: fewer than K sessions began. Then there are no figures, and none were kept.
	Below    bool   `json:"below,omitempty"`
	Packets  uint64 `json:"packets,omitempty"`
	Sessions uint64 `json:"sessions,omitempty"` // begun by a packet of this direction
	Partial  bool   `json:"partial,omitempty"`  // of a part of the time it is not known how much it was
}

// volumeReader is a source that counts what crosses the border; probe.Probe is
// one.
type volumeReader interface{ Volume() (probe.Volume, error) }

const (
	volumeDir     = "volume"       // in data_dir
	volumeRunning = "running.json" // from a stop in good order to the next start
	volumeMonth   = "2006-01"      // names of the files of rows, with ".jsonl"
	// volumePatience is the longest time between two looks of which it is clear
	// enough to which hour it belongs.
	volumePatience = time.Minute
	maxOwedRows    = 10000 // that a disk did not take; then the oldest are given up
)

// volume adds up what crosses the border, hour by hour. All that it reads are
// counters of whole uplinks, and all that it writes are rows. The goroutine that
// stores calls it.
type volume struct {
	dir     string
	src     volumeReader // nil: nothing is counted
	k       func() int
	now     func() time.Time
	elapsed func() time.Duration
	log     *slog.Logger
	failed  func(error)

	run    running
	looked time.Duration // when the counters were last read
	known  bool          // looked is of this process
	broken bool          // the last look failed, and that was said

	mu sync.Mutex // guards the files of rows
}

// running is the hour that is not over.
type running struct {
	From    time.Time          `json:"from"`    // beginning of the first hour that Sums are of
	Hour    time.Time          `json:"hour"`    // of the last one
	Partial bool               `json:"partial"` // see VolumeRow
	Sums    map[string]counted `json:"sums"`    // by uplink
	Last    map[string]counted `json:"last"`    // the kernel's counters when they were last read; nil: never
	Owed    []VolumeRow        `json:"owed"`    // of hours before, which the disk did not take yet
}

// counted are both directions.
type counted struct {
	In  probe.Traffic `json:"in"`
	Out probe.Traffic `json:"out"`
}

func (r *Recorder) openVolume() error {
	v := &volume{
		dir: filepath.Join(r.o.Config.DataDir, volumeDir), now: r.o.Now, elapsed: r.o.Elapsed, log: r.log, failed: r.note,
		k: func() int { return r.Config().Statistics.K },
	}
	r.volume = v
	if _, none := r.src.(noSource); none {
		return nil
	}
	v.src, _ = r.src.(volumeReader)
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of traffic statistics %q: %w", v.dir, cause(err))
	}
	v.resume()
	return nil
}

// resume takes over the hour that was running at the last stop. The file goes at
// once: an hour that a crash follows on is lost rather than counted twice.
func (v *volume) resume() {
	name := filepath.Join(v.dir, volumeRunning)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var run running
	if err == nil {
		err = json.Unmarshal(text, &run)
	}
	if err == nil && (run.Last == nil || run.From.IsZero() || run.Hour.Before(run.From)) {
		err = errors.New("it is not one of edgelog's")
	}
	if err = errors.Join(err, os.Remove(name), syncDir(v.dir)); err != nil {
		v.log.Warn("the traffic of the running hour so far is not counted", "file", name, "error", err)
		return
	}
	v.run = run
}

// look reads the counters, and writes the rows of an hour that is over.
func (v *volume) look() {
	if v.src == nil {
		return
	}
	read, err := v.src.Volume()
	if err == nil && read.Settled {
		v.add(&read)
	}
	if err = errors.Join(err, v.pay()); (err != nil) == v.broken {
		return
	}
	if v.broken = err != nil; v.broken {
		err = fmt.Errorf("traffic is not counted: %w", err)
		v.log.Error(err.Error())
		v.failed(err)
	} else {
		v.log.Info("traffic is counted again")
	}
}

// add adds what came since the last look.
func (v *volume) add(read *probe.Volume) {
	now, passed := v.now().UTC(), v.elapsed()
	hour := now.Truncate(time.Hour)
	late := now.Sub(hour) > volumePatience
	if v.run.Last == nil {
		v.run.From, v.run.Hour, v.run.Partial = hour, hour, late
	}
	if v.run.Sums == nil {
		v.run.Sums = map[string]counted{}
	}
	next := map[string]counted{}
	for _, u := range read.Uplinks {
		is := counted{u.In, u.Out}
		was, seen := v.run.Last[u.Uplink]
		if !seen {
			was = is // nobody knows when that was
		}
		sum := v.run.Sums[u.Uplink]
		v.run.Sums[u.Uplink] = counted{v.more(sum.In, was.In, is.In), v.more(sum.Out, was.Out, is.Out)}
		next[u.Uplink] = is
	}
	v.run.Last = next
	switch soon := v.known && passed-v.looked <= volumePatience; {
	case !hour.After(v.run.Hour):
	case soon:
		v.close(!hour.Equal(v.run.Hour.Add(time.Hour)))
		v.run.From, v.run.Hour, v.run.Partial = hour, hour, late
	default: // it is not known how much of it came in which hour
		v.run.Hour = hour
	}
	v.looked, v.known = passed, true
}

// more adds the growth of a counter to a sum. One that is less than it was began
// anew, with a new table: what the old one still counted is not known.
func (v *volume) more(sum, was, is probe.Traffic) probe.Traffic {
	grown := func(was, is uint64) uint64 {
		if is < was {
			v.run.Partial = true
			return is
		}
		return is - was
	}
	return probe.Traffic{Packets: sum.Packets + grown(was.Packets, is.Packets), Sessions: sum.Sessions + grown(was.Sessions, is.Sessions)}
}

// close makes rows of the sums, and forgets them. This is where figures below the
// threshold end: they are in no row.
func (v *volume) close(partial bool) {
	k := v.k()
	for _, uplink := range slices.Sorted(maps.Keys(v.run.Sums)) {
		sum := v.run.Sums[uplink]
		for _, d := range []struct {
			name string
			t    probe.Traffic
		}{{"in", sum.In}, {"out", sum.Out}} {
			row := VolumeRow{
				Hour: v.run.From, Hours: int(v.run.Hour.Sub(v.run.From)/time.Hour) + 1, Uplink: uplink, Direction: d.name, K: k,
				Partial: partial || v.run.Partial,
			}
			if d.t.Sessions < uint64(k) {
				row.Below = true
			} else {
				row.Packets, row.Sessions = d.t.Packets, d.t.Sessions
			}
			v.run.Owed = append(v.run.Owed, row)
		}
	}
	if n := len(v.run.Owed) - maxOwedRows; n > 0 {
		v.log.Error("rows of traffic statistics are given up, since they cannot be written", "rows", n)
		v.run.Owed = v.run.Owed[n:]
	}
	v.run.Sums = map[string]counted{}
}

// pay writes the rows that are owed, those of each month into its file.
func (v *volume) pay() error {
	for len(v.run.Owed) > 0 {
		month := v.run.Owed[0].Hour.Format(volumeMonth)
		n := 1
		for n < len(v.run.Owed) && v.run.Owed[n].Hour.Format(volumeMonth) == month {
			n++
		}
		if err := v.append(month, v.run.Owed[:n]); err != nil {
			return fmt.Errorf("write the rows of %s: %w", month, cause(err))
		}
		v.run.Owed = v.run.Owed[n:]
	}
	return nil
}

// append makes rows durable, all or none of them.
func (v *volume) append(month string, rows []VolumeRow) (err error) {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	for i := range rows {
		if err := enc.Encode(&rows[i]); err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(v.dir, month+".jsonl"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	start := "" // a line that a power cut left unfinished stays by itself
	if last := make([]byte, 1); size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			start = "\n"
		}
	}
	if _, err = f.WriteString(start + text.String()); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(size))
	}
	if size == 0 {
		return syncDir(v.dir)
	}
	return nil
}

// stop keeps the running hour for the next start.
func (v *volume) stop() {
	v.look()
	if v.src == nil || v.run.Last == nil {
		return
	}
	text, err := json.Marshal(&v.run)
	if err == nil {
		err = writeDurably(filepath.Join(v.dir, volumeRunning), text)
	}
	if err != nil {
		v.log.Error("the traffic of the running hour is not kept for the next start", "error", err)
	}
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
