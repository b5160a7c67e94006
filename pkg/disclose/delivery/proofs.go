package delivery

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// signature checks signature.txt: the ledger's key, and no other, has signed the
// hash of the manifest.
func (c *checker) signature(b []byte) error {
	what, want := disclose.PackageStatement(c.digest)
	text, err := ledger.OpenStatement(what, b, c.key)
	if err != nil {
		return err
	}
	if text != want {
		return errors.New("it signs another manifest than this one")
	}
	// One signature, in the one form that a signer writes: base64 has bits that do
	// not matter.
	_, line, _ := strings.Cut(string(b), "\n\n— ")
	name, raw, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	sig, err := base64.StdEncoding.Strict().DecodeString(raw)
	if err != nil || name+" "+base64.StdEncoding.EncodeToString(sig)+"\n" != line {
		return errors.New("its signature is not written in its one form, or there is more than one")
	}
	return nil
}

// receipt checks receipt.json.
func (c *checker) receipt(b []byte) error {
	r := new(receiptFile)
	if err := json.Unmarshal(b, r); err != nil {
		return fmt.Errorf("it is not understood: %w", err)
	}
	if again, err := encode(r); err != nil || !bytes.Equal(again, b) {
		return errors.New("it is not written in its one form")
	}
	if len(r.Packed) != len(c.manifest.Members) {
		return errors.New("it does not name the members of the manifest")
	}
	for i := range r.Packed {
		s := &c.members[i+min(i, 1)]
		sum := sha256.Sum256(s.data)
		if r.Packed[i] != (packedMember{s.name, hex.EncodeToString(sum[:])}) {
			return fmt.Errorf("member %q does not lie in the zip as it was packed", s.name)
		}
	}
	if err := c.proofs(r); err != nil {
		return err
	}
	return c.compare(r)
}

// proofs checks that the ledger has all entries of the package, in their order:
// filing, approvals, intent, outcome.
func (c *checker) proofs(r *receiptFile) error {
	facts, request := &c.manifest.Ledger, &c.manifest.Request
	if len(r.Entries) != len(facts.Entries) || len(r.Entries) == 0 {
		return errors.New("it does not prove the entries that the manifest names")
	}
	last := int64(-1)
	var said *disclose.Approvals
	id := strconv.FormatInt(request.Entry, 10)
	for i, p := range r.Entries {
		e, at, err := c.prove(p, &last)
		if err != nil {
			return fmt.Errorf("entry %d of the request: %w", i+1, err)
		}
		said = disclose.ApprovalsIn(&e)
		sum := sha256.Sum256(p.Entry)
		switch {
		case facts.Entries[i] != EntryFacts{Index: p.Index, Time: at.Time, Kind: string(e.Kind), SHA256: hex.EncodeToString(sum[:])}:
			return fmt.Errorf("ledger entry %d is not the one that the manifest names", p.Index)
		case i == 0 && (p.Index != request.Entry || e.Kind != ledger.Request || !has(e.Fields, request.Commitment)):
			return fmt.Errorf("ledger entry %d is not the filing of request %s", p.Index, id)
		case i > 0 && e.Fields["request"] != id:
			return fmt.Errorf("ledger entry %d is not about request %s", p.Index, id)
		case i == 0:
			c.report.Filed = at
		default:
			c.report.Approvals = append(c.report.Approvals, at)
		}
	}
	if len(r.Entries) == 1 && request.Emergency == "" {
		return fmt.Errorf("nobody approved request %s", id)
	}
	if err := c.approvals(said); err != nil {
		return err
	}
	return c.reading(r, &last, id)
}

// approvals compares what the manifest says of them with the ledger. said is what its
// last entry about the request says; nil where it does not.
func (c *checker) approvals(said *disclose.Approvals) error {
	q, have := &c.manifest.Request, len(c.report.Approvals)
	switch {
	case q.Approvals != 0 && q.Approvals != have:
		return fmt.Errorf("the manifest says %d approvals and there are %d", q.Approvals, have)
	case said == nil && q.ApprovalsNeeded == 0:
		c.report.Emergency = q.Emergency
		return nil // of a version that did not write it
	case said == nil || q.ApprovalsNeeded != said.Needed || q.Ratify != ratify(said):
		return errors.New("the manifest says other things of the approvals than the ledger")
	case said.Emergency != (q.Emergency != ""):
		return errors.New("whether it was an emergency is not what the ledger says")
	case have != said.Have || have < said.Needed && !said.Emergency:
		return fmt.Errorf("there are %d approvals, %d in the ledger, and %d are needed", have, said.Have, said.Needed)
	}
	c.report.Needed, c.report.Emergency, c.report.Due = said.Needed, q.Emergency, q.Ratify
	return nil
}

