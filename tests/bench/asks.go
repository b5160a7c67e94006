package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// flows are the same sessions in nfdump's files, a directory a day, as its
// users keep them.
type flows struct{ dir string }

// keepFlows has nfcapd collect the sessions, day after day.
func keepFlows(ctx context.Context, dir string, list []session.Session) (*flows, error) {
	f := &flows{dir}
	for len(list) > 0 {
		d := session.DayOf(list[0].End)
		n := 0
		for n < len(list) && session.DayOf(list[n].End) <= d {
			n++
		}
		if err := collectNfdump(ctx, f.of(d), list[:n]); err != nil {
			return nil, err
		}
		list = list[n:]
	}
	return f, nil
}

func (f *flows) of(d session.Day) string { return filepath.Join(f.dir, d.String()) }

// ask puts the question that is named to nfdump, about a session, and returns
// how long it took; it fails unless the answer has the far end in it.
func (f *flows) ask(ctx context.Context, name string, s *session.Session) (time.Duration, error) {
	dir, filter := f.of(session.DayOf(s.End)), ""
	local, port, _ := s.LocalEnd()
	far, _, _ := s.RemoteEnd()
	switch name {
	case "public_address_port":
		filter = fmt.Sprintf("ip %s and port %d", local, port)
	case "subscriber_day":
		filter = fmt.Sprintf("ip %s", local) // it knows no subscribers
	case "remote_30d":
		dir = f.dir
		fallthrough
	default:
		filter = fmt.Sprintf("ip %s", far)
	}
	begin := time.Now()
	text, err := exec.CommandContext(ctx, "nfdump", "-q", "-6", "-o", "csv", "-R", dir, filter).CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		return took, fmt.Errorf("nfdump %q: %w: %.300s", filter, err, text)
	}
	if !strings.Contains(string(text), far.String()) {
		return took, fmt.Errorf("nfdump %q does not name %s: %.300s", filter, far, text)
	}
	return took, nil
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1000
}

// dropCaches makes the kernel forget what it has read of files; see
// proc_sys_vm(5).
func dropCaches() error {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}
