package disclose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Finding is one thing that is wrong with a sealed block. It names no person.
type Finding struct {
	Block string `json:"block"`         // where it belongs, as far as it says so
	Day   string `json:"day,omitempty"` // UTC day that it is filed under; "" where that is not known
	From  string `json:"from"`          // the times that it says it holds
	To    string `json:"to"`
	What  string `json:"what"`
}

// Verified counts what was opened, and lists what is wrong. Rows are counted, and
// thrown away.
type Verified struct {
	Blocks   int    `json:"blocks"`
	Sessions uint64 `json:"sessions"`
	Bindings uint64 `json:"bindings"`
	Register uint64 `json:"register"` // rows of imports of subscribers

	Communications uint64 `json:"communications"` // calls and mails

	Holds    int       `json:"holds"`
	Bytes    int64     `json:"bytes"`
	Damaged  int       `json:"damaged"` // blocks that the store could not hand out
	Foreign  int       `json:"foreign"` // keys that were wrapped for others
	Findings []Finding `json:"findings"`

	LedgerIntent  int64 `json:"ledger_intent,omitempty"` // 0, 0 for a copy
	LedgerOutcome int64 `json:"ledger_outcome,omitempty"`
}

// mostFindings is how many findings are listed; more are counted.
const mostFindings = 1000

// verification opens every block and compares what is in it with what it says of
// itself.
type verification struct {
	Verified
	more     int // findings beyond mostFindings
	progress func(*Verified)
	list     []session.Session
	bindings []session.Binding
	holds    map[uint64]*heldSeen
}

type heldSeen struct {
	said   *HeldCase // nil: its first block was not read
	blocks int
}

func newVerification(progress func(*Verified)) *verification {
	return &verification{progress: progress, holds: map[uint64]*heldSeen{}}
}

// AskVerify has the agent send every block there is, opens each with the
// identities, and compares. It is a reading: the ledger has it before and after.
// progress, if there is one, is told after each block. Errors are those of Ask.
func AskVerify(ctx context.Context, client *http.Client, ids *vault.Identities, now time.Time, progress func(*Verified)) (*Verified, error) {
	v := newVerification(progress)
	q := &Query{Reference: "verification of the whole store", Ask: WantVerify, From: now.Add(-MaxWindow).UnixNano(), To: now.UnixNano()}
	r, err := conduct(ctx, client, &Permit{Act: Verify, Query: q, Identities: ids}, func(ctx context.Context, r *reader) error {
		r.verify = v
		before := r.sum.Failed
		if err := r.more(ctx, moreEverything); err != nil {
			return err
		}
		v.Damaged = r.sum.Failed - before
		v.finish(r.keyring.foreign)
		r.sum.Failed += len(v.Findings) + v.more
		r.sum.SessionBlocks = v.Blocks - len(v.Findings) - v.more
		return nil
	})
	if err != nil {
		return nil, err
	}
	v.LedgerIntent, v.LedgerOutcome = r.sum.LedgerIntent, r.sum.LedgerOutcome
	return &v.Verified, nil
}

// VerifyCopy is AskVerify for a copy of a store that no agent has open: keys and
// blocks call their function with each. No ledger hears of it.
func VerifyCopy(ids *vault.Identities, keys, blocks func(func([]byte) error) error, progress func(*Verified)) (*Verified, error) {
	v := newVerification(progress)
	r := newReader(&Query{}, ids)
	if err := keys(r.keyring.add); err != nil {
		return nil, err
	}
	if r.keyring.wrong() {
		return nil, ErrWrongIdentity
	}
	if err := blocks(func(b []byte) error { v.add(r, b); return nil }); err != nil {
		return nil, err
	}
	v.finish(r.keyring.foreign)
	return &v.Verified, nil
}

func (v *verification) finish(foreign int) {
	v.Foreign, v.Holds = foreign, len(v.holds)
	for id, h := range v.holds {
		switch {
		case h.said == nil:
			v.find(Finding{Block: fmt.Sprintf("hold %d", id), What: "the block that says how many there are is missing"})
		case h.said.Blocks != h.blocks:
			v.find(Finding{Block: fmt.Sprintf("hold %d", id), What: fmt.Sprintf("it has %d blocks that can be opened, and was made of %d", h.blocks, h.said.Blocks)})
		}
	}
	v.list, v.bindings = nil, nil
}

func (v *verification) find(f Finding) {
	if len(v.Findings) >= mostFindings {
		v.more++
		return
	}
	v.Findings = append(v.Findings, f)
}

// add opens a block and looks at all of it.
func (v *verification) add(r *reader, sealed []byte) {
	v.Blocks++
	v.Bytes += int64(len(sealed))
	p, plain, err := r.openBlock(sealed)
	if err == nil {
		err = v.look(r.decoder, &p, plain)
		clear(plain)
	}
	if err != nil {
		v.find(findingOf(&p, err))
	}
	if v.progress != nil {
		v.progress(&v.Verified)
	}
}

