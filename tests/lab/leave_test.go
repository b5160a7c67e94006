package lab

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const childEnd = "EDGELOG_TEST_LAB_END"

func TestMain(m *testing.M) {
	if how := os.Getenv(childEnd); how != "" {
		child(how)
	}
	m.Run()
}

// child makes a border with programs in it, says where everything is, and ends
// in the way that it is told to.
func child(how string) {
	b, err := OpenBorder(0)
	if err != nil {
		panic(err)
	}
	p, err := b.Internet.Start(Command{Path: "sh", Args: []string{"-c", "sleep 1000 & setsid sh -c 'echo ready; exec sleep 1000' & wait"}})
	if err != nil {
		panic(err)
	}
	for p.Output() != "ready\n" { // until there is a program in a session of its own
		runtime.Gosched()
	}
	if err := b.Internet.ServeHTTP(netip.AddrPortFrom(b.Server4, 80), "x"); err != nil {
		panic(err)
	}
	var ids []string
	for _, n := range []*Namespace{b.Gateway, b.Internet, b.Subscribers[0].Namespace, b.Subscribers[1].Namespace} {
		id, err := os.Readlink(n.Path())
		if err != nil {
			panic(err)
		}
		ids = append(ids, id)
	}
	fmt.Println(b.Dir(), p.PID(), strings.Join(ids, ","))
	switch how {
	case "close":
		if err := b.Close(); err != nil {
			panic(err)
		}
		os.Exit(0)
	case "panic":
		go func() { panic("on another goroutine") }()
	}
	select {}
}

// namespacesInUse returns the network namespaces that a process is in or holds
// open.
func namespacesInUse(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		links, err := filepath.Glob(pattern)
		must(t, err)
		for _, l := range links {
			if id, err := os.Readlink(l); err == nil && strings.HasPrefix(id, "net:") {
				out[id] = true
			}
		}
	}
	return out
}

// until waits for what the kernel does in its own time after a process died.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("never came: ", what)
		}
	}
}

// mine returns the interfaces of our own namespace that a lab could have made.
func mine(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	must(t, err)
	var out []string
	for _, e := range entries {
		if slices.Contains([]string{"uplink", "border", "wan", "sub1", "sub2"}, e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out
}

// TestNothingIsLeftBehind ends a process with a lab in each way that a process
// ends.
func TestNothingIsLeftBehind(t *testing.T) {
	for _, how := range []string{"close", "interrupt", "terminate", "panic", "kill"} {
		t.Run(how, func(t *testing.T) {
			before := mine(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnd+"="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			must(t, err)
			var dir, ids string
			var pid int
			_, err = fmt.Sscan(line, &dir, &pid, &ids)
			must(t, err)
			signals := map[string]syscall.Signal{"interrupt": syscall.SIGINT, "terminate": syscall.SIGTERM, "kill": syscall.SIGKILL}
			if s, ok := signals[how]; ok {
				must(t, cmd.Process.Signal(s))
			}
			err = cmd.Wait()
			if how == "close" {
				must(t, err)
			} else if s, ok := signals[how]; ok && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != s {
				t.Errorf("it ended with %v, not by the signal", err)
			}
			if how == "panic" || how == "kill" {
				must(t, Sweep()) // as the next lab does
			}
			until(t, "the end of the program", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
			for _, id := range strings.Split(ids, ",") {
				until(t, "the end of namespace "+id, func() bool { return !namespacesInUse(t)[id] })
			}
			checkGone(t, dir)
			if after := mine(t); !slices.Equal(before, after) {
				t.Errorf("interfaces before: %q, after: %q", before, after)
			}
		})
	}
}

func checkGone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there (%v)", err)
	}
	mounted, err := mounts()
	must(t, err)
	for _, m := range mounted {
		if strings.HasPrefix(m, dir) {
			t.Errorf("%s is still mounted", m)
		}
	}
}

func TestALabInUseIsNotSweptAway(t *testing.T) {
	l := New(t)
	must(t, Sweep())
	if _, err := os.Stat(l.BPFFS()); err != nil {
		t.Fatal(err)
	}
	mounted, err := mounts()
	must(t, err)
	if !slices.Contains(mounted, l.BPFFS()) {
		t.Fatal("its BPF file system was unmounted")
	}
}
