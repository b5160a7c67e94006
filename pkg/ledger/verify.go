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
	c := checker{src: l.disk}
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
	own := map[string]bool{PublicKeyName: true}
	if key := l.disk.path(l.opt.KeyFile); filepath.Dir(key) == filepath.Clean(l.disk.dir) {
		own[filepath.Base(key)] = true
	}
	if err := c.finish(ctx, l.signer.verify); err != nil {
		return l.verifyError(err)
	}
	names, err := l.disk.list()
	if err != nil {
		return l.verifyError(err)
	}
	if err, _ := judgeNames(names, c.checkpoint.Size, c.checkpoint.Size, own); err != nil {
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
	if text, err := l.disk.read(PublicKeyName); err != nil || string(text) != l.signer.verifier+"\n" {
		return l.verifyError(broken(PublicKeyName, "it is not the public half of the signer key"))
	}
	return nil
}

// finish checks what is on the disk now; nothing may be appended meanwhile.
func (c *checker) finish(ctx context.Context, v note.Verifier) error {
	msg, err := c.src.read(CheckpointName)
	if err != nil {
		return err
	}
	s := state{}
	if s.checkpoint, err = parseCheckpoint(msg, v); err != nil {
		return err
	}
	if s.edge, err = readFrontier(c.src, s.checkpoint); err != nil {
		return err
	}
	return c.whole(ctx, s)
}

func (l *Ledger) verifyError(err error) error {
	return fmt.Errorf("verify ledger %q: %w", l.disk.dir, err)
}

// VerifyDir does what Verify does on a ledger that nobody has open, or on a
// copy of one, with the public key alone (see VerifierKey), and returns its
// checkpoint. The signer key may be absent, and is not looked at.
func VerifyDir(ctx context.Context, dir, verifierKey string) (Checkpoint, error) {
	r, err := NewReader(Dir(dir), verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify ledger %q: %w", dir, err)
	}
	report, err := r.Verify(ctx)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify ledger %q: %w", dir, err)
	}
	return report.Checkpoint, nil
}

// checker appends the entries of a source to an empty tree, and compares what an
// honest ledger would have written with what is there.
type checker struct {
	src        source
	edge       frontier
	suspect    *BrokenError // the first tile that the entries do not give
	leaf       bool         // the suspect is a tile of level 0: its Entry is exact
	checkpoint Checkpoint
	root       [32]byte
	times      times
	bytes      int64 // of entries
}

// fullBundles checks all full bundles of a tree of that size, and the full
// tiles above them, from where it stopped before.
func (c *checker) fullBundles(ctx context.Context, size int64) error {
	for c.edge.size+tileWidth <= size {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := tile{bundleLevel, c.edge.size / tileWidth, tileWidth}
		data, err := c.src.read(t.path())
		if err != nil {
			return err
		}
		entries, err := c.split(t, data)
		if err != nil {
			return err
		}
		if err := c.compare(c.edge.addBundle(entries, nil), c.src.read); err != nil {
			return err
		}
	}
	return nil
}

// split takes a bundle apart, and looks at the times of its entries.
func (c *checker) split(t tile, data []byte) ([][]byte, error) {
	entries, err := splitBundle(data, t.width)
	if err != nil {
		return nil, broken(t.path(), "%v", err)
	}
	for i, e := range entries {
		c.times.see(t, c.edge.size+int64(i), e)
		c.bytes += int64(len(e))
	}
	return entries, nil
}

// compare reads the tiles that were computed. One that differs is remembered,
// not reported: whether the tile or an entry below it was changed is known when
// the root is.
func (c *checker) compare(files []file, read func(name string) ([]byte, error)) error {
	for _, f := range files {
		if f.level == bundleLevel {
			continue // read, not computed
		}
		data, err := read(f.path())
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

// whole checks a tree as a view has it: full tiles from the source, growing ones
// as they were when its checkpoint was read.
func (c *checker) whole(ctx context.Context, s state) error {
	if c.checkpoint = s.checkpoint; c.checkpoint.Size < c.edge.size {
		return broken(CheckpointName, "it is of %d entries, but %d are there: the checkpoint is an old one", c.checkpoint.Size, c.edge.size)
	}
	if err := c.fullBundles(ctx, s.checkpoint.Size); err != nil {
		return err
	}
	entries, err := c.split(growing(s.checkpoint.Size)[0], s.edge.bundle)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := c.edge.add(e, nil); err != nil {
			return err
		}
	}
	kept := map[string][]byte{}
	for _, f := range s.edge.partial() {
		kept[f.path()] = f.data
	}
	if err := c.compare(c.edge.partial(), func(name string) ([]byte, error) { return kept[name], nil }); err != nil {
		return err
	}
	if c.root, err = c.edge.root(); err != nil {
		return err
	}
	if err := c.judge(); err != nil {
		return err
	}
	return c.times.err
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

// judgeNames looks for files that no checkpoint needs: neither the one of size
// before, nor the one of size after. passing reports whether an append that is
// under way may have put the file there. own are names that do not belong to the
// tree.
func judgeNames(names []string, before, after int64, own map[string]bool) (fault error, passing bool) {
	note := func(err error, may bool) {
		if fault == nil || passing && !may {
			fault, passing = err, may
		}
	}
	for _, name := range names {
		t, ok := parseTile(name)
		if !ok {
			if name != CheckpointName && !own[name] {
				note(broken(name, "it does not belong to a ledger"), name == CheckpointName+tmpSuffix)
			}
			continue
		}
		was, is := t.standingOf(before), t.standingOf(after)
		switch {
		case was == needed || is == needed:
		case is == superseded:
			note(broken(name, "a wider tile holds the same: it should have been removed"), true)
		default:
			note(broken(name, "it is beyond the checkpoint of %d entries: the checkpoint is an old one, or an append was not finished", after), is == torn)
		}
	}
	return fault, passing
}
