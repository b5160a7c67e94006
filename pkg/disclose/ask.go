package disclose

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"github.com/edgelog/edgelog/pkg/ledger"
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

// Permit is by what right something is read.
type Permit struct {
	Act Act

	// Request is its number and Text what was filed; all acts but Verify need it.
	Request int64
	Text    []byte

	// Query is what is read: that of the request, or one with WantVerify.
	Query *Query

	Identities *vault.Identities // of who reads
	Grant      *Grant            // with Run: nothing else is opened

	// Pack, with Run, puts the answer into what is handed over, and returns the hash
	// that the ledger gets with the outcome. nil: it is only looked at.
	Pack func(*Found, *Paper) (manifest [sha256.Size]byte, err error)
}

// Act says what somebody does with a request.
type Act string

// The acts that read.
const (
	Approve  Act = "approve" // a custodian finds out which keys answer it
	Run      Act = "run"     // its officer reads what was granted
	Preserve Act = "hold"    // a custodian has its sessions kept beyond the destruction of their days
	Verify   Act = "verify"  // a custodian opens everything and shows nothing
)

// word is the act for the ledger, whatever somebody sent.
func (a Act) word() string {
	switch a {
	case Approve, Run, Preserve, Verify:
		return string(a)
	}
	return "read"
}

// Found is what answers a request: one of these.
type Found struct {
	Sessions *Answer
	Who      *WhoAnswer
	Access   *AccessAnswer

	Communications *CommunicationsAnswer
}

// Summary says what must be known to judge the answer.
func (f *Found) Summary() *Summary {
	switch {
	case f.Who != nil:
		return &f.Who.Summary
	case f.Access != nil:
		return &f.Access.Summary
	case f.Communications != nil:
		return &f.Communications.Summary
	}
	return &f.Sessions.Summary
}

// Receipt proves that a reading is in the ledger.
type Receipt struct {
	Intent    *ledger.Proof `json:"intent"`
	Outcome   *ledger.Proof `json:"outcome"`
	Signature []byte        `json:"signature,omitempty"` // of the hash of what is handed over: a statement of the ledger
}

// conduct is one reading: question, work on what is sent, outcome. The work may
// ask for more.
func conduct(ctx context.Context, client *http.Client, p *Permit, work func(context.Context, *reader) error) (*reader, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the stream, which the agent holds open
	q := opening{Act: p.Act, Request: p.Request, Text: p.Text}
	if p.Act == Verify {
		q.Query = p.Query
	}
	body, err := post(ctx, client, PathLookup, q)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read
	r := newReader(p.Query, p.Identities)
	defer r.keyring.close()
	r.client = client
	why := r.readAll(body)
	if r.begin.ID == "" {
		return nil, why // the agent promised nothing: there is no outcome to give
	}
	if why == nil {
		why = r.permitted(p)
	}
	if why == nil {
		why = work(ctx, r)
	}
	if err := r.close(ctx, r.outcome(why)); err != nil {
		return nil, errors.Join(why, err)
	}
	return r, why
}

// permitted sets the keyring to what p allows.
func (r *reader) permitted(p *Permit) error {
	switch p.Act {
	case Approve:
		r.keyring.makeGrant()
	case Run:
		r.rests(p.Grant)
		return r.keyring.take(p.Grant)
	}
	return nil
}

