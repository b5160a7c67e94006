package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Sink keeps bindings for the time of retention. PutBindings returns when they
// are durable. It must accept a binding again: bindings with the same
// SourceKey, Prefix, ports and From are versions of one (see Reader).
type Sink interface {
	PutBindings(ctx context.Context, b []session.Binding) error
}

// Options of a Book.
type Options struct {
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
	Sink   Sink             // nil: bindings are not handed over to anyone

	// Retain is how long an ended binding stays in memory, so that sessions
	// joined late still find it, and how old an event may be to open a
	// binding that counts as in force. 0: 24 hours.
	Retain time.Duration

	// MaxLog is the size of the log, in bytes, at which Flush replaces it by a
	// snapshot. 0: 64 MiB.
	MaxLog int64

	// MaxLogAge is the age at which Flush does so. 0: 1 hour.
	MaxLogAge time.Duration

	// Trust is the order in which sources that contradict each other are
	// believed; those not named come last. nil: DefaultTrust.
	Trust []session.Source

	// Batch is how many bindings Flush gives to the Sink at once. 0: 16384.
	Batch int
}

// DefaultOptions returns the options that stand for 0, without Sink.
func DefaultOptions() Options {
	return Options{
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
		Retain: 24 * time.Hour, MaxLog: 64 << 20, MaxLogAge: time.Hour, Batch: 16384,
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Clock == nil {
		o.Clock = d.Clock
	}
	if o.Logger == nil {
		o.Logger = d.Logger
	}
	if o.Retain <= 0 {
		o.Retain = d.Retain
	}
	if o.MaxLog <= 0 {
		o.MaxLog = d.MaxLog
	}
	if o.MaxLogAge <= 0 {
		o.MaxLogAge = d.MaxLogAge
	}
	if o.Batch <= 0 {
		o.Batch = d.Batch
	}
	return o
}

// Errors that a caller may ask for with errors.Is.
var (
	ErrClosed = errors.New("the book of bindings is closed")
	ErrLocked = errors.New("another process has the book of bindings open")
	ErrState  = errors.New("the stored book of bindings cannot be read")
	ErrFull   = errors.New("too many events wait for a disk that fails")
)

// applyChunk is how many events are taken in under one hold of the lock.
const applyChunk = 2048

// maxWaiting bounds what may wait for a failing disk, in bytes.
const maxWaiting = 256 << 20

type sourceKey struct {
	origin session.Source
	name   string
}

// Book is the book of bindings. All methods may be called at any time from
// several goroutines; At and AllAt take no lock.
type Book struct {
	dir  string
	opts Options
	idx  *index

	mu       sync.Mutex            // guards what follows
	sources  map[sourceKey]*source // and in each its sessions
	sessions int
	awake    []*kept            // those that are being worked on
	buf      []byte             // for their records
	bare     map[*kept]struct{} // sessions without any lease so far
	absent   map[*kept]struct{} // sessions in memory that the snapshot leaves out
	expiry   expiry             // sessions whose leases end by themselves
	now      int64              // leases that ended by themselves until then have ended, UTC ns
	ended    map[uint64]int64   // sessions forgotten at a start: hash of the key → end
	pending  pending
	seq      uint64 // changes since Open
	closed   bool
	loading  bool
	count    counts
	group    group // events on their way to the disk

	token   chan struct{} // holds one: who fills it may write to the log
	log     *logFile      // guarded by token; set under mu too
	nextGen uint64        // guarded by token

	flushMu   sync.Mutex // one Flush at a time
	lastPrune time.Time
	retryAt   time.Time // no snapshot before
	lock      *os.File
	files     fileMaker

	// For reindex, guarded by mu.
	scratch []claim
	meet    []*kept
}

// Open opens the book whose state is kept in dir, and makes dir if it is not
// there. It returns what was in force when the book was last written.
//
// Open fails with ErrLocked when another process has the book, and with
// ErrState when a file is missing, damaged or does not match its key; it
// changes nothing then.
func Open(dir string, opts Options) (*Book, error) { return open(dir, opts, osFiles{}) }

// newBook returns an empty book that has no files yet.
func newBook(dir string, opts Options, files fileMaker) *Book {
	b := &Book{
		dir: dir, opts: opts.withDefaults(), files: files,
		sources: make(map[sourceKey]*source),
		bare:    make(map[*kept]struct{}), absent: make(map[*kept]struct{}), ended: make(map[uint64]int64),
		pending: newPending(),
		token:   make(chan struct{}, 1),
	}
	b.group.init()
	b.lastPrune = b.opts.Clock()
	b.idx = newIndex(b.opts.Trust)
	return b
}

func open(dir string, opts Options, files fileMaker) (*Book, error) {
	b := newBook(dir, opts, files)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open book of bindings %q: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open book of bindings %q: %w", dir, err)
	}
	b.lock = lock
	if err = b.recover(); err == nil {
		err = b.rotate()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open book of bindings %q: %w", dir, err), b.abandon())
	}
	return b, nil
}

// InForce returns the bindings that have no end, in no particular order.
func (b *Book) InForce() []session.Binding { return b.idx.inForce() }

// Apply takes events into the book and returns when they are durable. Events
// may come in any order, any number of times. An error means that some may not
// be durable: the source must send them again. With ErrInvalid none was taken.
//
// Many callers at once share one write to the disk. When ctx ends while Apply
// waits for it, the events may be durable all the same.
func (b *Book) Apply(ctx context.Context, events []Event) error {
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return fmt.Errorf("event %d of %d: %w", i+1, len(events), err)
		}
	}
	var wait *commit
	for len(events) > 0 {
		n := min(len(events), applyChunk)
		b.mu.Lock()
		if err := b.acceptable(); err != nil {
			b.mu.Unlock()
			return err
		}
		b.take(events[:n])
		wait = b.group.unsafe()
		large := b.group.size > largeGroup
		b.mu.Unlock()
		events = events[n:]
		if len(events) > 0 && large {
			if err := b.commit(ctx, wait); err != nil {
				return err
			}
		}
	}
	return b.commit(ctx, wait)
}

