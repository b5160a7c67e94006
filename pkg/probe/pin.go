package probe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

const standardBPFFS = "/sys/fs/bpf"

// pinDir is the directory of pinned objects of one layout: <dir>/<layout>. In
// those of other layouts beside it only links are touched here: they are taken
// over, or removed where nothing is to be watched any more.
type pinDir struct {
	path   string
	layout string
	others []string // directories of older tables
	lock   *os.File // held by the agent that owns the table
	brief  bool     // the file system will go with this process
}

// openPinDir makes the directory, and mounts a BPF file system where there is
// none: on /sys/fs/bpf when dir is in there, else on dir itself.
func openPinDir(dir, layout string) (pinDir, error) {
	p := pinDir{path: filepath.Join(dir, layout), layout: layout}
	if !isBPFFS(dir) {
		if err := mountBPFFS(dir); err != nil {
			return p, err
		}
		p.brief = ownMounts()
	}
	if err := os.MkdirAll(p.path, 0o700); err != nil {
		return p, explain(fmt.Sprintf("make the pin directory %q", p.path), err)
	}
	return p, p.takeLock()
}

// takeLock keeps other agents away for as long as this process lives.
func (p *pinDir) takeLock() error {
	f, err := os.Open(p.path)
	if err != nil {
		return fmt.Errorf("open the pin directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // not ours
		return fmt.Errorf("lock the pin directory %q: %w: another agent uses it; stop it first, or set another bpf_dir", p.path, err)
	}
	p.lock = f
	return nil
}

// dirs are our own directory and those of older tables.
func (p pinDir) dirs() []string { return append([]string{p.path}, p.others...) }

// attachedTo lists the links that pins in these directories are attached to.
func (p pinDir) attachedTo() []int {
	var out []int
	for _, dir := range p.dirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // nothing is there
		}
		for _, e := range entries {
			if _, n, ok := linkPin(e.Name()); ok && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// linkPin reads the name of a link's pin.
func linkPin(name string) (hook string, ifindex int, ok bool) {
	hook, number, _ := strings.Cut(name, "_")
	n, err := strconv.Atoi(number)
	return hook, n, err == nil && slices.Contains([]string{hookXDP, hookIngress, hookEgress}, hook)
}

// unpin detaches pinned links of a device, if there are any, and removes them.
// Removing alone would detach them too, but some time later.
func (p pinDir) unpin(hook string, ifindex int) error {
	for _, dir := range p.dirs() {
		if err := unpinLink(linkPath(dir, hook, ifindex)); err != nil {
			return fmt.Errorf("unpin the %s link: %w", hook, err)
		}
	}
	return nil
}

func unpinLink(path string) error {
	if l, err := link.LoadPinnedLink(path, nil); err == nil {
		_ = l.Detach() // of a device that is gone it is detached already
		_ = l.Close()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ownMounts: this process does not see the mounts that the system sees, as
// under "ip netns exec"; what it mounts goes when it ends.
func ownMounts() bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	system, err2 := os.Readlink("/proc/1/ns/mnt")
	return err == nil && err2 == nil && own != system
}

// isBPFFS looks at the nearest directory that exists.
func isBPFFS(dir string) bool {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return uint32(st.Type) == unix.BPF_FS_MAGIC
		}
		if parent := filepath.Dir(dir); errors.Is(err, unix.ENOENT) && parent != dir {
			dir = parent
			continue
		}
		return false
	}
}

func mountBPFFS(dir string) error {
	at := dir
	if dir == standardBPFFS || strings.HasPrefix(dir, standardBPFFS+"/") {
		at = standardBPFFS
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the pin directory: %w", err)
	}
	if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return explain(fmt.Sprintf("mount a BPF file system on %q (or mount one there yourself: mount -t bpf bpf %s)", at, at), err)
	}
	return nil
}

