package store

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/vault"
)

// resident returns how many bytes of the tables in dir are in this process's
// memory, and how many are mapped.
func resident(t *testing.T, dir string) (in, mapped int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	table := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if name, from, to, ok := mapping(lines.Bytes()); ok || !strings.Contains(strings.Fields(line)[0], ":") {
			if table = ok && strings.HasPrefix(name, dir) && strings.HasSuffix(name, ".sst"); table {
				mapped += int(to - from)
			}
		}
		var kB int
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kB); n == 1 && table {
			in += kB << 10
		}
	}
	return in, mapped
}

func TestTablesThatAreWrittenTakeNoMemory(t *testing.T) {
	l := newLab(t, t.TempDir(), testOptions())
	const size = 1<<20 - 1<<10
	var blocks [][]byte
	for i := range 120 { // seven tables
		plain := bytes.Repeat([]byte{byte(i)}, size)
		b, err := l.v.Seal(nil, vault.Place{Gateway: "gw-1", Kind: uint8(KindSessions), Day: int32(aDay), Epoch: l.epoch,
			Seq: l.s.NextSeq(KindSessions, aDay, l.epoch), Count: 1}, plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.s.Put(b); err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	in, mapped := resident(t, l.s.mapped)
	if mapped < 5*memTable {
		t.Fatalf("%d MiB of tables are mapped: this shows nothing", mapped>>20)
	}
	if in > 4*memTable {
		t.Errorf("%d MiB of %d MiB of tables are in memory", in>>20, mapped>>20)
	}
	n := 0
	if err := l.s.Scan(t.Context(), KindSessions, 0, 1<<62, func(p vault.Place, b Sealed) error {
		if !bytes.Equal(b, blocks[p.Seq]) {
			t.Errorf("block %d came back changed", p.Seq)
		}
		n++
		return nil
	}); err != nil || n != len(blocks) {
		t.Errorf("%d blocks of %d, %v", n, len(blocks), err)
	}
}

func TestALineOfTheMappingsIsRead(t *testing.T) {
	for line, want := range map[string]string{
		"7f00c8000000-7f00c9000000 rw-s 00000000 fe:00 123    /data/store/blocks/000001.sst": "/data/store/blocks/000001.sst 7f00c8000000 7f00c9000000",
		"7f00c8000000-7f00c9000000 rw-p 00000000 00:00 0 ":                                   "",
		"7f00c9000000-7f00c8000000 rw-s 00000000 fe:00 123    /backwards.sst":                "",
		"Rss:                   4 kB":                                                        "",
		"x-y /":                                                                              "",
		"":                                                                                   "",
		"/":                                                                                  "",
		"7f00c8000000 7f00c9000000-/a":                                                       "",
		"7f00c8000000-7f00c9000000/a.sst":                                                    "",
	} {
		got := ""
		if name, from, to, ok := mapping([]byte(line)); ok {
			got = fmt.Sprintf("%s %x %x", name, from, to)
		}
		if got != want {
			t.Errorf("%q: %q, not %q", line, got, want)
		}
	}
}
