package disclose

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// Paths of the gate on the control socket.
const (
	PathLookup  = "/v1/lookup"
	PathOutcome = "/v1/lookup/{id}/outcome"
	PathMore    = "/v1/lookup/{id}/{what}"                        // bindings, ends, sessions, registers or communications, while its outcome is not known
	PathHold    = "/v1/lookup/{id}/hold"                          // takes what is to be held, of a reading with WantHold
	PathBlocks  = "/v1/lookup/{id}/blocks"                        // whole blocks of sessions, ends, calls and mail, by name
	PathPage    = "/v1/lookup/{id}/register/{day}/{epoch}/{page}" // one block of a register
)

// maxSpans is the most gaps that a reader is told of one by one.
const maxSpans = 1000

const maxRequest = 1 << 16 // bytes of a question or an outcome

// Shelf hands out what is kept, sealed as it is.
type Shelf interface {
	// Keys calls fn with each wrapped data key of the days first to last.
	Keys(ctx context.Context, first, last session.Day, fn func(wrapped []byte) error) error
	// HoldKey calls fn with the wrapped key of a hold, if it is there.
	HoldKey(ctx context.Context, hold uint64, fn func(wrapped []byte) error) error
	// Bindings calls fn with each sealed block of bindings that may say
	// something about the time from ≤ t < to, ns, whenever it was written. It
	// returns how many blocks are damaged and were passed over.
	Bindings(ctx context.Context, from, to int64, fn func(sealed []byte) error) (damaged int, err error)
	// Ends calls fn with the first frames of each sealed block of ends, or with all
	// of it, of bindings that Bindings gives without an end, and returns the same.
	Ends(ctx context.Context, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error)
	// Sessions calls fn with the first frames of each sealed block of sessions that
	// holds a time from ≤ t < to, ns, whatever day it is filed under, as a part
	// (vault.Part), or with all of it, and returns the same.
	Sessions(ctx context.Context, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error)
	// Communications calls fn with the first frames of each sealed block of calls, of
	// mail, or of both, that holds a time from ≤ t < to, ns, and returns the same.
	Communications(ctx context.Context, calls, mail bool, from, to int64, frames int, fn func(head []byte) error) (damaged int, err error)
	// Block returns a whole block of sessions, ends, calls or mail; the error wraps fs.ErrNotExist when
	// there is none.
	Block(ctx context.Context, kind uint8, day session.Day, epoch uint64, seq uint32) (sealed []byte, err error)
	// Registers calls fn with the sealed directory of each import of subscribers
	// that says something about a time before to, ns, the first import first.
	Registers(ctx context.Context, to int64, fn func(sealed []byte) error) (damaged int, err error)
	// Page returns one block of an import; the error wraps fs.ErrNotExist when
	// there is none.
	Page(ctx context.Context, day session.Day, epoch uint64, page uint32) (sealed []byte, err error)
}

// Ledger takes evidence. ledger.Ledger is one; its payloads are sealed to the
// custodians before they are kept.
type Ledger interface {
	Append(ctx context.Context, e ledger.Entry) (int64, error)
	Checkpoint() ledger.Checkpoint
	Size() int64
	Entries(ctx context.Context, from, to int64) ([]ledger.Record, error)
	Prove(index int64) (*ledger.Proof, error)
	Statement(what, text string) ([]byte, error)
}

// GateOptions configure a Gate. Shelf, Ledger, Flush, Dir, Policy and Caller are
// required.
type GateOptions struct {
	Shelf  Shelf
	Ledger Ledger

	// Dir is where requests and grants lie, sealed, and Policy what the configuration
	// says about them now.
	Dir    string
	Policy func() Policy

	// Flush makes everything that has been collected part of the Shelf.
	Flush func(context.Context) error

	// Origin returns where and under what rule is recorded now.
	Origin func() Origin

	// Coverage returns what is known of the recording from ≤ t < to, UTC ns;
	// nil: nothing is.
	Coverage func(from, to int64) (*session.CoverageReport, error)

	// Kept returns the first day whose records were not destroyed; nil: it is not known.
	Kept func() session.Day

	// Paper returns what a package says of this gateway; nil: packages say nothing.
	Paper func() Paper

	// Caller says who is asking; false when the kernel does not say, and then nothing
	// is read.
	Caller func(*http.Request) (Caller, bool)

	// Custodians returns for whom holds are sealed, and Hold keeps one under the
	// number of its intent, durably and with an entry in the ledger; it returns what
	// can be said of it. nil: nothing can be held.
	Custodians func() Custodians
	Hold       func(ctx context.Context, id uint64, key []byte, blocks [][]byte) (facts any, err error)

	// All calls fn with every sealed block there is, for WantVerify; nil: it cannot
	// be asked for.
	All func(ctx context.Context, fn func(sealed []byte) error) (damaged int, err error)

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// Gate is the agent's side of a reading: ledger first, then sealed bytes, then
// the ledger again. It cannot open anything itself.
type Gate struct {
	o    GateOptions
	desk *desk
	no   refusals

	mu   sync.Mutex
	open map[string]*reading
}

// reading is one question whose outcome is not known yet.
type reading struct {
	id      string
	uid     uint32 // whose it is
	intent  int64
	act     Act
	of      int64    // the request; with Verify 0
	request *Request // nil with Verify
	query   Query
	done    chan struct{} // closed when the outcome is in the ledger, or could not be put there

	mu    sync.Mutex
	over  bool                 // the outcome is being recorded: nothing more is sent
	days  map[session.Day]bool // whose keys were sent
	holds map[uint64]bool      // likewise
	keys  int                  // that were sent, as the others
	parts int                  // blocks
	bytes int64
	held  bool // PathHold was used
}

// errOver is returned when a reader gave its outcome before it had everything.
var errOver = errors.New("the reader gave its outcome")

// sent counts a key or block that is about to be sent.
func (rd *reading) sent(k frameKind, n int) error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.over {
		return errOver
	}
	if k == frameKey {
		rd.keys++
	} else {
		rd.parts++
	}
	rd.bytes += int64(n)
	return nil
}

