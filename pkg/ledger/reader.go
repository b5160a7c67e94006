package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Reader reads a ledger with nothing but its public key: a copy of its directory, or
// the directory itself while the agent appends to it. It takes no lock and changes
// nothing. It stands at the checkpoint that was the present one when it was opened.
type Reader struct {
	view

	key     string // the verifier key as text
	unsound error  // the newest tiles do not give the signed root
}

// OpenReader opens the ledger in dir with its public key (Ledger.VerifierKey). The
// signature of the checkpoint is checked; entries and proofs are when they are
// asked for, and everything is by Verify.
//
// Errors: ErrKey for a key that is none, a *BrokenError, or those of the file
// system.
func OpenReader(dir, verifierKey string) (*Reader, error) {
	r, err := NewReader(Dir(dir), verifierKey)
	if err != nil {
		return nil, fmt.Errorf("read ledger %q: %w", dir, err)
	}
	return r, nil
}

// NewReader is OpenReader for files that lie elsewhere.
func NewReader(f Files, verifierKey string) (*Reader, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return nil, fmt.Errorf("%w: verifier key: %w", ErrKey, err)
	}
	r := &Reader{view: view{src: sourceOf(f), verify: v}, key: verifierKey}
	if err := r.load(); err != nil {
		return nil, err
	}
	root, err := r.edge.root()
	if err != nil {
		return nil, err
	}
	if root != r.checkpoint.Root {
		r.unsound = errNewest
	}
	return r, nil
}

// load reads the checkpoint and the growing tiles under it. An append replaces
// both: what is missing although the checkpoint needs it was replaced when there is
// another checkpoint now, and then that one is read.
func (r *Reader) load() error {
	for {
		msg, err := r.src.read(CheckpointName)
		if err != nil {
			return err
		}
		if r.checkpoint, err = parseCheckpoint(msg, r.verify); err != nil {
			return err
		}
		if r.edge, err = readFrontier(r.src, r.checkpoint); err == nil || !errors.Is(err, ErrBroken) {
			return err
		}
		again, readErr := r.src.read(CheckpointName)
		if readErr != nil {
			return readErr
		}
		if bytes.Equal(again, msg) {
			return err
		}
	}
}

// Checkpoint returns the signed checkpoint at which the reader stands.
func (r *Reader) Checkpoint() Checkpoint {
	c := r.checkpoint
	c.Note = bytes.Clone(c.Note)
	return c
}

// Size returns the number of entries under the checkpoint.
func (r *Reader) Size() int64 { return r.checkpoint.Size }

// VerifierKey returns the public key that the reader was opened with.
func (r *Reader) VerifierKey() string { return r.key }

// Entries returns the entries with from ≤ index < to. Each is checked against the
// signed tree before it is returned.
//
// Errors: ErrRange, a *BrokenError, or that of ctx.
func (r *Reader) Entries(ctx context.Context, from, to int64) ([]Record, error) {
	if r.unsound != nil {
		return nil, r.unsound
	}
	return r.entries(ctx, from, to)
}

// Prove returns the proof of an entry under the checkpoint.
//
// Errors: ErrRange or a *BrokenError.
func (r *Reader) Prove(index int64) (*Proof, error) {
	if r.unsound != nil {
		return nil, r.unsound
	}
	return r.prove(index, r.key)
}

// RootAt returns the root of the first size entries.
//
// Errors: ErrRange or a *BrokenError.
func (r *Reader) RootAt(size int64) ([32]byte, error) {
	if r.unsound != nil {
		return [32]byte{}, r.unsound
	}
	return r.rootAt(size)
}

// Report is what Verify found in a ledger that is whole.
type Report struct {
	Checkpoint  Checkpoint
	Bytes       int64     // of all entries
	First, Last time.Time // of the entries; zero when there are none
	Back        []Back    // where the time goes back
}

// Back is a place where the time of an entry is before that of the entry before it,
// by more than Tolerance.
type Back struct {
	Index    int64 // of the entry with the earlier time
	From, To time.Time
	// Explained: a clock-step entry stands with it, or the agent was started there.
	Explained bool
}

// Tolerance is how far the time may go back without being told of: the clock of a
// gateway is to be within a second of UTC, and may be set by that much.
const Tolerance = time.Second

