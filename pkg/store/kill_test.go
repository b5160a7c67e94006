package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestALogThatAKillLeftWithoutALengthDoesNotKeepTheStoreShut(t *testing.T) {
	for _, kind := range []string{"vlog", "mem"} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, filepath.Join(t.TempDir(), "store"), testOptions())
			l.put(KindSessions, aDay, "a block")
			dir := l.s.fresh.dir
			l.close()
			names, err := filepath.Glob(filepath.Join(dir, "*."+kind))
			if err != nil {
				t.Fatal(err)
			}
			last := 0
			for _, name := range names {
				var n int
				if _, err := fmt.Sscanf(filepath.Base(name), "%d", &n); err != nil {
					t.Fatal(err)
				}
				last = max(last, n)
			}
			name := fmt.Sprintf(map[string]string{"vlog": "%06d.vlog", "mem": "%05d.mem"}[kind], last+1)
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			l.open(testOptions())
			after, err := l.readAll(KindSessions, 0, 1<<60)
			if err != nil || len(after) != 1 {
				t.Errorf("%d blocks: %v", len(after), err)
			}
		})
	}
}