// maps opens the pinned maps, or creates and pins them; like is an older table
// whose clock a new one shall have, or nil.
func (p pinDir) maps(spec *ebpf.CollectionSpec, profile session.Profile, like *older) (maps map[string]*ebpf.Map, adopted bool, err error) {
	if _, err := os.Stat(filepath.Join(p.path, "sessions")); err == nil {
		maps, err := p.adopt(spec, profile)
		return maps, true, err
	}
	if maps, err = createMaps(spec, profile, like); err != nil {
		return nil, false, err
	}
	for _, name := range sharedMaps { // "sessions" last
		path := filepath.Join(p.path, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			closeMaps(maps)
			return nil, false, fmt.Errorf("remove an unfinished pin: %w", err)
		}
		if err := maps[name].Pin(path); err != nil {
			closeMaps(maps)
			return nil, false, explain(fmt.Sprintf("pin the map %q", name), err)
		}
	}
	return maps, false, nil
}

func (p pinDir) adopt(spec *ebpf.CollectionSpec, profile session.Profile) (map[string]*ebpf.Map, error) {
	maps := map[string]*ebpf.Map{}
	for _, name := range sharedMaps {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.path, name), nil)
		if err != nil {
			closeMaps(maps)
			return nil, explain(fmt.Sprintf("adopt the pinned map %q", name), err)
		}
		maps[name] = m
		want := spec.Maps[name]
		if m.Type() != want.Type || m.KeySize() != want.KeySize || m.ValueSize() != want.ValueSize {
			closeMaps(maps)
			return nil, fmt.Errorf("the pinned map %q in %q is not edgelog's: move it away", name, p.path)
		}
	}
	var meta kernelTableMeta
	err := maps["meta"].Lookup(uint32(0), &meta)
	if err != nil {
		err = explain("read the table's meta data", err)
	} else {
		err = sameProfile(session.Profile(meta.Profile), profile)
	}
	if err != nil {
		closeMaps(maps)
		return nil, err
	}
	return maps, nil
}

// sameProfile refuses a table that was filled under another profile: what it
// holds may be more, or less, than this one permits.
func sameProfile(old, profile session.Profile) error {
	if old != profile {
		return fmt.Errorf("%w: the pinned table was filled with profile %q, not %q: run the agent once more with profile = %q and on_stop = \"drain\", stop it, and change the profile then",
			ErrOptions, old, profile, old)
	}
	return nil
}

func (p pinDir) linkPath(hook string, ifindex int) string { return linkPath(p.path, hook, ifindex) }

func linkPath(dir, hook string, ifindex int) string {
	return filepath.Join(dir, fmt.Sprintf("%s_%d", hook, ifindex)) // names of links may hold dots, pins may not
}

// pinnedLink opens a link of an earlier agent, wherever it is pinned; nil when
// there is none, or when its device is gone or another one.
func (p pinDir) pinnedLink(hook string, ifindex int) link.Link {
	for _, dir := range p.dirs() {
		if l := pinnedLink(linkPath(dir, hook, ifindex), ifindex); l != nil {
			return l
		}
	}
	return nil
}

func pinnedLink(path string, ifindex int) link.Link {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil
	}
	if linkIfindex(l) != ifindex {
		_ = l.Unpin() // of a device that is gone
		_ = l.Close()
		return nil
	}
	return l
}

// linkIfindex is the device that a link is attached to; 0 once it is gone.
func linkIfindex(l link.Link) int {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if x := info.XDP(); x != nil {
		return int(x.Ifindex)
	}
	if t := info.TCX(); t != nil {
		return int(t.Ifindex)
	}
	return 0
}

// remove unpins everything that agents pin. What others put there stays, and
// is an error.
func (p pinDir) remove() error {
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	// "sessions" first: without it the rest counts as unfinished.
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return cmp.Compare(slices.Index(sharedMaps, b.Name()), slices.Index(sharedMaps, a.Name()))
	})
	for _, e := range entries {
		path := filepath.Join(p.path, e.Name())
		_, _, isLink := linkPin(e.Name())
		switch {
		case isLink:
			err = unpinLink(path)
		case slices.Contains(sharedMaps, e.Name()):
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("unpin %q: %w", e.Name(), err)
		}
	}
	if err := os.Remove(p.path); err != nil {
		return fmt.Errorf("remove the pin directory: %w", err)
	}
	return nil
}
