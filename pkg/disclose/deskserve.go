package disclose

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// Paths of requests on the control socket.
const (
	PathRequests = "/v1/requests"             // GET: all; POST: file one
	PathRequest  = "/v1/requests/{id}"        // GET
	PathStep     = "/v1/requests/{id}/{step}" // POST of a Step: approve, refuse or withdraw
)

// Filing is the answer to a request that was filed.
type Filing struct {
	Case Case   `json:"case"`
	Text []byte `json:"text"` // what it is known by
}

// Step is what takes a request on.
type Step struct {
	Text   []byte `json:"text"`             // of the request
	Grant  []byte `json:"grant,omitempty"`  // with approve: sealed to the officer, or where more must approve to those
	Reason string `json:"reason,omitempty"` // of a refusal or withdrawal
}

// Requests is the list of them, with whom a grant is wrapped for until all have
// approved.
type Requests struct {
	Cases      []Listed `json:"cases"`
	Custodians []Holder `json:"custodians"`
	You        string   `json:"you"` // who asks
}

const maxGrant = 64 << 20 // bytes of a step

func (g *Gate) serveDesk(handle func(pattern string, h http.HandlerFunc)) {
	handle("POST "+PathRequests, g.fileRequest)
	handle("GET "+PathRequests, g.listRequests)
	handle("GET "+PathRequest, g.listRequests)
	handle("POST "+PathStep, g.stepRequest)
}

func (g *Gate) fileRequest(w http.ResponseWriter, r *http.Request) {
	by, ok := g.caller(w, r)
	if !ok {
		return
	}
	var in Request
	if err := decode(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	c, text, err := g.desk.file(r.Context(), by, &in)
	if err != nil {
		g.deny(r.Context(), w, by, stepFile, 0, err)
		return
	}
	reply(w, Filing{*c, text})
}

func (g *Gate) listRequests(w http.ResponseWriter, r *http.Request) {
	by, ok := g.caller(w, r)
	if !ok {
		return
	}
	if !by.Officer && !by.Custodian && !by.Auditor {
		g.deny(r.Context(), w, by, "list", 0, by.lacks("officer"))
		return
	}
	var one *int64
	if word := r.PathValue("id"); word != "" {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			refuse(w, errNoCase.Status, errNoCase)
			return
		}
		one = &id
	}
	list, err := g.desk.list(one)
	if err != nil {
		g.deny(r.Context(), w, by, "list", 0, err)
		return
	}
	for i := range list {
		if !by.Officer && !by.Custodian {
			list[i].SealedGrant = nil
		}
	}
	reply(w, Requests{list, g.o.Policy().Custodians, by.Person})
}

func (g *Gate) stepRequest(w http.ResponseWriter, r *http.Request) {
	by, ok := g.caller(w, r)
	if !ok {
		return
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		refuse(w, errNoCase.Status, errNoCase)
		return
	}
	var in Step
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxGrant)).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, errors.New("what is to be done is not understood"))
		return
	}
	step := r.PathValue("step")
	var c *Case
	switch step {
	case stepApprove:
		c, err = g.desk.approve(r.Context(), by, id, in.Text, in.Grant)
	case stepRefuse, stepWithdraw:
		c, err = g.desk.end(r.Context(), by, id, in.Text, step, in.Reason)
		if c != nil {
			g.cutOff(id)
		}
	default:
		refuse(w, http.StatusNotFound, errors.New("a request is approved, refused or withdrawn"))
		return
	}
	if err != nil {
		g.deny(r.Context(), w, by, step, id, err)
		return
	}
	reply(w, c)
}

// cutOff has nothing more sent to those who read for a request.
func (g *Gate) cutOff(id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rd := range g.open {
		if rd.of == id && rd.act == Run {
			rd.mu.Lock()
			rd.over = true
			rd.mu.Unlock()
		}
	}
}

// Tick ends requests that were not dealt with in time. It is to be called about
// once a minute.
func (g *Gate) Tick(ctx context.Context) error { return g.desk.tick(ctx) }

// Waiting counts requests by where they stand. It names nobody.
type Waiting struct {
	Filed      int
	Approved   int
	Unratified int    // emergencies that wait for a second custodian
	Overdue    int    // emergencies for which none came, in the last month
	Denied     uint64 // steps and readings that were not permitted, since the start
	Text       string // why no request can be dealt with; "" when it can
}

// Status says how requests stand.
func (g *Gate) Status() Waiting {
	w := g.desk.waiting()
	g.no.mu.Lock()
	defer g.no.mu.Unlock()
	w.Denied = g.no.all
	return w
}

func (d *desk) waiting() (w Waiting) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		w.Text = d.broken.Error()
	}
	for _, c := range d.cases {
		switch {
		case c.State == Filed:
			w.Filed++
		case c.State == Approved:
			w.Approved++
		}
		if c.unratified() {
			w.Unratified++
		}
		if c.Overdue {
			w.Overdue++
		}
	}
	return w
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader may be gone
}

// deny answers why something is not done, and has the ledger know of it when it was
// not permitted.
func (g *Gate) deny(ctx context.Context, w http.ResponseWriter, by *Caller, what string, id int64, err error) {
	d := asDenied(err)
	switch {
	case d != nil:
		if err := g.no.note(ctx, g.o.Ledger, g.o.Now(), by, what, id, d.Word); err != nil {
			g.o.Logger.Error("a refusal was not recorded", "error", err)
		}
		refuse(w, d.Status, d)
	case errors.Is(err, ErrQuery), errors.Is(err, ErrRequest):
		refuse(w, http.StatusBadRequest, err)
	default:
		g.o.Logger.Error("a request was not dealt with", "error", err)
		refuse(w, http.StatusServiceUnavailable, errors.New("requests cannot be dealt with now; see \"edgelog status\" and the log"))
	}
}

// refusals has the ledger know who was refused what: the first time at once, and
// again after a minute with how often it was.
type refusals struct {
	mu   sync.Mutex
	last map[refusedAs]*refusedTimes
	all  uint64
}

type refusedAs struct {
	uid        uint32
	what, word string
}

type refusedTimes struct {
	at   time.Time
	more int // since then
}

const (
	refusedEach = time.Minute
	mostRefused = 1000 // kinds of refusals that are remembered
)

func (n *refusals) note(ctx context.Context, l Ledger, now time.Time, by *Caller, what string, id int64, word string) error {
	n.mu.Lock()
	n.all++
	as := refusedAs{by.UID, what, word}
	t := n.last[as]
	if t != nil && now.Sub(t.at).Abs() < refusedEach {
		t.more++
		n.mu.Unlock()
		return nil
	}
	times := 1
	if t != nil {
		times += t.more
	}
	if n.last == nil || len(n.last) >= mostRefused {
		n.last = map[refusedAs]*refusedTimes{}
	}
	n.last[as] = &refusedTimes{at: now}
	n.mu.Unlock()
	payload, err := json.Marshal(by.says(""))
	if err != nil {
		return err
	}
	_, err = l.Append(context.WithoutCancel(ctx), ledger.Entry{Kind: ledger.Refused, Payload: payload, Fields: map[string]string{
		"what": what, "why": word, "request": strconv.FormatInt(id, 10), "times": strconv.Itoa(times),
	}})
	return err
}
