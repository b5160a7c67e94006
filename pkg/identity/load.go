package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// loader brings what was stored back into memory: first the newest snapshot,
// then the logs in their order.
type loader struct {
	b      *Book
	handed uint64 // the sink has the changes up to this number
	base   uint64 // changes before the log being read
	inLog  bool
	recs   uint64 // records of the snapshot so far
	whole  bool   // the end mark of the snapshot was there
	torn   int    // bytes
}

// generation reads the files of g; snap says whether it has the snapshot to
// start from, haveSnap whether there is one at all.
func (l *loader) generation(g generation, snap, haveSnap bool) error {
	b := l.b
	keyPath := b.path(g.gen, extKey)
	if !g.key && !g.snap && !g.log {
		return nil // a half-written snapshot only
	}
	if !g.key {
		if err := l.emptyLog(g); err == nil && !snap {
			return nil
		}
		return fmt.Errorf("%w: key file %q is missing: %s", ErrState, keyPath, remedy)
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return fmt.Errorf("%w: key file %q: %w: %s", ErrState, keyPath, err, remedy)
	}
	aead, err := openKey(key, g.gen)
	if err != nil {
		if l.emptyLog(g) == nil && !snap {
			return nil // a crash while the generation was begun
		}
		return fmt.Errorf("%w: key file %q: %w: %s", ErrState, keyPath, err, remedy)
	}
	if snap {
		path := b.path(g.gen, extSnap)
		_, torn, err := readFrames(path, aead, kindSnap, g.gen, l.frame)
		if err == nil && (torn > 0 || !l.whole) {
			err = errCut
		}
		if err != nil {
			return fmt.Errorf("%w: file %q with key %q: %w: %s", ErrState, path, keyPath, err, remedy)
		}
	}
	if !g.log {
		if snap {
			return fmt.Errorf("%w: file %q is missing: %s", ErrState, b.path(g.gen, extLog), remedy)
		}
		return nil
	}
	l.inLog, l.base = true, b.seq
	path := b.path(g.gen, extLog)
	frames, torn, err := readFrames(path, aead, kindLog, g.gen, l.frame)
	l.torn += torn
	if err != nil {
		return fmt.Errorf("%w: file %q with key %q: %w: %s", ErrState, path, keyPath, err, remedy)
	}
	if frames > 0 && !haveSnap {
		return fmt.Errorf("%w: file %q has no snapshot to start from: %s", ErrState, path, remedy)
	}
	return nil
}

// emptyLog returns nil when the log of g cannot hold anything.
func (l *loader) emptyLog(g generation) error {
	if !g.log {
		return nil
	}
	st, err := os.Stat(l.b.path(g.gen, extLog))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && st.Size() > headerLen {
		return errDamaged
	}
	return nil
}

// frame takes in the records of one frame.
func (l *loader) frame(d *decoder) error {
	for len(d.b) > 0 {
		if l.whole && !l.inLog {
			return fmt.Errorf("%w: something follows the end mark", errRecord)
		}
		l.record(d)
		if d.err != nil {
			return d.err
		}
	}
	return nil
}

func (l *loader) record(d *decoder) {
	b := l.b
	kind := d.u8()
	switch kind {
	case recSession:
		l.session(d)
	case recReset:
		origin, name, at := session.Source(d.u8()), d.text(), d.varint()
		if d.err == nil {
			b.source(origin, name).addReset(at)
			l.changed(nil)
		}
	case recHanded:
		n := d.uvarint()
		if d.err == nil && n <= b.seq {
			l.handed = max(l.handed, b.seq-n)
		}
		if d.err == nil && n <= b.seq-l.base {
			b.pending = newPending() // what the snapshot had is older than this log
		}
	case recBinding, recVia:
		if x := d.binding(kind); d.err == nil && b.opts.Sink != nil {
			h := b.boundOf(&x)
			b.pending.put(&h, false)
		}
	case recTouch:
		origin, name, key := session.Source(d.u8()), d.text(), d.text()
		if d.err == nil {
			src := b.source(origin, name)
			l.changed(src.sessions.find(strings.TrimPrefix(key, src.prefix)))
		}
	case recEnded:
		h, until := d.u64(), d.varint()
		b.ended[h] = max(b.ended[h], until)
	case recEnd:
		if d.uvarint() != l.recs {
			d.fail("the snapshot does not have all its records")
		}
		l.whole = true
		return
	default:
		d.fail(fmt.Sprintf("kind %d is not known", kind))
	}
	l.recs++
}

func (l *loader) session(d *decoder) {
	b := l.b
	origin, name, key := session.Source(d.u8()), d.text(), d.text()
	facts := d.facts()
	if d.err == nil && len(facts) == 0 {
		d.fail("a session without facts")
	}
	if d.err != nil {
		return
	}
	src := b.source(origin, name)
	id, ok := strings.CutPrefix(key, src.prefix)
	if !ok {
		d.fail("a session's key is not of its source")
		return
	}
	s := b.wake(b.session(src, id))
	for _, f := range facts {
		s.add(f)
	}
	b.rest()
	l.changed(s.kept)
}

// boundOf returns a binding that was stored, as the table would keep it.
func (b *Book) boundOf(x *session.Binding) bound {
	src := b.source(x.Source, x.SourceName)
	y := *x
	y.SourceKey = strings.TrimPrefix(x.SourceKey, src.prefix)
	return boundOf(&kept{src: src}, &y)
}

// changed gives a change its number, as it had when it was made.
func (l *loader) changed(k *kept) {
	if !l.inLog {
		return
	}
	l.b.seq++
	if k != nil {
		k.seq = l.b.seq
	}
}

// finish builds the table, and marks what the sink may not have: all that
// stands on a prefix of a session that changed after the last hand-over, or
// whose lease may have ended by itself since.
func (l *loader) finish() {
	b := l.b
	all := b.all()
	for _, k := range all {
		if until := b.endedBefore(k); until != 0 || k.wait != nil {
			k.times().until = until
		}
	}
	b.now = b.opts.Clock().UnixNano()
	b.reindex(all)
	b.count.tornBytes = uint64(l.torn)
	if b.opts.Sink == nil {
		return
	}
	idx := b.idx
	restarted := b.seq > l.handed // a restart may have touched any session
	for _, k := range all {
		s := k.look()
		if u := s.lastUntil(); s.seq <= l.handed && !(restarted && len(s.src.resets) > 0) && (u == 0 || u > b.now) {
			continue
		}
		for _, p := range prefixesOf(nil, s) {
			for _, x := range idx.list(p) {
				b.pending.put(&x, false)
			}
		}
	}
}
