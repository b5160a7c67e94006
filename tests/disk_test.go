package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
)

// smallDisk is a small file system of its own that can be filled to its last byte.
type smallDisk struct {
	dir    string
	filler string
}

// openOnDisk makes a gateway that keeps its data on such a disk.
func openOnDisk(t *testing.T) (*gateway.Gateway, *smallDisk) {
	t.Helper()
	g := open(t, 0, gateway.Options{Edit: quickEnds()})
	d := &smallDisk{dir: filepath.Join(g.Lab.Dir(), "disk")}
	d.filler = filepath.Join(d.dir, "filler")
	err := os.Mkdir(d.dir, 0o700)
	if err == nil {
		err = unix.Mount("disk", d.dir, "tmpfs", 0, "size=640m")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := g.Reconfigure(map[string]string{"data_dir =": fmt.Sprintf("data_dir = %q", filepath.Join(d.dir, "data"))}); err != nil {
		t.Fatal(err)
	}
	return g, d
}

// fill takes all the space that is left but so many bytes.
func (d *smallDisk) fill(left int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return err
	}
	f, err := os.Create(d.filler)
	if err != nil {
		return err
	}
	if n := int64(st.Bavail)*st.Bsize - left; n > 0 {
		err = unix.Fallocate(int(f.Fd()), 0, 0, n)
	}
	return errors.Join(err, f.Close())
}

func (d *smallDisk) free() error { return os.Remove(d.filler) }

// alarmed waits until the agent says that it cannot store.
func alarmed(ctx context.Context, t *testing.T, g *gateway.Gateway) {
	t.Helper()
	s, err := g.Until(ctx, "the agent alarms", func(s *gateway.Status) bool { return !s.Store.OK && s.Sessions.Returned > 0 })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.State, "NOT storing") || !strings.Contains(s.Store.Text, "make room") {
		t.Errorf("state %q, store %q: %q", s.State, s.Store.State, s.Store.Text)
	}
	if s.LastError == nil || !strings.Contains(s.LastError.Text, "too little disk space") {
		t.Errorf("the last error is not the disk: %+v", s.LastError)
	}
}

func TestAFullDiskAlarmsAndLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		left int64 // bytes
	}{
		{"too little is left to go on writing", 200 << 20},
		{"not a byte is left", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, d := openOnDisk(t)
			ctx := limited(t)
			if err := g.Start(ctx); err != nil {
				t.Fatal(err)
			}
			checkBalanceAtEnd(t, g)
			w := newCrowd(t, g, 8080)
			callAndCheck(ctx, t, g, w, 400)
			if err := d.fill(c.left); err != nil {
				t.Fatal(err)
			}
			if err := w.call(ctx, 400)(); err != nil {
				t.Fatal(err)
			}
			alarmed(ctx, t, g)
			if err := d.free(); err != nil {
				t.Fatal(err)
			}
			callAndCheck(ctx, t, g, w, 400)
			s, err := g.Status(ctx)
			if err != nil || !s.Store.OK || s.State != "recording" {
				t.Errorf("it does not go on by itself: %v, state %q, store %q", err, s.State, s.Store.Text)
			}
		})
	}
}

func TestAnAgentDoesNotStartOnAFullDiskAndGoesOnWhenThereIsRoom(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(ctx context.Context, g *gateway.Gateway) error
	}{
		{"stopped", func(ctx context.Context, g *gateway.Gateway) error {
			// It says that not all could be stored, and where that is.
			if err := g.Stop(ctx); err == nil || !strings.Contains(g.Agent().Output(), "stays in the kernel's table for the next start") {
				return fmt.Errorf("stopping on a full disk: %w: %s", err, g.Agent().Output())
			}
			return nil
		}},
		{"killed", func(_ context.Context, g *gateway.Gateway) error { g.Kill(); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, d := openOnDisk(t)
			ctx := limited(t)
			if err := g.Start(ctx); err != nil {
				t.Fatal(err)
			}
			checkBalanceAtEnd(t, g)
			w := newCrowd(t, g, 8080)
			callAndCheck(ctx, t, g, w, 400)
			if err := d.fill(0); err != nil {
				t.Fatal(err)
			}
			if err := w.call(ctx, 400)(); err != nil {
				t.Fatal(err)
			}
			alarmed(ctx, t, g)
			if err := c.end(ctx, g); err != nil {
				t.Fatal(err)
			}
			if err := w.call(ctx, 400)(); err != nil {
				t.Fatal(err)
			}
			if err := g.Start(ctx); err == nil || !strings.Contains(err.Error(), "too little disk space") || !strings.Contains(err.Error(), "make room") {
				t.Fatalf("starting on a full disk: %v", err)
			}
			if err := errors.Join(d.free(), g.Start(ctx)); err != nil {
				t.Fatal(err)
			}
			callAndCheck(ctx, t, g, w, 400)
		})
	}
}
