package probe

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatIsMissingToAttachIsNamed(t *testing.T) {
	const bpf, perf, net, admin = 1 << unix.CAP_BPF, 1 << unix.CAP_PERFMON, 1 << unix.CAP_NET_ADMIN, 1 << unix.CAP_SYS_ADMIN
	for name, c := range map[string]struct {
		have uint64
		want string
	}{
		"all":                      {bpf | perf | net, ""},
		"root":                     {^uint64(0), ""},
		"the old way":              {admin | net, ""},
		"none":                     {0, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN missing"},
		"no right to networks":     {bpf | perf, ": CAP_NET_ADMIN missing"},
		"an admin without network": {admin, ": CAP_NET_ADMIN missing"},
		"no perfmon":               {bpf | net, ": CAP_PERFMON missing"},
	} {
		t.Run(name, func(t *testing.T) {
			err := permitted(c.have)
			if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrPrivilege) || !strings.HasSuffix(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}
