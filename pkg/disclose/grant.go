package disclose

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// ErrGrant means that a grant opens nothing for this request.
var ErrGrant = errors.New("the grant is not one for this request")

// errOutside means that a grant has no key for a block: the custodian found
// nothing in it that was asked for, or it came later.
var errOutside = errors.New("the grant does not cover this block")

// Grant is what an approval gives: the keys of those blocks in which the custodian
// found an answer to the request, and no others. It is kept sealed to the officer.
//
// A block as it first comes is merged with others within the hour, which gives it
// another key. Of such a block the grant has the key of its day and start of the
// agent, wrapped: with it what is recorded in some minutes opens too. The officer's
// process does not look at it, and the agent hands out nothing but the window.
type Grant struct {
	Request    int64     `json:"request"`
	Commitment []byte    `json:"commitment"` // of the request's text
	Made       time.Time `json:"made"`       // by the custodian's clock, UTC: the answer is as of then

	Blocks []grantedBlock `json:"blocks"`
	Days   [][]byte       `json:"days,omitempty"` // data keys, wrapped for the officer

	// Seen has the newest block of each kind, day and start that the custodian was
	// offered, so that what came later is counted.
	Seen []blockName `json:"seen"`

	// Facts are what the blocks without an answer say of the recording.
	Facts facts `json:"facts"`
}

type grantedBlock struct {
	blockName
	Key []byte `json:"key"`
}

// facts are what a Summary says of the blocks that were read for it.
type facts struct {
	Provider        string   `json:"provider"`
	Profiles        []string `json:"profiles"`
	Far             bool     `json:"far"`
	SessionBlocks   int      `json:"session_blocks"`
	BindingBlocks   int      `json:"binding_blocks"`
	Failed          int      `json:"failed_blocks"`
	ClockErrorMicro int64    `json:"clock_error_us"`
	Unsynchronised  int      `json:"unsynchronised_blocks"`
}

// OpenGrant opens what an approval left for the officer of a request. The error
// wraps ErrWrongIdentity or ErrGrant.
func OpenGrant(sealed []byte, ids *vault.Identities, id int64, text []byte) (*Grant, error) {
	b, err := vault.OpenSealed(sealed, ids)
	if err != nil {
		return nil, fmt.Errorf("open the grant: %w: %w", ErrWrongIdentity, err)
	}
	defer clear(b)
	g := new(Grant)
	if err := json.Unmarshal(b, g); err != nil {
		return nil, fmt.Errorf("open the grant: %w: it is not understood", ErrGrant)
	}
	sum := Commitment(text)
	if g.Request != id || !bytes.Equal(g.Commitment, sum[:]) {
		return nil, fmt.Errorf("open the grant: %w: it was given for request %d, %s", ErrGrant, g.Request, hex.EncodeToString(g.Commitment))
	}
	return g, nil
}

// keyring opens sealed blocks: those of the days whose wrapped keys its identities
// open, or those of a grant.
type keyring struct {
	ids     *vault.Identities
	days    map[keyName]*vault.DayKey
	foreign int // keys that the identities do not open

	making  *making              // not nil: a grant is made of what is used
	granted map[blockName][]byte // not nil: nothing else is opened
	opened  map[blockName]bool   // of granted
	seen    map[blockName]uint32 // of the grant, by kind, day and start
	newer   map[blockName]bool   // blocks that are neither granted nor seen
	failed  int                  // blocks that who made the grant could not read
}

// making collects a grant.
type making struct {
	wrapped map[keyName][]byte
	days    map[keyName]bool
	blocks  map[blockName][]byte
	seen    map[blockName]uint32
}

func newKeyring(ids *vault.Identities) *keyring {
	return &keyring{ids: ids, days: map[keyName]*vault.DayKey{}}
}

// makeGrant has k remember what is used from here on.
func (k *keyring) makeGrant() {
	k.making = &making{map[keyName][]byte{}, map[keyName]bool{}, map[blockName][]byte{}, map[blockName]uint32{}}
}

