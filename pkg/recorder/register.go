package recorder

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// PathRegister takes a register of subscribers: POST with the query partial=true
// for one that leaves others as they are, from=T (RFC 3339) since when it holds,
// sha256=HEX of the file; the body is one RegisterRow a line, by ID and From, and a
// last line with End. It answers with RegisterAnswer when all of it is durable.
const PathRegister = "/v1/subscribers/import"

// RegisterRow is a line of an import. A line with End says how many came before
// it: without it the import does not count.
type RegisterRow struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Address  string `json:"address,omitempty"`
	Services string `json:"services,omitempty"`
	From     int64  `json:"from,omitempty"` // UTC, nanoseconds since 1970; 0: since the import holds
	To       int64  `json:"to,omitempty"`   // 0: until another import says otherwise
	End      *int   `json:"end,omitempty"`
}

// RegisterAnswer says what was sealed.
type RegisterAnswer struct {
	Rows int `json:"rows"`
}

// RegisterStatus is what is known of the register. Who is in it cannot be read
// here.
type RegisterStatus struct {
	Imported time.Time `json:"imported,omitzero"` // the newest import; zero: there is none
	Age      int64     `json:"age_s"`             // of it, in seconds; 0 when there is none
	Rows     uint64    `json:"rows"`              // sealed since the start of the agent
	Records  uint64    `json:"records"`           // in the store since then, pages of directories included
}

// registerOld is the age at which a register should be imported again: its key
// is destroyed after a year, and then nobody can be named by it.
const registerOld = 300 * 24 * time.Hour

// Old reports whether the register should be imported again.
func (s *RegisterStatus) Old() bool { return time.Duration(s.Age)*time.Second > registerOld }

// at fills in the age.
func (s RegisterStatus) at(now time.Time) RegisterStatus {
	if !s.Imported.IsZero() {
		s.Age = max(1, int64(now.Sub(s.Imported)/time.Second))
	}
	return s
}

// Pages of an import: so many rows, or so many bytes of text.
const (
	pageRows  = 4096
	pageBytes = 256 << 10
	maxLine   = 8 << 10
)

// registrar keeps registers. One is imported at a time.
type registrar struct {
	mu     sync.Mutex
	status RegisterStatus // driven by the goroutine that stores
}

// openRegister finds out when a register was imported last.
func (r *Recorder) openRegister() error {
	_, err := passOver(r.store.Scan(context.Background(), store.KindDirectory, math.MinInt64, math.MaxInt64, func(p vault.Place, _ store.Sealed) error {
		if at := time.UnixMilli(min(p.To, r.o.Now().UnixMilli())).UTC(); at.After(r.registrar.status.Imported) {
			r.registrar.status.Imported = at
		}
		return nil
	}))
	if err != nil {
		return fmt.Errorf("look for the register of subscribers: %w", err)
	}
	r.Handle("POST "+PathRegister, mayTend, r.registerHandler)
	return nil
}

