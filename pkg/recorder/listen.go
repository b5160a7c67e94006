package recorder

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ListenError says in words why an address could not be listened on, and what
// to do. The error still wraps the system's.
func ListenError(err error) error {
	err = cause(err)
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("no such address on this machine (%w); \"ip address\" lists those that it has", err)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; is another server using the port? \"ss -lntup\" shows it", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; a port below 1024 needs CAP_NET_BIND_SERVICE", err)
	}
	return err
}
