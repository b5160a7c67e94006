package identity

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// largeGroup is when a long Apply waits for the disk before it goes on, and
// maxChunk when a frame is full. Bytes.
const (
	largeGroup = 16 << 20
	maxChunk   = 4 << 20
)

// group collects records until somebody writes them to the log. All who wait
// for them wait for one write and one sync.
type group struct {
	buf    []byte  // records of the chunk being filled
	recs   uint64  // how many of them change something
	full   []chunk // chunks before it
	size   int     // bytes in buf and full
	dirty  bool    // somebody may wait for something in buf or full
	cur    *commit // for what is in buf and full
	flying *commit // for what is being written; nil when nothing is
	spare  []byte  // room of a chunk that is on the disk, to be filled again

	// The state of the log, for those who do not hold the token.
	logSize int64 // bytes
	logBorn time.Time
}

// chunk is the plain text of one frame.
type chunk struct {
	data []byte
	recs uint64
}

// commit is one write to the disk.
type commit struct {
	done chan struct{}
	err  error // set before done is closed
}

func (g *group) init() { g.cur = &commit{done: make(chan struct{})} }

// add takes buf, which is g.buf with one record appended.
func (g *group) add(buf []byte) {
	g.size += len(buf) - len(g.buf)
	g.buf = buf
	g.recs++
	g.dirty = true
	if len(g.buf) >= maxChunk {
		g.full = append(g.full, chunk{g.buf, g.recs})
		g.buf, g.recs = nil, 0
	}
}

// handed notes that the sink has all changes but the newest. Nobody waits for
// it: without it they are handed over once more.
func (g *group) handed(newest uint64) {
	n := len(g.buf)
	g.buf = binary.AppendUvarint(append(g.buf, recHanded), newest)
	g.size += len(g.buf) - n
}

// unsafe returns the commit after which everything added so far is durable, or
// nil when it is already.
func (g *group) unsafe() *commit {
	if g.dirty {
		return g.cur
	}
	return g.flying
}

// takeAll returns the chunks to be written and starts a new commit.
func (g *group) takeAll() ([]chunk, *commit) {
	chunks := g.full
	if len(g.buf) > 0 {
		chunks = append(chunks, chunk{g.buf, g.recs})
	}
	c := g.cur
	g.buf, g.spare, g.recs, g.full, g.size, g.dirty = g.spare, nil, 0, nil, 0, false
	g.flying = c
	g.init()
	return chunks, c
}

// putBack returns chunks that could not be written.
func (g *group) putBack(chunks []chunk) {
	g.full = append(chunks, g.full...)
	for _, c := range chunks {
		g.size += len(c.data)
		g.dirty = true
	}
}

// waiting returns how many changes are not in the log yet.
func (g *group) waiting() uint64 {
	n := g.recs
	for _, c := range g.full {
		n += c.recs
	}
	return n
}

// commit returns when what c stands for is durable. Whoever finds the log free
// writes for all.
func (b *Book) commit(ctx context.Context, c *commit) error {
	if c == nil {
		return nil
	}
	for {
		select {
		case <-c.done:
			return c.err
		default:
		}
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return fmt.Errorf("wait for the bindings to be durable: %w", ctx.Err())
		case b.token <- struct{}{}:
			b.lead()
			<-b.token
		}
	}
}

// lead writes what has been collected. The token is held.
func (b *Book) lead() {
	b.mu.Lock()
	if b.group.size == 0 {
		b.mu.Unlock()
		return
	}
	chunks, c := b.group.takeAll()
	b.mu.Unlock()

	done, err := b.writeLog(chunks)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.flying = nil
	b.count.commits++
	if b.log != nil {
		b.group.logSize = b.log.w.size
	}
	if err != nil {
		b.count.commitErrors++
		b.group.putBack(chunks[done:])
		c.err = fmt.Errorf("write the log of bindings in %q: %w", b.dir, err)
	}
	if done > 0 && b.group.spare == nil {
		b.group.spare = chunks[done-1].data[:0]
	}
	close(c.done)
}

// writeLog writes chunks to the log, and returns how many of them are durable.
// After a failure the log is not written to again: what a failed sync left on
// the disk cannot be known. A new log is begun instead, and what was not
// durable is written there.
func (b *Book) writeLog(chunks []chunk) (int, error) {
	done := 0
	for try := 0; ; try++ {
		var err error
		if b.log == nil || b.log.bad {
			err = b.switchLog()
		}
		for err == nil && done < len(chunks) {
			if err = b.log.append(chunks[done].data); err == nil {
				done++
			}
		}
		if err == nil || try == 1 {
			return done, err
		}
	}
}

// switchLog begins a new log, with a key of its own. The token is held.
func (b *Book) switchLog() error {
	if b.log == nil {
		return ErrClosed
	}
	l, err := b.newLog(b.log.gen + 1)
	if err != nil {
		return err
	}
	b.log.w.f.Close() // an error tells nothing new: it is not relied on any more
	b.log = l
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group.logSize, b.group.logBorn = l.w.size, b.opts.Clock()
	return nil
}
