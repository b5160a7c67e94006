package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const hashSize = tlog.HashSize

// commit writes a batch and returns the index of its first entry. Either all
// of it is in the ledger afterwards or none. The caller holds the turn.
func (l *Ledger) commit(batch []*waiting) (int64, error) {
	if l.closed {
		return 0, ErrClosed
	}
	if l.failed != nil {
		return 0, l.failed
	}
	old := l.snapshot()
	edge := old.edge.next()
	var files []file
	for _, w := range batch {
		var err error
		if files, err = edge.add(stamp(l.opt.Clock(), w.body), files); err != nil {
			return 0, err
		}
	}
	files = append(files, edge.changed(old.edge)...)
	root, err := edge.root()
	if err != nil {
		return 0, err
	}
	c, err := l.signer.checkpoint(edge.size, root)
	if err != nil {
		return 0, err
	}
	if err := l.publish(files, c); err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.state = state{checkpoint: c, edge: edge}
	l.mu.Unlock()
	_ = l.tidy(old.checkpoint.Size, c.Size) // what is left over stands in l.leftover
	return old.checkpoint.Size, nil
}

// publish puts the files and then the checkpoint on the disk. When that fails,
// what was written is taken away again; when it is not known what the disk
// holds, the ledger stays closed to appends.
func (l *Ledger) publish(files []file, c Checkpoint) error {
	err := l.disk.create(files)
	if err == nil {
		err = l.disk.replace(CheckpointName, c.Note)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrFailed) {
		l.failed = fmt.Errorf("%w: %w; nothing may be read until then", ErrNotWritten, err)
		return l.failed
	}
	err = fmt.Errorf("%w: %w; make its disk writable, nothing may be read until then", ErrNotWritten, err)
	for _, f := range files {
		err = errors.Join(err, l.disk.remove(f.path()))
	}
	return errors.Join(err, l.disk.remove(CheckpointName+tmpSuffix))
}

// tidy removes the growing tiles of the checkpoint before, now that wider ones
// hold the same. The entries are in the ledger already; what cannot be removed
// is tried again after the next append, by Verify and by Open.
func (l *Ledger) tidy(before, now int64) error {
	for _, t := range growing(before) {
		if t.standingOf(now) != superseded {
			continue
		}
		l.leftover = append(l.leftover, t.path())
		if t.count(now)/tileWidth > t.n { // full: its directory of partials is empty
			l.leftover = append(l.leftover, t.partials())
		}
	}
	for len(l.leftover) > 0 {
		if err := l.disk.remove(l.leftover[0]); err != nil {
			return fmt.Errorf("remove a tile that a wider one replaces: %w", err)
		}
		l.leftover = l.leftover[1:]
	}
	return nil
}
