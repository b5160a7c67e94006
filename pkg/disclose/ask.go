package disclose

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// The errors of asking.
var (
	ErrWrongIdentity = errors.New("none of the data keys opens with this identity")
	ErrNothingCan    = errors.New("nothing recorded in this window can match")
	ErrCut           = errors.New("the agent's answer was cut off")
	ErrAgent         = errors.New("the agent refused")
)

// base is the address of the agent; the client knows which socket it means.
const base = "http://agent"

// conduct is one reading: question, work on what is sent, outcome. The work may
// ask for more.
func conduct(ctx context.Context, client *http.Client, q *Query, ids *vault.Identities, work func(context.Context, *reader) error) (*reader, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the stream, which the agent holds open
	body, err := post(ctx, client, PathLookup, q)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read
	r := newReader(q, ids)
	r.client = client
	why := r.readAll(body)
	if r.begin.ID == "" {
		return nil, why // the agent promised nothing: there is no outcome to give
	}
	if why == nil {
		why = work(ctx, r)
	}
	outcome := r.outcome(why)
	answer, err := post(ctx, client, strings.Replace(PathOutcome, "{id}", r.begin.ID, 1), outcome)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	defer answer.Close() //nolint:errcheck // only read
	var done recorded
	if err := json.NewDecoder(answer).Decode(&done); err != nil {
		return nil, errors.Join(why, fmt.Errorf("read the ledger entry of the outcome: %w", err))
	}
	if why != nil {
		return nil, why
	}
	r.sum.LedgerOutcome = done.LedgerOutcome
	r.sum.CheckpointSize, r.sum.CheckpointRoot = done.Size, base64.StdEncoding.EncodeToString(done.Root)
	return r, nil
}

// post sends v and returns the body of a good answer.
func post(ctx context.Context, client *http.Client, path string, v any) (io.ReadCloser, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	return send(ctx, client, http.MethodPost, path, bytes.NewReader(b))
}

// send makes a request and returns the body of a good answer.
func send(ctx context.Context, client *http.Client, method, path string, b io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, base+path, b)
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	if b != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	var no refusal
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&no); err != nil || no.Error == "" {
		no.Error = resp.Status
	}
	return nil, fmt.Errorf("%w: %s", ErrAgent, no.Error)
}

// reader turns a stream of frames into an answer.
type reader struct {
	q      *Query
	ids    *vault.Identities
	client *http.Client // of the agent, to ask for more
	begin  begin

	keys    map[keyName]*vault.DayKey
	foreign int // keys that the identities do not open

	plain    []byte
	rows     []block.Query         // what each block of sessions is asked
	held     map[netip.Prefix]bool // what the subscriber had, when it is too much to ask each block about
	matched  []session.Session
	decoder  *block.Decoder
	pick     block.Pick // the bindings that are wanted
	bindings []session.Binding
	late     map[int]session.Day // of bindings: that came late, when they were filed
	ending   map[hold]bool       // not nil: of the bindings that are read only the ends of these are wanted
	sought   map[hold]bool       // those whose ends were asked for
	again    bool                // binding blocks that were read before are read for other rows: they count once
	clock    block.Clock         // the worst of the blocks that bindings were taken from
	wanted   func(*session.Session, block.Clock)
	from     uint64                                      // the hold that is being read; 0: none
	namedBy  []session.Binding                           // with WantHold: the bindings that sessions were joined with
	verify   *verification                               // with WantVerify
	whole    map[blockName]bool                          // blocks that are sent as a whole; whether the head has been read
	heads    []blockName                                 // of blocks that may hold an answer, of which only the head has been read
	gone     int                                         // blocks of which only the head was there
	register func(day int32, epoch uint64, plain []byte) // takes what is opened of registers
	far      bool                                        // a block was recorded with both ends of its sessions
	sum      Summary

	exchange  *exchange // with WantCommunications
	providers []string  // that the blocks name
}

type keyName struct {
	day   int32
	epoch uint64
}

func newReader(q *Query, ids *vault.Identities) *reader {
	r := &reader{
		q: q, ids: ids, keys: map[keyName]*vault.DayKey{}, decoder: block.NewDecoder(),
		rows: []block.Query{q.rows()}, late: map[int]session.Day{}, sought: map[hold]bool{}, clock: block.Clock{Synchronised: true},
	}
	r.sum.From, r.sum.To = window(q)
	r.sum.ClockErrorMicro = -1
	return r
}

