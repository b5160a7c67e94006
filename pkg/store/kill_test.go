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
			for range 3 { // each start leaves logs behind
				l.put(KindSessions, aDay, "a block")
				l.close()
				l.open(testOptions())
			}
			before, err := l.readAll(KindSessions, 0, 1<<60)
			if err != nil {
				t.Fatal(err)
			}
			l.close()
			names, err := filepath.Glob(filepath.Join(l.dir, "blocks", "*."+kind))
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
			if err := os.WriteFile(filepath.Join(l.dir, "blocks", name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			l.open(testOptions())
			after, err := l.readAll(KindSessions, 0, 1<<60)
			if err != nil || len(after) != len(before) || len(after) == 0 {
				t.Errorf("%d blocks, and %d before: %v", len(after), len(before), err)
			}
		})
	}
}
