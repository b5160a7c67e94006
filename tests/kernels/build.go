package kernels

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Names of the compiled tests.
const (
	probeTest = "probe.test"
	labTest   = "lab.test"
	blackTest = "tests.test"
)

// labPrograms are what the tests in namespaces run.
var labPrograms = []string{"sh", "mkdir", "sleep", "tc", "ping", "curl", "dnsmasq", "iperf3", "radclient", "nft", "conntrack"}

// Programs are compiled ones, all of them static.
type Programs struct {
	guest, agent string
	tests        map[string]string // path by name
}

// Build compiles into dir what the steps need; root is the directory of the
// project.
func Build(ctx context.Context, root, dir string, steps []Step) (*Programs, error) {
	b := &Programs{guest: filepath.Join(dir, "guest"), agent: filepath.Join(dir, "edgelog"), tests: map[string]string{}}
	err := errors.Join(
		compile(ctx, root, "build", "-o", b.guest, "./tests/kernels/guest"),
		compile(ctx, root, "build", "-o", b.agent, "./cmd/edgelog"))
	for name, of := range map[string]string{probeTest: "./pkg/probe", labTest: "./tests/lab", blackTest: "./tests"} {
		if slices.ContainsFunc(steps, func(s Step) bool { return len(s.Command) > 0 && filepath.Base(s.Command[0]) == name }) {
			b.tests[name] = filepath.Join(dir, name)
			err = errors.Join(err, compile(ctx, root, "test", "-c", "-o", b.tests[name], of))
		}
	}
	return b, err
}

func compile(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", args[0], err, out)
	}
	return nil
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