// take has k open what g covers. Days that ids do not open are an error: the grant
// was made for another key.
func (k *keyring) take(g *Grant) error {
	k.granted, k.opened, k.seen, k.newer = map[blockName][]byte{}, map[blockName]bool{}, map[blockName]uint32{}, map[blockName]bool{}
	k.failed = g.Facts.Failed
	for i := range g.Blocks {
		k.granted[g.Blocks[i].blockName] = g.Blocks[i].Key
	}
	for _, s := range g.Seen {
		k.seen[blockName{Kind: s.Kind, Day: s.Day, Epoch: s.Epoch}] = s.Seq
	}
	for _, wrapped := range g.Days {
		if err := k.add(wrapped); err != nil {
			return err
		}
	}
	if k.foreign > 0 {
		return ErrWrongIdentity
	}
	return nil
}

// add opens one wrapped key. A key for other custodians is no error: keys change
// hands in the course of a year.
func (k *keyring) add(wrapped []byte) error {
	key, err := vault.OpenKey(wrapped, k.ids)
	if err != nil {
		k.foreign++
		return nil
	}
	name := keyName{key.Day(), key.Epoch()}
	k.days[name] = key
	if k.making != nil {
		k.making.wrapped[name] = bytes.Clone(wrapped)
	}
	return nil
}

// wrong reports whether keys came and none of them opened.
func (k *keyring) wrong() bool { return len(k.days) == 0 && k.foreign > 0 }

// close overwrites the keys.
func (k *keyring) close() {
	for _, d := range k.days {
		d.Close()
	}
	for _, b := range k.granted {
		clear(b)
	}
}

// has reports whether a block can be opened.
func (k *keyring) has(p *vault.Place) bool {
	return k.days[keyName{p.Day, p.Epoch}] != nil || k.granted[nameOf(*p)] != nil
}

// open derives the key of a sealed block, or of a part of one. The error wraps
// errOutside, ErrWrongIdentity or one of the vault's.
func (k *keyring) open(sealed []byte) (*vault.Block, error) {
	p, _, err := vault.Layout(sealed)
	if err != nil {
		return nil, err
	}
	name := nameOf(p)
	k.offered(name)
	if day := k.days[keyName{p.Day, p.Epoch}]; day != nil {
		return day.Block(sealed)
	}
	if k.granted == nil {
		return nil, ErrWrongIdentity
	}
	key := k.granted[name]
	if key == nil {
		return nil, errOutside
	}
	k.opened[name] = true
	return vault.OpenWith(key, sealed)
}

// offered notes that a block is there.
func (k *keyring) offered(n blockName) {
	of := blockName{Kind: n.Kind, Day: n.Day, Epoch: n.Epoch}
	if k.making != nil {
		k.making.seen[of] = max(k.making.seen[of], n.Seq)
	}
	if k.granted == nil || k.granted[n] != nil || k.days[keyName{int32(n.Day), n.Epoch}] != nil {
		return
	}
	newest, known := k.seen[of]
	if fresh := of; !known {
		fresh.Kind = firstForm[of.Kind]
		_, known = k.seen[fresh] // it was merged since
		newest = n.Seq
	}
	if !known || n.Seq > newest {
		k.newer[n] = true
	}
}

// firstForm says as what kind a merged block came first, with the numbers under
// which the store files them.
var firstForm = map[uint8]uint8{kindSessionsMerged: kindSessions, kindBindingsMerged: kindBindings, kindLateMerged: kindLate, kindInForceMerged: kindInForce, kindEndsMerged: kindEnds}

var isFirstForm = map[uint8]bool{kindSessions: true, kindBindings: true, kindLate: true, kindInForce: true, kindEnds: true}

