package main

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeepMemory(t *testing.T) {
	if os.Getenv("EDGELOG_KEEP_MEMORY") == "" { // in a process of its own: it cannot be taken back
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKeepMemory$")
		cmd.Env = append(os.Environ(), "EDGELOG_KEEP_MEMORY=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := keepMemory(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &core)); err != nil || dumpable != 0 || core != (unix.Rlimit{}) {
		t.Errorf("dumpable %d, core %+v, %v", dumpable, core, err)
	}
}
