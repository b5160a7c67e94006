package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownProcess is an agent that is a process like any other: it has no uplink, and so
// keeps access records alone. kill ends it without a word.
func ownProcess(t *testing.T) (h *house, kill func()) {
	t.Helper()
	h = newHouse(t)
	h.stop()
	h.edit(func(text string) string {
		at := strings.Index(text, "[[uplink]]")
		return text[:at] + text[at+strings.Index(text[at:], "\n\n"):]
	})
	return h, h.agentProcess()
}

// agentProcess starts it; what it returns kills it.
func (h *house) agentProcess() (kill func()) {
	h.t.Helper()
	ready := filepath.Join(h.dir, "ready")
	_ = os.Remove(ready)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "agent", "--config", h.config, "--ready-file", ready)
	cmd.Args[0] = "edgelog"
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	kill = func() { cancel(); <-ended } // SIGKILL
	h.t.Cleanup(kill)
	for {
		select {
		case <-ended:
			h.t.Fatal(errs.String())
		default:
		}
		if _, err := os.Stat(ready); err == nil {
			return kill
		}
	}
}

// loggedOn has a subscriber have 10.0.0.1 for ten minutes, by accounting.
func (h *house) loggedOn() {
	h.t.Helper()
	at := time.Now().Add(-10 * time.Minute)
	h.must("accounting", "import", h.write("detail", fmt.Sprintf("%s\n\tAcct-Status-Type = Start\n\tAcct-Session-Id = \"s1\"\n\tUser-Name = %q\n"+
		"\tFramed-IP-Address = 10.0.0.1\n\tNAS-IP-Address = 127.0.0.1\n\tTimestamp = %d\n\n", at.UTC().Format(time.ANSIC), subscriber, at.Unix())))
}
