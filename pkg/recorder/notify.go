package recorder

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// notify tells the service manager a state, as sd_notify(3) describes it:
// READY=1, RELOADING=1, STOPPING=1. Without NOTIFY_SOCKET it does nothing.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if strings.HasPrefix(name, "@") { // abstract
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer conn.Close() //nolint:errcheck // a datagram is sent or not
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// writeReady writes the ready file whole: a reader sees nothing or all of it.
func writeReady(path string, pid int) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ready-*")
	if err != nil {
		return fmt.Errorf("write ready file %q: %w", path, cause(err))
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone after the rename
	_, err = fmt.Fprintf(tmp, "%d\n", pid)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write ready file %q: %w", path, cause(err))
	}
	return nil
}
