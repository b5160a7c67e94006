package probe

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// ErrPrivilege: the kernel did not let us. Wrapped with what to do.
var ErrPrivilege = errors.New("not permitted")

// ErrKernel: the kernel lacks something edgelog needs. Wrapped with what.
var ErrKernel = errors.New("kernel feature missing")

const fragmentWindow = 30 * time.Second

// sharedMaps are pinned and used by the programs of all uplinks. "sessions" is
// pinned last: where it is, the others are.
var sharedMaps = []string{"bucket_words", "events", "samples", "sample_counts", "fragments", "border", "packet_counts", "table_counts", "meta", "sessions"}

// knobs are what the programs of one uplink are loaded with, see bpf/knobs.h.
type knobs struct {
	uplink    uint32
	rawIP     bool
	testClock bool
	verifier  ebpf.LogLevel // what the verifier is to say; 0 but in tests
}

// loadSpec parses the embedded object.
func loadSpec() (*ebpf.CollectionSpec, error) {
	spec, err := loadKernel()
	if err != nil {
		return nil, fmt.Errorf("read the embedded programs: %w", err)
	}
	return spec, nil
}

// layoutSalt makes programs that differ in nothing else have different layouts,
// for tests of upgrades: go build -ldflags "-X github.com/edgelog/edgelog/pkg/probe.layoutSalt=next".
var layoutSalt string

// layoutOf names the shape of everything that is pinned: maps, key and value
// types with all their fields, and the version of what they mean. Objects with
// the same name can share a table.
func layoutOf(spec *ebpf.CollectionSpec) string {
	h := sha256.New()
	for _, name := range sharedMaps {
		m := spec.Maps[name]
		fmt.Fprintf(h, "%s %v %d %d\n", name, m.Type, m.KeySize, m.ValueSize)
		describe(h, m.Key)
		describe(h, m.Value)
	}
	fmt.Fprintf(h, "version %d\n%s", tableVersion, layoutSalt)
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// describe writes the fields of a type, with their offsets, to w.
func describe(w io.Writer, t btf.Type) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			fmt.Fprintf(w, "%s@%d ", m.Name, m.Offset.Bytes())
			describe(w, m.Type)
		}
	case *btf.Array:
		fmt.Fprintf(w, "[%d]", t.Nelems)
		describe(w, t.Type)
	case *btf.Int:
		fmt.Fprintf(w, "%s:%d\n", t.Encoding, t.Size)
	}
}

// size sets the sizes of the maps that the object leaves to the agent.
func size(spec *ebpf.CollectionSpec, slots, ring uint32) {
	buckets := slots / slotsPerBucket
	spec.Maps["sessions"].MaxEntries = buckets
	spec.Maps["bucket_words"].MaxEntries = (buckets + bucketsPerLine - 1) / bucketsPerLine
	spec.Maps["events"].MaxEntries = ring
	spec.Maps["samples"].MaxEntries = ring
}

// createMaps makes a fresh table with a hash that nobody outside can foresee.
// It has the clock of an older one, if there is one, so that the times in both
// are the same.
func createMaps(spec *ebpf.CollectionSpec, profile session.Profile, like *older) (map[string]*ebpf.Map, error) {
	maps := map[string]*ebpf.Map{}
	for _, name := range sharedMaps {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			closeMaps(maps)
			return nil, explain(fmt.Sprintf("create the map %q", name), err)
		}
		maps[name] = m
	}
	meta := kernelTableMeta{Profile: uint64(profile), Version: tableVersion}
	for i := range meta.HashSeed {
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails
		meta.HashSeed[i] = binary.NativeEndian.Uint64(random[:]) | 1
	}
	var err error
	if like == nil {
		err = setTicks(maps, meta)
	} else {
		meta.TickNs, meta.TickBase = like.meta[metaTickNs], like.meta[metaTickBase]
		if like.version > 2 {
			meta.LookedAt = like.meta[metaLookedAt]
		}
		if err = maps["meta"].Put(uint32(0), meta); err != nil {
			err = explain("write the table's meta data", err)
		}
	}
	if err != nil {
		closeMaps(maps)
		return nil, err
	}
	return maps, nil
}

// setTicks completes the meta data of a fresh table with its clock.
func setTicks(maps map[string]*ebpf.Map, meta kernelTableMeta) error {
	if err := maps["meta"].Put(uint32(0), meta); err != nil {
		return explain("write the table's meta data", err)
	}
	o := Options{}.withDefaults()
	coll, err := loadPrograms(maps, &o, knobs{}, "edgelog_clock")
	if err != nil {
		return err
	}
	defer coll.Close()
	if meta.TickNs, meta.TickBase, err = measureTicks(coll.Programs["edgelog_clock"]); err != nil {
		return err
	}
	if err := maps["meta"].Put(uint32(0), meta); err != nil {
		return explain("write the table's meta data", err)
	}
	return nil
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		_ = m.Close() // closing a file descriptor of ours
	}
}

