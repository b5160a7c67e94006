package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// keepMemory sees to it that keys and names in this process's memory get into no
// core file and cannot be read by another process of the same user.
func keepMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect the memory of this process (PR_SET_DUMPABLE): %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("protect the memory of this process (RLIMIT_CORE): %w", err)
	}
	return nil
}
