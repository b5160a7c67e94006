package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Leftover is something of edgelog's in the kernel that no agent holds.
type Leftover struct {
	What string // pinned table, pinned link, filter
	Text string // which, and what about it
	// Remedy is empty for what nothing depends on any more, which Remove
	// removes; else it says what to do instead.
	Remedy string

	remove func() error
}

// Remove removes what nothing depends on. It looks again before.
func (l *Leftover) Remove() error {
	if l.remove == nil {
		return fmt.Errorf("remove the %s: %s: it may be needed; %s", l.What, l.Text, l.Remedy)
	}
	if err := l.remove(); err != nil {
		return fmt.Errorf("remove the %s: %s: %w", l.What, l.Text, err)
	}
	return nil
}

// Leftovers looks in a pin directory, and on the links of this network
// namespace, for what dead agents and versions left there. What a living agent
// holds is none, and neither is the table of this version: the next agent
// adopts it. What is not edgelog's, by names, types and programs, is never
// touched. living says that an agent is known to run: it may have its pins in
// mounts of its own, so filters are left to it.
func Leftovers(dir string, living bool) ([]Leftover, error) {
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	own := pinDir{path: filepath.Join(dir, layoutOf(spec)), layout: layoutOf(spec)}
	var out []Leftover
	tables := map[ebpf.MapID]bool{} // that are pinned
	for _, e := range entries {
		if !isBPFFS(dir) || !e.IsDir() || !pinName.MatchString(e.Name()) {
			continue
		}
		d := pinDir{path: filepath.Join(dir, e.Name()), layout: e.Name()}
		if id, ok := tableID(d.path); ok {
			tables[id] = true
		}
		if err := d.takeLock(); err != nil {
			continue // a living agent's, or not to be read by this user
		}
		out = append(out, d.leftovers(d.layout == own.layout)...)
		_ = d.lock.Close() // gives it back
	}
	if living || ownMounts() {
		return out, nil
	}
	filters, err := own.deadFilters(tables)
	return append(out, filters...), err
}

// tableID is the kernel's number of the table that is pinned in a directory.
func tableID(dir string) (ebpf.MapID, bool) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "sessions"), nil)
	if err != nil {
		return 0, false
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}

// pins is what lies in a directory of a table.
type pins struct {
	foreign  []string // not edgelog's
	dead     []string // links of devices that are gone
	attached int      // links that are attached
	table    bool
}

// look says what lies in the directory. p is locked.
func (p pinDir) look() (found pins, err error) {
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return found, fmt.Errorf("read the pin directory: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(p.path, e.Name())
		_, ifindex, isLink := linkPin(e.Name())
		switch {
		case isLink && isOurLink(path):
			l := pinnedLinkAsIs(path)
			if linkIfindex(l) == ifindex {
				found.attached++
			} else {
				found.dead = append(found.dead, e.Name())
			}
			_ = l.Close() // pinned: closing detaches nothing
		case slices.Contains(sharedMaps, e.Name()) && isOurMap(path, e.Name()):
			found.table = found.table || e.Name() == "sessions"
		default:
			found.foreign = append(found.foreign, e.Name())
		}
	}
	return found, nil
}

// pinnedLinkAsIs opens a link that is known to be there.
func pinnedLinkAsIs(path string) link.Link {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return gone{}
	}
	return l
}

// gone is a link that went between two looks.
type gone struct{ link.Link }

func (gone) Info() (*link.Info, error) { return nil, fs.ErrNotExist }
func (gone) Close() error              { return nil }

// isOurLink: it runs a program with one of our names.
func isOurLink(path string) bool {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return false
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false
	}
	return isOurProgram(info.Program)
}

func isOurProgram(id ebpf.ProgramID) bool {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return false
	}
	defer p.Close()
	info, err := p.Info()
	return err == nil && strings.HasPrefix(info.Name, "edgelog_")
}

// mapTypes of what agents pin.
var mapTypes = map[string]ebpf.MapType{
	"bucket_words": ebpf.Array, "events": ebpf.RingBuf, "samples": ebpf.RingBuf, "sample_counts": ebpf.Hash, "fragments": ebpf.Hash,
	"border": ebpf.LPMTrie, "packet_counts": ebpf.PerCPUArray, "table_counts": ebpf.PerCPUArray, "meta": ebpf.Array, "sessions": ebpf.Array,
}

// isOurMap: it has the type of ours, and the name that it is pinned under.
func isOurMap(path, name string) bool {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return false
	}
	defer m.Close()
	info, err := m.Info()
	return err == nil && m.Type() == mapTypes[name] && info.Name == name
}

