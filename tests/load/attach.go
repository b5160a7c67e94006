package load

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/lab"
)

// port is an interface: what the program has to know of it.
type port struct {
	index int
	mac   net.HardwareAddr
}

func find(n *lab.Namespace, name string) (port, error) {
	var p port
	err := n.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			p = port{i.Index, i.HardwareAddr}
		}
		return err
	})
	if err != nil {
		return p, fmt.Errorf("find interface %q in namespace %q: %w", name, n.Name, err)
	}
	return p, nil
}

const (
	ethtoolSetGRO = 0x2c // ETHTOOL_SGRO of linux/ethtool.h
	// filterPriority is behind any that edgelog uses on a kernel without TCX.
	filterPriority = 1000
)

// setGRO turns GRO on or off. An end of a veth pair takes frames of
// ndo_xdp_xmit when it has GRO or an XDP program.
func setGRO(n *lab.Namespace, name string, on bool) error {
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		value := struct{ cmd, data uint32 }{cmd: ethtoolSetGRO}
		if on {
			value.data = 1
		}
		var req struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			pad  [16]byte
		}
		copy(req.name[:unix.IFNAMSIZ-1], name)
		req.data = unsafe.Pointer(&value)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set GRO of %q in namespace %q: %w", name, n.Name, err)
	}
	return nil
}

// aim has load_direct call the XDP program of an interface.
func aim(target *ebpf.Map, n *lab.Namespace, name string) error {
	var id uint32
	err := n.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil && l.Attrs().Xdp != nil {
			id = l.Attrs().Xdp.ProgId
		}
		return err
	})
	if err == nil && id == 0 {
		err = errors.New("it has none")
	}
	if err != nil {
		return fmt.Errorf("find the XDP program of %q in namespace %q: %w", name, n.Name, err)
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return fmt.Errorf("open the XDP program of %q: %w", name, err)
	}
	defer p.Close()
	if err := target.Put(uint32(0), p); err != nil {
		return fmt.Errorf("call the XDP program of %q: %w", name, err)
	}
	return nil
}

// attach puts a program behind all others on the ingress of an interface, with
// TCX or, before Linux 6.6, clsact. The function undoes it.
func attach(p *ebpf.Program, n *lab.Namespace, name string, index int) (undo func() error, err error) {
	err = n.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
		if err == nil {
			undo = l.Close
			return nil
		}
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
		undo, err = attachClsact(p, n, index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach the load generator to the ingress of %q in namespace %q: %w", name, n.Name, err)
	}
	return undo, nil
}

// attachClsact runs in the namespace.
func attachClsact(p *ebpf.Program, n *lab.Namespace, index int) (undo func() error, err error) {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	priority, err := freePriority(index)
	if err != nil {
		return nil, err
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: priority,
		},
		Fd: p.FD(), Name: "load", DirectAction: true,
	}
	if err := netlink.FilterAdd(f); err != nil {
		return nil, err
	}
	return func() error { return n.Do(func() error { return netlink.FilterDel(f) }) }, nil
}

// freePriority is the first of ours that no other generator uses.
func freePriority(index int) (uint16, error) {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return 0, err
	}
	all, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return 0, err
	}
	priority := uint16(filterPriority)
	for _, f := range all {
		priority = max(priority, f.Attrs().Priority+1)
	}
	return priority, nil
}