func findingOf(p *vault.Place, err error) Finding {
	f := Finding{What: printable(err.Error())}
	if p.Gateway == "" {
		f.Block = "a block that does not say where it belongs"
		return f
	}
	if errors.Is(err, ErrWrongIdentity) {
		f.What = "its key does not open with this identity, or is gone"
	}
	f.Block = fmt.Sprintf("block %d of kind %d, day %s, epoch %d", p.Seq, p.Kind, session.Day(p.Day), p.Epoch)
	f.Day = session.Day(p.Day).String()
	f.From, f.To = session.FormatTime(max(p.From, 0)*1e6), "no end"
	if p.To < block.MaxMilli {
		f.To = session.FormatTime(p.To * 1e6)
	}
	return f
}

// errUnlike is wrapped by what a comparison finds.
var errUnlike = errors.New("what is in it is not what it says")

// look decodes a block and compares its rows with its place.
func (v *verification) look(d *block.Decoder, p *vault.Place, plain []byte) error {
	switch p.Kind {
	case kindRegister, kindDirectory:
		return v.lookRegister(d, p, plain)
	case kindHold:
		c := new(HeldCase)
		if err := json.Unmarshal(plain, c); err != nil {
			return fmt.Errorf("%w: it does not describe a case", errUnlike)
		}
		v.hold(p).said = c
		return nil
	}
	h, err := block.ReadHeader(plain)
	if err != nil {
		return err
	}
	switch {
	case h.Gateway != p.Gateway:
		return fmt.Errorf("%w: it is of another gateway", errUnlike)
	case h.Count != int(p.Count):
		return fmt.Errorf("%w: %d rows, not %d", errUnlike, h.Count, p.Count)
	case h.MinStart < p.From, h.MaxEnd > p.To+1: // rounded up in one, down in the other
		return fmt.Errorf("%w: its rows are of other times", errUnlike)
	}
	if isHeld(p.Kind) {
		v.hold(p)
	}
	if h.Kind == block.KindCommunications {
		return v.lookCommunications(p, plain)
	}
	if h.Kind == block.KindBindings {
		_, v.bindings, err = d.Bindings(v.bindings[:0], plain)
		v.Bindings += uint64(len(v.bindings))
		return err
	}
	s, err := d.Sessions(plain)
	if err != nil {
		return err
	}
	v.list = s.Append(v.list[:0])
	v.Sessions += uint64(len(v.list))
	for i := range v.list {
		x := &v.list[i]
		if x.Start/1e6 < p.From || x.End/1e6 > p.To || !isHeld(p.Kind) && session.DayOf(x.End) != session.Day(p.Day) {
			return fmt.Errorf("%w: row %d is of another time or day", errUnlike, i)
		}
	}
	return nil
}

// hold counts a block of a hold.
func (v *verification) hold(p *vault.Place) *heldSeen {
	h := v.holds[p.Epoch]
	if h == nil {
		h = &heldSeen{}
		v.holds[p.Epoch] = h
	}
	h.blocks++
	return h
}

func (v *verification) lookRegister(d *block.Decoder, p *vault.Place, plain []byte) error {
	var rows int
	if p.Kind == kindRegister {
		list, err := d.Register(plain)
		if err != nil {
			return err
		}
		rows = len(list)
		v.Register += uint64(rows)
	} else {
		dir, err := d.Directory(plain)
		if err != nil {
			return err
		}
		rows = len(dir.First)
	}
	if rows != int(p.Count) {
		return fmt.Errorf("%w: %d rows, not %d", errUnlike, rows, p.Count)
	}
	return nil
}

// moreEverything is what a reader with WantVerify asks for.
const moreEverything = "everything"

// everything sends every block there is.
func (g *Gate) everything(ctx context.Context, fw *frameWriter, rd *reading) (damaged int, err error) {
	if g.o.All == nil || rd.query.Ask != WantVerify {
		return 0, errors.New("it was not asked for")
	}
	return g.o.All(ctx, g.send(ctx, fw, rd, frameBlock))
}

// Lines says for people what was verified.
func (v *Verified) Lines() []string {
	lines := []string{fmt.Sprintf("opened %s, %d bytes: %s, %s, %s of registers, %s, %s",
		count(v.Blocks, "block"), v.Bytes, count(int(v.Sessions), "session"), count(int(v.Bindings), "access record"), count(int(v.Register), "row"),
		count(int(v.Communications), "communication"), count(v.Holds, "hold"))}
	if v.Foreign > 0 {
		lines = append(lines, fmt.Sprintf("%s wrapped for other custodians: their blocks were not opened", count(v.Foreign, "key")))
	}
	if v.Damaged > 0 {
		lines = append(lines, fmt.Sprintf("%s could not be handed out; the check without a key says which", strings.TrimSpace(count(v.Damaged, "block"))))
	}
	return lines
}

// OK reports whether all was opened and nothing is wrong.
func (v *Verified) OK() bool { return len(v.Findings) == 0 && v.Damaged == 0 && v.Foreign == 0 }