// loadPrograms loads the programs of one uplink against shared maps.
func loadPrograms(maps map[string]*ebpf.Map, o *Options, k knobs, names ...string) (*ebpf.Collection, error) {
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	for name, m := range maps {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	for name := range spec.Programs {
		if !slices.Contains(names, name) {
			delete(spec.Programs, name)
		}
	}
	var meta kernelTableMeta
	if err := maps["meta"].Lookup(uint32(0), &meta); err != nil {
		return nil, explain("read the table's meta data", err)
	}
	for i, seed := range meta.HashSeed {
		if err := spec.Variables[fmt.Sprintf("hash_seed_%d", i)].Set(seed); err != nil {
			return nil, fmt.Errorf("set the hash seed: %w", err)
		}
	}
	for name, value := range map[string]any{
		"profile": uint32(o.Profile), "uplink": k.uplink, "buckets": maps["sessions"].MaxEntries(),
		"border_filter": len(o.Local)+len(o.Exempt) > 0, "overlapping_addresses": o.OverlappingAddresses,
		"raw_ip": k.rawIP, "test_clock": k.testClock,
		"idle_tcp": uint64(o.Timeouts.TCP), "idle_udp": uint64(o.Timeouts.UDP),
		"idle_icmp": uint64(o.Timeouts.ICMP), "idle_other": uint64(o.Timeouts.Other),
		"half_open_cap":   halfOpenCap(o.HalfOpenShare),
		"fragment_window": uint64(fragmentWindow), "tick_ns": meta.TickNs, "tick_base": meta.TickBase,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set the knob %q: %w", name, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps, Programs: ebpf.ProgramOptions{LogLevel: k.verifier}})
	if err != nil {
		return nil, explain("load the programs", err)
	}
	return coll, nil
}

// halfOpenCap is how many slots of a bucket half-open sessions may have: at
// least one, all for a share of 1.
func halfOpenCap(share float64) uint32 {
	return max(1, uint32(math.Round(share*slotsPerBucket)))
}

// halfOpenLimit is how many half-open sessions a table can hold.
func halfOpenLimit(t *table, share float64) uint64 {
	return (t.mask + 1) * uint64(halfOpenCap(share))
}

// explain turns what the kernel said into a sentence with a remedy.
func explain(what string, err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier) && !errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: the kernel's verifier refused them: %w; please report it with your kernel version", what, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: %w: %w; Linux 6.1 or newer with BTF is needed, see \"edgelog doctor\"", what, ErrKernel, err)
	case isPermission(err):
		return fmt.Errorf("%s: %w: %w; run as root, or with CAP_BPF and CAP_NET_ADMIN", what, ErrPrivilege, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// borderEntries gives each prefix that occurs the decision of the longest
// local and the longest exempt prefix that covers it, so that one look-up of
// the longest match answers both questions.
func borderEntries(local, exempt []netip.Prefix) map[netip.Prefix]uint32 {
	out := map[netip.Prefix]uint32{}
	for _, p := range append(append([]netip.Prefix{}, local...), exempt...) {
		out[p.Masked()] = 0
	}
	for p := range out {
		var v uint32
		if covered(p, local) {
			v |= borderLocal
		}
		if covered(p, exempt) {
			v |= borderExempt
		}
		out[p] = v
	}
	return out
}

func covered(p netip.Prefix, by []netip.Prefix) bool {
	for _, q := range by {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

func prefixKey(p netip.Prefix) kernelPrefix {
	k := kernelPrefix{Length: uint32(p.Bits()), Addr: session.AddrFrom(p.Addr())}
	if p.Addr().Is4() {
		k.Length += 96
	}
	return k
}

// setBorder makes the map hold exactly these prefixes: new ones are added
// before old ones go, so that no address is for a moment not local.
func setBorder(m *ebpf.Map, local, exempt []netip.Prefix) error {
	// IPv4 stands below ::ffff:0:0/96: a shorter IPv6 prefix must not cover it.
	want := map[kernelPrefix]uint32{{Length: 96, Addr: session.AddrFrom(netip.IPv4Unspecified())}: 0}
	for p, v := range borderEntries(local, exempt) {
		want[prefixKey(p)] = v
	}
	for k, v := range want {
		if err := m.Put(k, v); err != nil {
			return fmt.Errorf("add a border prefix: %w", err)
		}
	}
	var stale []kernelPrefix
	var k kernelPrefix
	var v uint32
	it := m.Iterate()
	for it.Next(&k, &v) {
		if _, ok := want[k]; !ok {
			stale = append(stale, k)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("walk through the border prefixes: %w", err)
	}
	for _, k := range stale {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a border prefix: %w", err)
		}
	}
	return nil
}

// removeMemlock lifts the limit that kernels before 5.11 put on maps.
func removeMemlock() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return explain("lift the memory lock limit", err)
	}
	return nil
}
