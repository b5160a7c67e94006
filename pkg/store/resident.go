package store

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Badger writes a table through a mapping of its file and keeps it mapped: all
// of it then counts as memory of this process, for as long as nobody else wants
// the memory. outOfMemory gives back what is mapped of tables that were new when
// it was called last, and so are complete by now; who looks something up has it
// read again. What fails costs memory and nothing else.
func (s *Store) outOfMemory() {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()       //nolint:errcheck // it was only read
	now := map[string]bool{} // whether it was given back
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		name, from, to, ok := mapping(lines.Bytes())
		if !ok || filepath.Ext(name) != ".sst" || filepath.Dir(name) != s.mapped {
			continue
		}
		given, known := s.tables[name]
		if known && !given {
			// Asked for by its address, this does no harm to whatever else may be
			// mapped there by now: this advice throws nothing away.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_PAGEOUT)
		}
		now[name] = known
	}
	s.tables = now
}

// mapping reads a line of /proc/self/maps (proc_pid_maps(5)).
func mapping(line []byte) (name string, from, to uintptr, ok bool) {
	slash := bytes.IndexByte(line, '/')
	dash, space := bytes.IndexByte(line, '-'), bytes.IndexByte(line, ' ')
	if slash < 0 || dash < 0 || space < dash {
		return "", 0, 0, false
	}
	a, err := strconv.ParseUint(string(line[:dash]), 16, 64)
	if err != nil {
		return "", 0, 0, false
	}
	b, err := strconv.ParseUint(string(line[dash+1:space]), 16, 64)
	if err != nil || b <= a {
		return "", 0, 0, false
	}
	return string(line[slash:]), uintptr(a), uintptr(b), true
}
