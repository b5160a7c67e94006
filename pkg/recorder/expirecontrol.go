package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// PathExpiry is where it is asked what is due (GET), and where what is due is
// destroyed at once (POST, with clock_is_right=1 although the clock is not
// synchronised).
const PathExpiry = "/v1/expiry"

// Expiry says what is destroyed when. It names nobody.
type Expiry struct {
	Now           time.Time    `json:"now"`
	RetentionDays int          `json:"retention_days"`
	Days          []DayExpiry  `json:"days"` // all that are kept, the oldest first
	Status        ExpiryStatus `json:"status"`
	Certificates  string       `json:"certificates"` // the directory that they lie in
	PublicKey     string       `json:"public_key"`   // that they are signed with
}

// DayExpiry is a day that is kept, and until when.
type DayExpiry struct {
	Day     string    `json:"day"`
	Until   time.Time `json:"until"` // it is destroyed at this time
	Due     bool      `json:"due"`
	Keys    int       `json:"keys"`
	Blocks  int       `json:"blocks"`
	Records uint64    `json:"records"`
	Bytes   uint64    `json:"bytes"`
}

// list says what is kept. The goroutine that stores calls it.
func (x *expiry) list() (*Expiry, error) {
	r := x.r
	now, keep := r.o.Now(), r.Config().Store.RetentionDays
	out := &Expiry{
		Now: now.UTC(), RetentionDays: keep, Status: x.status, Certificates: x.dir, PublicKey: r.ledger.VerifierKey(), Days: []DayExpiry{},
	}
	due := x.due(now)
	for _, day := range r.store.Kept() {
		f, err := r.store.Day(day)
		if err != nil {
			return nil, err
		}
		out.Days = append(out.Days, DayExpiry{
			Day: day.String(), Until: (day + session.Day(keep) + 1).Start(), Due: slices.Contains(due, day),
			Keys: len(f.Keys), Blocks: f.Blocks, Records: f.Rows, Bytes: f.Bytes,
		})
	}
	return out, nil
}

// KeptFrom returns the first day whose records have not been destroyed: a year ago, or
// earlier when something of an earlier day is left. It may be called at any time.
func (r *Recorder) KeptFrom() session.Day {
	first := session.DayOf(r.o.Now().UnixNano()) - session.Day(r.Config().Store.RetentionDays)
	if kept := r.store.Kept(); len(kept) > 0 {
		first = min(first, kept[0])
	}
	return first
}

// trust has the clock believed once, because somebody says that it is right; the
// ledger says who.
func (x *expiry) trust(ctx context.Context) error {
	if _, known := PeerOf(ctx); !known {
		return errors.New("it is not known who says that the clock is right, so it is not believed")
	}
	payload, err := json.Marshal(map[string]string{"peer": WhoAsks(ctx)})
	if err != nil {
		return err
	}
	fields := map[string]string{"state": "said to be right", "time": x.r.o.Now().UTC().Format(time.RFC3339)}
	if _, err := x.r.evidence.Append(ctx, ledger.Entry{Kind: ledger.ClockStep, Fields: fields, Payload: payload}); err != nil {
		return fmt.Errorf("the ledger cannot be written, so the clock is not believed: %w", err)
	}
	x.trusted = true
	return nil
}

func (r *Recorder) expiryHandler(w http.ResponseWriter, req *http.Request) {
	// An operator can set the clock, and a wrong one destroys a year of evidence: that it is
	// right is said by who answers for what is kept (directive 2006/24 art. 7: protected against loss).
	if c, _ := CallerOf(req.Context()); req.Method == http.MethodPost && req.FormValue("clock_is_right") != "" && !c.Roles.Has(mayAnswerFor) {
		r.refuse(w, req, "POST "+PathExpiry+" clock_is_right", mayAnswerFor)
		return
	}
	var out *Expiry
	err := r.do(req.Context(), func() (err error) {
		if req.Method == http.MethodPost {
			if req.FormValue("clock_is_right") != "" {
				if err := r.expiry.trust(req.Context()); err != nil {
					return err
				}
			}
			r.expiry.step(mostJump)
		}
		out, err = r.expiry.list()
		return err
	})
	if err != nil {
		r.log.Error("it could not be said what is due", "error", err)
		http.Error(w, fmt.Sprintf("it could not be said what is due: %v", cause(err)), http.StatusInternalServerError)
		return
	}
	r.reply(w, out)
}
