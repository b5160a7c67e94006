package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	uplinksFile = "uplinks.json"
	attachRetry = 30 * time.Second // loading the programs again costs a moment of a CPU
)

// watchLinks tells, without saying what, that a link of this network namespace
// came, went or changed.
func watchLinks() (<-chan netlink.LinkUpdate, func(), error) {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return nil, nil, explain("watch the links", err)
	}
	return updates, func() {
		close(done)
		for range updates { // until its sender has seen that it is over
		}
	}, nil
}

// SetUplinks makes the given links the watched ones: new ones are attached,
// those no longer named are detached. A link that is missing or cannot be
// attached is not an error; Status says so, and it is tried again.
func (p *Probe) SetUplinks(uplinks []Uplink) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.opt
	o.Uplinks = uplinks
	if err := o.check(); err != nil {
		return err
	}
	ids, err := p.uplinkIDs(uplinks)
	if err != nil {
		return err
	}
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
	if err := p.reconcileLocked(); err != nil {
		return err
	}
	return p.pins.removeStale(func(ifindex int) bool {
		return slices.ContainsFunc(p.uplinks, func(u *uplink) bool { return u.ifindex == ifindex })
	})
}

// uplinkIDs gives each name the number of its counters, the same one for as
// long as the state directory lives.
func (p *Probe) uplinkIDs(uplinks []Uplink) (map[string]uint32, error) {
	ids := map[string]uint32{}
	path := filepath.Join(p.opt.StateDir, uplinksFile)
	if p.opt.StateDir != "" {
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &ids)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("the numbers of the uplinks are given anew; their packet counters may change places", "error", err)
			clear(ids)
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
		if err := writeJSON(path, ids); err != nil {
			return nil, fmt.Errorf("keep the uplink numbers: %w", err)
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
		if u.ifindex != 0 && u.problem == "" {
			if p.stillAttached(u) {
				continue
			}
			u.breaks++
			p.tell(Event{Kind: "link-lost", Uplink: u.cfg.Name, Text: "a program was detached by somebody else"})
		} else if u.ifindex != 0 && time.Now().Before(u.retry) {
			continue
		}
		u.release()
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
	u.retry = time.Now().Add(attachRetry)
	if errors.Is(err, ErrPrivilege) || errors.Is(err, ErrKernel) && u.cfg.Attach != AttachXDP {
		return err
	}
	if u.problem != err.Error() {
		u.problem = err.Error()
		p.log.Error("an uplink could not be attached", "uplink", u.cfg.Name, "error", err)
	}
	return nil
}

// vanished leaves a link that is gone, or has another name now.
func (p *Probe) vanished(u *uplink, why string) {
	u.breaks++
	if u.ifindex != 0 {
		p.tell(Event{Kind: "link-vanished", Uplink: u.cfg.Name, Text: why})
		if err := p.detach(u); err != nil { // it may live on under another name
			p.log.Error("a link that went could not be left", "uplink", u.cfg.Name, "error", err)
		}
		u.up = false
	}
	u.problem = why + ": waiting for it"
}

// stillAttached asks the kernel whether both directions are as we left them.
func (p *Probe) stillAttached(u *uplink) bool {
	return p.watches(u, hookIngress, &u.ingress) && p.watches(u, hookEgress, &u.egress)
}

// waitForPrograms returns when every program that ran before has ended: a
// global memory barrier waits for a grace period of RCU, under which they run.
// Kernels with nohz_full refuse it; there the grace has to do.
func waitForPrograms(grace time.Duration) {
	const cmdGlobal = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmdGlobal, 0, 0); errno != 0 {
		<-time.After(grace)
	}
}