func (b *Book) acceptable() error {
	if b.closed {
		return ErrClosed
	}
	if b.group.size > maxWaiting {
		return ErrFull
	}
	return nil
}

// take brings events into memory and into the buffer for the log. b.mu is held.
func (b *Book) take(events []Event) {
	changed := make([]*kept, 0, len(events))
	now := b.opts.Clock().UnixNano()
	b.now = max(b.now, now)
	for i := range events {
		e := &events[i]
		b.count.events[e.Kind]++
		if e.Kind == NASOn || e.Kind == NASOff {
			changed = b.takeReset(changed, e.Source, e.NAS, e.At)
			continue
		}
		k, how := b.takeFact(e, now)
		switch how {
		case factKnown:
			b.count.repeated++
		case factQuiet:
			b.count.quiet++
		default:
			changed = append(changed, k)
		}
	}
	b.reindex(changed)
	b.rest()
}

// takeFact adds the fact that e reports to its session, and to the log unless
// nothing would be different after a restart without it.
func (b *Book) takeFact(e *Event, now int64) (*kept, outcome) {
	s := b.wake(b.session(b.source(e.Source, e.NAS), e.Session))
	f := fact{kind: e.Kind, at: e.At, held: -1, what: &content{
		subscriber: e.Subscriber, line: e.Line, equipment: e.Equipment, place: e.Place, group: e.Group,
		identity: e.Identity, leases: normalLeases(e.Leases),
	}}
	if e.Kind != Stop {
		f.until = e.Until
	}
	if e.HasHeld {
		f.held = int64(e.Held)
	}
	if e.Doubtful {
		f.flags |= factDoubtful
		b.count.doubtful++
	}
	if e.At < now-int64(b.opts.Retain) || e.At <= s.forgotten() {
		f.flags |= factLate
		b.count.late++
	}
	told := b.told(s, &f)
	how := s.add(f)
	if how == factQuiet && b.contested(s) {
		how = factAdded // how long others hold the prefix may depend on it
	}
	if how == factKnown || how == factQuiet {
		return s.kept, how
	}
	if how == factCrowded {
		b.count.crowded++
	}
	for _, t := range told {
		s.add(t)
	}
	if _, out := b.absent[s.kept]; out {
		b.logWhole(s.kept)
		return s.kept, how
	}
	b.seq++
	s.seq = b.seq
	b.group.add(appendSession(b.group.buf, s, append(told, f)))
	return s.kept, how
}

// contested reports whether another session claims a prefix of s with a start
// that is inferred.
func (b *Book) contested(s *sess) bool {
	for _, l := range s.facts[len(s.facts)-1].what.leases {
		list := b.idx.list(l.Prefix)
		for i := range list {
			if list[i].k != s.kept && list[i].certainty()&session.FromInferred != 0 {
				return true
			}
		}
	}
	return false
}

// logWhole puts all of k into the log if the snapshot does not have it.
func (b *Book) logWhole(k *kept) {
	if _, out := b.absent[k]; !out {
		return
	}
	delete(b.absent, k)
	b.seq++
	k.seq = b.seq
	s := k.look()
	b.group.add(appendSession(b.group.buf, s, b.storedFacts(s)))
}

// takeReset notes that a source restarted and appends its sessions: it ends those
// from before, and those from after cannot have begun before it.
func (b *Book) takeReset(changed []*kept, origin session.Source, name string, at int64) []*kept {
	src := b.source(origin, name)
	if !src.addReset(at) {
		b.count.repeated++
		return changed
	}
	b.seq++
	b.group.add(appendReset(b.group.buf, origin, src.name, at))
	for k := range src.sessions.all() {
		b.logWhole(k)
		k.seq = b.seq
		changed = append(changed, k)
	}
	return changed
}

// session returns the session of that source and id, and makes it if need be.
func (b *Book) session(src *source, id string) *kept {
	k := src.sessions.find(id)
	if k == nil {
		k = newKept(src, id)
		if until := b.endedBefore(k); until != 0 {
			k.times().until = until
		}
		src.sessions.add(k)
		b.sessions++
		b.bare[k] = struct{}{}
	}
	return k
}

// all returns every session.
func (b *Book) all() []*kept {
	all := make([]*kept, 0, b.sessions)
	for _, src := range b.sources {
		all = slices.AppendSeq(all, src.sessions.all())
	}
	return all
}

// wake returns a session with its facts, to be changed. It is awake until rest.
func (b *Book) wake(k *kept) *sess {
	if k.open == nil {
		k.open = k.look()
		b.awake = append(b.awake, k)
	}
	return k.open
}

// rest puts what is awake back into records.
func (b *Book) rest() {
	for i, k := range b.awake {
		if !k.gone() {
			b.buf = k.open.pack(b.buf)
		}
		k.open, b.awake[i] = nil, nil
	}
	b.awake = b.awake[:0]
}

func (b *Book) source(origin session.Source, name string) *source {
	k := sourceKey{origin, name}
	src, ok := b.sources[k]
	if !ok {
		src = newSource(origin, name)
		b.sources[k] = src
	}
	return src
}

// abandon closes the files of the book.
func (b *Book) abandon() error {
	b.token <- struct{}{}
	defer func() { <-b.token }()
	var err error
	if b.log != nil {
		err = b.log.w.f.Close()
		b.log = nil
	}
	if b.lock != nil {
		err = errors.Join(err, b.lock.Close()) // gives the lock up
		b.lock = nil
	}
	return err
}
