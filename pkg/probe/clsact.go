package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsactHandle is an ordinary one; what tells our filters from those of others
// is their name.
const clsactHandle = 1

// filterName is the name of the filters of one pin directory.
func (p pinDir) filterName() string {
	sum := sha256.Sum256([]byte(filepath.Dir(p.path)))
	return "edgelog_" + hex.EncodeToString(sum[:4])
}

func clsactParent(hook string) uint32 {
	if hook == hookEgress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// attachClsact adds or replaces our filter; the qdisc is made when there is
// none, and never removed, because others may have come to use it.
func (p pinDir) attachClsact(program *ebpf.Program, attrs *netlink.LinkAttrs, hook, note string) (attachment, error) {
	what := fmt.Sprintf("attach a clsact %s filter to %q", hook, attrs.Name)
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: attrs.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return attachment{}, explain(what, err)
	}
	all, err := filters(attrs.Index, hook)
	if err != nil {
		return attachment{}, explain(what, err)
	}
	priority, behind, kept := p.filterPriority(all)
	if behind {
		note = strings.TrimPrefix(note+"; filters of others come first and may hide packets from it", "; ")
	}
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: attrs.Index, Parent: clsactParent(hook), Handle: clsactHandle,
			Protocol: unix.ETH_P_ALL, Priority: priority,
		},
		Fd: program.FD(), Name: p.filterName(), DirectAction: true,
	}
	if err := netlink.FilterReplace(f); err != nil {
		return attachment{}, explain(what, err)
	}
	return attachment{mode: modeClsact, note: note, program: programID(program), filter: f, kept: kept}, nil
}

// filterPriority is that of the filter we have already, else the first one
// that nobody uses; behind says that filters of others come before it, kept
// that we have one.
func (p pinDir) filterPriority(all []netlink.Filter) (priority uint16, behind, kept bool) {
	used := map[uint16]bool{}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == p.filterName() {
			return b.Priority, false, true
		}
		used[f.Attrs().Priority] = true
	}
	for priority = 1; used[priority]; priority++ {
		behind = true
	}
	return priority, behind, false
}

// filters lists one direction of a link; none when it has no clsact qdisc.
func filters(ifindex int, hook string) ([]netlink.Filter, error) {
	dev, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("look for the link: %w", err)
	}
	all, err := netlink.FilterList(dev, clsactParent(hook))
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list its filters: %w", err)
	}
	return all, nil
}

// ourFilters lists our filters in one direction; none when the link is gone.
func (p pinDir) ourFilters(ifindex int, hook string) []*netlink.BpfFilter {
	all, err := filters(ifindex, hook)
	if err != nil {
		return nil
	}
	var ours []*netlink.BpfFilter
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == p.filterName() {
			ours = append(ours, b)
		}
	}
	return ours
}

func (p pinDir) removeClsact(ifindex int, hook string) error {
	for _, f := range p.ourFilters(ifindex, hook) {
		if err := netlink.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the clsact %s filter: %w", hook, err)
		}
	}
	return nil
}

// removeStale takes programs of an earlier agent off links that are not in
// keep: nobody would see that they are still watched.
func (p pinDir) removeStale(keep func(ifindex int) bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return explain("list the links", err)
	}
	indices := p.attachedTo()
	for _, l := range links {
		indices = append(indices, l.Attrs().Index)
	}
	for _, n := range indices {
		if keep(n) {
			continue
		}
		if err := p.detachFrom(n); err != nil {
			return err
		}
	}
	return nil
}

// detachFrom removes all that is ours from one link: pins of links that nobody
// holds open, and filters.
func (p pinDir) detachFrom(ifindex int) error {
	var errs []error
	for _, hook := range []string{hookXDP, hookIngress, hookEgress} {
		errs = append(errs, p.unpin(hook, ifindex))
	}
	for _, hook := range []string{hookIngress, hookEgress} {
		errs = append(errs, p.removeClsact(ifindex, hook))
	}
	return errors.Join(errs...)
}
