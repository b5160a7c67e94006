package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// troublePause is the least time between two sentences about one thing.
const troublePause = time.Minute

// Service hears of the leases of all servers.
type Service struct {
	o    Options
	book Book
	ln   *net.UnixListener

	mu      sync.Mutex // guards what follows
	ctx     context.Context
	servers []*running
	said    map[string]time.Time
	dropped [drops]atomic.Uint64
	wg      sync.WaitGroup
	slots   chan struct{}
}

// running is a server and what ends it.
type running struct {
	*server
	cancel context.CancelFunc
	done   chan struct{}
}

// New listens for reports. Nothing is read before Run.
func New(book Book, servers []Server, o Options) (*Service, error) {
	s := &Service{o: o.withDefaults(), book: book, said: map[string]time.Time{}, slots: make(chan struct{}, maxConns)}
	for _, c := range servers {
		s.servers = append(s.servers, &running{server: newServer(c, &s.o, book, s.say)})
	}
	if s.o.Listen == "" {
		return s, nil
	}
	ln, err := listen(s.o.Listen)
	if err != nil {
		return nil, err
	}
	s.ln = ln
	return s, nil
}

// runtimeDir is a RuntimeDirectory of the systemd unit.
const runtimeDir = "edgelog-dhcp"

// listen opens the socket, which everybody may write to: who does is asked of
// the kernel.
func listen(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	if err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make directory %q for DHCP reports: %w", dir, cause(err))
		}
	}
	// Those who report must be able to enter, whatever the umask is, and whatever
	// mode the service manager gives to the directory that it makes for this. Any
	// other directory keeps its mode.
	if err != nil || filepath.Base(dir) == runtimeDir {
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, fmt.Errorf("set mode of directory %q for DHCP reports: %w", dir, cause(err))
		}
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("listen for DHCP reports on %q: a file that is no socket is in the way; move it", path)
		}
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("listen for DHCP reports on %q: another agent does; stop it first", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket %q of an earlier agent: %w", path, cause(err))
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP reports on %q: %w; check the rights of its directory", path, netCause(err))
	}
	if err := os.Chmod(path, 0o666); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("set mode of socket %q: %w", path, cause(err))
	}
	return ln, nil
}

// Run hears until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	for _, r := range s.servers {
		s.start(r)
	}
	s.mu.Unlock()
	var err error
	if s.ln != nil {
		stop := context.AfterFunc(ctx, func() { _ = s.ln.Close() })
		err = s.accept(ctx)
		stop()
	}
	<-ctx.Done()
	s.mu.Lock()
	for _, r := range s.servers {
		r.end()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// start runs a server; s.mu is held.
func (s *Service) start(r *running) {
	ctx, cancel := context.WithCancel(s.ctx)
	r.cancel, r.done = cancel, make(chan struct{})
	go func() { // ends with ctx, which end cancels
		defer close(r.done)
		r.run(ctx)
	}()
}

func (r *running) end() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
		r.cancel = nil
	}
}

// Set replaces the servers. Those that are the same go on undisturbed.
func (s *Service) Set(servers []Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next []*running
	for _, c := range servers {
		i := slices.IndexFunc(s.servers, func(r *running) bool { return reflect.DeepEqual(r.Server, c) })
		if i >= 0 {
			next = append(next, s.servers[i])
			s.servers = slices.Delete(s.servers, i, i+1)
			continue
		}
		next = append(next, &running{server: newServer(c, &s.o, s.book, s.say)})
	}
	for _, r := range s.servers {
		r.end()
	}
	s.servers = next
	for _, r := range next {
		if r.cancel == nil && s.ctx != nil && s.ctx.Err() == nil {
			s.start(r)
		}
	}
}

// Close gives the socket up. It may be called again.
func (s *Service) Close() error {
	if s.ln == nil {
		return nil
	}
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the socket of DHCP reports: %w", err)
	}
	return nil
}

// say tells an operator, at most once a minute about each thing.
func (s *Service) say(about, text string) {
	now := s.o.Clock()
	s.mu.Lock()
	last, known := s.said[about]
	fresh := !known || now.Sub(last) >= troublePause
	if fresh && len(s.said) < 1024 || known && fresh {
		s.said[about] = now
	}
	s.mu.Unlock()
	if fresh {
		s.o.Logger.Warn("dhcp", "trouble", text)
		s.o.Trouble(text)
	}
}

// drop says why a report is no server's. The words are printed in status and
// stay what they are.
type drop uint8

const (
	dropForm drop = iota
	dropServer
	dropUser
	dropBusy
	drops
)

