package disclose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// keeper keeps what the gate is given to hold.
type keeper struct {
	id     uint64
	key    []byte
	blocks [][]byte
	err    error
}

func (k *keeper) hold(_ context.Context, id uint64, key []byte, blocks [][]byte) (any, error) {
	k.id, k.key, k.blocks = id, key, blocks
	return map[string]uint64{"id": id}, k.err
}

// holdingRoom is a gate that keeps holds, with a session of anna's and one of bo's.
func holdingRoom(t *testing.T) (*gateRoom, *keeper) {
	r, k := newGateRoom(t, nil), &keeper{}
	r.gate.o.Hold = k.hold
	r.gate.o.Custodians = func() Custodians { return Custodians{Recipients: []string{r.custodian.pair.Recipient}, Minimum: 1} }
	r.shelf.addBindings(
		held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever), held("bo", "10.0.0.2/32", at(-2*time.Hour), session.Forever),
		held("cy", "10.0.0.1/32", at(-9*time.Hour), at(-8*time.Hour)))
	bo := lived(-time.Minute, -time.Second)
	bo.Initiator = addr("10.0.0.2")
	r.shelf.addSessions(lived(-time.Minute, -time.Second), bo)
	return r, k
}

func (r *gateRoom) makeHold(t *testing.T) (*HoldAnswer, error) {
	t.Helper()
	q := askAnna()
	q.Ask = WantHold
	return r.holdOf(t, q, r.custodian.ids)
}

// destroy leaves nothing on the shelf but the hold.
func (r *gateRoom) destroy(k *keeper) {
	s := r.shelf
	s.wrapped, s.holdKeys, s.session, s.binding = nil, [][]byte{k.key}, nil, nil
	for _, b := range k.blocks {
		switch p, _ := vault.ParsePlace(b); p.Kind {
		case kindHoldSessions:
			s.session = append(s.session, b)
		case kindHoldBindings:
			s.binding = append(s.binding, b)
		}
	}
}

func TestAHoldHasTheRowsOfItsCaseAloneAndAnswersWhenTheirDayIsGone(t *testing.T) {
	r, k := holdingRoom(t)
	before, err := r.ask(t, askAnna())
	if err != nil || len(before.Hits) != 1 || len(before.Summary.Holds) != 0 {
		t.Fatalf("%+v %v", before, err)
	}
	a, err := r.makeHold(t)
	if err != nil || a.Summary.Records != 1 {
		t.Fatalf("%+v %v", a, err)
	}
	intent := r.entries(t)[a.Summary.LedgerIntent]
	if k.id != uint64(a.Summary.LedgerIntent) || intent.Fields["action"] != "hold" || r.entries(t)[a.Summary.LedgerOutcome].Kind != ledger.Outcome {
		t.Errorf("hold %d, intent %+v", k.id, intent)
	}
	if len(k.blocks) != 3 {
		t.Fatalf("%d blocks", len(k.blocks))
	}
	for i, b := range k.blocks {
		p, err := vault.ParsePlace(b)
		if err != nil || p.Epoch != k.id || int(p.Seq) != i || p.From%dayMillis != 0 {
			t.Errorf("%+v %v", p, err)
		}
		if p.Kind == kindHoldBindings && p.Count != 1 {
			t.Errorf("%d access records are held: bo's, or cy's of long before, among them", p.Count)
		}
	}
	r.destroy(k)
	after, err := r.ask(t, askAnna())
	if err != nil || len(after.Hits) != 1 || after.Hits[0].Session != before.Hits[0].Session || !slices.Equal(after.Summary.Holds, []uint64{k.id}) {
		t.Errorf("%+v %v", after, err)
	}
	if !strings.Contains(strings.Join(after.Summary.Lines(), "\n"), "from hold") {
		t.Errorf("%q", after.Summary.Lines())
	}
	q := askAnna()
	q.Subscriber = "bo"
	if other, err := r.ask(t, q); err != nil || len(other.Hits) != 0 {
		t.Errorf("bo is held: %+v %v", other, err)
	}
}

func TestNothingIsHeldWithoutSomethingToHold(t *testing.T) {
	r, k := holdingRoom(t)
	q := &Query{Reference: "r", Ask: WantHold, Subscriber: "nobody", From: at(-time.Hour), To: at(0)}
	if _, err := r.holdOf(t, q, r.custodian.ids); !errors.Is(err, ErrNothingCan) {
		t.Errorf("nothing found: %v", err)
	}
	stranger := testIdentity(t)
	q.Subscriber = "anna"
	if _, err := r.holdOf(t, q, stranger.ids); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("a stranger: %v", err)
	}
	r.gate.o.Custodians = func() Custodians { return Custodians{Recipients: []string{r.custodian.pair.Recipient}, Minimum: 2} }
	if _, err := r.makeHold(t); !errors.Is(err, vault.ErrTooFewRecipients) {
		t.Errorf("too few custodians: %v", err)
	}
	if k.key != nil {
		t.Error("something was held")
	}
	r.gate.o.Custodians = func() Custodians { return Custodians{Recipients: []string{r.custodian.pair.Recipient}} }
	k.err = errors.New("the disk is full")
	if _, err := r.makeHold(t); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("not kept: %v", err)
	}
}

