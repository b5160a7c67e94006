package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// Sizes of what goes to the book at once, and of what may wait for it.
const (
	batch      = 4096
	maxWaiting = 1 << 16
)

// reportGrace is how long a change of a file waits for the report of it, which
// says more. When reports have never come there is nothing to wait for.
const reportGrace = 3 * time.Second

// server hears of the leases of one DHCP server.
type server struct {
	Server
	o    *Options
	book Book
	say  func(about, text string)

	files []*follower // of the goroutine that runs run

	mu      sync.Mutex // guards what follows
	t       *table
	count   counters
	waiting []identity.Event
	doubt   [2]bool // the last list ended too many to be believed at once
	faulty  map[string]map[string]uint64
	state   map[string]string // trouble by file or socket
	seen    []FileStats
	force   int // leases, when they were counted last
	counted time.Time
	kick    chan struct{}
}

func newServer(c Server, o *Options, book Book, say func(about, text string)) *server {
	s := &server{
		Server: c, o: o, book: book, say: say,
		faulty: map[string]map[string]uint64{}, state: map[string]string{}, kick: make(chan struct{}, 1),
	}
	s.t = newTable(c.Name, &s.count)
	s.t.order, s.t.join = o.Subscriber, o.Join
	s.t.knows = func(a netip.Addr, at int64) []session.Binding {
		return book.AllOn(session.AddrFrom(a), 0, 0xffff, at, at)
	}
	s.t.m = make(map[netip.Prefix]*lease, c.expected())
	s.t.remember(book.InForce())
	for i, path := range []string{c.Leases4, c.Leases6} {
		if path != "" {
			s.files = append(s.files, newFollower(path, c.Kind, i == 1, s.fault))
			s.faulty[path] = map[string]uint64{}
		}
	}
	return s
}

// expected is how many leases the files may hold, so that the table need not
// grow while they are read.
func (c *Server) expected() (n int64) {
	const each, most = 256, 1 << 20 // bytes of a lease
	for _, p := range c.checkable() {
		if st, err := os.Stat(p); err == nil {
			n += st.Size() / each
		}
	}
	return min(n, most)
}

// run hears until ctx ends.
func (s *server) run(ctx context.Context) {
	events, faults, closeWatch := s.watch()
	defer closeWatch()
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	defer func() {
		for _, f := range s.files {
			f.close()
		}
	}()
	var nextList, changed time.Time
	for ctx.Err() == nil {
		now := s.o.Clock()
		if s.deliver(ctx) && (changed.IsZero() || now.Sub(changed) >= s.grace()) {
			changed = time.Time{}
			s.follow(ctx, now)
			if !now.Before(nextList) {
				nextList = now.Add(s.reconcile(ctx, now))
			}
		}
		s.publish(now)
		select {
		case <-ctx.Done():
		case _, open := <-events:
			if !open {
				events = nil
			} else if changed.IsZero() {
				changed = now
			}
		case <-faults: // what was missed the clock finds
		case <-tick.C:
			if changed.IsZero() {
				changed = now
			}
		case <-s.kick:
			nextList = time.Time{}
		}
	}
}

// grace is how long a change of a file waits.
func (s *server) grace() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expectsReports() || !s.wholeFor() || s.count.reports == 0 && s.count.healed > 0 {
		return 0
	}
	return reportGrace
}

// watch has the kernel tell of changes in the folders of the files. Without it
// they are looked at by the clock.
func (s *server) watch() (<-chan fsnotify.Event, <-chan error, func()) {
	if len(s.files) == 0 {
		return nil, nil, func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		s.o.Logger.Warn("lease files are looked at by the clock only", "error", err)
		return nil, nil, func() {}
	}
	for _, f := range s.files {
		if err := w.Add(filepath.Dir(f.path)); err != nil {
			s.o.Logger.Warn("a folder of lease files is looked at by the clock only", "folder", filepath.Dir(f.path), "error", cause(err))
		}
	}
	return w.Events, w.Errors, func() { _ = w.Close() }
}

// follow reads what is new in the files.
func (s *server) follow(ctx context.Context, now time.Time) {
	for _, f := range s.files {
		in := newIntake(ctx, s, now)
		err := f.step(in, now)
		if err2 := in.wait(); err == nil {
			err = err2
		}
		if errors.Is(err, errWait) || ctx.Err() != nil {
			return
		}
		s.trouble(f.path, err)
	}
}

// errWait: the book cannot keep events now.
var errWait = errors.New("events wait for the book")