// do has the goroutine that stores call f.
func (r *Recorder) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case r.jobs <- func() { done <- f() }:
		return <-done
	case <-r.loopDone:
		return errors.New("the agent is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errRegister is wrapped by errors about what was sent.
var errRegister = errors.New("the register cannot be taken")

// registerHandler answers PathRegister. It reads nothing, and the ledger says who
// imported.
func (r *Recorder) registerHandler(w http.ResponseWriter, req *http.Request) {
	if !r.registrar.mu.TryLock() {
		http.Error(w, "another register is being imported; wait for it", http.StatusConflict)
		return
	}
	defer r.registrar.mu.Unlock()
	i, err := r.newImport(req)
	if err == nil {
		err = i.run(req.Context(), req.Body)
	}
	if i != nil {
		fields := map[string]string{"of": "subscribers", "result": "done", "entries": itoa(i.dir.Rows), "file_sha256": hex.EncodeToString(i.dir.File[:]),
			"from": session.FormatTime(i.dir.From), "partial": fmt.Sprint(i.dir.Partial)}
		if err != nil {
			fields["result"] = "not to its end: it does not count"
		}
		if p, ok := PeerOf(req.Context()); ok {
			fields["uid"] = itoa(uint64(p.UID))
		}
		r.evidence.note(ledger.Import, fields)
	}
	switch {
	case errors.Is(err, errRegister):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		r.log.Error("a register of subscribers was not kept; what was sealed of it does not count", "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(RegisterAnswer{Rows: int(i.dir.Rows)}) // the importer may be gone
	}
}

// registerImport is one import on its way.
type registerImport struct {
	r     *Recorder
	shelf *filer // with an epoch of its own, so that its pages are numbered from 0
	day   session.Day
	dir   block.Directory
	page  []block.Subscriber
	bytes int
	last  block.Subscriber
	since int64 // it says something about times from here on, UTC ns
}

func (r *Recorder) newImport(req *http.Request) (*registerImport, error) {
	q, now := req.URL.Query(), r.o.Now()
	i := &registerImport{r: r, day: session.DayOf(now.UnixNano())}
	i.dir.Imported, i.dir.From, i.dir.Partial = now.UnixNano(), now.UnixNano(), q.Get("partial") == "true"
	if s := q.Get("from"); s != "" {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil || t.Unix() <= 0 || t.After(now.AddDate(1, 0, 0)) {
			return nil, fmt.Errorf("%w: from must be a time in RFC 3339", errRegister)
		}
		i.dir.From = t.UnixNano()
	}
	i.since = i.dir.From
	sum, err := hex.DecodeString(q.Get("sha256"))
	if err != nil || len(sum) != len(i.dir.File) {
		return nil, fmt.Errorf("%w: sha256 must be that of the file", errRegister)
	}
	copy(i.dir.File[:], sum)
	return i, nil
}

// run takes all lines, page by page, and the directory when all have come.
func (i *registerImport) run(ctx context.Context, body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	for lines.Scan() {
		var row RegisterRow
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if d.Decode(&row) != nil {
			return fmt.Errorf("%w: row %d is not understood; is the program of the agent's version?", errRegister, i.dir.Rows+1)
		}
		if row.End != nil {
			if *row.End != int(i.dir.Rows) || lines.Scan() {
				return fmt.Errorf("%w: %d rows came, %d were announced", errRegister, i.dir.Rows, *row.End)
			}
			return i.finish(ctx)
		}
		if err := i.add(ctx, &row); err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%w: row %d is longer than %d bytes", errRegister, i.dir.Rows+1, maxLine)
	}
	return fmt.Errorf("%w: it was cut off after %d rows; import it again", errRegister, i.dir.Rows)
}

func (i *registerImport) add(ctx context.Context, row *RegisterRow) error {
	s := block.Subscriber{ID: row.ID, Name: row.Name, Address: row.Address, Services: row.Services, From: row.From, To: cmp.Or(row.To, session.Forever)}
	if s.ID == "" || s.From < 0 || s.To <= s.From || i.dir.Rows > 0 && block.CompareSubscribers(i.last, s) >= 0 {
		return fmt.Errorf("%w: row %d has no id, ends before it begins, or is out of order", errRegister, i.dir.Rows+1)
	}
	i.last = block.Subscriber{ID: s.ID, From: s.From}
	if s.From > 0 {
		i.since = min(i.since, s.From)
	}
	i.page = append(i.page, s)
	i.bytes += len(s.ID) + len(s.Name) + len(s.Address) + len(s.Services)
	i.dir.Rows++
	if len(i.page) < pageRows && i.bytes < pageBytes {
		return nil
	}
	return i.flush(ctx)
}

// flush seals the page that has come together.
func (i *registerImport) flush(ctx context.Context) error {
	if len(i.page) == 0 {
		return nil
	}
	first := i.page[0]
	err := i.seal(ctx, store.KindRegister, func(f *filer) (err error) {
		f.plain, err = f.enc.Register(f.plain[:0], i.r.header(), i.page)
		return err
	}, len(i.page))
	i.dir.First = append(i.dir.First, first.ID)
	clear(i.page)
	i.page, i.bytes = i.page[:0], 0
	return err
}

// finish makes the import count.
func (i *registerImport) finish(ctx context.Context) error {
	if i.dir.Rows == 0 {
		return fmt.Errorf("%w: it has no rows", errRegister)
	}
	if err := i.flush(ctx); err != nil {
		return err
	}
	err := i.seal(ctx, store.KindDirectory, func(f *filer) (err error) {
		f.plain, err = f.enc.Directory(f.plain[:0], i.r.header(), &i.dir)
		return err
	}, len(i.dir.First))
	if err != nil {
		return err
	}
	return i.r.do(ctx, func() error {
		i.r.registrar.status.Imported = time.Unix(0, i.dir.Imported).UTC()
		i.r.registrar.status.Rows += i.dir.Rows
		return nil
	})
}

// seal has the goroutine that stores seal and keep one block of the import.
func (i *registerImport) seal(ctx context.Context, kind store.Kind, encode func(*filer) error, count int) error {
	return i.r.do(ctx, func() error {
		if i.shelf == nil {
			i.shelf = newFiler(i.r.sessions.shelf.gateway, i.r.vault, i.r.store)
		}
		epoch := i.shelf.epoch
		if err := encode(i.shelf); err != nil {
			return fmt.Errorf("%w: %w", errRegister, err)
		}
		l := i.shelf.load(nil)
		if err := l.add(kind, i.day, i.since, max(i.dir.From, i.dir.Imported), count); err != nil {
			return fmt.Errorf("seal the register: %w", err)
		}
		if i.shelf.epoch != epoch && len(i.dir.First) > 0 {
			return errors.New("seal the register: its key was given up meanwhile; import it again")
		}
		if _, err := l.put(); err != nil {
			return fmt.Errorf("keep the register: %w", err)
		}
		i.r.registrar.status.Records += uint64(count)
		return nil
	})
}
