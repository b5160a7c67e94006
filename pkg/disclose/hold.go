package disclose

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// The making of a hold:
//
//  1. The custodian asks as for a lookup, and finds the sessions of the case.
//  2. His process makes a key of the hold's own, wraps it for the custodians that
//     the agent names, and seals the sessions, and the bindings that name them,
//     under it: nothing else of their days.
//  3. The agent keeps that under the number of the ledger entry of the question,
//     and puts what can be said of it into the ledger.
//
// From then on the agent hands its blocks out beside all others of their window.

func isHeld(kind uint8) bool { return kind >= kindHold && kind <= kindHoldBindings }

// maxHold is the most bytes that are held at once.
const maxHold = 64 << 20

// Custodians are for whom a hold is sealed.
type Custodians struct {
	Recipients []string `json:"recipients"` // age public keys
	Minimum    int      `json:"minimum"`    // of different ones
}

// HeldCase is what the first block of a hold says, sealed. It says how many
// blocks there are, so that one cut off at the end is noticed.
type HeldCase struct {
	Query    *Query    `json:"query"`
	Made     time.Time `json:"made"`
	Sessions int       `json:"sessions"`
	Bindings int       `json:"bindings"`
	Blocks   int       `json:"blocks"` // with this one
}

// HoldAnswer says what is held now.
type HoldAnswer struct {
	Facts   json.RawMessage // what the agent can say of the hold: store.Hold
	Summary Summary
}