// readAll reads the stream to its end, and says why there is no answer.
func (r *reader) readAll(stream io.Reader) error {
	f := newFrameReader(stream)
	for {
		k, payload, err := f.next()
		switch {
		case errors.Is(err, errFrame):
			return err
		case err != nil:
			return fmt.Errorf("%w: %w", ErrCut, err)
		case r.begin.ID == "" && k != frameBegin && k != frameError:
			return errFrame
		}
		done, err := r.frame(k, payload, f.end)
		if err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

func (r *reader) frame(k frameKind, payload []byte, counted end) (done bool, err error) {
	switch k {
	case frameBegin:
		if r.begin.ID != "" {
			return false, errFrame
		}
		if err := json.Unmarshal(payload, &r.begin); err != nil || r.begin.ID == "" {
			return false, errFrame
		}
		b := &r.begin
		r.sum.Gateway, r.sum.Provider, r.sum.LegalBasis = b.Gateway, b.Provider, b.LegalBasis
		r.sum.LedgerIntent, r.sum.Unstored = b.LedgerIntent, b.Unstored
	case frameCoverage:
		c := new(session.CoverageReport)
		if err := json.Unmarshal(payload, c); err != nil {
			return false, errFrame
		}
		r.sum.Coverage = c
	case frameKey:
		return false, r.key(payload)
	case frameBlock:
		if r.verify == nil {
			return false, errFrame // nobody asked for it
		}
		r.verify.add(r, payload)
	case frameBindings:
		r.bindingBlock(payload)
	case frameSessions:
		return false, r.sessionBlock(payload)
	case frameRegister:
		r.registerBlock(payload)
	case frameCommunications:
		return false, r.communicationBlock(payload)
	case frameError:
		return false, fmt.Errorf("%w: %s", ErrAgent, printable(string(payload)))
	case frameEnd:
		var said end
		if err := json.Unmarshal(payload, &said); err != nil {
			return false, errFrame
		}
		r.sum.Failed += said.Damaged
		r.gone += said.Gone
		said.Damaged, said.Gone = 0, 0
		if said != counted {
			return false, fmt.Errorf("%w: the agent sent other numbers of blocks than arrived", ErrCut)
		}
		return true, nil
	}
	return false, nil
}

// key opens one wrapped key. A key for other custodians is no error: keys
// change hands in the course of a year.
func (r *reader) key(wrapped []byte) error {
	k, err := vault.OpenKey(wrapped, r.ids)
	if err != nil {
		r.foreign++
		return nil
	}
	r.keys[keyName{k.Day(), k.Epoch()}] = k
	return nil
}

// openBlock returns what is in a sealed block, and the place that it proves.
func (r *reader) openBlock(sealed []byte) (vault.Place, []byte, error) {
	p, err := vault.ParsePlace(sealed)
	if err != nil {
		return p, nil, err
	}
	k := r.keys[keyName{p.Day, p.Epoch}]
	if k == nil {
		return p, nil, ErrWrongIdentity
	}
	p, r.plain, err = k.Open(r.plain[:0], sealed)
	return p, r.plain, err
}

func (r *reader) bindingBlock(sealed []byte) {
	if r.ending != nil {
		if whole, err := r.mayEnd(sealed); err != nil {
			r.sum.Failed++
			return
		} else if !whole {
			return
		}
	}
	p, b, err := r.openBlock(sealed)
	before := len(r.bindings)
	var h block.Header
	if err == nil {
		h, r.bindings, err = r.decoder.PickBindings(r.bindings, b, &r.pick)
	}
	if err != nil {
		if !r.again {
			r.sum.Failed++
		}
		return
	}
	if !r.again {
		r.sum.BindingBlocks++
	}
	if r.ending != nil {
		r.bindings = append(r.bindings[:before], slices.DeleteFunc(r.bindings[before:], func(b session.Binding) bool { return !r.ending[holdOf(&b)] })...)
	}
	for i := before; i < len(r.bindings) && (p.Kind == kindLate || p.Kind == kindLateMerged); i++ {
		r.late[i] = session.Day(p.Day)
	}
	if isHeld(p.Kind) && before == 0 && len(r.bindings) > 0 { // those of holds come last
		r.sum.needs(p.Epoch)
	}
	if len(r.bindings) > before {
		r.clock.Synchronised = r.clock.Synchronised && h.Clock.Synchronised
		r.clock.MaxErrorMicros = max(r.clock.MaxErrorMicros, h.Clock.MaxErrorMicros)
	}
}

// Numbers under which the store files bindings that came late, and ends of what
// had long been in force.
const (
	kindLate       = 5
	kindLateMerged = 9
	kindEnds       = 14
	kindEndsMerged = 15
)

func (r *reader) registerBlock(sealed []byte) {
	p, b, err := r.openBlock(sealed)
	switch {
	case err != nil:
		r.sum.RegisterFailed++
	case r.register != nil:
		r.register(p.Day, p.Epoch, b)
	}
}

// note keeps from the header of a block what an answer must say.
func (r *reader) note(h *block.Header) {
	s := &r.sum
	s.SessionBlocks++
	s.ClockErrorMicro = max(s.ClockErrorMicro, int64(h.Clock.MaxErrorMicros))
	if !h.Clock.Synchronised {
		s.Unsynchronised++
	}
	if !slices.Contains(r.providers, h.Provider) {
		r.providers = append(r.providers, h.Provider)
		slices.Sort(r.providers)
		s.Provider = strings.Join(r.providers, " and ") // as it was when it was recorded
	}
	r.far = r.far || h.Profile == session.ProfileSession
	if p := h.Profile.String(); !slices.Contains(s.Profiles, p) {
		s.Profiles = append(s.Profiles, p)
		slices.Sort(s.Profiles)
	}
}

// outcome is what the ledger is told.
func (r *reader) outcome(why error) *Outcome {
	o := &Outcome{Records: r.sum.Records, Opened: r.sum.SessionBlocks + r.sum.BindingBlocks, Failed: r.sum.Failed}
	switch {
	case why == nil:
	case errors.Is(why, ErrWrongIdentity):
		o.Error = reasonIdentity
	case errors.Is(why, ErrNothingCan):
		o.Error = reasonNothing
	case errors.Is(why, ErrCut), errors.Is(why, ErrAgent):
		o.Error = reasonCut
	default:
		o.Error = reasonUnread
	}
	return o
}
