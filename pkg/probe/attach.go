package probe

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Modes of an attachment, as status prints them.
const (
	modeNone       = "none"
	modeXDP        = "xdp"
	modeXDPGeneric = "xdp-generic"
	modeTCX        = "tcx"
	modeClsact     = "clsact"
)

const xdpAttachedSKB = 2 // XDP_ATTACHED_SKB of linux/if_link.h: generic

// Hooks, as pins name them.
const (
	hookXDP     = "xdp"
	hookIngress = "ingress"
	hookEgress  = "egress"
)

// uplink is one link of the border and what hangs on it.
type uplink struct {
	cfg     Uplink
	id      uint32
	ifindex int // 0 while it does not exist
	up      bool
	ingress attachment
	egress  attachment
	knobs   knobs
	colls   map[string]*ebpf.Collection // its loaded programs, by name
	problem string                      // why it is not attached, or not wholly
	retry   time.Time                   // of the next try after a failed one
	breaks  uint64                      // times that packets may have passed unseen
	kept    bool                        // an earlier agent left it watched
}

// attachment is one direction.
type attachment struct {
	mode    string
	note    string
	program uint32
	link    link.Link          // XDP and TCX
	filter  *netlink.BpfFilter // clsact
	pin     string
	kept    bool // it was there already: nothing passed unseen before this agent
}

func (u *uplink) status() UplinkStatus {
	show := func(a attachment) AttachStatus {
		if a.mode == "" {
			a.mode = modeNone
		}
		return AttachStatus{a.mode, a.program, a.note, a.kept}
	}
	return UplinkStatus{
		Name: u.cfg.Name, Ifindex: u.ifindex, Up: u.up,
		Ingress: show(u.ingress), Egress: show(u.egress), Error: u.problem,
	}
}

// release closes file descriptors; pinned links and clsact filters stay.
func (u *uplink) release() {
	for _, a := range []*attachment{&u.ingress, &u.egress} {
		if a.link != nil {
			_ = a.link.Close() // pinned: closing detaches nothing
			a.link = nil
		}
	}
	for _, c := range u.colls {
		c.Close()
	}
	u.colls = nil
}

// The programs of an uplink, by their names in the object.
const (
	programXDP     = "edgelog_xdp"
	programIngress = "edgelog_ingress"
	programEgress  = "edgelog_egress"
)

// load loads programs of an uplink, at once: the verifier takes its time with
// each, and the next agent of an upgrade waits for it.
func (p *Probe) load(u *uplink, names ...string) error {
	colls, errs := make([]*ebpf.Collection, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { // ends when the program is loaded
			colls[i], errs[i] = loadPrograms(p.maps, &p.opt, u.knobs, name)
		})
	}
	wg.Wait()
	for i, name := range names {
		if errs[i] == nil {
			u.colls[name] = colls[i]
		}
	}
	return errors.Join(errs...)
}

// program returns one of an uplink, loaded when it was not expected to be
// needed.
func (p *Probe) program(u *uplink, name string) (*ebpf.Program, error) {
	if u.colls[name] == nil {
		if err := p.load(u, name); err != nil {
			return nil, err
		}
	}
	return u.colls[name].Programs[name], nil
}

// attach loads the programs of an uplink and attaches both directions, taking
// over links that an earlier agent pinned.
func (p *Probe) attach(u *uplink, dev netlink.Link) error {
	attrs := dev.Attrs()
	u.kept = u.breaks == 0 && p.watchedBefore(attrs.Index)
	u.ifindex, u.ingress, u.egress = attrs.Index, attachment{}, attachment{}
	raw := u.cfg.RawIP || attrs.EncapType != "ether" && attrs.EncapType != "loopback"
	u.knobs, u.colls = knobs{uplink: u.id, rawIP: raw}, map[string]*ebpf.Collection{}
	first := programXDP
	if raw || u.cfg.Attach == AttachTCX || u.cfg.Attach == AttachClsact {
		first = programIngress
	}
	err := p.load(u, programEgress, first)
	if err != nil {
		return err
	}
	// One direction is better than none. Egress first: an answer is never seen
	// before its question.
	u.egress, err = p.attachEgress(u, attrs)
	ingress, inErr := p.attachIngress(u, attrs, raw)
	u.ingress = ingress
	if err := errors.Join(err, inErr); err != nil {
		return err
	}
	p.dropReplaced(u)
	return nil
}