// MakeHold has the sessions that a request asks for held (Preserve): its query is
// that of the request, with WantHold. Errors are those of Read; one that wraps
// ErrNothingCan when there is nothing to be held.
func MakeHold(ctx context.Context, client *http.Client, p *Permit) (*HoldAnswer, error) {
	a := &HoldAnswer{}
	r, err := conduct(ctx, client, p, func(ctx context.Context, r *reader) error {
		hits, err := r.lookup(ctx)
		switch {
		case err != nil:
			return err
		case len(hits) == 0:
			return fmt.Errorf("%w: no session was found, so there is nothing to hold", ErrNothingCan)
		case r.sum.Limited:
			return fmt.Errorf("%w: more than %d sessions; hold shorter windows one after the other", ErrNothingCan, MostHits)
		case r.begin.Custodians == nil:
			return fmt.Errorf("%w: it keeps no holds", ErrAgent)
		}
		r.sum.Records = len(hits)
		a.Facts, err = r.hold(ctx, hits)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.Summary = r.sum
	return a, nil
}

// hold makes of what a request asks the question for the sessions to be held. The error
// wraps ErrQuery.
func (q *Query) hold() error {
	asked := q.Ask
	q.Ask = WantHold
	switch {
	case asked == WantCommunications:
		return bad("calls and mail are not held: a hold keeps sessions, with the access records that name them", "run the request before the days of its window are destroyed: its package keeps them")
	case q.Line != "" || q.Equipment != "":
		return bad("sessions are not found by line or equipment, and a hold keeps sessions", "file a request for the subscriber or the address that had it")
	}
	return nil
}

// hold seals what was found and has the agent keep it.
func (r *reader) hold(ctx context.Context, hits []Hit) (json.RawMessage, error) {
	s := &sealing{id: uint64(r.begin.LedgerIntent), gateway: r.begin.Gateway, enc: block.NewEncoder()}
	v, err := vault.New(r.begin.Custodians.Recipients, vault.Options{MinRecipients: r.begin.Custodians.Minimum, Keys: s})
	if err != nil {
		return nil, fmt.Errorf("seal the hold: %w", err)
	}
	defer v.Close() //nolint:errcheck // overwrites its key, and never fails
	s.vault = v
	if err := s.all(r, hits); err != nil {
		return nil, fmt.Errorf("seal the hold: %w", err)
	}
	var body bytes.Buffer
	fw := newFrameWriter(&body)
	err = fw.write(frameKey, s.key)
	for _, b := range s.blocks {
		err = errors.Join(err, fw.write(frameBlock, b))
	}
	if err = errors.Join(err, fw.writeJSON(frameEnd, fw.end), fw.flush()); err != nil {
		return nil, err
	}
	answer, err := send(ctx, r.client, http.MethodPost, strings.Replace(PathHold, "{id}", r.begin.ID, 1), &body)
	if err != nil {
		return nil, err
	}
	defer answer.Close() //nolint:errcheck // only read
	facts, err := io.ReadAll(io.LimitReader(answer, maxRequest*16))
	if err != nil || !json.Valid(facts) {
		return nil, fmt.Errorf("%w: what it says of the hold", ErrCut)
	}
	return facts, nil
}

// sealing seals the blocks of a hold. It is the saver of its vault's one key.
type sealing struct {
	id      uint64
	gateway string
	day     session.Day // under which the key is filed
	vault   *vault.Vault
	enc     *block.Encoder
	key     []byte
	blocks  [][]byte
}

// SaveKey keeps the wrapped key until it is sent.
func (s *sealing) SaveKey(_ int32, _ uint64, wrapped []byte) error {
	s.key = wrapped
	return nil
}

func (s *sealing) all(r *reader, hits []Hit) error {
	head := block.Header{
		Profile: session.ProfileAccess, Gateway: r.begin.Gateway, Provider: r.sum.Provider,
		Clock: block.Clock{Synchronised: r.sum.Unsynchronised == 0, MaxErrorMicros: uint32(min(max(r.sum.ClockErrorMicro, 0), math.MaxUint32))},
	}
	if len(head.Provider) > 255 { // several, one after the other in the course of the window: the present one
		head.Provider = r.begin.Provider
	}
	for _, word := range r.sum.Profiles {
		if p, err := session.ParseProfile(word); err == nil { // the fullest of them
			head.Profile = max(head.Profile, p)
		}
	}
	list := make([]session.Session, len(hits))
	for i := range hits {
		list[i] = hits[i].Session
		list[i].Subscriber = hits[i].Stored // as it was sealed: who reads it joins it again
	}
	s.day = session.DayOf(list[0].End)
	bindings := naming(r.q, list, r.namedBy)
	c := HeldCase{Query: r.q, Made: time.Now().UTC(), Sessions: len(list), Bindings: len(bindings)}
	c.Blocks = 1 + chunks(len(list)) + chunks(len(bindings))
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := s.seal(kindHold, list[0].Start, list[0].End, 1, text); err != nil {
		return err
	}
	for part := range slices.Chunk(list, heldRows) {
		if err := s.sessions(head, part); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(bindings, heldRows) {
		if err := s.bindings(head, part); err != nil {
			return err
		}
	}
	return nil
}

// heldRows is how many rows a block of a hold has at most.
const heldRows = 1 << 16

func chunks(n int) int { return (n + heldRows - 1) / heldRows }

func (s *sealing) sessions(h block.Header, list []session.Session) error {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range list {
		from, to = min(from, list[i].Start), max(to, list[i].End)
	}
	plain, err := s.enc.Sessions(nil, h, list)
	if err != nil {
		return err
	}
	return s.cut(kindHoldSessions, from, to, len(list), plain)
}

func (s *sealing) bindings(h block.Header, list []session.Binding) error {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range list {
		from, to = min(from, list[i].From), max(to, list[i].To)
	}
	plain, err := s.enc.Bindings(nil, h, list)
	if err != nil {
		return err
	}
	return s.cut(kindHoldBindings, from, to, len(list), plain)
}

func (s *sealing) cut(kind uint8, from, to int64, count int, plain []byte) error {
	defer clear(plain)
	frames, err := block.Frames(nil, plain)
	if err != nil {
		return err
	}
	return s.seal(kind, from, to, count, frames...)
}

// seal adds a block. Without a key it tells whole days only: when a person of a
// case was on line is nobody's business.
func (s *sealing) seal(kind uint8, from, to int64, count int, frames ...[]byte) error {
	p := vault.Place{
		Gateway: s.gateway, Kind: kind, Day: int32(s.day), Epoch: s.id, Seq: uint32(len(s.blocks)),
		From: session.DayOf(from).Start().UnixMilli(), To: session.DayOf(to).Start().UnixMilli() + dayMillis - 1, Count: uint32(count),
	}
	b, err := s.vault.Seal(nil, p, frames...)
	if err == nil {
		s.blocks = append(s.blocks, b)
	}
	return err
}

const dayMillis = 24 * 3600 * 1000

// naming returns those of list that may say whose the sessions were: bindings of
// the addresses of their end users about the time of the sessions, of what these
// were held by means of, and so on.
func naming(q *Query, sessions []session.Session, list []session.Binding) []session.Binding {
	slop := int64(time.Minute) // clocks differ, and doubts come from what was shortly before and after
	when, users := map[netip.Addr]period{}, userPorts{}
	add := func(a netip.Addr, s period) {
		if old, ok := when[a]; ok {
			s = period{min(old.from, s.from), max(old.to, s.to)}
		}
		when[a] = s
	}
	for i := range sessions {
		s := &sessions[i]
		users.add(s)
		if a, _, ok := s.UserEnd(); ok {
			add(a.Netip(), period{s.Start - slop, s.End + slop})
		}
	}
	list, _ = distinct(list, nil)
	picked := make([]bool, len(list))
	for range steps {
		addresses := make([]netip.Addr, 0, len(when))
		for a := range when {
			addresses = append(addresses, a)
		}
		slices.SortFunc(addresses, netip.Addr.Compare)
		for i := range list {
			b := &list[i]
			if !b.Prefix.IsValid() {
				continue
			}
			at, _ := slices.BinarySearchFunc(addresses, b.Prefix.Masked().Addr(), netip.Addr.Compare)
			for ; at < len(addresses) && b.Prefix.Contains(addresses[at]); at++ {
				s := when[addresses[at]]
				if b.From > s.to || b.To < s.from {
					continue
				}
				picked[i] = true
				for _, via := range behind(b, q, users) {
					add(via, s)
				}
			}
		}
	}
	var out []session.Binding
	for i := range list {
		if picked[i] {
			out = append(out, list[i])
		}
	}
	slices.SortFunc(out, func(a, b session.Binding) int { return cmp.Or(cmp.Compare(a.From, b.From), a.Prefix.Compare(b.Prefix)) })
	return out
}

type period struct{ from, to int64 }

// needs notes that the answer rests on a hold; 0 is none.
func (s *Summary) needs(hold uint64) {
	if at, found := slices.BinarySearch(s.Holds, hold); hold != 0 && !found {
		s.Holds = slices.Insert(s.Holds, at, hold)
	}
}

// Hold answers POST /v1/lookup/{id}/hold: frames in, a key, blocks and an end; what
// can be said of the hold out, when it is kept. A reading makes one hold at most.
func (g *Gate) Hold(w http.ResponseWriter, r *http.Request) {
	rd := g.peek(r)
	if rd == nil || rd.query.Ask != WantHold || g.o.Hold == nil || !rd.mayHold() {
		refuse(w, http.StatusNotFound, errors.New("no reading of that name is open to make a hold"))
		return
	}
	key, blocks, err := readHold(http.MaxBytesReader(w, r.Body, maxHold))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("what is to be held is not understood: %w", err))
		return
	}
	facts, err := g.o.Hold(context.WithoutCancel(r.Context()), uint64(rd.intent), key, blocks)
	if err != nil {
		g.o.Logger.Error("a hold was not kept", "hold", rd.intent, "error", err)
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("nothing is held: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(facts) // the reader may be gone
}

func (rd *reading) mayHold() bool {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	may := !rd.over && !rd.held
	rd.held = true
	return may
}

func readHold(from io.Reader) (key []byte, blocks [][]byte, err error) {
	f := newFrameReader(from)
	for {
		k, payload, err := f.next()
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("%w: %w", ErrCut, err)
		case k == frameKey && key == nil:
			key = bytes.Clone(payload)
		case k == frameBlock:
			blocks = append(blocks, bytes.Clone(payload))
		case k == frameEnd:
			var said end
			if err := json.Unmarshal(payload, &said); err != nil || said != f.end || key == nil {
				return nil, nil, errFrame
			}
			return key, blocks, nil
		default:
			return nil, nil, errFrame
		}
	}
}