// reading checks intent and outcome.
func (c *checker) reading(r *receiptFile, last *int64, id string) error {
	e, at, err := c.prove(r.Intent, last)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	if about := e.Fields["request"]; e.Kind != ledger.Intent || about != "" && about != id {
		return fmt.Errorf("ledger entry %d is not the intent to read for request %s", at.Index, id)
	}
	c.report.Intent = at
	intent := strconv.FormatInt(at.Index, 10)
	if e, at, err = c.prove(r.Outcome, last); err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	f := e.Fields
	switch {
	case e.Kind != ledger.Outcome || f["intent"] != intent || f["request"] != id || f["result"] != "answered":
		return fmt.Errorf("ledger entry %d is not the outcome of intent %s for request %s", at.Index, intent, id)
	case f["manifest"] != hex.EncodeToString(c.digest[:]):
		return fmt.Errorf("the outcome, ledger entry %d, is about another manifest than this one", at.Index)
	}
	c.report.Outcome = at
	return nil
}

// prove checks one proof, and that its entry comes after the last one.
func (c *checker) prove(p *ledger.Proof, last *int64) (ledger.Record, EntryTime, error) {
	if p == nil {
		return ledger.Record{}, EntryTime{}, errors.New("its proof is missing")
	}
	e, err := p.Check(c.key)
	if err != nil {
		return e, EntryTime{}, err
	}
	if p.Index <= *last {
		return e, EntryTime{}, fmt.Errorf("ledger entry %d does not come after entry %d", p.Index, *last)
	}
	*last = p.Index
	return e, EntryTime{p.Index, session.FormatTime(e.Time.UnixNano())}, nil
}

// has reports whether a field has that value.
func has(fields map[string]string, value string) bool {
	for _, v := range fields {
		if v == value {
			return true
		}
	}
	return false
}

// root is what a checkpoint says of a ledger.
type root struct {
	size int64
	hash string
}

// compare holds the checkpoints of the package against each other, and against
// those that were kept apart: a ledger of one size has one root.
func (c *checker) compare(r *receiptFile) error {
	seen := map[int64]string{}
	for _, p := range append(append([]*ledger.Proof{}, r.Entries...), r.Intent, r.Outcome) {
		at, err := readRoot([]byte(p.Checkpoint), c.key)
		if err != nil {
			return err
		}
		if old, ok := seen[at.size]; ok && old != at.hash {
			return fmt.Errorf("the ledger was forked: there are two checkpoints of %d entries", at.size)
		}
		seen[at.size] = at.hash
		c.report.Checkpoint = max(c.report.Checkpoint, at.size)
	}
	for _, b := range c.opt.Checkpoints {
		at, err := readRoot(b, c.key)
		if err != nil {
			return fmt.Errorf("the checkpoint that it is held against: %w", err)
		}
		hash, ok := seen[at.size]
		if ok && hash != at.hash {
			return fmt.Errorf("the ledger was forked: the checkpoint of %d entries that was kept is not the one of the package", at.size)
		}
		text := fmt.Sprintf("the checkpoint of %d entries is that of the package", at.size)
		if !ok {
			text = fmt.Sprintf("the checkpoint of %d entries is of this ledger; the package has none of that size, so the two cannot be compared without the ledger", at.size)
		}
		c.report.Compared = append(c.report.Compared, text)
	}
	return nil
}

// readRoot reads a signed checkpoint (C2SP tlog-checkpoint).
func readRoot(b []byte, key string) (root, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return root{}, fmt.Errorf("%w: %w", ledger.ErrKey, err)
	}
	n, err := note.Open(b, note.VerifierList(v))
	if err != nil {
		return root{}, fmt.Errorf("it is no checkpoint that this ledger signed: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != v.Name() || lines[3] != "" {
		return root{}, errors.New("it is signed by this ledger, but no checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return root{}, errors.New("it is signed by this ledger, but no checkpoint")
	}
	return root{size, lines[2]}, nil
}
