package identity

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/edgelog/edgelog/pkg/session"
)

// The files of a book. A generation has a key, a log, and when it is complete
// a snapshot; what is known is the newest snapshot and all logs from its
// generation on. A log may stand alone for a while: a new one is begun before
// its snapshot, and when the disk failed.
//
//	bindings-<generation, 16 hex digits>.key   the key, readable by the owner only
//	bindings-<generation>.log                  changes since the log was begun
//	bindings-<generation>.snap                 what was in force
//	bindings-<generation>.tmp                  a snapshot being written
//	lock                                       held by the process that has the book
const (
	extKey  = ".key"
	extLog  = ".log"
	extSnap = ".snap"
	extTmp  = ".tmp"
)

func (b *Book) path(gen uint64, ext string) string {
	return filepath.Join(b.dir, fmt.Sprintf("bindings-%016x%s", gen, ext))
}

// fileMaker creates files; a test makes them fail.
type fileMaker interface {
	create(path string, header []byte) (file, error)
}

type osFiles struct{}

func (osFiles) create(path string, header []byte) (file, error) {
	f, err := createFile(path, header)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: stop it first, or use another directory", ErrLocked)
		}
		return nil, err
	}
	return f, nil
}

// logFile is the log that changes go to.
type logFile struct {
	w   *frameWriter
	gen uint64
	bad bool // a write or sync failed
}

// append writes one frame and returns when it is durable.
func (l *logFile) append(plain []byte) error {
	err := l.w.write(plain)
	if err == nil {
		err = l.w.f.Sync()
	}
	l.bad = err != nil
	return err
}

