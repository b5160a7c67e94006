package tests

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/office"
)

// tap lies between the officer's process and the agent. It passes on all that comes,
// up to where the process, whose reading has begun, asks for the first blocks: that it
// keeps, and the process waits.
type tap struct {
	path    string
	reading chan struct{} // closed when the process waits
	once    sync.Once
	ln      net.Listener
	mu      sync.Mutex
	conns   []net.Conn
}

func newTap(t *testing.T, a *affair) *tap {
	t.Helper()
	x := &tap{path: filepath.Join(a.out, "tap"), reading: make(chan struct{})}
	var err error
	if x.ln, err = net.Listen("unix", x.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(x.path, 0o666); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends when the listener is closed
		for {
			c, err := x.ln.Accept()
			if err != nil {
				return
			}
			up, err := dialAs(a.Office.Officer, a.Socket())
			if err != nil {
				t.Error(err)
				_ = c.Close()
				continue
			}
			x.mu.Lock()
			x.conns = append(x.conns, c, up)
			x.mu.Unlock()
			wg.Go(func() { x.pass(c, up, true) }) // both end when either end closes, or close is called
			wg.Go(func() { x.pass(up, c, false) })
		}
	})
	t.Cleanup(func() {
		x.close()
		wg.Wait()
	})
	return x
}

func (x *tap) close() {
	_ = x.ln.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		_ = c.Close()
	}
}

// pass copies; a request is written at once, so that its path is never cut in two.
func (x *tap) pass(from, to net.Conn, questions bool) {
	defer to.Close() //nolint:errcheck // what was not passed on is noticed at the ends
	for buf := make([]byte, 1<<16); ; {
		n, err := from.Read(buf)
		if questions && bytes.Contains(buf[:n], []byte(" "+disclose.PathLookup+"/")) {
			x.once.Do(func() { close(x.reading) })
			_, _ = from.Read(buf) // until somebody gives up
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// dialAs connects as a person: the kernel tells the agent whose thread it was that
// did. The thread is not used for anything else, and ends.
func dialAs(p office.Person, socket string) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, office.Group, office.Group, office.Group); e != 0 {
			err = e
			return
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(p.UID), uintptr(p.UID), uintptr(p.UID)); e != 0 {
			err = e
			return
		}
		c, err = net.Dial("unix", socket)
	}()
	<-done
	return c, err
}

// reads starts the officer's process on a request, and returns when it is between the
// intent of its reading and the outcome.
func (a *affair) reads(x *tap, id int64) (cmd *exec.Cmd, complaint *bytes.Buffer, file string) {
	a.t.Helper()
	args, file := a.run(id)
	complaint = new(bytes.Buffer)
	cmd = exec.CommandContext(limited(a.t), binary, append([]string{args[0], "--socket", x.path}, args[1:]...)...)
	cmd.SysProcAttr, cmd.Stderr = a.Office.Officer.Credential(), complaint
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	select {
	case <-x.reading:
	case <-limited(a.t).Done():
		a.t.Fatalf("it does not come as far as reading: %s", complaint)
	}
	return cmd, complaint, file
}

// outcome is what the ledger has of the last run of a request, "" while that is under
// way.
func (a *affair) outcome(id int64) (result string) {
	a.t.Helper()
	for _, e := range a.ledger("--kind", "intent", "--kind", "outcome") {
		if e.Fields[disclose.FieldRequest] != fmt.Sprint(id) || e.Fields[disclose.FieldAct] != string(disclose.Run) {
			continue
		}
		result = ""
		if e.Kind == ledger.Outcome {
			result = e.Fields[disclose.FieldResult]
		}
	}
	return result
}

// whole checks a package with nothing but the keys.
func (a *affair) whole(file string) {
	a.t.Helper()
	key := strings.TrimSpace(a.as(a.Office.Auditor, "audit", "key"))
	if out, err := a.Bare(limited(a.t), "package", "verify", file, "--identity", a.Office.Authority.Identity, "--public-key", key); err != nil || !strings.Contains(out, "whole: ") {
		a.t.Errorf("%v\n%s", err, out)
	}
}

func (a *affair) restarted() {
	a.t.Helper()
	if err := a.Start(limited(a.t)); err != nil {
		a.t.Fatal(err)
	}
}

