package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrHistory: the ledger does not go on from a checkpoint that was signed once. The
// error is a *HistoryError, which says how.
var ErrHistory = errors.New("the ledger is not what it was")

// Fault is what was done to a ledger.
type Fault string

// The faults.
const (
	// Cut: entries at its end are missing. A single checkpoint cannot tell whether
	// they were cut off, or the whole directory is an older copy.
	Cut Fault = "cut"
	// OldCopy: it is an older copy: one of the checkpoints is just where it stands, and
	// others are of more entries.
	OldCopy Fault = "older copy restored"
	// Forked: other entries stand in the place of those that were signed.
	Forked Fault = "forked"
)

// HistoryError says how a ledger differs from a checkpoint of its own. It is
// ErrHistory.
type HistoryError struct {
	Fault  Fault
	Have   int64 // entries in the ledger now
	Signed int64 // entries under the checkpoint that it does not agree with
	Agrees int64 // entries under the largest checkpoint that it does agree with; -1 when none is at hand
}

// Error says what was done, with the numbers.
func (e *HistoryError) Error() string {
	text := ""
	switch e.Fault {
	case Cut:
		text = fmt.Sprintf("cut: it has %d entries, and a checkpoint of %d was signed: the last %d were cut off, or an older copy of it was put back", e.Have, e.Signed, e.Signed-e.Have)
	case OldCopy:
		text = fmt.Sprintf("older copy restored: it stands where its checkpoint of %d entries left it, and one of %d was signed: %d entries are missing", e.Have, e.Signed, e.Signed-e.Have)
	default:
		text = fmt.Sprintf("forked: of its %d entries the first %d are not those that were signed", e.Have, e.Signed)
	}
	if e.Fault != OldCopy && e.Agrees >= 0 {
		text += fmt.Sprintf("; up to %d entries it agrees with another checkpoint", e.Agrees)
	}
	return fmt.Sprintf("%s: %s", ErrHistory, text)
}

// Unwrap returns ErrHistory.
func (e *HistoryError) Unwrap() error { return ErrHistory }

// Consistent reports whether the ledger is what it was when an older checkpoint was
// signed, and entries were only added since (RFC 6962 §2.1.2). old is the signed
// note.
//
// Errors: a *HistoryError; a *BrokenError, also when old is not signed by this
// ledger.
func (r *Reader) Consistent(old []byte) error {
	if r.unsound != nil {
		return r.unsound
	}
	_, err := r.consistent(old)
	return err
}

// Consistent is Reader.Consistent for an open ledger.
func (l *Ledger) Consistent(old []byte) error {
	_, err := l.view().consistent(old)
	return err
}

// Compared is what Against says of one checkpoint.
type Compared struct {
	Size int64 // of the checkpoint; -1 when it is not one of this ledger
	Err  error // nil: the ledger goes on from it
}

// Against compares the ledger with many checkpoints, in their order. Together they
// tell more than each by itself: see OldCopy and HistoryError.Agrees.
func (r *Reader) Against(old [][]byte) []Compared {
	out := make([]Compared, len(old))
	agrees, stands := int64(-1), false
	for i, msg := range old {
		out[i] = Compared{Size: -1, Err: r.unsound}
		if r.unsound != nil {
			continue
		}
		c, err := r.consistent(msg)
		if c != nil {
			out[i].Size = c.Size
		}
		if out[i].Err = err; err == nil {
			agrees = max(agrees, c.Size)
			stands = stands || c.Size == r.checkpoint.Size
		}
	}
	for i := range out {
		var h *HistoryError
		if !errors.As(out[i].Err, &h) {
			continue
		}
		h.Agrees = agrees
		if h.Fault == Cut && stands {
			h.Fault = OldCopy
		}
	}
	return out
}

// consistent returns the old checkpoint as far as it is one.
func (w *view) consistent(old []byte) (*Checkpoint, error) {
	c, err := parseCheckpoint(old, w.verify)
	if err != nil {
		return nil, fmt.Errorf("the older checkpoint: %w", err)
	}
	now := w.checkpoint
	fault := func(f Fault) (*Checkpoint, error) {
		return &c, &HistoryError{Fault: f, Have: now.Size, Signed: c.Size, Agrees: -1}
	}
	switch {
	case c.Size > now.Size:
		return fault(Cut)
	case c.Size == 0:
		if c.Root != emptyRoot {
			return fault(Forked)
		}
		return &c, nil
	case c.Size == now.Size:
		if c.Root != now.Root {
			return fault(Forked)
		}
		return &c, nil
	}
	proof, err := tlog.ProveTree(now.Size, c.Size, w.hashes())
	if err != nil {
		return &c, broken(tileDir, "its tiles do not give the signed root: %v", err)
	}
	if tlog.CheckTree(proof, now.Size, now.Root, c.Size, c.Root) != nil {
		return fault(Forked)
	}
	return &c, nil
}

// emptyRoot is the root of no entries: SHA-256 of nothing (RFC 6962 §2.1).
var emptyRoot, _ = tlog.TreeHash(0, nil)

// rootAt returns the root of the first size entries.
func (w *view) rootAt(size int64) (root [32]byte, err error) {
	if size < 0 || size > w.checkpoint.Size {
		return root, fmt.Errorf("root of %d entries: %w: the ledger has %d", size, ErrRange, w.checkpoint.Size)
	}
	h, err := tlog.TreeHash(size, w.hashes())
	if err != nil {
		return root, fmt.Errorf("root of %d entries: %w", size, broken(tileDir, "its tiles do not give the signed root: %v", err))
	}
	return h, nil
}

// Same reports whether two checkpoints are of the same tree.
func (c Checkpoint) Same(o Checkpoint) bool {
	return c.Origin == o.Origin && c.Size == o.Size && bytes.Equal(c.Root[:], o.Root[:])
}
