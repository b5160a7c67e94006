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

// A guest has to come up within bootLimit. Software may emulate a machine's
// clocks so badly, when the host has too much to do, that a kernel waits for
// ever for them: then it is started again. What hangs later has failed.
const (
	bootLimit = 3 * time.Minute
	bootTries = 3
)

// bootStep is the event of a guest that has come up.
const bootStep = "boot"

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
	for try := 1; ; try++ {
		g := &guest{kernel: k, image: image, console: filepath.Join(dir, k.Series+".console"), tell: tell}
		limited, cancel := context.WithTimeout(ctx, limit)
		err := g.run(limited)
		stopped := limited.Err()
		cancel()
		if err != nil && stopped == nil && g.up {
			return nil, err
		}
		if !g.up && try < bootTries && ctx.Err() == nil {
			continue
		}
		run := &Run{Kernel: k, Events: g.events, Console: tail(g.console)}
		run.complete(steps, errors.Join(err, stopped))
		return run, nil
	}
}

// guest is one run of qemu.
type guest struct {
	kernel         Kernel
	image, console string
	tell           func(Event)
	up             bool
	events         []Event
}

// run starts the machine and reads what it says until it is switched off, or
// until it is clear that it does not come up.
func (g *guest) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", qemu(g.kernel.Image, g.image, g.console)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	results, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start qemu: %w; scripts/setup.sh kernels installs it", err)
	}
	hung := time.AfterFunc(bootLimit, stop)
	defer hung.Stop()
	lines := bufio.NewScanner(results)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // the firmware's, or broken off: a step without an event has failed
		}
		g.up = true
		hung.Stop()
		if e.Step == bootStep {
			continue
		}
		g.events = append(g.events, e)
		if g.tell != nil {
			g.tell(e)
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run qemu: %w: %s", err, complaint.String())
	}
	return nil
}

// qemu is its command line. Two network cards are joined by a hub; a hub takes
// no offloads, so that the driver takes native XDP.
func qemu(kernel, image, console string) []string {
	args := []string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 panic=-1 loglevel=7 mitigations=off",
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
