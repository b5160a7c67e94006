package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorLooksAtConntrack(t *testing.T) {
	for name, c := range map[string]struct {
		settings  map[string]string
		want      string
		bad, warn int
	}{
		"no conntrack":       {nil, "modprobe nf_conntrack_netlink", 1, 0},
		"all is well":        {map[string]string{"max": "1", "timestamp": "1", "events": "1"}, "the kernel tells the times", 0, 0},
		"no times":           {map[string]string{"max": "1", "timestamp": "0", "events": "1"}, "nf_conntrack_timestamp=1", 0, 1},
		"events when wanted": {map[string]string{"max": "1", "timestamp": "1", "events": "2"}, "nf_conntrack_events=1", 0, 1},
		"no events":          {map[string]string{"max": "1", "timestamp": "1", "events": "0"}, "tells nobody", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for k, v := range c.settings {
				if err := os.WriteFile(filepath.Join(dir, "nf_conntrack_"+k), []byte(v+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var b bytes.Buffer
			d := &doctor{w: &b}
			d.checkConntrack(dir)
			if d.bad != c.bad || d.warned != c.warn || !strings.Contains(b.String(), c.want) {
				t.Errorf("%d faults, %d warnings:\n%s", d.bad, d.warned, b.String())
			}
		})
	}
}
