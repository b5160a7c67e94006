package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Our clsact filters are known by their name. The handle and priority are
// ordinary ones, so that filters of others stay where they are.
const (
	clsactName     = "edgelog"
	clsactPriority = 1
	clsactHandle   = 0xed9e
)

func clsactParent(hook string) uint32 {
	if hook == hookEgress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// attachClsact adds or replaces our filter; the qdisc is made when there is
// none, and never removed, because others may have come to use it.
func attachClsact(program *ebpf.Program, attrs *netlink.LinkAttrs, hook, note string) (attachment, error) {
	what := fmt.Sprintf("attach a clsact %s filter to %q", hook, attrs.Name)
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: attrs.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return attachment{}, explain(what, err)
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: attrs.Index, Parent: clsactParent(hook), Handle: clsactHandle,
			Protocol: unix.ETH_P_ALL, Priority: clsactPriority,
		},
		Fd: program.FD(), Name: clsactName, DirectAction: true,
	}
	if err := netlink.FilterReplace(f); err != nil {
		return attachment{}, explain(what, err)
	}
	return attachment{mode: modeClsact, note: note, program: programID(program), filter: f}, nil
}

// ourFilters lists the filters with our name in one direction.
func ourFilters(ifindex int, hook string) ([]*netlink.BpfFilter, error) {
	dev, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil, nil // the link is gone, and its filters with it
	}
	all, err := netlink.FilterList(dev, clsactParent(hook))
	if err != nil {
		return nil, nil // no clsact qdisc
	}
	var ours []*netlink.BpfFilter
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == clsactName {
			ours = append(ours, b)
		}
	}
	return ours, nil
}

func removeClsact(ifindex int, hook string) error {
	ours, err := ourFilters(ifindex, hook)
	if err != nil {
		return err
	}
	for _, f := range ours {
		if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the clsact %s filter: %w", hook, err)
		}
	}
	return nil
}
