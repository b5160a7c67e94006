package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/edgelog/edgelog/tests/office"
)

// staff has the configuration in dir say who the persons are.
func staff(t *testing.T, dir string) *office.Office {
	t.Helper()
	o, err := office.Open(filepath.Join(dir, "office"), filepath.Join(dir, "custodians", "anna.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Hire(filepath.Join(dir, "edgelog.toml")); err != nil {
		t.Fatal(err)
	}
	return o
}

// as runs a command as a person, in a process of that user: this very program.
func (h *house) as(p office.Person, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.process(p, true, args...)
}

// process is as, of a command that talks to the agent or not.
func (h *house) process(p office.Person, talks bool, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"edgelog"}, args...), SysProcAttr: p.Credential(), Stdout: &out, Stderr: &errs, Dir: "/"}
	if talks {
		cmd.Args = append(cmd.Args[:2:2], append([]string{"--socket", h.socket()}, cmd.Args[2:]...)...)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// complaint is what a command printed that failed.
type complaint struct {
	errs string
	code int
}

func (c *complaint) Error() string { return c.errs }

// runner is as, for the office.
func (h *house) runner(_ context.Context, p office.Person, args ...string) (string, error) {
	out, errs, code := h.as(p, args...)
	if code != 0 {
		return out, &complaint{errs, code}
	}
	return out, nil
}

// mustAs is as, of what must succeed; it returns what was printed.
func (h *house) mustAs(p office.Person, args ...string) string {
	h.t.Helper()
	out, errs, code := h.as(p, args...)
	if code != 0 {
		h.t.Fatalf("%s: %q: %d\n%s%s", p.Name, args, code, out, errs)
	}
	return out
}

// approved files a request and has it approved.
func (h *house) approved(kind string, args ...string) string {
	h.t.Helper()
	id, _, err := h.office.Approve(h.t.Context(), h.runner, kind, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return strconv.FormatInt(id, 10)
}

// ask is the way of a question through the office; what fails on it ends it.
func (h *house) ask(kind string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	id, reading, err := h.office.Approve(h.t.Context(), h.runner, kind, args...)
	var c *complaint
	switch {
	case errors.As(err, &c):
		return "", c.errs, c.code
	case err != nil:
		h.t.Fatal(err)
	}
	return h.as(h.office.Officer, append([]string{kind, "--request", strconv.FormatInt(id, 10), "--identity", h.office.Officer.Identity}, reading...)...)
}
