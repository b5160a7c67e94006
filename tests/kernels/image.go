package kernels

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// image writes an initial RAM file system: a cpio archive in the "newc" form
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type image struct {
	w    *bufio.Writer
	seen map[string]bool
	n    int // inode numbers, which also keeps files apart
	err  error
}

func (m *image) put(name string, mode uint32, data []byte) {
	if m.seen[name] || m.err != nil {
		return
	}
	m.seen[name] = true
	if dir := path.Dir(name); dir != "/" {
		m.put(dir, 0o040755, nil)
	}
	m.n++
	name = strings.TrimPrefix(name, "/")
	_, m.err = fmt.Fprintf(m.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		m.n, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	m.pad(110 + len(name) + 1)
	_, err := m.w.Write(data)
	m.err = errors.Join(m.err, err)
	m.pad(len(data))
}

// pad fills up to a multiple of four bytes.
func (m *image) pad(n int) {
	_, err := m.w.Write(make([]byte, -n&3))
	m.err = errors.Join(m.err, err)
}

// file copies a file of this machine, or a link's target, to a place.
func (m *image) file(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("pack %q: %w", from, err)
	}
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("pack %q: %w", from, err)
	}
	m.put(to, 0o100000|uint32(info.Mode().Perm()), data)
	return m.err
}

// tree copies a directory to the same place.
func (m *image) tree(dir string) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return m.file(name, name)
	})
}

// program copies an installed program with its libraries.
func (m *image) program(name string) error {
	at, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("pack %q: %w; scripts/setup.sh lab installs it", name, err)
	}
	if err := m.file(at, "/bin/"+filepath.Base(name)); err != nil {
		return err
	}
	out, err := exec.Command("ldd", at).Output()
	if err != nil {
		return fmt.Errorf("list the libraries of %q: %w", at, err)
	}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			if err := m.file(word, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// links and devices that a program finds on any machine, before /dev is there.
func (m *image) basics() {
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/run", "/var", "/root"} {
		m.put(dir, 0o040755, nil)
	}
	m.put("/usr/bin", 0o120777, []byte("/bin"))
	m.put("/sbin", 0o120777, []byte("/bin"))
	m.put("/usr/sbin", 0o120777, []byte("/bin"))
	m.put("/etc/passwd", 0o100644, []byte("root:x:0:0::/root:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"))
	m.put("/etc/group", 0o100644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	m.put("/etc/hosts", 0o100644, []byte("127.0.0.1 localhost\n"))
}

// pack writes the image of a guest: its plan, the programs it runs, and the
// kernel's modules.
func pack(to string, k Kernel, b *Programs, steps []Step) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("make the image: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m := &image{w: bufio.NewWriterSize(f, 1<<20), seen: map[string]bool{}}
	m.basics()
	set, err := findModules(k.Modules)
	if err != nil {
		return err
	}
	for _, name := range modules {
		if err := set.need(name); err != nil {
			return err
		}
	}
	plan := Plan{Steps: steps}
	for _, name := range set.order {
		file := "/modules/" + name + ".ko"
		m.put(file, 0o100644, set.data[name])
		plan.Modules = append(plan.Modules, file)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	m.put(PlanFile, 0o100644, text)
	if err := m.programs(b, steps); err != nil {
		return err
	}
	m.put("/TRAILER!!!", 0, nil)
	return errors.Join(m.err, m.w.Flush())
}

// programs packs what was compiled, as far as a step uses it, and what the
// steps run besides.
func (m *image) programs(b *Programs, steps []Step) error {
	if err := errors.Join(m.file(b.guest, "/init"), m.file(b.agent, Agent)); err != nil {
		return err
	}
	lab := false
	for _, name := range sortedNames(b.tests) {
		used := slices.ContainsFunc(steps, func(s Step) bool { return len(s.Command) > 0 && s.Command[0] == "/bin/"+name })
		if !used {
			continue
		}
		lab = lab || name != probeTest
		if err := m.file(b.tests[name], "/bin/"+name); err != nil {
			return err
		}
	}
	if !lab {
		return nil
	}
	for _, name := range labPrograms {
		if err := m.program(name); err != nil {
			return err
		}
	}
	return m.tree("/usr/share/freeradius")
}