// Numbers under which the store files blocks.
const (
	kindSessions       = 1
	kindBindings       = 2
	kindRegister       = 3
	kindDirectory      = 4
	kindLate           = 5 // bindings that came late
	kindInForce        = 6
	kindSessionsMerged = 7
	kindBindingsMerged = 8
	kindLateMerged     = 9
	kindInForceMerged  = 10
	kindHold           = 11
	kindHoldSessions   = 12
	kindHoldBindings   = 13
	kindEnds           = 14 // ends of what had long been in force
	kindEndsMerged     = 15
	kindCalls          = 16
	kindMail           = 17
)

// used notes that a block holds something that is wanted.
func (k *keyring) used(sealed []byte) error {
	if k.making == nil {
		return nil
	}
	p, _, err := vault.Layout(sealed)
	if err != nil {
		return err
	}
	of, name := keyName{p.Day, p.Epoch}, nameOf(p)
	if isFirstForm[p.Kind] {
		k.making.days[of] = true
		return nil
	}
	if k.making.blocks[name] != nil {
		return nil
	}
	k.making.blocks[name], err = k.days[of].BlockKey(sealed)
	return err
}

// grant returns what was collected, sealed to the officer.
func (r *reader) grant(id int64, text []byte, officer string, now time.Time) ([]byte, error) {
	to, err := vault.ParseRecipients([]string{officer})
	if err != nil {
		return nil, fmt.Errorf("seal the grant: the officer's key: %w", err)
	}
	m, sum := r.keyring.making, Commitment(text)
	g := &Grant{Request: id, Commitment: sum[:], Made: now.UTC().Truncate(time.Millisecond), Facts: facts{
		r.sum.Provider, r.sum.Profiles, r.far, r.sum.SessionBlocks, r.sum.BindingBlocks, r.sum.Failed, r.sum.ClockErrorMicro, r.sum.Unsynchronised,
	}, Blocks: []grantedBlock{}, Seen: []blockName{}}
	for name, key := range m.blocks {
		if !m.days[keyName{int32(name.Day), name.Epoch}] { // else that opens it
			g.Blocks = append(g.Blocks, grantedBlock{name, key})
		}
		defer clear(key)
	}
	for name := range m.days {
		_, _, wrapped, err := vault.Rewrap(m.wrapped[name], r.keyring.ids, to)
		if err != nil {
			return nil, fmt.Errorf("seal the grant: %w", err)
		}
		g.Days = append(g.Days, wrapped)
	}
	for name, seq := range m.seen {
		name.Seq = seq
		g.Seen = append(g.Seen, name)
	}
	slices.SortFunc(g.Blocks, func(a, b grantedBlock) int { return compareNames(a.blockName, b.blockName) })
	slices.SortFunc(g.Seen, compareNames)
	b, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("seal the grant: %w", err)
	}
	defer clear(b)
	sealed, err := to.SealTo(b)
	if err != nil {
		return nil, fmt.Errorf("seal the grant: %w", err)
	}
	return sealed, nil
}

func compareNames(a, b blockName) int {
	return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Seq, b.Seq))
}

// rests has what the grant's maker knew of the recording stand in the summary:
// the blocks that say so are not opened again.
func (r *reader) rests(g *Grant) {
	f, s := &g.Facts, &r.sum
	r.far = f.Far
	if f.Provider != "" {
		s.Provider = f.Provider
	}
	s.Profiles, s.SessionBlocks, s.BindingBlocks, s.Failed = f.Profiles, f.SessionBlocks, f.BindingBlocks, f.Failed
	s.ClockErrorMicro, s.Unsynchronised = f.ClockErrorMicro, f.Unsynchronised
	s.AsOf = session.FormatTime(g.Made.UnixNano())
}

// settle counts, when all was read, what is not as it was when the grant was made.
func (k *keyring) settle(s *Summary) {
	if k.granted == nil {
		return
	}
	for name := range k.granted {
		if !k.opened[name] && !isNames(name.Kind) {
			s.Failed++ // it was there, and has an answer
		}
	}
	s.Newer = len(k.newer)
}

// isNames reports whether blocks of a kind are of the register of subscribers.
func isNames(kind uint8) bool { return kind == kindRegister || kind == kindDirectory }
