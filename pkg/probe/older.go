package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// ErrNewerTable: the pinned table was made by a later version, which alone
// knows what is in it.
var ErrNewerTable = errors.New("a newer table")

// tableVersion is the version of the tables that this program makes.
const tableVersion = uint64(kernelTableVersionTABLE_VERSION)

// A format is what must be known of a version of the table to bring what it
// holds into this one. Slots are the same in all of them, and so are the words
// of table_meta up to its version.
type format struct {
	// counts sums the packet counters at an index over all processors; forget
	// sets them to zero.
	counts func(m *ebpf.Map, index uint32) (kernelPacketCounters, error)
	forget func(m *ebpf.Map, index uint32) error
}

// formats of all versions that were ever released. Version 1 was not.
var formats = map[uint64]format{
	2: {counts: sumCounts[countersV2], forget: forgetCounts[countersV2]}, // bucket words of 32 bits, no samples
	3: {counts: sumCounts[countersV3], forget: forgetCounts[countersV3]},
}

// countersV2 is struct packet_counters of version 2.
type countersV2 struct {
	Seen, MoreSegments uint64
	Outcome            [12]uint64
}

// countersV3 is that of version 3.
type countersV3 struct {
	Seen, MoreSegments        uint64
	Outcome                   [13]uint64
	RefusedFirst, RefusedLast uint64
}

func (c countersV2) addTo(sum *kernelPacketCounters) {
	sum.Seen += c.Seen
	sum.MoreSegments += c.MoreSegments
	for i, n := range c.Outcome {
		sum.Outcome[i] += n
	}
}

func (c countersV3) addTo(sum *kernelPacketCounters) {
	sum.Seen += c.Seen
	sum.MoreSegments += c.MoreSegments
	for i, n := range c.Outcome {
		sum.Outcome[i] += n
	}
	if c.RefusedFirst != 0 && (sum.RefusedFirst == 0 || c.RefusedFirst < sum.RefusedFirst) {
		sum.RefusedFirst = c.RefusedFirst
	}
	sum.RefusedLast = max(sum.RefusedLast, c.RefusedLast)
}

func sumCounts[C interface{ addTo(*kernelPacketCounters) }](m *ebpf.Map, index uint32) (sum kernelPacketCounters, err error) {
	var perCPU []C
	if err := m.Lookup(index, &perCPU); err != nil {
		return sum, fmt.Errorf("read the packet counters of an older table: %w", err)
	}
	for _, c := range perCPU {
		c.addTo(&sum)
	}
	return sum, nil
}

func forgetCounts[C any](m *ebpf.Map, index uint32) error {
	var perCPU []C
	err := m.Lookup(index, &perCPU)
	if err == nil {
		clear(perCPU)
		err = m.Put(index, perCPU)
	}
	if err != nil {
		return fmt.Errorf("clear the packet counters of an older table: %w", err)
	}
	return nil
}

// The words of table_meta that every version has at the same place.
const (
	metaTickNs   = 6
	metaTickBase = 7
	metaProfile  = 8
	metaV2Words  = 12 // all of version 2
	metaVersion  = 12
	metaLookedAt = 13 // from version 3 on
)

// older is a table that an earlier agent pinned in a directory of its own: of
// another layout, or of another size. It is brought into the agent's own.
type older struct {
	dir     pinDir
	format  format
	version uint64
	meta    []uint64
	maps    map[string]*ebpf.Map
	t       *table // slots only
	waiting uint64 // sessions that found no room yet
	counted bool   // the packet counters are brought over
}

// pinName is what the directories of tables are called: the layout, and where
// the agent made room for a table of another size, that size.
var pinName = regexp.MustCompile(`^[0-9a-f]{12}(-[0-9]+)?$`)

// findOlder opens the tables beside our own, the newest first, and locks their
// directories. Nothing is changed. A directory without a table is left alone,
// but for its links, which are taken over like the others.
//
// Errors: ErrNewerTable, ErrOptions when a table was filled under another
// profile, and that another agent uses it.
func (p *pinDir) findOlder(profile session.Profile) (all []*older, err error) {
	entries, err := os.ReadDir(filepath.Dir(p.path))
	if err != nil {
		return nil, fmt.Errorf("read the pin directory: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == p.layout || !pinName.MatchString(e.Name()) {
			continue
		}
		dir := pinDir{path: filepath.Join(filepath.Dir(p.path), e.Name()), layout: e.Name()}
		if err := dir.takeLock(); err != nil {
			closeOlder(all)
			return nil, err
		}
		o, err := openOlder(dir)
		if err == nil && o.t != nil {
			err = sameProfile(session.Profile(o.meta[metaProfile]), profile)
		}
		if err != nil {
			if o != nil {
				o.free()
			}
			_ = dir.lock.Close() // gives it back
			closeOlder(all)
			return nil, err
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b *older) int { return int(b.version) - int(a.version) })
	for _, o := range all {
		p.others = append(p.others, o.dir.path)
	}
	return all, nil
}

func closeOlder(all []*older) {
	for _, o := range all {
		o.close()
	}
}

func (o *older) close() {
	o.free()
	_ = o.dir.lock.Close() // gives it back
}

func (o *older) free() {
	if o.t != nil {
		o.t.close()
		o.t = nil
	}
	closeMaps(o.maps)
	o.maps = nil
}

// openOlder looks at what is pinned in dir; without a table, o.t is nil.
func openOlder(dir pinDir) (*older, error) {
	o := &older{dir: dir}
	if _, err := os.Stat(filepath.Join(dir.path, "sessions")); errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	maps, err := dir.open()
	if err != nil {
		return nil, err
	}
	o.maps = maps
	if err := o.understand(); err != nil {
		closeMaps(maps)
		return nil, err
	}
	return o, nil
}

