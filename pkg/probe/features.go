package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Check is one finding of "edgelog doctor".
type Check struct {
	Name   string
	OK     bool
	Warn   bool   // with OK: works, but not as well as it could
	Detail string // what was found
	Remedy string // what to do; "" when there is nothing to do
}

// Features examines what edgelog needs of the kernel.
func Features() []Check {
	return []Check{
		kernelRelease(),
		feature("kernel types (BTF)", haveBTF(), "use a kernel built with CONFIG_DEBUG_INFO_BTF, as Debian's are"),
		feature("XDP programs", features.HaveProgramType(ebpf.XDP), "Linux 6.1 or newer is needed"),
		feature("traffic control programs", features.HaveProgramType(ebpf.SchedCLS), "Linux 6.1 or newer is needed"),
		feature("event ring", features.HaveMapType(ebpf.RingBuf), "Linux 6.1 or newer is needed"),
		feature("timer ticks in programs", features.HaveProgramHelper(ebpf.XDP, asm.FnJiffies64), "Linux 6.1 or newer is needed"),
		feature("frames in several buffers", features.HaveProgramHelper(ebpf.XDP, asm.FnXdpLoadBytes), "Linux 6.1 or newer is needed"),
		haveTCXCheck(),
		loadCheck(),
	}
}

func feature(name string, err error, remedy string) Check {
	switch {
	case err == nil:
		return Check{Name: name, OK: true, Detail: "present"}
	case isPermission(err):
		return Check{Name: name, Detail: "not permitted to look", Remedy: "run as root, or with CAP_BPF and CAP_NET_ADMIN"}
	}
	return Check{Name: name, Detail: err.Error(), Remedy: remedy}
}

func haveBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

func kernelRelease() Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Check{Name: "kernel", Detail: err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && major*1000+minor < 6001 {
		return Check{Name: "kernel", Detail: release, Remedy: "edgelog is tested with Linux 6.1 and newer"}
	}
	return Check{Name: "kernel", OK: true, Detail: release}
}

// haveTCXCheck: without TCX edgelog uses clsact, which is as good but has no
// pinned links.
func haveTCXCheck() Check {
	c := Check{Name: "TCX", OK: true, Detail: "present"}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return Check{Name: "TCX", OK: true, Warn: true, Detail: "not examined: " + err.Error()}
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return feature("TCX", err, "")
	}
	defer prog.Close()
	a, err := attachTCXOnce(prog, lo.Index)
	if err != nil {
		c.Warn, c.Detail = true, "not in this kernel (Linux 6.6): clsact filters are used"
	} else {
		_ = a.Close() // never pinned: closing detaches
	}
	return c
}

// loadCheck gives the real programs to the verifier.
func loadCheck() Check {
	r, err := OpenReplay(ReplayOptions{Slots: MinSlots})
	if errors.Is(err, ErrPrivilege) {
		return feature("edgelog's programs", unix.EPERM, "")
	}
	if err != nil {
		return Check{Name: "edgelog's programs", Detail: err.Error(), Remedy: "please report it with your kernel version"}
	}
	defer r.Close()
	return Check{Name: "edgelog's programs", OK: true, Detail: "accepted by the verifier"}
}

// CheckPinDir examines the BPF file system, and whether there is a table for
// the next agent. Leftovers finds what others left.
func CheckPinDir(dir string) []Check {
	c := Check{Name: "BPF file system", OK: true, Detail: dir}
	if !isBPFFS(dir) {
		c.Warn, c.Detail, c.Remedy = true, "none at "+dir, "the agent mounts one; to have it at boot: mount -t bpf bpf "+standardBPFFS
		return []Check{c}
	}
	out := []Check{c}
	spec, err := loadSpec()
	if err != nil {
		return append(out, Check{Name: "pinned objects", Detail: err.Error()})
	}
	ours := layoutOf(spec)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return append(out, Check{Name: "pinned table", OK: true, Detail: "none yet"})
	}
	if err != nil {
		return append(out, Check{Name: "pinned objects", Detail: err.Error(), Remedy: "run as root"})
	}
	for _, e := range entries {
		if e.Name() == ours {
			return append(out, Check{Name: "pinned table", OK: true, Detail: filepath.Join(dir, ours) + ": of this version"})
		}
	}
	return append(out, Check{Name: "pinned table", OK: true, Detail: "none of this version yet"})
}

// CheckUplink examines one link.
func CheckUplink(u Uplink) []Check {
	name := fmt.Sprintf("uplink %q", u.Name)
	dev, err := netlink.LinkByName(u.Name)
	if err != nil {
		return []Check{{Name: name, Detail: err.Error(), Remedy: "see \"ip link\" for the names there are"}}
	}
	a := dev.Attrs()
	detail := fmt.Sprintf("%s, MTU %d, %s", dev.Type(), a.MTU, strings.ToLower(a.OperState.String()))
	if driver := driverOf(u.Name); driver != "" {
		detail += ", driver " + driver
	}
	out := []Check{{Name: name, OK: true, Detail: detail}}
	if a.Flags&unix.IFF_UP == 0 {
		out[0].Warn, out[0].Remedy = true, "the link is down: ip link set "+u.Name+" up"
	}
	if a.EncapType != "ether" && a.EncapType != "loopback" {
		out = append(out, Check{Name: name, OK: true, Detail: "no Ethernet header (" + a.EncapType + "): watched by TCX"})
	}
	if a.Xdp != nil && a.Xdp.Attached {
		out = append(out, Check{Name: name, OK: true, Detail: fmt.Sprintf("XDP program %d is attached", a.Xdp.ProgId)})
	}
	return append(out, checkVLANOffload(u)...)
}

// checkVLANOffload: a card that takes the VLAN tag out of a frame hides it
// from XDP. That matters only where tags tell address spaces apart.
func checkVLANOffload(u Uplink) []Check {
	on, err := rxVLANOffload(u.Name)
	if err != nil || !on {
		return nil
	}
	return []Check{{
		Name: fmt.Sprintf("uplink %q", u.Name), OK: true,
		Detail: "the card takes VLAN tags out of received frames (rxvlan on): harmless, as tags are not part of a session",
	}}
}

func driverOf(name string) string {
	target, err := os.Readlink("/sys/class/net/" + name + "/device/driver")
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}