// leftovers of one directory; current says that it is this version's.
func (p pinDir) leftovers(current bool) (out []Leftover) {
	found, err := p.look()
	if err != nil {
		return nil // not to be read by this user
	}
	for _, name := range found.dead {
		out = append(out, Leftover{
			What: "pinned link", Text: filepath.Join(p.path, name) + ": its device is gone",
			remove: p.again(func(now pins) error {
				if !slices.Contains(now.dead, name) {
					return errors.New("it is in use again")
				}
				return unpinLink(filepath.Join(p.path, name))
			}),
		})
	}
	if current && found.table {
		return out
	}
	l := Leftover{What: "pinned table", Text: p.path}
	l.Text, l.Remedy = p.judge(found)
	if l.Remedy == "" {
		l.remove = p.again(func(now pins) error {
			if _, remedy := p.judge(now); remedy != "" {
				return errors.New("it is in use again")
			}
			return p.remove()
		})
	}
	return append(out, l)
}

// again does something under the lock, with what lies there then.
func (p pinDir) again(do func(pins) error) func() error {
	return func() error {
		d := pinDir{path: p.path, layout: p.layout}
		if err := d.takeLock(); err != nil {
			return err
		}
		defer d.lock.Close() // gives it back
		found, err := d.look()
		if err != nil {
			return err
		}
		return do(found)
	}
}

// judge says what a directory without an agent is, and what to do about it;
// nothing, if it can go.
func (p pinDir) judge(found pins) (text, remedy string) {
	const adopt = "start the agent once: it takes over what is there"
	switch {
	case len(found.foreign) > 0:
		return fmt.Sprintf("%s holds what is not edgelog's: %s", p.path, strings.Join(found.foreign, ", ")), "ask whoever put it there"
	case !found.table && found.attached > 0:
		return p.path + ": programs without a table", adopt
	case !found.table:
		return p.path + ": a table that was made or removed by halves", ""
	}
	o, err := openOlder(p)
	if err != nil {
		return err.Error(), "leave it as it is, or run the edgelog that made it"
	}
	defer o.free()
	unstored := 0
	for slot := range uint32(len(o.t.slots)) {
		if phase := o.t.state(slot) & phaseMask; (phase == phaseClosed || phase == phaseLive) && o.t.state(slot)&stateStored == 0 {
			unstored++
		}
	}
	id, _ := tableID(p.path)
	switch {
	case unstored > 0:
		return fmt.Sprintf("%s: an older table with %d sessions that are not on disk", p.path, unstored), adopt
	case found.attached > 0 || len(p.filtersInto(id)) > 0:
		return p.path + ": an older table that programs record into", adopt
	}
	return p.path + ": an older table that holds nothing and that nobody uses", ""
}

// eachFilter calls fn with our filters on all links of this network namespace,
// and the tables that their programs record into.
func (p pinDir) eachFilter(fn func(dev, hook string, f *netlink.BpfFilter, tables []ebpf.MapID)) error {
	devs, err := netlink.LinkList()
	if err != nil {
		return explain("list the links", err)
	}
	for _, dev := range devs {
		for _, hook := range []string{hookIngress, hookEgress} {
			for _, f := range p.ourFilters(dev.Attrs().Index, hook) {
				if ids, ok := mapsOf(ebpf.ProgramID(f.Id)); ok {
					fn(dev.Attrs().Name, hook, f, ids)
				}
			}
		}
	}
	return nil
}

// mapsOf lists the maps of a program, if it is edgelog's and we may ask.
func mapsOf(id ebpf.ProgramID) ([]ebpf.MapID, bool) {
	if !isOurProgram(id) {
		return nil, false
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, false
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, false
	}
	return info.MapIDs()
}

// filtersInto are the filters that record into a table.
func (p pinDir) filtersInto(table ebpf.MapID) (out []*netlink.BpfFilter) {
	_ = p.eachFilter(func(_, _ string, f *netlink.BpfFilter, tables []ebpf.MapID) { // without links there are none
		if slices.Contains(tables, table) {
			out = append(out, f)
		}
	})
	return out
}

// deadFilters are ours, by the name of the pin directory, and record into
// tables that nobody can read: their pins are gone.
func (p pinDir) deadFilters(pinned map[ebpf.MapID]bool) (out []Leftover, err error) {
	err = p.eachFilter(func(dev, hook string, f *netlink.BpfFilter, tables []ebpf.MapID) {
		if slices.ContainsFunc(tables, func(id ebpf.MapID) bool { return pinned[id] }) {
			return
		}
		out = append(out, Leftover{
			What: "filter", Text: fmt.Sprintf("%s of %q (%s): it records into a table that nobody can read", hook, dev, f.Name),
			remove: func() error {
				for _, now := range p.ourFilters(f.LinkIndex, hook) {
					if now.Id == f.Id {
						return ignore(netlink.FilterDel(now), unix.ENOENT)
					}
				}
				return nil // somebody else has removed or replaced it
			},
		})
	})
	return out, err
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}
