package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
)

// PathVolume is where the agent answers with a VolumeReport (GET, ?from= and ?to=).
const PathVolume = "/v1/report/volume"

// VolumeReport is how much crossed the border in a time. It names nobody.
type VolumeReport struct {
	Gateway string      `json:"gateway"`
	From    time.Time   `json:"from"`
	To      time.Time   `json:"to"` // not included
	K       int         `json:"k"`  // now; each row has that of its time
	Rows    []VolumeRow `json:"rows"`
	// None says why nothing is counted; "" when it is.
	None string `json:"none,omitempty"`
	// Damaged are the files of which a part is not understood, and was left out.
	Damaged []string `json:"damaged,omitempty"`
}

const (
	maxVolumeSpan = 3700 * 24 * time.Hour // of one answer
	maxVolumeFile = 64 << 20              // bytes of a month: more is not one of edgelog's
)

// Volume returns the rows that begin from ≤ t < to, in the order in which they
// were written. The running hour is not among them.
func (r *Recorder) Volume(from, to time.Time) (*VolumeReport, error) {
	v := r.volume
	out := &VolumeReport{Gateway: r.Config().Gateway, From: from.UTC(), To: to.UTC(), K: v.k(), Rows: []VolumeRow{}}
	switch {
	case v.src == nil:
		out.None = "no uplink is configured, so no packet is seen and nothing is counted"
	case !r.Config().Profile.RecordsSessions():
		out.None = fmt.Sprintf("profile %q begins no sessions, so no hour reaches the threshold", r.Config().Profile)
	}
	for month := time.Date(out.From.Year(), out.From.Month(), 1, 0, 0, 0, 0, time.UTC); month.Before(out.To); month = month.AddDate(0, 1, 0) {
		name := month.Format(volumeMonth) + ".jsonl"
		rows, bad, err := v.read(name)
		if err != nil {
			return nil, fmt.Errorf("read the traffic statistics in %q: %w", name, cause(err))
		}
		if bad > 0 {
			out.Damaged = append(out.Damaged, fmt.Sprintf("%s: %d lines are not understood", name, bad))
		}
		for _, row := range rows {
			if !row.Hour.Before(out.From) && row.Hour.Before(out.To) {
				out.Rows = append(out.Rows, row)
			}
		}
	}
	return out, nil
}

// read returns the rows of a month; bad is how many lines were none.
func (v *volume) read(name string) (rows []VolumeRow, bad int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := filepath.Join(v.dir, name)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err == nil && st.Size() > maxVolumeFile {
		err = fmt.Errorf("%d bytes are more than a month can have; move the file away", st.Size())
	}
	if err != nil {
		return nil, 0, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	for line := range bytes.Lines(text) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		row, ok := parseVolumeRow(line)
		if !ok {
			bad++
			continue
		}
		rows = append(rows, row)
	}
	return rows, bad, nil
}

// parseVolumeRow reads a line. One with figures that should not be there is none,
// whoever wrote it.
func parseVolumeRow(line []byte) (row VolumeRow, ok bool) {
	if json.Unmarshal(line, &row) != nil {
		return row, false
	}
	row.Hour = row.Hour.UTC()
	figures := row.Packets > 0 || row.Sessions > 0
	switch {
	case row.Hour.Year() < 2000 || row.Hour.Truncate(time.Hour) != row.Hour || row.Hours < 1,
		row.Uplink == "" || row.Direction != "in" && row.Direction != "out",
		row.K < config.LeastK, row.Below && figures, !row.Below && row.Sessions < uint64(row.K):
		return row, false
	}
	return row, true
}

// volumeHandler answers GET /v1/report/volume?from=T&to=T, times in RFC 3339.
func (r *Recorder) volumeHandler(w http.ResponseWriter, req *http.Request) {
	from, err1 := time.Parse(time.RFC3339, req.FormValue("from"))
	to, err2 := time.Parse(time.RFC3339, req.FormValue("to"))
	if err := errors.Join(err1, err2); err != nil || !from.Before(to) || to.Sub(from) > maxVolumeSpan {
		http.Error(w, "from and to are to be given as RFC 3339, to after from and at most ten years later", http.StatusBadRequest)
		return
	}
	report, err := r.Volume(from, to)
	if err != nil {
		r.log.Error("the traffic statistics could not be read", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.reply(w, report)
}