// understand finds out what the opened maps are.
func (o *older) understand() (err error) {
	dir := o.dir
	if o.meta, err = readMeta(o.maps["meta"]); err != nil {
		return fmt.Errorf("%w in %q", err, dir.path)
	}
	if o.version = versionOf(o.meta); o.version > tableVersion {
		return fmt.Errorf("%w: %q was made by a later edgelog (table version %d; this one knows them up to %d): go on with that edgelog, or run it once more with on_stop = \"drain\", stop it, and start this one then",
			ErrNewerTable, dir.path, o.version, tableVersion)
	}
	var known bool
	if o.format, known = formats[o.version]; !known || !sameSlots(o.maps["sessions"]) {
		return fmt.Errorf("the pinned table in %q is not edgelog's, or of a version (%d) that was never released: move it away", dir.path, o.version)
	}
	o.t = &table{}
	slots, err := o.t.mmap(o.maps["sessions"])
	if err != nil {
		return fmt.Errorf("map the older table in %q: %w", dir.path, err)
	}
	o.t.slots = unsafe.Slice((*kernelSlot)(unsafe.Pointer(&slots[0])), o.maps["sessions"].MaxEntries()*slotsPerBucket)
	return nil
}

// olderMaps are those that a table is brought over from. Later versions have
// more, whose content is lost with the table or belongs to the programs.
var olderMaps = []string{"sessions", "fragments", "packet_counts", "meta"}

// open opens the maps that matter of a pinned table.
func (p *pinDir) open() (map[string]*ebpf.Map, error) {
	maps := map[string]*ebpf.Map{}
	for _, name := range olderMaps {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.path, name), nil)
		if err != nil {
			closeMaps(maps)
			return nil, explain(fmt.Sprintf("open the pinned map %q of an older table in %q", name, p.path), err)
		}
		maps[name] = m
	}
	return maps, nil
}

// sameSlots: buckets of slots as ours are.
func sameSlots(m *ebpf.Map) bool {
	return m.Type() == ebpf.Array && m.KeySize() == 4 && m.ValueSize() == uint32(unsafe.Sizeof(kernelBucket{}))
}

// readMeta returns the words of a table_meta of any version.
func readMeta(m *ebpf.Map) ([]uint64, error) {
	b, err := m.LookupBytes(uint32(0))
	if err != nil {
		return nil, explain("read the meta data of a table", err)
	}
	if len(b) < 8*metaV2Words || len(b)%8 != 0 {
		return nil, fmt.Errorf("read the meta data of a table: %d bytes are none of edgelog's", len(b))
	}
	words := make([]uint64, len(b)/8)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return words, nil
}

// versionOf reads it from table_meta, which in version 2 ends before it.
func versionOf(meta []uint64) uint64 {
	if len(meta) == metaV2Words {
		return 2
	}
	return meta[metaVersion]
}

// quiet reports whether no program can write to this table any more: the links
// that were pinned beside it were taken over or removed, and no filter is left
// but those whose programs, by their ids, are ours.
func (o *older) quiet(links []int, ours func(program int) bool) bool {
	if len(o.dir.attachedTo()) > 0 {
		return false
	}
	for _, ifindex := range links {
		for _, hook := range []string{hookIngress, hookEgress} {
			for _, f := range o.dir.ourFilters(ifindex, hook) {
				if !ours(f.Id) {
					return false
				}
			}
		}
	}
	return true
}

// openTables adopts the pinned table or makes one, and finds what is to be
// brought into it.
func (p *Probe) openTables(spec *ebpf.CollectionSpec) (err error) {
	if err := p.pins.makeRoom(p.opt.Slots, p.opt.Profile); err != nil {
		return err
	}
	if p.older, err = p.pins.findOlder(p.opt.Profile); err != nil {
		_ = os.Remove(p.pins.path) // if it is empty: then it was made just now
		return err
	}
	var like *older
	for _, o := range p.older {
		if o.t != nil && like == nil {
			like = o
		}
	}
	size(spec, p.opt.Slots, p.opt.RingBytes)
	if p.maps, p.adopted, err = p.pins.maps(spec, p.opt.Profile, like); err != nil {
		return err
	}
	p.adopted = p.adopted || like != nil
	if have := p.maps["sessions"].MaxEntries() * slotsPerBucket; have != p.opt.Slots {
		p.log.Warn("the adopted table keeps its size until the one before it is empty; the next start changes it", "slots", have, "configured", p.opt.Slots)
	}
	return nil
}

// makeRoom makes a pinned table of another size an older one. When there is
// one already, it waits for that to be empty.
func (p *pinDir) makeRoom(slots uint32, profile session.Profile) error {
	have, err := p.pinnedSlots(profile)
	if err != nil || have == 0 || have == slots {
		return err
	}
	err = os.Rename(p.path, fmt.Sprintf("%s-%d", p.path, have))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move the pinned table of %d slots away: %w", have, err)
	}
	_ = p.lock.Close() // goes with the directory; gives the lock back
	brief := p.brief
	*p, err = openPinDir(filepath.Dir(p.path), p.layout)
	p.brief = brief
	return err
}

// pinnedSlots is the size of the table that is pinned here; 0 when there is
// none, or it is not edgelog's.
func (p *pinDir) pinnedSlots(profile session.Profile) (uint32, error) {
	maps, err := p.open()
	if err != nil || !sameSlots(maps["sessions"]) {
		closeMaps(maps)
		return 0, nil // whoever adopts it says what is wrong
	}
	defer closeMaps(maps)
	meta, err := readMeta(maps["meta"])
	if err != nil {
		return 0, err
	}
	return maps["sessions"].MaxEntries() * slotsPerBucket, sameProfile(session.Profile(meta[metaProfile]), profile)
}
