package probe

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// How an older table is brought into the agent's own, while both directions of
// all uplinks go on being watched:
//
//  1. The new table is made. It has the clock of the old one.
//  2. The programs are replaced in the very links; from now on the new table
//     is written to. The links' pins move.
//  3. After a grace nothing writes to the old table. What it holds is carried
//     over slot by slot, each freed there when it is here: sessions that have
//     ended, those going on, and those on disk that wait for stragglers. A
//     session in which a packet came meanwhile is found by its key; the two
//     become one (bpf/carry.h).
//  4. When it is empty its pins are removed.
//
// An agent that is killed on the way leaves both tables pinned, and the next
// one goes on. What was carried and not yet freed is carried again, which
// changes nothing; a session that was recorded in between is recorded a second
// time under the same ID, and read once.

const carryRetry = 5 * time.Second // between tries to find room for what is left

// carrier brings one table after another into the agent's own.
type carrier struct {
	t        *table // ours
	maps     map[string]*ebpf.Map
	frags    *fragmentKeeper
	idle     func(proto uint8) time.Duration
	programs *ebpf.Collection // edgelog_carry and edgelog_carry_counts
	// step is called before each step that a kill could follow. An error of it
	// ends everything at once. Tests only.
	step func() error
}

// openCarrier loads its programs; none when there is nothing to carry.
func (p *Probe) openCarrier() error {
	if len(p.older) == 0 {
		return nil
	}
	programs, err := loadPrograms(p.maps, &p.opt, knobs{}, "edgelog_carry", "edgelog_carry_counts")
	if err != nil {
		return err
	}
	p.carrier = carrier{t: p.t, maps: p.maps, frags: &p.frags, idle: p.c.idle, programs: programs, step: p.opt.step}
	return nil
}

// carryOver brings what it can out of the older tables. What it cannot is
// tried again with a later Collect.
func (p *Probe) carryOver() error {
	links, ours, err := p.attachedPrograms()
	if err != nil {
		return err
	}
	p.cmu.Lock()
	defer p.cmu.Unlock()
	if p.freed || len(p.older) == 0 {
		return nil
	}
	p.carriedAt = programsNow()
	defer func() { p.c.reach = reach{} }() // what is carried over is older than the walks so far
	var left []*older
	grace := true
	for _, o := range p.older {
		if !o.quiet(links, ours) {
			left = append(left, o)
			continue
		}
		if grace { // once is enough for all
			waitForPrograms(p.opt.Grace)
			grace = false
		}
		if err := p.carrier.bring(o); err != nil {
			return err // p.older as it was: what is done is done
		}
		if o.waiting > 0 {
			left = append(left, o)
			continue
		}
		p.leave(o)
	}
	p.older = left
	return nil
}

// carryAtStart: a failure does not keep the agent from recording.
func (p *Probe) carryAtStart() error {
	err := p.carryOver()
	if err != nil && p.opt.step == nil {
		p.log.Error("an older table could not be brought over; it is tried again", "error", err)
		err = nil
	}
	if n := p.waiting(); n > 0 {
		p.log.Warn("the table has no room for all sessions of an older one; the rest waits there", "waiting", n)
	}
	return err
}

// leave removes the pins of a table that is empty.
func (p *Probe) leave(o *older) {
	if err := o.dir.remove(); err != nil {
		p.log.Warn("the directory of an older table could not be removed wholly", "error", err)
	} else if o.t != nil {
		p.log.Info("an older table was brought over", "directory", o.dir.path, "version", o.version)
	}
	o.close()
	p.pins.others = slices.DeleteFunc(p.pins.others, func(dir string) bool { return dir == o.dir.path })
}

// carryAgain is carryOver when it is time for it.
func (p *Probe) carryAgain() {
	p.cmu.Lock()
	due := len(p.older) > 0 && silence(programsNow(), p.carriedAt) > carryRetry
	p.cmu.Unlock()
	if !due {
		return
	}
	if err := p.carryOver(); err != nil {
		p.log.Error("an older table could not be brought over wholly; it is tried again", "error", err)
	}
}

