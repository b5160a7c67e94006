package kernels

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run is what came of one guest.
type Run struct {
	Kernel  Kernel
	Events  []Event // one for each step, in their order
	Console string  // the end of what the kernel printed
}

// bootLimit bounds a hang before the first step.
const bootLimit = 4 * time.Minute

// Boot runs the steps in a guest. dir holds its image and its console while it
// runs. tell, if not nil, is called with each event as it comes.
//
// Errors: those of the machine only; a step that fails is an Event.
func Boot(ctx context.Context, dir string, k Kernel, b *Programs, steps []Step, tell func(Event)) (*Run, error) {
	image := filepath.Join(dir, k.Series+".cpio")
	if err := pack(image, k, b, steps); err != nil {
		return nil, err
	}
	limit := bootLimit
	for _, s := range steps {
		limit += s.Limit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	console := filepath.Join(dir, k.Series+".console")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", qemu(k.Image, image, console)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	results, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu: %w; scripts/setup.sh kernels installs it", err)
	}
	run := &Run{Kernel: k}
	lines := bufio.NewScanner(results)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // the firmware's, or broken off: a step without an event has failed
		}
		run.Events = append(run.Events, e)
		if tell != nil {
			tell(e)
		}
	}
	err = cmd.Wait()
	run.Console = tail(console)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("run qemu: %w: %s", err, complaint.String())
	}
	run.complete(steps, ctx.Err())
	return run, nil
}

// qemu is its command line. Two network cards are joined by a hub; a hub takes
// no offloads, so that the driver takes native XDP.
func qemu(kernel, image, console string) []string {
	args := []string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 panic=-1 loglevel=4 mitigations=off",
		"-serial", "file:" + console, "-serial", "stdio",
	}
	for _, n := range []string{"0", "1"} {
		args = append(args, "-netdev", "hubport,hubid=0,id=n"+n,
			"-device", "virtio-net-pci,romfile=,netdev=n"+n+",mac=02:00:00:00:00:0"+n)
	}
	return args
}

// complete adds an event for each step that has none.
func (r *Run) complete(steps []Step, why error) {
	said := map[string]bool{}
	for _, e := range r.Events {
		said[e.Step] = true
	}
	for _, s := range steps {
		if said[s.Name] {
			continue
		}
		detail := "the guest ended before it"
		if why != nil {
			detail = "the guest hung, or was stopped: " + why.Error()
		}
		r.Events = append(r.Events, Event{Step: s.Name, Verdict: Fail, Detail: detail, Log: r.Console})
	}
}

// Failed lists the steps that failed.
func (r *Run) Failed() error {
	var errs []error
	for _, e := range r.Events {
		if e.Verdict == Fail {
			errs = append(errs, fmt.Errorf("%s: %s: %s\n%s", r.Kernel.Release, e.Step, e.Detail, e.Log))
		}
	}
	return errors.Join(errs...)
}

// tail returns the end of a file, for an error.
func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Verdict of a step.
func (r *Run) Verdict(step string) Verdict {
	for _, e := range r.Events {
		if e.Step == step {
			return e.Verdict
		}
	}
	return Fail
}

// Costs are what the verifier of this kernel paid.
func (r *Run) Costs() (all []Cost) {
	for _, e := range r.Events {
		if e.Step == costStep.Name {
			all = append(all, e.Costs...)
		}
	}
	return all
}
