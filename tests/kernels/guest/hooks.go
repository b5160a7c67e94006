package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hooks are the programs on the card, as the kernel tells.
type hooks struct {
	xdp                   []uint32
	native                bool
	hasTCX                bool
	ingress, egress       []uint32 // TCX
	filtersIn, filtersOut int      // of edgelog
}

const attachedNative = 1 // XDP_ATTACHED_DRV of linux/if_link.h

func (h hooks) count() int {
	return len(h.xdp) + len(h.ingress) + len(h.egress) + h.filtersIn + h.filtersOut
}

func (h hooks) equal(o hooks) bool {
	return slices.Equal(h.xdp, o.xdp) && h.native == o.native && h.hasTCX == o.hasTCX &&
		slices.Equal(h.ingress, o.ingress) && slices.Equal(h.egress, o.egress) &&
		h.filtersIn == o.filtersIn && h.filtersOut == o.filtersOut
}

func (u *uplink) hooks() (hooks, error) {
	var h hooks
	err := u.g.Gateway().Do(func() error {
		card, err := netlink.LinkByName(u.g.Uplink)
		if err != nil {
			return err
		}
		if x := card.Attrs().Xdp; x != nil && x.Attached {
			h.xdp, h.native = []uint32{x.ProgId}, x.AttachMode == attachedNative
		}
		if h.ingress, h.hasTCX, err = tcx(card, ebpf.AttachTCXIngress); err != nil {
			return err
		}
		if h.egress, _, err = tcx(card, ebpf.AttachTCXEgress); err != nil {
			return err
		}
		if h.filtersIn, err = filters(card, netlink.HANDLE_MIN_INGRESS); err != nil {
			return err
		}
		h.filtersOut, err = filters(card, netlink.HANDLE_MIN_EGRESS)
		return err
	})
	if err != nil {
		return h, fmt.Errorf("ask what hangs on %q: %w", u.g.Uplink, err)
	}
	return h, nil
}

func tcx(card netlink.Link, at ebpf.AttachType) (ids []uint32, has bool, err error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: card.Attrs().Index, Attach: at})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) { // before Linux 6.6
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for _, p := range r.Programs {
		ids = append(ids, uint32(p.ID))
	}
	return ids, true, nil
}

// filters counts edgelog's; a card without clsact has none.
func filters(card netlink.Link, parent uint32) (n int, err error) {
	qdiscs, err := netlink.QdiscList(card)
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "clsact" }) {
		return 0, nil
	}
	all, err := netlink.FilterList(card, parent)
	if err != nil {
		return 0, err
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, "edgelog_") {
			n++
		}
	}
	return n, nil
}
