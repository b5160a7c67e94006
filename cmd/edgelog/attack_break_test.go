package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/tests/office"
)

func TestAClockThatIsSetBackMakesNothingValidAgain(t *testing.T) {
	h := twoPeople(t)
	olga, carl := h.office.Officer, h.office.Custodian
	h.stop()
	var ahead atomic.Int64
	h.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h.start()
	filed, approved := h.newRequest(olga, "lookup", aboutAnna()...), h.approved("lookup", aboutAnna()...)
	grant := filepath.Join(h.dir, "grant")
	h.copyFile(h.kept(approved, "grant"), grant)
	ahead.Store(int64(15 * 24 * time.Hour))
	h.refused(olga, "the approval of request "+approved+" is over", "lookup", "--request", approved)
	h.refused(carl, "request "+filed+" was not approved by", "request", "approve", filed, "--yes")
	for _, start := range []bool{false, true} { // the agent goes on, then it starts anew
		ahead.Store(0)
		if start {
			h.stop()
			h.copyFile(grant, h.kept(approved, "grant"))
			h.start()
		}
		out, errs, code := h.as(olga, "lookup", "--request", approved, "--identity", olga.Identity)
		if code == 0 || out != "" || !strings.Contains(errs, "is over") && !strings.Contains(errs, "is expired") {
			t.Errorf("%d %s%s", code, out, errs)
		}
		h.refused(carl, "request "+filed+" was not approved by", "request", "approve", filed, "--yes")
	}
}

func TestAWithdrawalAndARunAtOnceHaveOneWinner(t *testing.T) {
	h := twoPeople(t)
	olga := h.office.Officer
	won := map[bool]int{}
	for i := range 8 {
		id := h.approved("lookup", aboutAnna()...)
		var run, withdrawal struct {
			out, errs string
			code      int
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			run.out, run.errs, run.code = h.as(olga, "lookup", "--request", id, "--identity", olga.Identity)
		})
		size := h.rec.Ledger().Size()
		wg.Go(func() {
			for i%2 == 1 && h.rec.Ledger().Size() == size { // until the run has begun
				runtime.Gosched()
			}
			withdrawal.out, withdrawal.errs, withdrawal.code = h.as(olga, "request", "withdraw", id, "--identity", olga.Identity, "--reason", "an error")
		})
		wg.Wait()
		ran, withdrawn := run.code == 0, withdrawal.code == 0
		if ran == withdrawn || withdrawn && run.out != "" || ran != strings.Contains(run.out, "10.0.0.1:4001") {
			t.Errorf("request %s: run %+v, withdrawal %+v", id, run, withdrawal)
		}
		won[ran]++
		want := map[bool]string{true: id + ", answered", false: id + ", withdrawn"}[ran]
		demand(t, h.mustAs(olga, "request", "show", id, "--identity", olga.Identity), want)
	}
	t.Logf("%d were run, %d were withdrawn", won[true], won[false])
}

func TestAWithdrawalInTheMiddleOfARunEndsIt(t *testing.T) {
	h := twoPeople(t)
	olga := h.office.Officer
	id := h.approved("lookup", aboutAnna()...)
	reading := h.open(olga, "run", id)
	h.mustAs(olga, "request", "withdraw", id, "--identity", olga.Identity, "--reason", "an error")
	for _, what := range []string{"bindings", "sessions", "registers"} {
		if code, got := h.knock(olga, knock{"GET", "/v1/lookup/" + reading.id + "/" + what, ""}); code == 200 && sealedFrames(got) > 0 {
			t.Errorf("%d blocks of %s are sent", sealedFrames(got), what)
		}
	}
	if code, got := h.knock(olga, knock{"POST", "/v1/lookup/" + reading.id + "/outcome", `{"records":2}`}); code != 403 || !strings.Contains(got, "is not approved any more") {
		t.Errorf("%d %q", code, got)
	}
	if out := h.must("audit", "list", "--kind", "outcome"); !strings.Contains(out, "result=withdrawn") {
		t.Errorf("it is not in the ledger\n%s", out)
	}
}