// verifyAll opens blocks as a verification does.
func (r *gateRoom) verifyAll(t *testing.T, blocks ...[]byte) *Verified {
	t.Helper()
	r.gate.o.All = func(_ context.Context, fn func([]byte) error) (int, error) {
		for _, b := range blocks {
			if err := fn(b); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	r.as(r.carl())
	v, err := AskVerify(t.Context(), r.client, r.custodian.ids, noon, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyOpensAllAndNamesNobody(t *testing.T) {
	r, k := holdingRoom(t)
	if _, err := r.makeHold(t); err != nil {
		t.Fatal(err)
	}
	r.shelf.holdKeys = append(r.shelf.holdKeys, k.key)
	sessions := r.shelf.sealCount(t, r.shelf.session[0], 2)
	bindings := r.shelf.sealCount(t, r.shelf.binding[0], 3)
	all := append([][]byte{sessions, bindings}, k.blocks...)
	v := r.verifyAll(t, all...)
	if !v.OK() || v.Blocks != 5 || v.Sessions != 3 || v.Bindings != 4 || v.Holds != 1 {
		t.Errorf("%+v", v)
	}
	list := r.entries(t)
	if e := list[v.LedgerIntent]; e.Fields["action"] != "verify" || list[v.LedgerOutcome].Fields["blocks_failed"] != "0" {
		t.Errorf("%+v %+v", e, list[v.LedgerOutcome])
	}
	text, err := json.Marshal(v)
	if err != nil || bytes.Contains(text, []byte("anna")) || bytes.Contains(text, []byte("10.0.0")) {
		t.Errorf("%s", text)
	}
	stranger := testIdentity(t)
	if _, err := AskVerify(t.Context(), r.client, stranger.ids, noon, nil); !errors.Is(err, ErrWrongIdentity) {
		t.Errorf("a stranger: %v", err)
	}
}

// sealCount seals what is in a block again, with another number of rows.
func (s *shelf) sealCount(t *testing.T, sealed []byte, rows uint32) []byte {
	t.Helper()
	key, _ := s.vault.Own(int32(session.DayOf(at(0))), 1)
	p, err := vault.ParsePlace(sealed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.Block(sealed)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for i := range b.Frames() {
		f, err := b.Frame(nil, i)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	p.Count = rows
	out, err := s.vault.Seal(nil, p, frames...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyFindsWhatOnlyAKeyCanTell(t *testing.T) {
	r, k := holdingRoom(t)
	if _, err := r.makeHold(t); err != nil {
		t.Fatal(err)
	}
	r.shelf.holdKeys = append(r.shelf.holdKeys, k.key)
	sessions := r.shelf.sealCount(t, r.shelf.session[0], 2)
	flipped := bytes.Clone(sessions)
	flipped[len(flipped)-1] ^= 1
	moved := bytes.Clone(sessions)
	moved[21] ^= 1 // its number
	for what, blocks := range map[string][][]byte{
		"a bit":                      {flipped},
		"another number":             {moved},
		"another number of rows":     {r.shelf.sealCount(t, sessions, 7)},
		"a hold cut at its end":      k.blocks[:2],
		"a hold without its first":   k.blocks[1:],
		"a block of a hold replayed": append(slices.Clone(k.blocks), k.blocks[1]),
	} {
		if v := r.verifyAll(t, blocks...); v.OK() || len(v.Findings) == 0 {
			t.Errorf("%s: %+v", what, v)
		}
	}
}

func TestOnlyBindingsThatNameAHeldSessionAreHeld(t *testing.T) {
	s := lived(-time.Minute, 0)
	behindIt := held("", "10.0.0.1/32", at(-2*time.Hour), session.Forever)
	behindIt.Via = netip.MustParseAddr("fd00::7")
	list := []session.Binding{
		behindIt, behindIt, // read twice
		held("anna", "fd00::/64", at(-3*time.Hour), session.Forever), held("bo", "10.0.0.2/32", at(-2*time.Hour), session.Forever),
		held("cy", "10.0.0.0/24", at(-2*time.Hour), at(-90*time.Second)), held("di", "10.0.0.1/32", at(-5*time.Hour), at(-4*time.Hour)),
		{Subscriber: "without a prefix", From: at(-time.Hour), To: at(0)},
	}
	var who []string
	for _, b := range naming(askAnna(), []session.Session{s}, list) {
		who = append(who, b.Subscriber)
	}
	if !slices.Equal(who, []string{"anna", "cy", ""}) { // cy had it until just before
		t.Errorf("%q", who)
	}
}

// BenchmarkVerify opens blocks of 65,536 sessions and looks at each row.
func BenchmarkVerify(b *testing.B) {
	list := make([]session.Session, 1<<16)
	for i := range list {
		list[i] = lived(-time.Minute, -time.Second)
		list[i].InitiatorPort, list[i].Start = uint16(i), list[i].Start+int64(i)*1e5
	}
	plain, err := block.EncodeSessions(nil, block.Header{Gateway: "gw1", Profile: session.ProfileSession}, list)
	if err != nil {
		b.Fatal(err)
	}
	p := vault.Place{Gateway: "gw1", Kind: 1, Day: int32(session.DayOf(at(0))), From: 0, To: at(0) / 1e6, Count: uint32(len(list))}
	v, d := newVerification(nil), block.NewDecoder()
	for b.Loop() {
		if err := v.look(d, &p, plain); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(list))*float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}