// waiting is how much of older tables found no room yet. p.cmu is held.
func (p *Probe) waiting() (n uint64) {
	for _, o := range p.older {
		n += o.waiting
	}
	return n
}

// attachedPrograms returns the links of this network namespace, and a function
// that tells our own programs by their ids.
func (p *Probe) attachedPrograms() ([]int, func(int) bool, error) {
	devs, err := netlink.LinkList()
	if err != nil {
		return nil, nil, explain("list the links", err)
	}
	var links []int
	for _, d := range devs {
		links = append(links, d.Attrs().Index)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []int
	for _, u := range p.uplinks {
		ids = append(ids, int(u.ingress.program), int(u.egress.program))
	}
	return links, func(id int) bool { return slices.Contains(ids, id) }, nil
}

// bring empties an older table as far as there is room; o.waiting is what found
// none.
func (c *carrier) bring(o *older) error {
	if o.t == nil {
		return nil
	}
	for _, step := range []func(*older) error{c.bringCounts, c.bringSlots, c.bringFragments} {
		if err := step(o); err != nil {
			return err
		}
	}
	return c.mayStep()
}

func (c *carrier) mayStep() error {
	if c.step == nil {
		return nil
	}
	return c.step()
}

// bringCounts adds what the older programs counted to the packet counters. A
// kill between the two steps makes them count an uplink's packets twice.
func (c *carrier) bringCounts(o *older) error {
	if o.counted {
		return nil
	}
	for index := range uint32(2 * maxUplinks) {
		sum, err := o.format.counts(o.maps["packet_counts"], index)
		if err != nil {
			return err
		}
		if sum.Seen == 0 {
			continue
		}
		in := kernelCarriedCounts{Index: uint64(index), Counters: sum}
		if _, err := c.run("edgelog_carry_counts", unsafe.Pointer(&in), unsafe.Sizeof(in)); err != nil {
			return err
		}
		if err := o.format.forget(o.maps["packet_counts"], index); err != nil {
			return err
		}
	}
	o.counted = true
	return nil
}

func (c *carrier) run(program string, data unsafe.Pointer, size uintptr) (kernelCarry, error) {
	result, err := c.programs.Programs[program].Run(&ebpf.RunOptions{Data: unsafe.Slice((*byte)(data), size), Repeat: 1})
	if err != nil {
		return 0, explain("carry over what an older table holds", err)
	}
	return kernelCarry(result), nil
}

// bringSlots carries every session of an older table; o.waiting is how many
// found no room.
func (c *carrier) bringSlots(o *older) error {
	o.waiting = 0
	apart := map[kernelKey]uint32{}
	for slot := range uint32(len(o.t.slots)) {
		state := o.t.state(slot)
		phase := state & phaseMask
		if phase != phaseClosed && phase != phaseLive || isWiped(state) {
			continue // free; a negative answer, which is found again; or freed by halves
		}
		old := o.t.slots[slot]
		old.State = state
		if phase == phaseClosed && state&stateBuried == 0 {
			old.State |= stateSplit // buried from now on; but not because its tuple began anew
		}
		result, err := c.run("edgelog_carry", unsafe.Pointer(&old), unsafe.Sizeof(old))
		if err != nil {
			return err
		}
		if result == kernelCarryCARRY_APART {
			apart[old.Key] = slot
			continue
		}
		if err := c.settle(o, slot, state, result); err != nil {
			return err
		}
	}
	return c.bringApart(o, apart)
}

// settle frees a slot of the older table whose session is here.
func (c *carrier) settle(o *older, slot, state uint32, result kernelCarry) error {
	if result != kernelCarryCARRY_DONE && state&stateStored == 0 {
		o.waiting++
		return nil
	}
	if err := c.mayStep(); err != nil {
		return err
	}
	o.t.swap(slot, state, state>>genShift<<genShift|phaseFree)
	return nil
}

// bringApart settles sessions whose tuple has begun anew since the programs
// were replaced. If packets had come before that, they lie in a grave: that is
// where the older part belongs. Else it has ended on its own.
func (c *carrier) bringApart(o *older, apart map[kernelKey]uint32) error {
	if len(apart) == 0 {
		return nil
	}
	graves := map[kernelKey]uint32{}
	for slot := range uint32(len(c.t.slots)) {
		if c.t.state(slot)&(phaseMask|stateStored|stateBuried) != phaseClosed|stateBuried || c.t.isTaken(slot) {
			continue
		}
		old, wanted := apart[c.t.slots[slot].Key]
		if first, found := graves[c.t.slots[slot].Key]; wanted && c.continues(&o.t.slots[old], slot) &&
			(!found || c.t.slots[slot].First < c.t.slots[first].First) {
			graves[c.t.slots[slot].Key] = slot
		}
	}
	for key, slot := range apart {
		state := o.t.state(slot)
		result := kernelCarryCARRY_DONE
		if grave, found := graves[key]; found {
			c.lengthen(grave, &o.t.slots[slot], state)
		} else if state&stateStored == 0 {
			old := o.t.slots[slot]
			old.State = state&^phaseMask | phaseClosed
			if !ended(old.Flags) {
				old.State |= stateSplit
			}
			var err error
			if result, err = c.run("edgelog_carry", unsafe.Pointer(&old), unsafe.Sizeof(old)); err != nil {
				return err
			}
		}
		if err := c.settle(o, slot, state, result); err != nil {
			return err
		}
	}
	return nil
}

// ended is tcp_ended of bpf/table.h.
func ended(flags uint32) bool { return flags&bothSides(fin|rst) != 0 }

// continues is the opposite of carry_apart of bpf/carry.h, or that the grave
// holds this very session already.
func (c *carrier) continues(old *kernelSlot, grave uint32) bool {
	g := &c.t.slots[grave]
	if g.First <= old.First {
		return g.First == old.First
	}
	if g.Flags&flagsReuse != 0 || silence(g.First, old.Last) > c.idle(proto(&old.Key)) {
		return false
	}
	return !ended(old.Flags) || c.t.state(grave)&(stateMidstream|stateSynAck) != 0
}

// lengthen makes a buried session begin where its older part did. Nobody but
// the agent changes it any more.
func (c *carrier) lengthen(grave uint32, old *kernelSlot, state uint32) {
	const marks = stateInitiatorB | stateMidstream | stateSynAck | stateOrphan | stateLocalA | stateLocalB
	g := &c.t.slots[grave]
	if g.First > old.First {
		g.First = old.First
		g.Flags |= old.Flags & flagsReuse
		now := c.t.state(grave)
		c.t.swap(grave, now, now&^marks|state&(marks|stateFragment))
	}
	g.Last = max(g.Last, old.Last)
	g.Flags |= old.Flags & bothSides(0xff)
}

// bringFragments moves what is known of datagrams whose other fragments may
// still come. One that is known here too has had its first fragment, or goes
// on waiting for it: then what was held for it there is recorded without ports.
func (c *carrier) bringFragments(o *older) error {
	from := o.maps["fragments"]
	if from.KeySize() != uint32(unsafe.Sizeof(kernelFragmentKey{})) || from.ValueSize() != uint32(unsafe.Sizeof(kernelFragment{})) {
		return fmt.Errorf("carry over what an older table holds: its fragments in %q are not understood", o.dir.path)
	}
	var all []held
	var e held
	it := from.Iterate()
	for it.Next(&e.key, &e.value) {
		all = append(all, e)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("walk through the fragments of an older table: %w", err)
	}
	for i := range all {
		f := &all[i]
		if err := c.maps["fragments"].Update(f.key, f.value, ebpf.UpdateNoExist); err != nil && !c.frags.settle(&f.value) {
			o.waiting++ // no room now: the next round tries again
			continue
		}
		if err := c.mayStep(); err != nil {
			return err
		}
		if err := from.Delete(&f.key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a fragment of an older table: %w", err)
		}
	}
	return nil
}