func TestAnAgentThatIsKilledOnTheWayOfAQuestionGoesOnWithIt(t *testing.T) {
	a := newAffair(t, start(t, gateway.Options{Edit: quickEnds()}))
	annas := a.annas(caseOf(t, a.Gateway, 3))

	t.Run("between approval and run", func(t *testing.T) {
		id := a.approved("lookup", annas...)
		a.Kill()
		a.restarted()
		a.whole(a.answered(id))
	})
	t.Run("between the intent and the outcome of a run, the officer's process stopped", func(t *testing.T) {
		id := a.approved("lookup", annas...)
		x := newTap(t, a)
		cmd, complaint, file := a.reads(x, id)
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if result := a.outcome(id); result != "" {
			t.Fatalf("it has come to its end: %q", result)
		}
		a.Kill()
		a.restarted()
		a.openAgain(id)
		x.close()
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !strings.HasPrefix(complaint.String(), "edgelog: ") {
			t.Errorf("the officer's process goes on: %v\n%s", err, complaint)
		}
		if left, _ := filepath.Glob(filepath.Join(a.out, "*"+filepath.Base(file)+"*")); len(left) > 0 {
			t.Errorf("it left %q", left)
		}
		a.whole(a.answered(id))
	})
	t.Run("and an officer's process that is killed there", func(t *testing.T) {
		id := a.approved("lookup", annas...)
		x := newTap(t, a)
		cmd, _, _ := a.reads(x, id)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for ctx := limited(t); a.outcome(id) == "" && ctx.Err() == nil; {
		}
		a.openAgain(id)
		a.whole(a.answered(id))
	})
	if out := a.as(a.Office.Auditor, "audit", "verify"); !strings.Contains(out, "all is well") {
		t.Error(out)
	}
}

// openAgain checks that a run was broken off, and that the request was not used up.
func (a *affair) openAgain(id int64) {
	a.t.Helper()
	if result := a.outcome(id); result != "no outcome given" {
		a.t.Errorf("the ledger says %q", result)
	}
	if c := a.states()[id]; c.State != disclose.Approved {
		a.t.Errorf("the request is %s", c.State)
	}
}

func TestRequestsThatAreOpenSurviveStopsKillsAndAnUpgrade(t *testing.T) {
	a := newAffair(t, start(t, gateway.Options{Edit: quickEnds()}))
	ctx := limited(t)
	annas := a.annas(caseOf(t, a.Gateway, 3))
	ended := func(p office.Person, word string) int64 {
		id := a.filed("lookup", annas...)
		a.as(p, "request", word, fmt.Sprint(id), "--identity", p.Identity, "--reason", "a slip")
		return id
	}
	want := map[int64]disclose.State{
		a.filed("lookup", annas...):         disclose.Filed,
		ended(a.Office.Custodian, "refuse"): disclose.Refused, ended(a.Office.Officer, "withdraw"): disclose.Withdrawn,
	}
	answered := a.approved("lookup", annas...)
	a.answered(answered)
	want[answered], want[a.approved("lookup", annas...)] = disclose.Answered, disclose.Approved
	before := a.states()
	for id, state := range want {
		if before[id].State != state {
			t.Fatalf("request %d is %s, not %s", id, before[id].State, state)
		}
	}
	for _, c := range []struct {
		how string
		do  func() error
	}{
		{"a stop", func() error { return a.Gateway.Stop(ctx) }},
		{"kill -9", func() error { a.Kill(); return nil }},
		{"an upgrade", func() error { err := a.Gateway.Stop(ctx); a.Use(upgrade(t)); return err }},
		{"kill -9 of the new one, and the old one again", func() error { a.Kill(); a.Use(binary); return nil }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		a.restarted()
		if diff := cmp.Diff(before, a.states()); diff != "" {
			t.Errorf("after %s (-before +after):\n%s", c.how, diff)
		}
	}
	for id, state := range want {
		switch state {
		case disclose.Filed:
			a.approve(id)
			a.whole(a.answered(id))
		case disclose.Approved:
			a.whole(a.answered(id))
		default:
			a.over(id)
		}
	}
	if left, err := filepath.Glob(filepath.Join(a.DataDir(), "requests", "*.grant")); err != nil || len(left) > 0 {
		t.Errorf("grants are left: %q, %v", left, err)
	}
}

// over checks that nothing can be done with a request any more.
func (a *affair) over(id int64) {
	a.t.Helper()
	args, file := a.run(id)
	_ = os.Remove(file)
	_, err := a.RunAs(limited(a.t), a.Office.Officer, args...)
	if err == nil || !strings.Contains(err.Error(), "filed anew") {
		a.t.Errorf("request %d is run: %v", id, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		a.t.Errorf("there is a package: %v", err)
	}
	c := a.Office.Custodian
	if _, err := a.RunAs(limited(a.t), c, "request", "approve", fmt.Sprint(id), "--yes", "--identity", c.Identity); err == nil {
		a.t.Errorf("request %d is approved", id)
	}
}