// newLog makes key and log of a generation. What an earlier attempt left of
// them is removed: nothing was ever confirmed from a log that was not used.
func (b *Book) newLog(gen uint64) (*logFile, error) {
	for _, ext := range [...]string{extKey, extLog, extTmp} {
		if err := os.Remove(b.path(gen, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	key := newKey(gen)
	aead, err := openKey(key, gen)
	if err != nil {
		return nil, err
	}
	kf, err := b.files.create(b.path(gen, extKey), key)
	if err != nil {
		return nil, err
	}
	if err := kf.Close(); err != nil {
		return nil, err
	}
	header := appendHeader(nil, kindLog, gen)
	f, err := b.files.create(b.path(gen, extLog), header)
	if err != nil {
		return nil, err
	}
	if err := syncDir(b.dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &logFile{gen: gen, w: &frameWriter{f: f, aead: aead, header: header, size: headerLen}}, nil
}

// rotate begins a new generation: a new log at once, then, while events keep
// coming in, a snapshot of what is in force, and then the old generations are
// destroyed, their keys first.
func (b *Book) rotate() error {
	b.token <- struct{}{}
	gen := b.nextGen
	if b.log != nil {
		gen = max(gen, b.log.gen+1)
	}
	l, err := b.newLog(gen)
	if err != nil {
		<-b.token
		return err
	}
	b.mu.Lock()
	if b.log != nil {
		b.log.w.f.Close() // all that is in it was synced
	}
	b.log, b.nextGen = l, gen+1
	b.group.logSize, b.group.logBorn = l.w.size, b.opts.Clock()
	base := b.seq - b.group.waiting()
	all := b.all()
	b.mu.Unlock()
	<-b.token

	if err := b.writeSnapshot(gen, l.w.aead, all, base); err != nil {
		return errors.Join(err, removeIfThere(b.path(gen, extTmp)))
	}
	if err := b.destroyBefore(gen); err != nil {
		return fmt.Errorf("destroy the old generation: %w", err)
	}
	b.mu.Lock()
	b.count.snapshots++
	b.mu.Unlock()
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// snapWriter collects records into frames.
type snapWriter struct {
	w    frameWriter
	buf  []byte
	recs uint64
}

// full writes a frame when enough has come together.
func (s *snapWriter) full(least int) error {
	if len(s.buf) < least || len(s.buf) == 0 {
		return nil
	}
	err := s.w.write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// writeSnapshot writes the snapshot of a generation under its final name. It
// holds the lock for some sessions at a time: a session that changes while it
// goes on is in the log of the same generation, and facts are a set.
func (b *Book) writeSnapshot(gen uint64, aead cipher.AEAD, all []*kept, base uint64) error {
	header := appendHeader(nil, kindSnap, gen)
	f, err := b.files.create(b.path(gen, extTmp), header)
	if err != nil {
		return err
	}
	s := &snapWriter{w: frameWriter{f: f, aead: aead, header: header}}
	err = b.snapSessions(s, all, base)
	if err == nil {
		b.mu.Lock()
		b.snapRest(s)
		b.mu.Unlock()
		s.buf = binary.AppendUvarint(append(s.buf, recEnd), s.recs)
		err = s.full(1)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(b.path(gen, extTmp), b.path(gen, extSnap)); err != nil {
		return err
	}
	return syncDir(b.dir)
}

// snapSessions writes the sessions that the next start must know: those with a
// binding in force, those without any lease yet, and those that have changed
// since the snapshot was begun. Of the others only a hash remains.
func (b *Book) snapSessions(s *snapWriter, all []*kept, base uint64) error {
	for len(all) > 0 {
		n := min(len(all), 512)
		b.mu.Lock()
		for _, k := range all[:n] {
			if k.gone() {
				continue
			}
			x := k.look()
			until, open := b.endOf(x)
			s.recs++
			if open || x.seq > base {
				delete(b.absent, k)
				s.buf = appendSession(s.buf, x, b.storedFacts(x))
			} else {
				b.absent[k] = struct{}{}
				s.buf = appendEnded(s.buf, hashKey(k.key()), until)
			}
		}
		b.mu.Unlock()
		if err := s.full(1 << 20); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// snapRest adds restarts, hashes of sessions forgotten earlier, and the bindings
// that the sink does not have. b.mu is held.
func (b *Book) snapRest(s *snapWriter) {
	for k, src := range b.sources {
		for _, at := range src.resets {
			s.buf = appendReset(s.buf, k.origin, src.name, at)
			s.recs++
		}
	}
	for h, until := range b.ended {
		s.buf = appendEnded(s.buf, h, until)
		s.recs++
	}
	for v := range b.pending.all() {
		x := v.b.binding()
		s.buf = appendBinding(s.buf, &x)
		s.recs++
	}
}

// endOf returns the end of the last binding of x; open is true when one is in
// force, or when x has no binding yet and may get one.
func (b *Book) endOf(x *sess) (until int64, open bool) {
	if _, bare := b.bare[x.kept]; bare {
		return 0, true
	}
	until = x.facts[len(x.facts)-1].at
	idx := b.idx
	for _, p := range prefixesOf(nil, x) {
		for _, y := range idx.list(p) {
			if y.k == x.kept {
				until = max(until, y.to)
			}
		}
	}
	return until, until == session.Forever
}

// storedFacts returns the facts of x, and as facts of its own the ends for
// which only other sessions are the reason: those may not be in the snapshot.
func (b *Book) storedFacts(x *sess) []fact {
	out := x.facts
	idx := b.idx
	for _, p := range prefixesOf(nil, x) {
		if cuts := cuts(x, p, idx.list(p)); len(cuts) > 0 {
			out = append(out[:len(out):len(out)], cuts...)
		}
	}
	return out
}

// generation lists the files of one generation.
type generation struct {
	gen            uint64
	key, log, snap bool
}

// generations returns what is in the directory, oldest first.
func (b *Book) generations() ([]generation, error) {
	names, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	byGen := make(map[uint64]*generation)
	for _, n := range names {
		var gen uint64
		ext := filepath.Ext(n.Name())
		stem, ok := strings.CutPrefix(strings.TrimSuffix(n.Name(), ext), "bindings-")
		if !ok || len(stem) != 16 {
			continue
		}
		if _, err := fmt.Sscanf(stem, "%016x", &gen); err != nil || gen == math.MaxUint64 {
			continue
		}
		g := byGen[gen]
		if g == nil {
			g = &generation{gen: gen}
			byGen[gen] = g
		}
		switch ext {
		case extKey:
			g.key = true
		case extLog:
			g.log = true
		case extSnap:
			g.snap = true
		}
	}
	out := make([]generation, 0, len(byGen))
	for _, g := range byGen {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(x, y generation) int {
		if x.gen < y.gen {
			return -1
		}
		return 1
	})
	return out, nil
}

// destroyBefore removes the generations before gen. The key is overwritten and
// goes first: without it the rest is noise.
func (b *Book) destroyBefore(gen uint64) error {
	gens, err := b.generations()
	if err != nil {
		return err
	}
	for _, g := range gens {
		if g.gen >= gen {
			continue
		}
		if g.key {
			if err := shred(b.path(g.gen, extKey)); err != nil {
				return err
			}
		}
	}
	for _, g := range gens {
		if g.gen >= gen {
			continue
		}
		for _, ext := range [...]string{extLog, extSnap, extTmp} {
			if err := removeIfThere(b.path(g.gen, ext)); err != nil {
				return err
			}
		}
	}
	return syncDir(b.dir)
}

// shred overwrites a key file before it removes it. A file system that copies
// on write keeps the old bytes until it uses the space again.
func shred(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, keyLen))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Remove(path)
}

// remedy ends each error about a stored file.
const remedy = `put the file back from a copy; or, to go on with an empty book that the sources fill again, move all files "bindings-*" out of the directory`

// recover reads the state in b.dir into memory. It changes no file.
func (b *Book) recover() error {
	gens, err := b.generations()
	if err != nil {
		return err
	}
	snap := -1
	for i, g := range gens {
		b.nextGen = g.gen + 1
		if g.snap {
			snap = i
		}
	}
	b.loading = true
	l := &loader{b: b}
	for i, g := range gens {
		if i < snap {
			continue // its successor is complete; only its removal was not
		}
		if err := l.generation(g, i == snap, snap >= 0); err != nil {
			return err
		}
	}
	l.finish()
	b.loading = false
	if l.torn > 0 {
		b.opts.Logger.Warn("the log of bindings had a torn end, which was never confirmed to anyone and is cut off",
			slog.Int("bytes", l.torn))
	}
	return nil
}

// readFrames opens a state file and calls f with the plain text of each frame.
// It returns how many there were and the bytes of a torn tail.
func readFrames(path string, aead cipher.AEAD, kind byte, gen uint64, f func(*decoder) error) (frames, torn int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	if kind == kindLog && len(data) < headerLen && bytes.HasPrefix(appendHeader(nil, kindLog, gen), data) {
		return 0, len(data), nil // the crash came while the file was made
	}
	r, err := newFrameReader(data, aead, kind, gen)
	if err != nil {
		return 0, 0, err
	}
	for {
		plain, err := r.read()
		if err == io.EOF {
			return frames, r.torn, nil
		}
		if err != nil {
			return frames, 0, err
		}
		frames++
		if err := f(&decoder{b: plain}); err != nil {
			return frames, 0, err
		}
	}
}
