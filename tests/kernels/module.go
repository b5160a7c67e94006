package kernels

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modules are what a guest needs, by name. One that a kernel has built in, or
// does not know, is left out.
var modules = []string{
	"virtio_pci", "virtio_net", "veth", "dummy", "8021q", "sch_ingress", "cls_bpf", "act_bpf",
	"nfnetlink", "xfrm_user", "nf_conntrack", "nf_conntrack_netlink", "nf_tables", "nft_ct", "nft_objref",
}

// moduleSet finds modules below a directory, with what they depend on.
type moduleSet struct {
	files map[string]string // path by name
	order []string          // names, each after those that it needs
	data  map[string][]byte
}

func findModules(dir string) (*moduleSet, error) {
	m := &moduleSet{files: map[string]string{}, data: map[string][]byte{}}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(e.Name(), ".ko"); ok && e.Type().IsRegular() {
			m.files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return nil
	})
	if err == nil && len(m.files) == 0 {
		err = errors.New("it holds none")
	}
	if err != nil {
		return nil, fmt.Errorf("look for kernel modules in %q: %w", dir, err)
	}
	return m, nil
}

// need takes a module and what it depends on, each once.
func (m *moduleSet) need(name string) error {
	path, known := m.files[name]
	if _, done := m.data[name]; done || !known {
		return nil
	}
	data, err := readModule(path)
	if err != nil {
		return err
	}
	m.data[name] = data
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("read the module %q: %w", path, err)
	}
	for _, d := range depends {
		if err := m.need(strings.ReplaceAll(d, "-", "_")); err != nil {
			return err
		}
	}
	m.order = append(m.order, name)
	return nil
}

// readModule reads a module, which may be compressed.
func readModule(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		out, err := exec.Command("xz", "-dc", path).Output()
		if err != nil {
			return nil, fmt.Errorf("unpack the module %q: %w", path, err)
		}
		return out, nil
	}
	return os.ReadFile(path)
}

// dependencies reads "depends=a,b" of the section .modinfo.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("it has no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, word := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(word, "depends="); ok && list != "" {
			out = append(out, strings.Split(list, ",")...)
		}
	}
	return out, nil
}
