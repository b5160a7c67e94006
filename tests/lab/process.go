package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrExited: a program ended while it was waited for.
var ErrExited = errors.New("the program has ended")

// Process is a program that runs in a namespace.
type Process struct {
	name string
	in   *Namespace
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// Grace is how long Stop waits after SIGTERM before it kills.
const Grace = 20 * time.Second

// drain is how long the output of a program that has ended is still read, when
// another program that it started holds it open.
const drain = time.Second

// output keeps what a program prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Command describes a program to start.
type Command struct {
	Path  string // looked for in PATH
	Args  []string
	Env   []string  // added to the environment
	Stdin io.Reader // nil means empty
	// Stdout gets what the program prints to its standard output; nil means
	// that it is kept with the standard error, see Process.Output.
	Stdout io.Writer
}

// command builds the exec.Cmd. The kernel kills the program when the thread
// that started it ends; Go's threads end with the process.
func (n *Namespace) command(c Command, out io.Writer) *exec.Cmd {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = slices.Concat(os.Environ(), c.Env, []string{marker + "=" + n.lab.dir})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, out, out
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	cmd.WaitDelay = drain
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	return cmd
}

// Start starts a program in the namespace. It is stopped with the lab.
func (n *Namespace) Start(c Command) (*Process, error) {
	p := &Process{name: c.Path, in: n, done: make(chan struct{})}
	p.cmd = n.command(c, &p.out)
	if err := n.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %q in namespace %q: %w", c.Path, n.Name, err)
	}
	n.lab.started(p)
	go func() { // ends with the program
		if err := p.cmd.Wait(); !errors.Is(err, exec.ErrWaitDelay) {
			p.err = err
		}
		n.lab.ended(p)
		close(p.done)
	}()
	return p, nil
}

// Run runs a program in the namespace to its end, or kills it when ctx ends,
// and returns what it printed to both outputs.
func (n *Namespace) Run(ctx context.Context, path string, args ...string) (string, error) {
	return n.RunCommand(ctx, Command{Path: path, Args: args})
}

// RunCommand is Run with all settings.
func (n *Namespace) RunCommand(ctx context.Context, c Command) (string, error) {
	p, err := n.Start(c)
	if err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.end(unix.SIGKILL)
		return p.Output(), fmt.Errorf("run %q in namespace %q: %w", c.Path, n.Name, ctx.Err())
	}
	if p.err != nil {
		return p.Output(), fmt.Errorf("run %q in namespace %q: %w: %s", c.Path, n.Name, p.err, lastLines(p.Output()))
	}
	return p.Output(), nil
}

// lastLines returns the end of an output, for an error.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// PID returns the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns what the program has printed so far.
func (p *Process) Output() string { return p.out.String() }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the program alone.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %q: %w", p.name, err)
	}
	return nil
}

// Wait waits until the program ends by itself, and returns how.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%q: %w: %s", p.name, p.err, lastLines(p.Output()))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %q: %w", p.name, ctx.Err())
	}
}

// Stop asks the program to end (SIGTERM), kills it after Grace, and returns
// how it ended: nil for exit code 0.
func (p *Process) Stop() error {
	p.end(unix.SIGTERM)
	return p.err
}

// Kill kills the program, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() { p.end(unix.SIGKILL) }

// end sends the signal to the program and to those that it started, and waits
// until it has ended.
func (p *Process) end(s syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	group := -p.PID()
	// ESRCH means that it has just ended, which is what is wanted.
	_ = unix.Kill(group, s)
	grace := time.NewTimer(Grace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
		_ = unix.Kill(group, unix.SIGKILL)
		<-p.done
	}
}
