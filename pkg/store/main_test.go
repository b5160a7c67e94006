package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childEnv names what a test binary that was started by a test is to do.
const childEnv = "EDGELOG_STORE_CHILD"

// children are the things that need a process of their own: to be killed, or
// to have file systems of its own.
var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		name, _, _ := strings.Cut(what, " ")
		if err := children[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child prepares this test binary to run children[name] with args.
func child(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{name}, args...), " "))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// childArgs returns the args of child in the child.
func childArgs() []string { return strings.Fields(os.Getenv(childEnv))[1:] }

// lines calls f for each line that the child prints until f says enough.
func lines(cmd *exec.Cmd, f func(string) bool) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	in := bufio.NewScanner(out)
	for in.Scan() && f(in.Text()) {
	}
	return nil
}
