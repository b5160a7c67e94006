package probe

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the capabilities that loading and attaching take. CAP_SYS_ADMIN
// stands for the two that were once part of it (capabilities(7)).
var needed = [...]struct {
	name  string
	bit   uint
	admin bool
}{
	{"CAP_BPF", unix.CAP_BPF, true}, {"CAP_PERFMON", unix.CAP_PERFMON, true}, {"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false},
}

// Permitted reports whether this process has the capabilities that Open needs.
// The error is ErrPrivilege and names those that are missing. Nothing is opened
// or changed; the kernel may still say no, for example in a user namespace.
func Permitted() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	return permitted(uint64(data[1].Effective)<<32 | uint64(data[0].Effective))
}

func permitted(effective uint64) error {
	has := func(bit uint) bool { return effective&(1<<bit) != 0 }
	var missing []string
	for _, n := range needed {
		if !has(n.bit) && !(n.admin && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, n.name)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("attach programs to uplinks: %w: %s missing", ErrPrivilege, strings.Join(missing, ", "))
}