// smallDisk gives the ledger a file system of its own.
func (h *house) smallDisk() (dir string) {
	h.t.Helper()
	h.stop()
	dir = filepath.Join(h.dir, "data", "ledger")
	old := h.dir + "/old"
	if err := os.Rename(dir, old); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700")
	if errors.Is(err, unix.EPERM) {
		h.t.Skip("mounting a small file system needs root")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		h.stop()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			h.t.Error(err)
		}
	})
	if out, err := exec.CommandContext(h.t.Context(), "cp", "-a", old+"/.", dir).CombinedOutput(); err != nil {
		h.t.Fatal(err, string(out))
	}
	h.start()
	return dir
}

// writeNothing makes the disk of the ledger full, or read-only; the result undoes it.
func (h *house) writeNothing(dir, how string) func() {
	h.t.Helper()
	remount := func(flags uintptr) {
		h.t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			h.t.Fatal(err)
		}
	}
	if how == "read-only" {
		remount(unix.MS_RDONLY)
		return func() { remount(0) }
	}
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		h.t.Fatal(err)
	}
	return func() {
		if err := errors.Join(f.Close(), os.Remove(ballast)); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestWithoutALedgerNothingIsReadAndRecordingGoesOn(t *testing.T) {
	for _, how := range []string{"full", "read-only"} {
		t.Run(how, func(t *testing.T) {
			h := twoPeople(t)
			olga, carl := h.office.Officer, h.office.Custodian
			dir := h.smallDisk()
			var ahead atomic.Int64
			h.stop()
			h.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			h.start()
			filed, approved := h.newRequest(olga, "lookup", aboutAnna()...), h.approved("lookup", aboutAnna()...)
			undo := h.writeNothing(dir, how)
			stored := h.rec.Status().Store.Rows
			h.table.add(web(4003, "10.0.0.1"))
			for _, c := range []struct {
				who  office.Person
				args []string
			}{
				{olga, []string{"lookup", "--request", approved}}, {olga, []string{"request", "run", approved, "--out", filepath.Join(h.dir, "office", "x")}},
				{olga, []string{"request", "withdraw", approved, "--reason", "x"}},
				{carl, []string{"request", "approve", filed, "--yes"}}, {carl, []string{"hold", "add", "--request", approved}},
			} {
				if out, errs, code := h.as(c.who, append(c.args, "--identity", c.who.Identity)...); code == 0 || out != "" || len(leaks(errs, []string{"192.0.2.9", "4001"})) > 0 {
					t.Errorf("%q: %d %s%s", c.args, code, out, errs)
				}
			}
			if err := h.rec.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if now := h.rec.Status().Store.Rows; now != stored+1 {
				t.Errorf("%d sessions are stored, and %d were", now, stored)
			}
			out := h.must("status")
			demand(t, out, "LOOK AT", "ledger")
			if strings.Contains(out, "all is well") {
				t.Errorf("no alarm:\n%s", out)
			}
			undo()
			ahead.Store(int64(5 * time.Minute)) // it is tried again after some time
			demand(t, h.mustAs(olga, "lookup", "--request", approved, "--identity", olga.Identity), "10.0.0.1:4001")
			if out := h.must("audit", "verify"); !strings.Contains(out, "all is well") {
				t.Error(out)
			}
		})
	}
}

func TestALedgerThatIsNotWhatItWasStopsReadingAndNotRecording(t *testing.T) {
	alarms := map[string]string{
		"an older copy is put back": "the ledger CANNOT BE TRUSTED: nothing can be read; recording goes on",
		"one bit is another":        "requests CANNOT BE DEALT WITH: read requests from the ledger: read entries 0 to ",
	}
	for what, spoil := range map[string]func(h *house, dir, old string) error{
		"an older copy is put back": func(_ *house, dir, old string) error {
			return errors.Join(os.RemoveAll(dir), os.Rename(old, dir))
		},
		"one bit is another": func(h *house, dir, _ string) error {
			files, err := filepath.Glob(filepath.Join(dir, "tile", "entries", "*.p", "*"))
			if err != nil || len(files) == 0 {
				return fmt.Errorf("no entries: %w", err)
			}
			b, err := os.ReadFile(files[len(files)-1])
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(files[len(files)-1], b, 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			h := twoPeople(t)
			olga, carl := h.office.Officer, h.office.Custodian
			dir, old := filepath.Join(h.dir, "data", "ledger"), filepath.Join(h.dir, "old")
			before := h.approved("lookup", aboutAnna()...)
			if out, err := exec.CommandContext(t.Context(), "cp", "-a", dir, old).CombinedOutput(); err != nil {
				t.Fatal(err, string(out))
			}
			id := h.approved("lookup", aboutBo()...)
			h.stop()
			if err := spoil(h, dir, old); err != nil {
				t.Fatal(err)
			}
			h.start()
			for _, n := range []string{before, id} {
				for who, args := range map[*office.Person][]string{&olga: {"lookup", "--request", n}, &carl: {"hold", "add", "--request", n}} {
					if out, errs, code := h.as(*who, append(args, "--identity", who.Identity)...); code == 0 || out != "" || len(leaks(errs, []string{"192.0.2.9", "4001"})) > 0 {
						t.Errorf("%q: %d %s%s", args, code, out, errs)
					}
				}
			}
			demand(t, h.must("status"), "LOOK AT    "+alarms[what])
			stored := h.rec.Status().Store.Rows
			h.table.add(web(4003, "10.0.0.1"))
			if err := h.rec.Flush(t.Context()); err != nil || h.rec.Status().Store.Rows != stored+1 {
				t.Errorf("it is not recorded: %v", err)
			}
		})
	}
}

func TestAnAgentThatIsKilledBetweenTheLedgerAndTheReadingGivesNothing(t *testing.T) {
	h, kill := ownProcess(t)
	h.loggedOn()
	olga := h.office.Officer
	id := h.approved("access", "--from", hourAgo(), "--to", "now", "--address", "10.0.0.1")
	reading := h.open(olga, "run", id)
	kill()
	kill = h.agentProcess()
	for _, k := range []knock{{"GET", "/v1/lookup/" + reading.id + "/bindings", ""}, {"POST", "/v1/lookup/" + reading.id + "/outcome", `{"records":1}`}} {
		if code, got := h.knock(olga, k); code != 404 {
			t.Errorf("the reading of before goes on: %d %q", code, got)
		}
	}
	list := h.must("audit", "list", "--kind", "intent", "--kind", "outcome")
	if lines := strings.Split(strings.TrimSpace(list), "\n"); len(lines) != 4 || !strings.Contains(lines[2], "act=run") ||
		!strings.Contains(lines[3], "act=run") || !strings.Contains(lines[3], "result=no outcome given") {
		t.Errorf("who began to read, and that there was no outcome, is not in the ledger\n%s", list)
	}
	demand(t, h.must("audit", "verify"), "all is well")
	demand(t, h.mustAs(olga, "access", "--request", id, "--identity", olga.Identity), subscriber)
	kill() // after the answer: it is not given twice
	h.agentProcess()
	h.refusedNow(olga, "request "+id+" is answered", "access", "--request", id)
	demand(t, h.must("audit", "verify"), "all is well")
}

// entriesOf counts the ledger's entries of a kind, as an auditor does.
func (h *house) entriesOf(kind ledger.Kind) (n int) {
	h.t.Helper()
	d := json.NewDecoder(strings.NewReader(h.must("audit", "list", "--json", "--kind", string(kind))))
	for ; d.More(); n++ {
		var any json.RawMessage
		if err := d.Decode(&any); err != nil {
			h.t.Fatal(err)
		}
	}
	return n
}

// refusedNow is refused, with an agent that is another process.
func (h *house) refusedNow(p office.Person, why string, args ...string) {
	h.t.Helper()
	before := h.entriesOf(ledger.Intent)
	out, errs, code := h.as(p, append(args, "--identity", p.Identity)...)
	if code == 0 || out != "" || !strings.Contains(errs, why) || h.entriesOf(ledger.Intent) != before {
		h.t.Errorf("%s: %q: %d, and not %q\n%s%s", p.Name, args, code, why, out, errs)
	}
}