// fileIntake takes what a follower reads. While the book makes one part
// durable, the next is read.
type fileIntake struct {
	s     *server
	ctx   context.Context
	now   time.Time
	wg    sync.WaitGroup
	hands chan struct{}
	err   atomic.Pointer[error]
}

// atOnce is how many parts of a file may be on their way to the book.
const atOnce = 3

func newIntake(ctx context.Context, s *server, now time.Time) *fileIntake {
	return &fileIntake{s: s, ctx: ctx, now: now, hands: make(chan struct{}, atOnce)}
}

// records takes all of the list in any case: what the book cannot keep waits.
func (i *fileIntake) records(list []Record, w way) error {
	for part := range slices.Chunk(list, batch) {
		events := i.s.note(part, w, i.s.o.Clock())
		if len(events) == 0 {
			continue
		}
		i.hands <- struct{}{}
		i.wg.Go(func() { // ends when the book has taken them, or cannot
			if err := i.s.give(i.ctx, events); err != nil {
				i.err.Store(&err)
			}
			<-i.hands
		})
	}
	return i.failed()
}

func (i *fileIntake) failed() error {
	if err := i.err.Load(); err != nil {
		return *err
	}
	return nil
}

// wait returns when nothing is on its way any more.
func (i *fileIntake) wait() error {
	i.wg.Wait()
	return i.failed()
}

func (i *fileIntake) begin(int) time.Time {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	i.s.t.round++
	return i.s.o.Clock()
}

func (i *fileIntake) complete(f *follower) error {
	if err := i.wait(); err != nil {
		return err
	}
	fams := []int{f.fam}
	if f.kind == Dnsmasq {
		fams = []int{0, 1}
	}
	for _, fam := range fams {
		if err := i.s.compare(i.ctx, fam, f.since); err != nil {
			return err
		}
	}
	return nil
}

// take compares records with the table and gives what is new to the book.
func (s *server) take(ctx context.Context, list []Record, w way, now time.Time) error {
	return s.give(ctx, s.note(list, w, now))
}

// note compares records with the table, and returns what is new.
func (s *server) note(list []Record, w way, now time.Time) []identity.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make([]identity.Event, 0, len(list)) // of a file that is read for the first time, each is one
	begun := s.count.begun
	for i := range list {
		events = s.t.take(events, &list[i], w, now)
	}
	if w != byReport && s.expectsReports() && s.wholeFor() {
		s.count.healed += s.count.begun - begun
	}
	return events
}

func (s *server) expectsReports() bool { return len(s.ReportUsers) > 0 }

// compare ends what a list that was read since that time does not name.
func (s *server) compare(ctx context.Context, fam int, since time.Time) error {
	now := s.o.Clock()
	s.mu.Lock()
	missing, force := s.t.missing(fam, since, now)
	if missing > manyLeases && missing > force/2 && !s.doubt[fam] {
		s.doubt[fam] = true
		s.mu.Unlock()
		s.say(s.Name+" shrunk", fmt.Sprintf("DHCP server %q: its list names %d of %d leases that were in force; if the next one says the same, the others are taken to have ended", s.Name, force-missing, force))
		return nil
	}
	s.doubt[fam] = false
	events := s.t.endMissing(nil, fam, since, now)
	s.t.whole[fam] = true
	s.mu.Unlock()
	return s.give(ctx, events)
}

