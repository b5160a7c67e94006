package ledger

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// Verify recomputes the whole tree from the entries on the disk, compares each
// tile, the root, the signature and the key with what it gets, and looks for
// files that do not belong. Appends go on while it works, but for its end.
//
// Errors: a *BrokenError for the first fault, or that of ctx or the file
// system.
func (l *Ledger) Verify(ctx context.Context) error {
	c := checker{disk: l.disk}
	if err := c.fullBundles(ctx, l.Size()); err != nil {
		return l.verifyError(err)
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return l.verifyError(ctx.Err())
	}
	defer func() { <-l.turn }()
	if err := l.tidy(l.Size(), l.Size()); err != nil {
		return l.verifyError(err)
	}
	own := map[string]bool{}
	if key := l.disk.path(l.opt.KeyFile); filepath.Dir(key) == filepath.Clean(l.disk.dir) {
		own[filepath.Base(key)] = true
	}
	if err := c.finish(ctx, l.signer.verify, own); err != nil {
		return l.verifyError(err)
	}
	if last := l.snapshot().checkpoint; last.Size != c.edge.size || last.Root != c.root {
		return l.verifyError(broken(CheckpointName, "it is not the last one of this ledger: %d entries instead of %d", c.edge.size, last.Size))
	}
	text, err := readPrivate(l.disk.path(l.opt.KeyFile))
	if err != nil {
		return l.verifyError(err)
	}
	if text != l.signer.key+"\n" {
		return l.verifyError(broken(l.opt.KeyFile, "it is not the key that this ledger is signed with"))
	}
	return nil
}

func (l *Ledger) verifyError(err error) error {
	return fmt.Errorf("verify ledger %q: %w", l.disk.dir, err)
}

// VerifyDir does what Verify does on a ledger that nobody has open, or on a
// copy of one, with the public key alone (see VerifierKey), and returns its
// checkpoint. The signer key may be absent, and is not looked at.
func VerifyDir(ctx context.Context, dir, verifierKey string) (Checkpoint, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify ledger %q: %w: verifier key: %w", dir, ErrKey, err)
	}
	c := checker{disk: &disk{dir: dir}}
	if err := c.finish(ctx, v, map[string]bool{KeyName: true}); err != nil {
		return Checkpoint{}, fmt.Errorf("verify ledger %q: %w", dir, err)
	}
	return c.checkpoint, nil
}

// checker appends the entries on the disk to an empty tree, and compares what
// an honest ledger would have written with what is there.
type checker struct {
	disk       *disk
	edge       frontier
	suspect    *BrokenError // the first tile that the entries do not give
	leaf       bool         // the suspect is a tile of level 0: its Entry is exact
	checkpoint Checkpoint
	root       [32]byte
}

// fullBundles checks all full bundles of a tree of that size, and the full
// tiles above them, from where it stopped before.
func (c *checker) fullBundles(ctx context.Context, size int64) error {
	for c.edge.size+tileWidth <= size {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.bundle(tile{bundleLevel, c.edge.size / tileWidth, tileWidth}); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) bundle(t tile) error {
	data, err := c.disk.read(t.path())
	if err != nil {
		return err
	}
	entries, err := splitBundle(data, t.width)
	if err != nil {
		return broken(t.path(), "%v", err)
	}
	var full []file
	for _, e := range entries {
		if full, err = c.edge.add(e, full); err != nil {
			return err
		}
	}
	return c.compare(full)
}

// compare reads the tiles that were computed. One that differs is remembered,
// not reported: whether the tile or an entry below it was changed is known when
// the root is.
func (c *checker) compare(files []file) error {
	for _, f := range files {
		if f.level == bundleLevel {
			continue // read, not computed
		}
		data, err := c.disk.read(f.path())
		if err != nil {
			return err
		}
		if len(data) != len(f.data) {
			return broken(f.path(), "it has %d bytes instead of %d", len(data), len(f.data))
		}
		if c.suspect == nil && !bytes.Equal(data, f.data) {
			c.suspect = &BrokenError{File: f.path(), Entry: firstDifference(f, data), Reason: "the hash kept for it is not its hash"}
			c.leaf = f.level == 0
		}
	}
	return nil
}

// firstDifference returns the first entry under the first hash that differs.
func firstDifference(f file, data []byte) int64 {
	k := 0
	for bytes.Equal(data[k*hashSize:(k+1)*hashSize], f.data[k*hashSize:(k+1)*hashSize]) {
		k++
	}
	return (f.n*tileWidth + int64(k)) << (tileHeight * f.level)
}

// finish checks the checkpoint, what fullBundles left, the root, and the names
// of all files. own are names that do not belong to the tree.
func (c *checker) finish(ctx context.Context, v note.Verifier, own map[string]bool) error {
	msg, err := c.disk.read(CheckpointName)
	if err != nil {
		return err
	}
	if c.checkpoint, err = parseCheckpoint(msg, v); err != nil {
		return err
	}
	size := c.checkpoint.Size
	if size < c.edge.size {
		return broken(CheckpointName, "it is of %d entries, but %d are there: the checkpoint is an old one", size, c.edge.size)
	}
	if err := c.fullBundles(ctx, size); err != nil {
		return err
	}
	if err := c.bundle(tile{bundleLevel, size / tileWidth, int(size % tileWidth)}); err != nil {
		return err
	}
	if err := c.compare(c.edge.partial()); err != nil {
		return err
	}
	if c.root, err = c.edge.root(); err != nil {
		return err
	}
	if err := c.judge(); err != nil {
		return err
	}
	return c.names(size, own)
}

// judge compares the root that the entries give with the signed one.
func (c *checker) judge() error {
	same := c.root == c.checkpoint.Root
	switch {
	case same && c.suspect == nil:
		return nil
	case same:
		return c.suspect
	case c.suspect != nil:
		first := c.suspect.Entry
		t := tile{bundleLevel, first / tileWidth, int(min(tileWidth, c.edge.size-first/tileWidth*tileWidth))}
		reason := "it is not the entry that was signed"
		if !c.leaf {
			reason = "it, or one that shares a hash in " + c.suspect.File + " with it, is not the entry that was signed"
		}
		return &BrokenError{File: t.path(), Entry: first, Reason: reason}
	}
	return broken(CheckpointName, "entries and tiles agree with each other, but not with the signed root: both were changed")
}

// names looks for files that the checkpoint does not need.
func (c *checker) names(size int64, own map[string]bool) error {
	names, err := c.disk.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		t, ok := parseTile(name)
		if !ok {
			if name != CheckpointName && !own[name] {
				return broken(name, "it does not belong to a ledger")
			}
			continue
		}
		switch t.standingOf(size) {
		case superseded:
			return broken(name, "a wider tile holds the same: it should have been removed")
		case torn, beyond:
			return broken(name, "it is beyond the checkpoint of %d entries: the checkpoint is an old one, or an append was not finished", size)
		}
	}
	return nil
}
