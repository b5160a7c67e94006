package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WaitFile waits until the program has made a file, such as its ready file.
//
// Errors: ErrExited with the end of its output, or that of ctx.
func (p *Process) WaitFile(ctx context.Context, name string) error {
	watch, err := watchDir(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("wait for %q: %w", name, err)
	}
	defer watch.Close()
	wake := func() { _ = watch.SetReadDeadline(time.Unix(1, 0)) } // ends the read below
	stop := context.AfterFunc(ctx, wake)
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() { // ends with WaitFile
		select {
		case <-p.done:
			wake()
		case <-over:
		}
	}()
	events := make([]byte, 4096)
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("wait for %q: %w", name, err)
		}
		if err := p.over(ctx, name); err != nil {
			return err
		}
		if _, err := watch.Read(events); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("wait for %q: %w", name, err)
		}
	}
}

// watchDir returns a file that can be read when something in dir changes.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %q: %w", dir, err), f.Close())
	}
	return f, nil
}

// over returns an error when there is no use in waiting longer.
func (p *Process) over(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for %s of %q: %w: %s", what, p.name, err, lastLines(p.Output()))
	}
	select {
	case <-p.done:
		return fmt.Errorf("wait for %s of %q: %w (%w): %s", what, p.name, ErrExited, p.exit(), lastLines(p.Output()))
	default:
		return nil
	}
}

func (p *Process) exit() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("exit status 0")
}

// WaitListening waits until the program has a socket open on a port: network
// is "tcp" or "udp". Nothing is sent to the port.
//
// Errors: ErrExited with the end of its output, or that of ctx.
func (p *Process) WaitListening(ctx context.Context, network string, port uint16) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := p.in.listening(network, port)
		if ok || err != nil {
			return err
		}
		if err := p.over(ctx, network+" port "+strconv.Itoa(int(port))); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-p.done:
		case <-ctx.Done():
		}
	}
}

// listening reads the kernel's list of sockets: a TCP socket in state LISTEN
// (0A), or a UDP socket without a peer (07).
func (n *Namespace) listening(network string, port uint16) (bool, error) {
	state := map[string]string{"tcp": "0A", "udp": "07"}[network]
	if state == "" {
		return false, fmt.Errorf("wait for a port: network %q is not known: use tcp or udp", network)
	}
	found := false
	err := n.Do(func() error {
		for _, family := range []string{"", "6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + network + family)
			if err != nil {
				return fmt.Errorf("list sockets of namespace %q: %w", n.Name, err)
			}
			for line := range strings.Lines(string(b)) {
				f := strings.Fields(line)
				if len(f) > 3 && f[3] == state && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
					found = true
				}
			}
		}
		return nil
	})
	return found, err
}