var dropWords = [drops]string{
	dropForm:   "form",           // it is not in the form of a report
	dropServer: "unknown-server", // no server has this name, or none or several are of the kind
	dropUser:   "user",           // its user may not report for the server
	dropBusy:   "busy",           // too many at once
}

// maxConns bounds reports at a time.
const maxConns = 128

// accept answers reports until ctx ends.
func (s *Service) accept(ctx context.Context) error {
	for {
		conn, err := s.ln.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of descriptors: those under way will end
			s.say("accept", fmt.Sprintf("a DHCP report could not be taken: %v", netCause(err)))
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.dropped[dropBusy].Add(1)
			_ = conn.Close()
			continue
		}
		s.wg.Go(func() { // ends within reportPatience, or with ctx
			defer func() { <-s.slots }()
			s.answer(ctx, conn)
		})
	}
}

// answer takes one report.
func (s *Service) answer(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // it has been answered
	_ = conn.SetDeadline(time.Now().Add(2 * reportPatience))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := s.report(ctx, conn)
	text := "ok\n"
	if err != nil {
		text = err.Error() + "\n"
	}
	_, _ = conn.Write([]byte(text)) // who does not read it will not know better
}

// report reads a report and takes it to its server.
func (s *Service) report(ctx context.Context, conn *net.UnixConn) error {
	var r Report
	if err := json.NewDecoder(io.LimitReader(conn, maxReport)).Decode(&r); err != nil || r.kind() == "" || len(r.Env)+len(r.Raw) > maxReportVars || r.At <= 0 {
		s.dropped[dropForm].Add(1)
		return errors.New("it is not in the form of a report")
	}
	to := s.find(&r)
	if to == nil {
		s.dropped[dropServer].Add(1)
		text := fmt.Sprintf("a report of a %s server is dropped: there is not exactly one [[dhcp.server]] of that kind; say --server NAME in its script", r.kind())
		if r.Server != "" {
			text = fmt.Sprintf("a report of server %q is dropped: no [[dhcp.server]] has this name and kind", r.Server)
		}
		s.say("unknown server", text)
		return errors.New(text)
	}
	if uid, ok := peer(conn); !ok || !slices.Contains(to.ReportUsers, uid) {
		s.dropped[dropUser].Add(1)
		text := fmt.Sprintf("a report for DHCP server %q by user id %d is dropped: report_user is another", to.Name, uid)
		s.say("user "+to.Name, text)
		return errors.New(text)
	}
	return to.report(ctx, &r)
}

// find returns the server of a report, nil when there is not exactly one.
func (s *Service) find(r *Report) (found *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.servers {
		if x.Kind != r.kind() || r.Server != "" && r.Server != x.Name {
			continue
		}
		if found != nil {
			return nil
		}
		found = x
	}
	return found
}

// peer returns the user id of the other end, as the kernel vouches for it.
func peer(conn *net.UnixConn) (uid uint32, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return 0, false
	}
	return cred.Uid, true
}

// report takes one report; it returns when what it says is durable.
func (s *server) report(ctx context.Context, r *Report) error {
	now := s.o.Clock()
	s.mu.Lock()
	s.count.reports++
	s.count.lastReport = now
	full := len(s.waiting) > maxWaiting
	s.mu.Unlock()
	list, ok := r.records()
	switch {
	case !ok:
		s.mu.Lock()
		s.count.reportsBad++
		s.mu.Unlock()
		s.say(s.Name+" report", fmt.Sprintf("DHCP server %q: a report is not in the form of %s; is its script the one that edgelog installs?", s.Name, s.Kind))
		return errors.New("it is not in the form of a report")
	case full:
		s.mu.Lock()
		s.count.reportsNotDurable++
		s.mu.Unlock()
		return errors.New("too much waits for the disk")
	}
	made := time.Unix(0, r.At)
	if made.After(now) || now.Sub(made) > time.Minute {
		made = now
	}
	err := s.take(ctx, list, byReport, made)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.count.reportsNotDurable++
		return errors.New("it is not on the disk yet; it will be tried again")
	}
	s.count.taken++
	return nil
}

// Stats returns the counters. It holds no data of subscribers.
func (s *Service) Stats() Stats {
	out := Stats{Listen: s.o.Listen, Dropped: make(map[string]uint64)}
	for i := range s.dropped {
		out.Dropped[dropWords[i]] = s.dropped[i].Load()
	}
	s.mu.Lock()
	list := slices.Clone(s.servers)
	s.mu.Unlock()
	for _, r := range list {
		out.Servers = append(out.Servers, r.stats())
	}
	return out
}
