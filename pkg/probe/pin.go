package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const standardBPFFS = "/sys/fs/bpf"

// pinDir is the directory of pinned objects of one layout: <dir>/<layout>. Of
// another layout nothing here is ever touched.
type pinDir struct {
	path   string
	layout string
}

// openPinDir makes the directory, and mounts a BPF file system where there is
// none: on /sys/fs/bpf when dir is in there, else on dir itself.
func openPinDir(dir, layout string) (pinDir, error) {
	p := pinDir{filepath.Join(dir, layout), layout}
	if !isBPFFS(dir) {
		if err := mountBPFFS(dir); err != nil {
			return p, err
		}
	}
	if err := os.MkdirAll(p.path, 0o700); err != nil {
		return p, explain(fmt.Sprintf("make the pin directory %q", p.path), err)
	}
	return p, nil
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

// maps opens the pinned maps, or creates and pins them.
func (p pinDir) maps(spec *ebpf.CollectionSpec) (maps map[string]*ebpf.Map, adopted bool, err error) {
	if _, err := os.Stat(filepath.Join(p.path, "sessions")); err == nil {
		maps, err := p.adopt(spec)
		return maps, true, err
	}
	if maps, err = createMaps(spec); err != nil {
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

func (p pinDir) adopt(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
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
	return maps, nil
}

func (p pinDir) linkPath(hook string, ifindex int) string {
	return filepath.Join(p.path, fmt.Sprintf("%s_%d", hook, ifindex)) // names of links may hold dots, pins may not
}

// pinnedLink opens a link of an earlier agent; nil when there is none, or when
// its device is gone or another one.
func (p pinDir) pinnedLink(hook string, ifindex int) link.Link {
	path := p.linkPath(hook, ifindex)
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

// remove unpins everything of this layout.
func (p pinDir) remove() error {
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(p.path, e.Name())); err != nil {
			return fmt.Errorf("unpin %q: %w", e.Name(), err)
		}
	}
	if err := os.Remove(p.path); err != nil {
		return fmt.Errorf("remove the pin directory: %w", err)
	}
	return nil
}
