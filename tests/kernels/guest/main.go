// Command guest is all of user space in a virtual machine that runs edgelog on
// another kernel: it is started as /init, takes the steps of its plan, writes
// an event for each, and switches the machine off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/kernels"
)

func main() {
	if os.Getpid() != 1 {
		if err := steps(); err != nil {
			fmt.Println("guest:", err)
			os.Exit(1)
		}
		return
	}
	if err := first(); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // there is nobody left to tell
}

// first is what process 1 does: it prepares the machine, runs this program
// again for the steps, and buries those whose parents have gone.
func first() error {
	if err := mount(); err != nil {
		return err
	}
	for _, e := range []string{"PATH=/bin", "HOME=/root", "TMPDIR=/tmp"} {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	cmd := exec.Command("/init")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the steps: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for processes: %w", err)
		}
		if pid == cmd.Process.Pid {
			return nil
		}
	}
}

func mount() error {
	for _, m := range []struct{ kind, at, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""},
		{"bpf", "/sys/fs/bpf", "mode=0700"}, {"debugfs", "/sys/kernel/debug", ""}, {"cgroup2", "/sys/fs/cgroup", ""},
		{"tmpfs", "/tmp", "size=1200m,mode=1777"}, {"tmpfs", "/run", "mode=0755"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// steps takes those of the plan.
func steps() error {
	text, err := os.ReadFile(kernels.PlanFile)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var plan kernels.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	out, err := os.OpenFile(kernels.Results, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the way out: %w", err)
	}
	if _, err := fmt.Fprintf(out, "\n{\"step\":\"boot\"}\n"); err != nil {
		return fmt.Errorf("say that the machine is up: %w", err)
	}
	for _, name := range plan.Modules {
		if err := insert(name); err != nil {
			return err
		}
	}
	own := &uplink{}
	for _, s := range plan.Steps {
		line, err := json.Marshal(take(own, s))
		if err != nil {
			return fmt.Errorf("say what came of %q: %w", s.Name, err)
		}
		if _, err := fmt.Fprintf(out, "\n%s\n", line); err != nil {
			return fmt.Errorf("say what came of %q: %w", s.Name, err)
		}
	}
	return errors.Join(own.close(), out.Close())
}

// insert loads a module; one that is there already is as good.
func insert(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("load a module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load the module %q: %w", name, err)
	}
	return nil
}
