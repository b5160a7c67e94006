package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that an entry is in a ledger, to whoever has the ledger's verifier
// key (RFC 6962 §2.1.1). It is kept as JSON.
type Proof struct {
	Index      int64    `json:"index"`
	Entry      []byte   `json:"entry"`      // as the ledger encodes it
	Hashes     [][]byte `json:"hashes"`     // the audit path, the nearest first
	Checkpoint string   `json:"checkpoint"` // the signed note of the tree
}

// Prove returns the proof of an entry under the present checkpoint.
//
// Errors: ErrRange or a *BrokenError.
func (l *Ledger) Prove(index int64) (*Proof, error) { return l.view().prove(index, l.VerifierKey()) }

func (w *view) prove(index int64, verifierKey string) (*Proof, error) {
	c := w.checkpoint
	if index < 0 || index >= c.Size {
		return nil, fmt.Errorf("prove entry %d: %w: the ledger has %d", index, ErrRange, c.Size)
	}
	entries, err := w.bundle(w.bundleOf(index))
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	path, err := tlog.ProveRecord(c.Size, index, w.hashes())
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, broken(tileDir, "its tiles do not give the signed root: %v", err))
	}
	p := &Proof{Index: index, Entry: append([]byte(nil), entries[index%tileWidth]...), Checkpoint: string(c.Note)}
	for _, h := range path {
		p.Hashes = append(p.Hashes, append([]byte(nil), h[:]...))
	}
	if _, err := p.Check(verifierKey); err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, broken(tileDir, "its bundle and the tiles do not agree"))
	}
	return p, nil
}

// Check verifies p with the ledger's verifier key, and returns the entry. The error
// wraps ErrKey when the key is none, or else ErrProof.
func (p *Proof) Check(verifierKey string) (Record, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	c, err := parseCheckpoint([]byte(p.Checkpoint), v)
	if err != nil {
		return Record{}, fmt.Errorf("%w: its checkpoint: %w", ErrProof, err)
	}
	path := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		if len(h) != hashSize {
			return Record{}, fmt.Errorf("%w: hash %d of its path has %d bytes", ErrProof, i, len(h))
		}
		copy(path[i][:], h)
	}
	if err := tlog.CheckRecord(path, c.Size, c.Root, p.Index, tlog.RecordHash(p.Entry)); err != nil {
		return Record{}, fmt.Errorf("%w: the entry is not number %d under its checkpoint of %d entries", ErrProof, p.Index, c.Size)
	}
	r, err := parseRecord(p.Index, p.Entry)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return r, nil
}
