package lab

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ErrPrivilege: the process may not make namespaces or mounts.
var ErrPrivilege = errors.New("a lab needs root")

// Lab owns namespaces, programs, servers and a BPF file system.
type Lab struct {
	dir string

	mu      sync.Mutex
	running []*Process     // oldest first
	closers []func() error // taken newest first, when no program runs any more
	once    sync.Once
	err     error
}

const dirPrefix = "edgelog-lab-"

// Open makes an empty lab. Close must be called; an interrupt of the process
// calls it too.
//
// Errors: ErrPrivilege, or those of the system.
func Open() (*Lab, error) {
	if err := Sweep(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("make lab: %w", err)
	}
	l := &Lab{dir: dir}
	remember(l)
	if err := l.mountBPF(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// New makes an empty lab that ends with the test. Without root the test fails:
// a test that cannot run proves nothing.
func New(t testing.TB) *Lab {
	t.Helper()
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Dir returns a directory that is removed with the lab.
func (l *Lab) Dir() string { return l.dir }

// BPFFS returns the directory of the lab's own BPF file system.
func (l *Lab) BPFFS() string { return filepath.Join(l.dir, "bpf") }

func (l *Lab) mountBPF() error {
	if err := os.Mkdir(l.BPFFS(), 0o700); err != nil {
		return fmt.Errorf("make lab: %w", err)
	}
	if err := unix.Mount("bpf", l.BPFFS(), "bpf", 0, "mode=0700"); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: %w", ErrPrivilege, err)
		}
		return fmt.Errorf("mount a BPF file system on %q: %w", l.BPFFS(), err)
	}
	l.atClose(func() error { return unmount(l.BPFFS()) })
	return nil
}

// unmount detaches the file system: a program that still has a file open there
// keeps it for itself.
func unmount(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %q: %w", dir, err)
	}
	return nil
}

// atClose adds a step to Close; steps are taken newest first.
func (l *Lab) atClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// started and ended keep the list of programs to stop.
func (l *Lab) started(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = append(l.running, p)
}

func (l *Lab) ended(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = slices.DeleteFunc(l.running, func(r *Process) bool { return r == p })
}

// Close ends all programs of the lab, newest first, and removes all of it. It
// may be called twice.
func (l *Lab) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		running, closers := slices.Clone(l.running), l.closers
		l.mu.Unlock()
		for _, p := range slices.Backward(running) {
			p.end(unix.SIGTERM)
		}
		l.err = killMarked(l.dir)
		for i := len(closers) - 1; i >= 0; i-- {
			l.err = errors.Join(l.err, closers[i]())
		}
		l.err = errors.Join(l.err, removeDir(l.dir))
		forget(l)
	})
	return l.err
}

// marker is set in the environment of each program of a lab, to the lab's
// directory: those that the programs start have it too.
const marker = "EDGELOG_LAB"

// killMarked kills what still runs of the lab in dir, such as a program that a
// killed program had started.
func killMarked(dir string) error {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return fmt.Errorf("look for programs of %q: %w", dir, err)
	}
	for _, name := range environs {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended, or is not ours
		}
		if !slices.Contains(strings.Split(string(b), "\x00"), marker+"="+dir) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		if err != nil {
			return fmt.Errorf("look for programs of %q: %w", dir, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill a program of %q: %w", dir, err)
		}
	}
	return nil
}

// removeDir removes a lab's directory, but never what is mounted in it.
func removeDir(dir string) error {
	mounted, err := mounts()
	if err != nil {
		return err
	}
	for _, m := range mounted {
		if strings.HasPrefix(m, dir+"/") {
			return fmt.Errorf("remove lab %q: %q is still mounted", dir, m)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove lab: %w", err)
	}
	return nil
}

// Sweep removes the programs, mounts and directories of labs whose process is
// gone.
func Sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for old labs: %w", err)
	}
	mounted, err := mounts()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || !errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			continue
		}
		if err := killMarked(dir); err != nil {
			return err
		}
		for _, m := range mounted {
			if !strings.HasPrefix(m, dir+"/") {
				continue
			}
			// Another process may sweep at the same moment.
			if err := unmount(m); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		if err := removeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// mounts returns the mount points of this process.
func mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			out = append(out, f[4])
		}
	}
	return out, nil
}

// live are the labs that an interrupt has to close.
var live struct {
	sync.Mutex
	labs map[*Lab]bool
	quit chan struct{}
}

func remember(l *Lab) {
	live.Lock()
	defer live.Unlock()
	if len(live.labs) == 0 {
		live.labs = map[*Lab]bool{}
		live.quit = make(chan struct{})
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		go closeOnSignal(signals, live.quit)
	}
	live.labs[l] = true
}

func forget(l *Lab) {
	live.Lock()
	defer live.Unlock()
	if !live.labs[l] {
		return
	}
	delete(live.labs, l)
	if len(live.labs) == 0 {
		close(live.quit)
	}
}

// closeOnSignal closes all labs at a signal and lets it have its usual effect
// then. It ends with the last lab.
func closeOnSignal(signals chan os.Signal, quit chan struct{}) {
	defer signal.Stop(signals)
	select {
	case <-quit:
	case s := <-signals:
		live.Lock()
		labs := make([]*Lab, 0, len(live.labs))
		for l := range live.labs {
			labs = append(labs, l)
		}
		live.Unlock()
		for _, l := range labs {
			if err := l.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
		}
		signal.Reset(s)
		if err := unix.Kill(os.Getpid(), s.(syscall.Signal)); err != nil {
			fmt.Fprintln(os.Stderr, "lab: end the process:", err)
		}
	}
}
