package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// binary is the program under test, built once with the race detector on, so
// that the black-box tests look for races too.
var binary string

func TestMain(m *testing.M) {
	// Where nothing can be compiled, such as in a virtual machine with another
	// kernel, it is brought along.
	if binary = os.Getenv("EDGELOG_BINARY"); binary != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "edgelog-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "edgelog")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "../cmd/edgelog").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build edgelog: %v\n%s", err, out)
		os.Exit(1)
	}
	// Missing privileges are tried as another user. At its end a program that
	// looks for races waits a second for late ones, by default.
	err = errors.Join(os.Chmod(dir, 0o755), os.Setenv("GORACE", "atexit_sleep_ms=10"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// limited returns a context that gives up waiting: a bound for a hang, not a
// measure of speed.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times(5, 60))*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// open makes a border with a configured gateway.
func open(t *testing.T, mtu int, o gateway.Options) *gateway.Gateway {
	t.Helper()
	b, err := lab.OpenBorder(mtu)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Binary = binary
	g, err := gateway.Open(limited(t), b, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	return g
}

// start opens and starts one.
func start(t *testing.T, o gateway.Options) *gateway.Gateway {
	t.Helper()
	g := open(t, 0, o)
	if err := g.Start(limited(t)); err != nil {
		t.Fatal(err)
	}
	return g
}

// checkBalanceAtEnd has the counters of an agent that still runs add up after
// the test; gateway.Stop looks at those of one that is stopped.
func checkBalanceAtEnd(t *testing.T, g *gateway.Gateway) {
	t.Cleanup(func() {
		if g.Agent() == nil {
			return
		}
		if strings.Contains(g.Agent().Output(), "DATA RACE") {
			t.Errorf("the agent races:\n%s", g.Agent().Output())
		}
		if g.Running() {
			if err := g.Balance(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("the agent's log:\n%s", g.Agent().Output())
		}
	})
}