func (p *Probe) attachEgress(u *uplink, attrs *netlink.LinkAttrs) (attachment, error) {
	program, err := p.program(u, programEgress)
	if err != nil {
		return attachment{}, err
	}
	if u.cfg.Attach == AttachClsact {
		return p.pins.attachClsact(program, attrs, hookEgress, "")
	}
	a, err := p.attachTCX(program, attrs, hookEgress)
	if err != nil && u.cfg.Attach != AttachTCX && errors.Is(err, ebpf.ErrNotSupported) {
		return p.pins.attachClsact(program, attrs, hookEgress, "this kernel has no TCX (Linux 6.6)")
	}
	return a, err
}

func (p *Probe) attachIngress(u *uplink, attrs *netlink.LinkAttrs, raw bool) (attachment, error) {
	switch u.cfg.Attach {
	case AttachClsact, AttachTCX:
		return p.attachIngressTC(u, attrs, "")
	case AttachXDP:
		a, err := p.attachUplinkXDP(u, attrs, link.XDPDriverMode)
		if err != nil && errors.Is(err, unix.EOPNOTSUPP) {
			a, err = p.attachUplinkXDP(u, attrs, link.XDPGenericMode)
			a.note = "the driver has no native XDP"
		}
		return a, err
	}
	if raw {
		return p.attachIngressTC(u, attrs, "a link without Ethernet headers")
	}
	a, err := p.attachUplinkXDP(u, attrs, link.XDPDriverMode)
	if err == nil {
		return a, nil
	}
	return p.attachIngressTC(u, attrs, whyNoXDP(err))
}

func (p *Probe) attachUplinkXDP(u *uplink, attrs *netlink.LinkAttrs, mode link.XDPAttachFlags) (attachment, error) {
	program, err := p.program(u, programXDP)
	if err != nil {
		return attachment{}, err
	}
	return p.attachXDP(program, attrs, mode)
}

// attachIngressTC attaches by traffic control; note says why not by XDP.
func (p *Probe) attachIngressTC(u *uplink, attrs *netlink.LinkAttrs, note string) (attachment, error) {
	program, err := p.program(u, programIngress)
	if err != nil {
		return attachment{}, err
	}
	if u.cfg.Attach == AttachClsact {
		return p.pins.attachClsact(program, attrs, hookIngress, note)
	}
	a, err := p.attachTCX(program, attrs, hookIngress)
	if err != nil && u.cfg.Attach != AttachTCX && errors.Is(err, ebpf.ErrNotSupported) {
		return p.pins.attachClsact(program, attrs, hookIngress, note+"; this kernel has no TCX (Linux 6.6)")
	}
	a.note = note
	return a, err
}

func whyNoXDP(err error) string {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return "the driver has no native XDP"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return "another XDP program is on this link"
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.EINVAL):
		return "the driver refuses XDP with the link's present settings (MTU, offloads): " + err.Error()
	}
	return err.Error()
}