// close gives the outcome, and takes what proves that it is in the ledger.
func (r *reader) close(ctx context.Context, o *Outcome) error {
	answer, err := post(ctx, r.client, strings.Replace(PathOutcome, "{id}", r.begin.ID, 1), o)
	if err != nil {
		return err
	}
	defer answer.Close() //nolint:errcheck // only read
	var done recorded
	if err := json.NewDecoder(answer).Decode(&done); err != nil {
		return fmt.Errorf("read the ledger entry of the outcome: %w", err)
	}
	r.sum.LedgerOutcome = done.LedgerOutcome
	r.sum.CheckpointSize, r.sum.CheckpointRoot = done.Size, base64.StdEncoding.EncodeToString(done.Root)
	r.receipt = done.Receipt
	return nil
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
	q       *Query
	client  *http.Client // of the agent, to ask for more
	begin   begin
	keyring *keyring

	manifest string // hash of what is handed over, hex; "": nothing is
	receipt  *Receipt
	kept     bool // wanted took a session

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
		q: q, keyring: newKeyring(ids), decoder: block.NewDecoder(),
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
		return false, r.keyring.add(payload)
	case frameBlock:
		if r.verify == nil {
			return false, errFrame // nobody asked for it
		}
		r.verify.add(r, payload)
	case frameBindings:
		return false, r.bindingBlock(payload)
	case frameSessions:
		return false, r.sessionBlock(payload)
	case frameRegister:
		return false, r.registerBlock(payload)
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

// openBlock returns what is in a sealed block, and the place that it proves.
func (r *reader) openBlock(sealed []byte) (vault.Place, []byte, error) {
	p, err := vault.ParsePlace(sealed)
	if err != nil {
		return p, nil, err
	}
	b, err := r.keyring.open(sealed)
	if err != nil {
		return p, nil, err
	}
	r.plain, err = b.Whole(r.plain[:0])
	return b.Place, r.plain, err
}

// failed counts a block that could not be opened or read. With a grant, whose maker
// could not read some either, those are the same.
func (r *reader) failed() {
	if r.keyring.granted == nil || r.keyring.failed == 0 {
		r.sum.Failed++
	}
}

// bindingBlock takes from a block of bindings those that are wanted.
func (r *reader) bindingBlock(sealed []byte) error {
	if r.ending != nil {
		whole, err := r.mayEnd(sealed)
		if err == nil && !whole || errors.Is(err, errOutside) {
			return nil
		}
		if err != nil {
			r.failed()
			return nil
		}
	}
	p, b, err := r.openBlock(sealed)
	if errors.Is(err, errOutside) {
		return nil
	}
	before := len(r.bindings)
	var h block.Header
	if err == nil {
		h, r.bindings, err = r.decoder.PickBindings(r.bindings, b, &r.pick)
	}
	if err != nil {
		if !r.again {
			r.failed()
		}
		return nil
	}
	if !r.again && r.keyring.granted == nil {
		r.sum.BindingBlocks++
	}
	if r.ending != nil {
		r.bindings = append(r.bindings[:before], slices.DeleteFunc(r.bindings[before:], func(b session.Binding) bool { return !r.ending[holdOf(&b)] })...)
	}
	if len(r.bindings) == before {
		return nil
	}
	for i := before; i < len(r.bindings) && (p.Kind == kindLate || p.Kind == kindLateMerged); i++ {
		r.late[i] = session.Day(p.Day)
	}
	if isHeld(p.Kind) && before == 0 { // those of holds come last
		r.sum.needs(p.Epoch)
	}
	r.clock.Synchronised = r.clock.Synchronised && h.Clock.Synchronised
	r.clock.MaxErrorMicros = max(r.clock.MaxErrorMicros, h.Clock.MaxErrorMicros)
	return r.keyring.used(sealed)
}

func (r *reader) registerBlock(sealed []byte) error {
	p, b, err := r.openBlock(sealed)
	switch {
	case errors.Is(err, errOutside):
		return nil
	case err != nil:
		r.sum.RegisterFailed++
		return nil
	case r.register != nil:
		r.register(p.Day, p.Epoch, b)
	}
	return r.keyring.used(sealed)
}

// note keeps from the header of a block what an answer must say.
func (r *reader) note(h *block.Header) {
	if r.keyring.granted != nil {
		return // the grant says it
	}
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

// why says why there is no answer, or not all of it, for the yearly statistics.
func (r *reader) why(err error) Why {
	switch {
	case errors.Is(err, ErrNothingCan):
		return WhyProfile
	case err == nil && r.sum.Records == 0:
		n := Nothing{Complete: r.sum.Complete(), Coverage: r.sum.Coverage, Imports: r.begin.Imports, Kept: r.begin.Kept}
		n.Profile, _ = session.ParseProfile(r.begin.Profile)
		return n.Why(r.q)
	case err != nil || !r.sum.Complete():
		return WhyIncomplete
	}
	return ""
}

// outcome is what the ledger is told.
func (r *reader) outcome(why error) *Outcome {
	o := &Outcome{Records: r.sum.Records, Opened: r.sum.SessionBlocks + r.sum.BindingBlocks, Failed: r.sum.Failed, Manifest: r.manifest, Why: r.why(why)}
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