// stepWithin is how many entries may stand between a clock that was set back and
// the entry that says so: it is noticed a moment later.
const stepWithin = 64

// Verify recomputes the whole tree from the entries, compares each tile, the root
// and the signature with what it gets, looks for files that do not belong, and for
// times that go back.
//
// A live directory may be verified: what is appended meanwhile is left alone.
//
// Errors: a *BrokenError for the first fault, or that of ctx or the file system.
func (r *Reader) Verify(ctx context.Context) (*Report, error) {
	c := checker{src: r.src}
	if err := c.whole(ctx, r.state); err != nil {
		return nil, err
	}
	if err := r.checkNames(ctx); err != nil {
		return nil, err
	}
	out := &Report{Checkpoint: r.Checkpoint(), Bytes: c.bytes, Back: c.times.back}
	out.First, out.Last = c.times.span()
	for i := range out.Back {
		if err := r.explain(ctx, &out.Back[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *Reader) explain(ctx context.Context, b *Back) error {
	near, err := r.Entries(ctx, b.Index, min(b.Index+stepWithin, r.Size()))
	if err != nil {
		return err
	}
	for i := range near {
		if near[i].Kind == ClockStep || i == 0 && near[i].Kind == Start {
			b.Explained = true
		}
	}
	return nil
}

// An append that is under way has files that no checkpoint covers yet, and then
// some that none needs any more. They are looked at again for as long as
// lookAgain × lookPause before they are called faults.
const (
	lookAgain = 40
	lookPause = 50 * time.Millisecond
)

// checkNames looks for files that do not belong, where the source knows its names.
func (r *Reader) checkNames(ctx context.Context) error {
	all, ok := r.src.(lister)
	if !ok {
		return nil
	}
	for try := 0; ; try++ {
		before, err := r.sizeNow()
		if err != nil {
			return err
		}
		names, err := all.list()
		if err != nil {
			return err
		}
		after, err := r.sizeNow()
		if err != nil {
			return err
		}
		fault, passing := judgeNames(names, before, after, readerOwn)
		if fault == nil {
			return r.checkPublicKey(names)
		}
		if !passing || try >= lookAgain {
			return fault
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var readerOwn = map[string]bool{KeyName: true, PublicKeyName: true}

// sizeNow returns the size of the checkpoint that is there now.
func (r *Reader) sizeNow() (int64, error) {
	msg, err := r.src.read(CheckpointName)
	if err != nil {
		return 0, err
	}
	c, err := parseCheckpoint(msg, r.verify)
	if err != nil {
		return 0, err
	}
	if c.Size < r.checkpoint.Size {
		return 0, broken(CheckpointName, "it is of %d entries, and was of %d when this began: the checkpoint is an old one", c.Size, r.checkpoint.Size)
	}
	return c.Size, nil
}

// checkPublicKey compares the public key that lies with the ledger, if one does.
func (r *Reader) checkPublicKey(names []string) error {
	for _, name := range names {
		if name != PublicKeyName {
			continue
		}
		b, err := r.src.read(name)
		if err != nil {
			return err
		}
		if string(b) != r.key+"\n" {
			return broken(PublicKeyName, "it is not the key that the ledger is verified with")
		}
	}
	return nil
}

// Export calls write with each file of a copy of the ledger as it stands at the
// reader's checkpoint, which comes last: without it there is no ledger yet. Nothing
// is checked: that is for who has the copy.
func (r *Reader) Export(ctx context.Context, write func(name string, data []byte) error) error {
	give := func(t tile) error {
		data, err := r.src.read(t.path())
		if err != nil {
			return err
		}
		return write(t.path(), data)
	}
	for level := bundleLevel; level <= maxLevel; level++ {
		for n := range (tile{level: level}).count(r.Size()) / tileWidth {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := give(tile{level, n, tileWidth}); err != nil {
				return err
			}
		}
	}
	for _, f := range r.edge.partial() {
		if err := write(f.path(), f.data); err != nil {
			return err
		}
	}
	if err := write(PublicKeyName, []byte(r.key+"\n")); err != nil {
		return err
	}
	return write(CheckpointName, r.checkpoint.Note)
}