// end stops the sending, and returns the fields of the outcome: what the agent
// itself knows of the reading, whatever the reader says.
func (rd *reading) end(result string) map[string]string {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.over = true
	f := rd.fields()
	f[FieldIntent], f[FieldResult] = strconv.FormatInt(rd.intent, 10), result
	f["keys_sent"], f["blocks_sent"], f["bytes_sent"] = strconv.Itoa(rd.keys), strconv.Itoa(rd.parts), strconv.FormatInt(rd.bytes, 10)
	return f
}

// NewGate returns a gate.
func NewGate(o GateOptions) *Gate {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Origin == nil {
		o.Origin = func() Origin { return Origin{} }
	}
	if o.Caller == nil {
		o.Caller = func(*http.Request) (Caller, bool) { return Caller{}, false }
	}
	return &Gate{o: o, desk: openDesk(&o), open: map[string]*reading{}}
}

// Serve has handle, of the control socket, answer all paths of the gate.
func (g *Gate) Serve(handle func(pattern string, h http.HandlerFunc)) {
	g.serveDesk(handle)
	handle("POST "+PathLookup, g.Lookup)
	handle("POST "+PathOutcome, g.Outcome)
	handle("GET "+PathMore, g.More)
	handle("POST "+PathBlocks, g.Blocks)
	handle("GET "+PathPage, g.Page)
	handle("POST "+PathHold, g.Hold)
}