// give takes events to the book. What it does not take waits, and then the
// error is errWait.
func (s *server) give(ctx context.Context, events []identity.Event) error {
	if len(events) == 0 {
		return nil
	}
	good := events[:0]
	refused := 0
	for i := range events {
		if events[i].Validate() != nil {
			refused++
			continue
		}
		good = append(good, events[i])
	}
	err := error(nil)
	if len(good) > 0 {
		err = s.book.Apply(ctx, good)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.events += uint64(len(good) + refused)
	s.count.refused += uint64(refused)
	if err == nil {
		s.count.applied += uint64(len(good))
		return nil
	}
	s.waiting = append(s.waiting, good...)
	return fmt.Errorf("%w: %w", errWait, err)
}

// deliver tries again what waits, and reports whether nothing does any more.
func (s *server) deliver(ctx context.Context) bool {
	for {
		s.mu.Lock()
		part := slices.Clone(s.waiting[:min(len(s.waiting), batch)])
		s.mu.Unlock()
		if len(part) == 0 {
			s.trouble("book", nil)
			return true
		}
		if err := s.book.Apply(ctx, part); err != nil {
			s.trouble("book", fmt.Errorf("%d events wait for the book of bindings: %w", len(part), err))
			return false
		}
		s.mu.Lock()
		s.waiting = append(s.waiting[:0], s.waiting[len(part):]...)
		s.count.applied += uint64(len(part))
		s.mu.Unlock()
	}
}

// reconcile asks the control sockets for their lists, and returns when to do so
// again.
func (s *server) reconcile(ctx context.Context, now time.Time) time.Duration {
	every := s.Reconcile
	if every <= 0 {
		every = reconcileEvery
	}
	for fam, at := range []string{s.Control4, s.Control6} {
		if at == "" {
			continue
		}
		c := control{at: at, login: s.Login, six: fam == 1}
		s.mu.Lock()
		s.t.round++
		s.mu.Unlock()
		since, leases := s.o.Clock(), 0
		bad, err := c.list(ctx, func(list []Record) error {
			leases += len(list)
			return s.take(ctx, list, byList, s.o.Clock())
		})
		if err == nil {
			err = s.compare(ctx, fam, since)
		}
		s.mu.Lock()
		s.count.listLeases += uint64(leases) + bad
		s.count.listBad += bad
		if err == nil {
			s.count.lists++
			s.count.lastList = since
		}
		again := s.doubt[fam]
		s.mu.Unlock()
		if ctx.Err() != nil {
			return every
		}
		if err != nil && !errors.Is(err, errWait) {
			s.trouble(at, err)
		} else {
			s.trouble(at, nil)
		}
		if err != nil || again {
			every = min(every, troublePause)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.force = s.t.forget(now)
	return every
}

// fault counts a line that is of no use, and says so now and then.
func (s *server) fault(f *Fault) {
	s.mu.Lock()
	if m := s.faulty[f.File]; m != nil {
		m[f.Reason]++
	} else if path := s.ownFile(f.File); path != "" { // one that the clean-up made
		s.faulty[path][f.Reason]++
	}
	s.mu.Unlock()
	if f.Reason == badForeign {
		return // the whole file is refused, and that is said
	}
	s.say(s.Name+" "+f.File, fmt.Sprintf("DHCP server %q: %v", s.Name, f))
}

func (s *server) ownFile(name string) string {
	for _, p := range []string{s.Leases4, s.Leases6} {
		if p != "" && len(name) > len(p) && name[:len(p)] == p {
			return p
		}
	}
	return ""
}

// trouble notes what is wrong with a file or socket, nil when all is well.
func (s *server) trouble(about string, err error) {
	s.mu.Lock()
	old := s.state[about]
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.state[about] = text
	s.mu.Unlock()
	if text != "" {
		s.say(s.Name+" "+about, fmt.Sprintf("DHCP server %q: %s", s.Name, text))
	} else if old != "" {
		s.o.Logger.Info("dhcp: well again", "server", s.Name, "after", old)
	}
}

// publish makes the state of the files visible, and now and then forgets what
// is over.
func (s *server) publish(now time.Time) {
	list := make([]FileStats, len(s.files))
	for i, f := range s.files {
		c := f.counts()
		list[i] = FileStats{
			Path: f.path, Read: c.read, Used: c.used, Skipped: c.skipped, Leases: c.leases,
			Replaced: c.replaced, Truncated: c.truncated, ReadAt: c.readAt.UTC(),
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		list[i].Faulty = make(map[string]uint64)
		for k, n := range s.faulty[list[i].Path] {
			list[i].Faulty[k] = n
		}
		list[i].Trouble = s.state[list[i].Path]
	}
	s.seen = list
}

// checkable returns the paths that must be readable.
func (c *Server) checkable() (files []string) {
	for _, p := range []string{c.Leases4, c.Leases6} {
		if p != "" {
			files = append(files, p)
		}
	}
	return files
}

// Check says what is wrong with the files of a server, nil for nothing; for a
// look before the agent runs.
func (c *Server) Check() error {
	var errs []error
	for _, p := range c.checkable() {
		f := newFollower(p, c.Kind, p == c.Leases6, nil)
		errs = append(errs, f.probe())
	}
	return errors.Join(errs...)
}

// probe reads the start of the file.
func (f *follower) probe() error {
	if err := f.open(noIntake{}); err != nil {
		return err
	}
	defer f.close()
	b := make([]byte, chunk)
	n, err := f.file.ReadAt(b, 0)
	if n == 0 && err != nil && !errors.Is(err, os.ErrClosed) {
		return nil // empty: nothing is wrong with it yet
	}
	_, err = f.new(f.path).parse(b[:n], false, func(*Record) {})
	return err
}

// noIntake takes nothing.
type noIntake struct{}

func (noIntake) records([]Record, way) error { return nil }
func (noIntake) begin(int) time.Time         { return time.Time{} }
func (noIntake) complete(*follower) error    { return nil }
