package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of a lab.
type Namespace struct {
	Name   string // for messages; it is nowhere in the system
	lab    *Lab
	handle netns.NsHandle
	links  *netlink.Handle
}

// End is one end of a link.
type End struct {
	In    *Namespace
	Name  string // of the interface
	Addrs []netip.Prefix
}

// Namespace makes a network namespace with its loopback up, and without
// duplicate address detection and router solicitations: an address can be used
// as soon as it is there.
func (l *Lab) Namespace(name string) (*Namespace, error) {
	handle, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("make namespace %q: %w", name, err)
	}
	l.atClose(func() error { return handle.Close() })
	n := &Namespace{Name: name, lab: l, handle: handle}
	if n.links, err = netlink.NewHandleAt(handle); err != nil {
		return nil, fmt.Errorf("make namespace %q: open netlink: %w", name, err)
	}
	l.atClose(func() error { n.links.Close(); return nil })
	for _, key := range []string{"accept_dad", "dad_transmits", "router_solicitations", "accept_ra"} {
		for _, which := range []string{"all", "default"} {
			if err := n.Sysctl("net/ipv6/conf/"+which+"/"+key, "0"); err != nil {
				return nil, err
			}
		}
	}
	lo, err := n.links.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("make namespace %q: loopback: %w", name, err)
	}
	if err := n.links.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("make namespace %q: loopback: %w", name, err)
	}
	return n, nil
}

// newNamespace makes a namespace without staying in it.
func newNamespace() (netns.NsHandle, error) {
	var made netns.NsHandle
	err := onOwnThread(func() error {
		var err error
		made, err = netns.New()
		return err
	})
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return made, err
}

// onOwnThread runs f on a thread that is brought back to the namespace it came
// from.
func onOwnThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() {
		// A thread in the wrong namespace would do its next work there.
		if err := errors.Join(netns.Set(home), home.Close()); err != nil {
			panic(fmt.Sprintf("return to own network namespace: %v", err))
		}
	}()
	return f()
}

// Do runs f in the namespace. Sockets that f opens, files below /proc/sys/net
// that it opens and programs that it starts are the namespace's; goroutines
// that it starts are not in it.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace %q: %w", n.Name, err)
		}
		return f()
	})
}

// Path returns a name of the namespace that other programs can enter it by
// while this process lives, as "nsenter --net=PATH" does.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle))
}

// Sysctl sets a value below /proc/sys, such as "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(key, value string) error {
	err := n.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("set %s to %s in namespace %q: %w", key, value, n.Name, err)
	}
	return nil
}

// Link joins two namespaces by a veth pair, up, with its offloads as the
// kernel sets them. mtu is in bytes, 0 means 1500.
func (l *Lab) Link(a, b End, mtu int) error {
	if mtu == 0 {
		mtu = 1500
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = a.Name, mtu
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: b.Name, PeerNamespace: netlink.NsFd(b.In.handle), PeerMTU: uint32(mtu),
	}
	if err := a.In.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %q in %q with %q in %q: %w", a.Name, a.In.Name, b.Name, b.In.Name, err)
	}
	for _, end := range []End{a, b} {
		if err := end.up(); err != nil {
			return fmt.Errorf("bring up %q in %q: %w", end.Name, end.In.Name, err)
		}
	}
	return nil
}

func (e End) up() error {
	link, err := e.In.links.LinkByName(e.Name)
	if err != nil {
		return err
	}
	for _, p := range e.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := e.In.links.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	return e.In.links.LinkSetUp(link)
}

// Unlink removes a link by the name of one of its ends.
func (n *Namespace) Unlink(name string) error {
	link, err := n.links.LinkByName(name)
	if err == nil {
		err = n.links.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove link %q in %q: %w", name, n.Name, err)
	}
	return nil
}

// Route sends what goes to dst by way of a neighbour.
func (n *Namespace) Route(dst netip.Prefix, via netip.Addr) error {
	return n.route(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}, dst)
}

// Blackhole drops what goes to dst without an answer.
func (n *Namespace) Blackhole(dst netip.Prefix) error {
	return n.route(&netlink.Route{Dst: ipNet(dst), Type: unix.RTN_BLACKHOLE}, dst)
}

func (n *Namespace) route(r *netlink.Route, dst netip.Prefix) error {
	if err := n.links.RouteAdd(r); err != nil {
		return fmt.Errorf("add route to %s in %q: %w", dst, n.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