// Lookup answers POST /v1/lookup: an opening as JSON in, frames out. The answer
// stays open until its outcome has come, or the reader has gone.
func (g *Gate) Lookup(w http.ResponseWriter, r *http.Request) {
	by, ok := g.caller(w, r)
	if !ok {
		return
	}
	var o opening
	if err := decode(w, r, &o); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	rd, err := g.admit(&o, by)
	if err != nil {
		g.deny(r.Context(), w, by, o.Act.word(), o.Request, err)
		return
	}
	if rd.act == Run {
		defer g.desk.letGo(rd.of)
	}
	if err := g.intend(r, rd, by); err != nil {
		g.o.Logger.Error("a question was not answered: the ledger could not be written", "error", err)
		refuse(w, http.StatusServiceUnavailable, errors.New("the ledger cannot be written, so nothing is read; see \"edgelog status\""))
		return
	}
	defer g.abandon(rd)
	w.Header().Set("Content-Type", "application/octet-stream")
	fw := newFrameWriter(w)
	if err := g.stream(r.Context(), fw, rd); err != nil && !errors.Is(err, errOver) {
		g.o.Logger.Error("a question was not answered to its end", "error", err)
		_ = fw.write(frameError, []byte("the store could not be read to its end; see \"edgelog status\"")) // the reader may be gone
	}
	if fw.flush() != nil {
		return
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	select {
	case <-rd.done:
	case <-r.Context().Done():
	}
}

// caller says who asks, or answers that it is not known.
func (g *Gate) caller(w http.ResponseWriter, r *http.Request) (*Caller, bool) {
	by, ok := g.o.Caller(r)
	if !ok {
		g.o.Logger.Error("somebody was not answered: the kernel did not say who asks")
		refuse(w, http.StatusForbidden, errors.New("it is not known who asks, so nothing is read; ask over the control socket of this machine"))
	}
	return &by, ok
}

// admit returns a reading, if it may begin.
func (g *Gate) admit(o *opening, by *Caller) (*reading, error) {
	rd := &reading{id: rand.Text(), uid: by.UID, act: o.Act, of: o.Request, done: make(chan struct{}), days: map[session.Day]bool{}, holds: map[uint64]bool{}}
	switch o.Act {
	case Verify:
		if !by.Custodian {
			return nil, by.lacks("custodian")
		}
		if o.Query == nil || o.Query.Ask != WantVerify || o.Request != 0 {
			return nil, bad("it is not known what is to be verified", "use \"edgelog verify\"")
		}
		rd.query = *o.Query
		return rd, rd.query.Check(g.o.Now())
	case Approve, Run, Preserve:
		r, err := g.desk.admit(o.Act, by, o.Request, o.Text)
		if err != nil {
			return nil, err
		}
		rd.request, rd.query = r, r.Task.Query
		if o.Act == Preserve {
			return rd, rd.query.hold()
		}
		return rd, nil
	}
	return nil, deny("no request", "this needs an approved request: file one with \"edgelog request new\"")
}

// fields are what the ledger has in the clear of a reading.
func (rd *reading) fields() map[string]string {
	f := map[string]string{FieldAct: string(rd.act), FieldAction: rd.query.action()}
	if rd.act != Verify {
		f[FieldRequest] = strconv.FormatInt(rd.of, 10)
	}
	return f
}

// account says who reads what, for whom and by what right.
func (g *Gate) account(rd *reading, by *Caller) *Accountable {
	o := g.o.Origin()
	under := cmp.Or(o.LegalBasis, "profile "+o.Profile)
	person := by.Person
	if person == "" {
		person = fmt.Sprintf("uid %d", by.UID)
	}
	var a *Accountable
	if rd.request == nil {
		a = Account(&rd.query, under, NoDelivery, person, g.o.Now())
	} else {
		a = AccountRequest(rd.request, rd.of, under, person, g.o.Now())
		a.Search.Kind = rd.query.action()
	}
	return a
}

// intend puts the question into the ledger. What names people is in the
// payload, which the ledger seals.
func (g *Gate) intend(r *http.Request, rd *reading, by *Caller) error {
	payload, err := g.account(rd, by).Payload()
	if err != nil {
		return err
	}
	rd.intent, err = g.o.Ledger.Append(r.Context(), ledger.Entry{Kind: ledger.Intent, Fields: rd.fields(), Payload: payload})
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.open[rd.id] = rd
	g.mu.Unlock()
	return nil
}

// stream sends what is known of the recording; the reader asks for blocks as it
// needs them.
func (g *Gate) stream(ctx context.Context, fw *frameWriter, rd *reading) error {
	q := &rd.query
	b := begin{ID: rd.id, LedgerIntent: rd.intent, Origin: g.o.Origin()}
	if g.o.Kept != nil {
		b.Kept = g.o.Kept()
	}
	if rd.act == Run && g.o.Paper != nil {
		p, err := g.paper(rd.of)
		if err != nil {
			return err
		}
		b.Paper = p
	}
	if q.Ask == WantHold && g.o.Custodians != nil {
		c := g.o.Custodians()
		b.Custodians = &c
	}
	b.Imports = g.imports(ctx, q)
	if err := g.o.Flush(ctx); err != nil {
		g.o.Logger.Warn("the newest records could not be stored before a question", "error", err)
		b.Unstored = true
	}
	if err := fw.writeJSON(frameBegin, b); err != nil {
		return err
	}
	if err := g.coverage(fw, q); err != nil {
		return err
	}
	return fw.writeJSON(frameEnd, fw.end)
}

// paper is what a package says of this gateway, and the proofs of its request.
func (g *Gate) paper(id int64) (*Paper, error) {
	p := g.o.Paper()
	for _, index := range g.desk.entries(id) {
		proof, err := g.o.Ledger.Prove(index)
		if err != nil {
			return nil, err
		}
		p.Entries = append(p.Entries, proof)
	}
	return &p, nil
}

// coverage sends what is known of the recording in the window. That it cannot be
// read is no reason not to answer: the reader says that it is not known.
func (g *Gate) coverage(fw *frameWriter, q *Query) error {
	if g.o.Coverage == nil {
		return nil
	}
	report, err := g.o.Coverage(q.From, q.To)
	if err != nil {
		g.o.Logger.Error("the record of coverage could not be read for a question", "error", err)
		return nil
	}
	report.Brief(maxSpans)
	return fw.writeJSON(frameCoverage, report)
}

// decode reads one JSON object.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: the request is not understood: %w", ErrQuery, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the request is not understood: something follows it", ErrQuery)
	}
	return nil
}

// refusal is the body of every answer that is none.
type refusal struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(refusal{Error: err.Error()}) // the reader may be gone
}