// attachXDP takes over a pinned link, replacing its program in place: detaching
// resets some network cards. Else it makes a new link and pins it.
func (p *Probe) attachXDP(program *ebpf.Program, attrs *netlink.LinkAttrs, mode link.XDPAttachFlags) (attachment, error) {
	name := modeXDP
	if mode == link.XDPGenericMode {
		name = modeXDPGeneric
	}
	if l := p.pins.pinnedLink(hookXDP, attrs.Index); l != nil {
		if attrs.Xdp != nil && attrs.Xdp.AttachMode == xdpAttachedSKB {
			name = modeXDPGeneric
		}
		return p.takeOver(l, program, attrs, hookXDP, name)
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: attrs.Index, Flags: mode})
	if err != nil {
		return attachment{}, explain(fmt.Sprintf("attach %s to %q", name, attrs.Name), err)
	}
	return p.pinNew(l, program, attrs, hookXDP, name)
}

// attachTCX puts the program before all others, so that it sees what they drop.
func (p *Probe) attachTCX(program *ebpf.Program, attrs *netlink.LinkAttrs, hook string) (attachment, error) {
	if l := p.pins.pinnedLink(hook, attrs.Index); l != nil {
		return p.takeOver(l, program, attrs, hook, modeTCX)
	}
	at := ebpf.AttachTCXIngress
	if hook == hookEgress {
		at = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Program: program, Interface: attrs.Index, Attach: at, Anchor: link.Head()})
	if err != nil {
		return attachment{}, explain(fmt.Sprintf("attach tcx %s to %q", hook, attrs.Name), err)
	}
	return p.pinNew(l, program, attrs, hook, modeTCX)
}

// takeOver replaces the program of a link in the very link, and moves its pin
// here if it is another layout's. An agent that is killed in between finds the
// link again in either place.
func (p *Probe) takeOver(l link.Link, program *ebpf.Program, attrs *netlink.LinkAttrs, hook, mode string) (attachment, error) {
	path := p.pins.linkPath(hook, attrs.Index)
	err := l.Update(program)
	if err == nil {
		err = l.Pin(path)
	}
	if err != nil {
		_ = l.Close() // pinned: stays as it is
		return attachment{}, explain(fmt.Sprintf("replace the %s program of %q", hook, attrs.Name), err)
	}
	return attachment{mode: mode, program: programID(program), link: l, pin: path, kept: true}, nil
}

func (p *Probe) pinNew(l link.Link, program *ebpf.Program, attrs *netlink.LinkAttrs, hook, mode string) (attachment, error) {
	path := p.pins.linkPath(hook, attrs.Index)
	if err := l.Pin(path); err != nil {
		_ = l.Close() // detaches again
		return attachment{}, explain(fmt.Sprintf("pin the %s link of %q", hook, attrs.Name), err)
	}
	return attachment{mode: mode, program: programID(program), link: l, pin: path}, nil
}

// dropReplaced removes what an earlier agent attached to this link in another
// way than the one now in use, after the new way works.
func (p *Probe) dropReplaced(u *uplink) {
	for _, hook := range []string{hookXDP, hookIngress, hookEgress} {
		for _, dir := range p.pins.dirs() {
			path := linkPath(dir, hook, u.ifindex)
			if path == u.ingress.pin || path == u.egress.pin {
				continue
			}
			if err := unpinLink(path); err != nil {
				p.log.Warn("a replaced link could not be removed", "uplink", u.cfg.Name, "error", err)
			}
		}
	}
	if u.egress.mode != modeClsact {
		_ = p.pins.removeClsact(u.ifindex, hookEgress)
	}
	if u.ingress.mode != modeClsact {
		_ = p.pins.removeClsact(u.ifindex, hookIngress)
	}
}

// detach takes our programs off a link. It goes by what is pinned there, not by
// what this process holds: a try to attach may have failed half-way.
func (p *Probe) detach(u *uplink) error {
	u.release()
	index := u.ifindex
	u.ingress, u.egress, u.ifindex = attachment{}, attachment{}, 0
	if index == 0 {
		return nil
	}
	if err := p.pins.detachFrom(index); err != nil {
		return fmt.Errorf("detach from %q: %w", u.cfg.Name, err)
	}
	return nil
}

func programID(p *ebpf.Program) uint32 {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return uint32(id)
}
