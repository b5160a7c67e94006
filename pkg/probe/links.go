package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const uplinksFile = "uplinks.json"

// watchLinks tells, without saying what, that a link of this network namespace
// came, went or changed.
func watchLinks() (<-chan netlink.LinkUpdate, func(), error) {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return nil, nil, explain("watch the links", err)
	}
	return updates, func() { close(done) }, nil
}

// SetUplinks makes the given links the watched ones: new ones are attached,
// those no longer named are detached. A link that is missing or cannot be
// attached is not an error; Status says so, and it is tried again.
func (p *Probe) SetUplinks(uplinks []Uplink) error {
	o := p.opt
	o.Uplinks = uplinks
	if err := o.check(); err != nil {
		return err
	}
	ids, err := p.uplinkIDs(uplinks)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []*uplink
	var first error
	for _, u := range p.uplinks {
		if slices.Contains(uplinks, u.cfg) {
			kept = append(kept, u)
			continue
		}
		if err := p.detach(u); err != nil && first == nil {
			first = err
		}
	}
	for _, cfg := range uplinks {
		if !slices.ContainsFunc(kept, func(u *uplink) bool { return u.cfg == cfg }) {
			kept = append(kept, &uplink{cfg: cfg, id: ids[cfg.Name]})
		}
	}
	p.uplinks, p.opt.Uplinks = kept, uplinks
	if first != nil {
		return first
	}
	return p.reconcileLocked()
}

// uplinkIDs gives each name the number of its counters, the same one for as
// long as the state directory lives.
func (p *Probe) uplinkIDs(uplinks []Uplink) (map[string]uint32, error) {
	ids := map[string]uint32{}
	path := filepath.Join(p.opt.StateDir, uplinksFile)
	if p.opt.StateDir != "" {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the uplink numbers: %w", err)
		}
		if err == nil {
			if err := json.Unmarshal(b, &ids); err != nil {
				return nil, fmt.Errorf("the file %q is damaged: %w; remove it: only packet counters of uplinks may then change places", path, err)
			}
		}
	}
	changed := false
	for _, u := range uplinks {
		if _, ok := ids[u.Name]; ok {
			continue
		}
		id, err := freeID(ids, uplinks)
		if err != nil {
			return nil, err
		}
		ids[u.Name] = id
		changed = true
	}
	if changed && p.opt.StateDir != "" {
		b, err := json.Marshal(ids)
		if err != nil {
			return nil, fmt.Errorf("encode the uplink numbers: %w", err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return nil, fmt.Errorf("write the uplink numbers: %w", err)
		}
	}
	return ids, nil
}

// freeID returns a number that nobody has; when all are taken, that of a link
// that is no longer configured.
func freeID(ids map[string]uint32, uplinks []Uplink) (uint32, error) {
	taken := map[uint32]string{}
	for name, id := range ids {
		taken[id] = name
	}
	for id := range uint32(maxUplinks) {
		name, used := taken[id]
		if !used {
			return id, nil
		}
		if !slices.ContainsFunc(uplinks, func(u Uplink) bool { return u.Name == name }) {
			delete(ids, name)
			return id, nil
		}
	}
	return 0, fmt.Errorf("%w: more than %d uplinks", ErrOptions, maxUplinks)
}

// reconcile attaches what has appeared and notes what has gone.
func (p *Probe) reconcile() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if err := p.reconcileLocked(); err != nil {
		p.log.Error("attach", "error", err)
	}
}

// reconcileLocked returns only errors that no later try can mend.
func (p *Probe) reconcileLocked() error {
	for _, u := range p.uplinks {
		dev, err := netlink.LinkByName(u.cfg.Name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			p.vanished(u, "the link does not exist")
			continue
		}
		if err != nil {
			return explain(fmt.Sprintf("look for the link %q", u.cfg.Name), err)
		}
		attrs := dev.Attrs()
		if u.ifindex != 0 && u.ifindex != attrs.Index {
			p.vanished(u, "the link was made anew")
		}
		u.up = attrs.Flags&unix.IFF_UP != 0
		if u.ifindex != 0 {
			if u.stillAttached() {
				continue
			}
			p.tell(Event{Kind: "link-lost", Uplink: u.cfg.Name, Text: "a program was detached by somebody else"})
			u.release()
			u.ifindex = 0
		}
		if err := p.tryAttach(u, dev); err != nil {
			return err
		}
	}
	return nil
}

// tryAttach attaches; only missing privileges and kernel features are errors.
func (p *Probe) tryAttach(u *uplink, dev netlink.Link) error {
	err := p.attach(u, dev)
	if err == nil {
		u.problem = ""
		p.tell(Event{Kind: "link-attached", Uplink: u.cfg.Name, Text: fmt.Sprintf("ingress %s, egress %s", u.ingress.mode, u.egress.mode)})
		return nil
	}
	u.release()
	u.ifindex = 0
	if errors.Is(err, ErrPrivilege) || errors.Is(err, ErrKernel) && u.cfg.Attach != AttachXDP {
		return err
	}
	if u.problem != err.Error() {
		u.problem = err.Error()
		p.log.Error("an uplink could not be attached", "uplink", u.cfg.Name, "error", err)
	}
	return nil
}

// vanished forgets a link that is gone; its pins hold nothing any more.
func (p *Probe) vanished(u *uplink, why string) {
	if u.ifindex != 0 {
		p.tell(Event{Kind: "link-vanished", Uplink: u.cfg.Name, Text: why})
		for _, a := range []*attachment{&u.ingress, &u.egress} {
			if a.link != nil {
				_ = a.link.Unpin() // a dead link
			}
		}
		u.release()
		u.ingress, u.egress = attachment{}, attachment{}
		u.ifindex, u.up = 0, false
	}
	u.problem = why + ": waiting for it"
}

// stillAttached asks the kernel whether both directions are as we left them.
func (u *uplink) stillAttached() bool {
	for hook, a := range map[string]*attachment{hookIngress: &u.ingress, hookEgress: &u.egress} {
		switch {
		case a.link != nil:
			if linkIfindex(a.link) != u.ifindex {
				return false
			}
		case a.filter != nil:
			if ours, err := ourFilters(u.ifindex, hook); err == nil && len(ours) == 0 {
				return false
			}
		}
	}
	return true
}

// waitForPrograms returns when every program that ran before has ended: a
// global memory barrier waits for a grace period of RCU, under which they run.
func waitForPrograms() error {
	const cmdGlobal = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmdGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("wait for running programs: %w", errno)
	}
	return nil
}
