package tests

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
)

// otherLayout is the program of another release, whose pinned table has
// another layout.
func otherLayout(t *testing.T) string {
	t.Helper()
	next := filepath.Join(t.TempDir(), "edgelog")
	flags := "-X main.release=next -X github.com/edgelog/edgelog/pkg/probe.layoutSalt=next"
	if out, err := exec.Command("go", "build", "-race", "-ldflags", flags, "-o", next, "../cmd/edgelog").CombinedOutput(); err != nil {
		t.Fatalf("build edgelog: %v\n%s", err, out)
	}
	return next
}

// pinned returns the directories under bpf_dir, and the ids of the links that
// are pinned in them.
func pinned(t *testing.T, g *gateway.Gateway) (dirs []string, ids []int) {
	t.Helper()
	entries, err := os.ReadDir(g.BPFFS())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dirs = append(dirs, e.Name())
		links, err := filepath.Glob(filepath.Join(g.BPFFS(), e.Name(), "*_[0-9]*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range links {
			l, err := link.LoadPinnedLink(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			info, err := l.Info()
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, int(info.ID))
			_ = l.Close()
		}
	}
	slices.Sort(ids)
	return dirs, ids
}

const longPort = 8081

// longCall is a connection that stays, as its client knows it.
type longCall struct {
	connection
	conn      net.Conn
	lastWrite time.Time // before the last byte was sent
}

// dial opens n connections of each subscriber that stay.
func dial(t *testing.T, g *gateway.Gateway, n int) (calls []*longCall) {
	t.Helper()
	to := netip.AddrPortFrom(g.Server4, longPort)
	l, err := g.Internet.Listen(to)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the lab closes the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the client closes
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						_ = c.Close()
						return
					}
				}
			}()
		}
	}()
	for i := range n * len(g.Subscribers) {
		s := g.Subscribers[i%len(g.Subscribers)]
		c := &longCall{}
		err := s.Namespace.Do(func() (err error) {
			c.before = time.Now()
			c.conn, err = net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.Addr4, 0)), net.TCPAddrFromAddrPort(to))
			c.after = time.Now()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		c.from, c.to = c.conn.LocalAddr().(*net.TCPAddr).AddrPort(), to
		calls = append(calls, c)
	}
	return calls
}

func (c *longCall) say(t *testing.T) {
	t.Helper()
	c.lastWrite = time.Now()
	if _, err := c.conn.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
}

func (c *longCall) hangUp(t *testing.T) {
	t.Helper()
	if err := c.conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// spansOnce checks that each connection that stayed is one session, from its
// first packet to its last.
func spansOnce(t *testing.T, g *gateway.Gateway, calls []*longCall) {
	t.Helper()
	found := map[string][]gateway.Session{}
	for _, s := range g.Subscribers {
		_, sessions, err := g.Sessions(limited(t), "--address", s.Addr4.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sessions {
			if s.Proto == unix.IPPROTO_TCP && s.ResponderPort == longPort {
				found[tupleOf(s)] = append(found[tupleOf(s)], s)
			}
		}
	}
	for _, c := range calls {
		list := found[c.tuple()]
		if len(list) != 1 {
			t.Errorf("%s is %d sessions: %+v", c.tuple(), len(list), list)
			continue
		}
		c.check(t, list[0])
		if end := list[0].End; end.Before(c.lastWrite.Add(-tick - time.Millisecond)) {
			t.Errorf("%s: its end is stored as %s, but it spoke at %s", c.tuple(), end, c.lastWrite.UTC())
		}
	}
	if len(found) != len(calls) {
		t.Errorf("%d connections stayed, %d are stored", len(calls), len(found))
	}
}

// upgraded checks what a start with another layout has to keep.
func upgraded(ctx context.Context, t *testing.T, g *gateway.Gateway, before []int) {
	t.Helper()
	dirs, ids := pinned(t, g)
	if len(dirs) != 1 {
		t.Errorf("tables are pinned in %q", dirs)
	}
	if !slices.Equal(before, ids) {
		t.Errorf("the links were %v and are %v", before, ids)
	}
	s, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	u := s.Probe.Uplinks[0]
	if !s.Probe.Adopted || !u.Ingress.Kept || !u.Egress.Kept || u.Error != "" {
		t.Errorf("not taken over: %+v", s.Probe)
	}
}

func TestAnUpgradeToAnotherLayoutUnderTrafficLosesAndDoublesNone(t *testing.T) {
	next := otherLayout(t)
	for _, attach := range []string{"auto", "clsact"} {
		t.Run(attach, func(t *testing.T) {
			edit := quickEnds()
			edit["attach ="] = `attach = "` + attach + `"`
			edit["flush ="] = `flush = "10ms"`
			g := start(t, gateway.Options{Slots: 1 << 17, Edit: edit})
			ctx := limited(t)
			w := newCrowd(t, g, 8080)
			calls := dial(t, g, 20)
			programs := []string{next, binary, next, binary}
			const each = 3000
			for i, program := range programs {
				_, before := pinned(t, g)
				middle := w.at(int64(i*each + each/3))
				wait := w.call(ctx, each)
				<-middle
				if i%2 == 0 {
					g.Kill()
				} else if err := g.Stop(ctx); err != nil {
					t.Fatal(err)
				}
				for j, c := range calls {
					if j%2 == 0 { // the others are silent
						c.say(t)
					}
				}
				g.Use(program)
				if i == 2 { // killed on the way, too
					again := w.at(min(w.total.Load()+100, int64((i+1)*each))) // they may all have been made by now
					p, err := g.Launch()
					if err != nil {
						t.Fatal(err)
					}
					<-again
					p.Kill()
				}
				if err := g.Start(ctx); err != nil {
					t.Fatal(err)
				}
				upgraded(ctx, t, g, before)
				if err := wait(); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range calls {
				c.say(t)
				c.hangUp(t)
			}
			if _, err := g.Until(ctx, "all is stored", func(s *gateway.Status) bool {
				return s.Probe.Table.Open+s.Probe.Table.Closed+s.Probe.Waiting == 0
			}); err != nil {
				t.Fatal(err)
			}
			storedOnce(t, g, w)
			spansOnce(t, g, calls)
		})
	}
}

func TestAnUpgradeWithTheSameLayoutReplacesProgramsInTheirLinks(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	calls := dial(t, g, 5)
	_, before := pinned(t, g)
	first, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g.Kill()
	g.Use(upgrade(t))
	for _, c := range calls {
		c.say(t)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	upgraded(ctx, t, g, before)
	second, err := g.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.Probe.Uplinks[0], second.Probe.Uplinks[0]; a.Ingress.Program == b.Ingress.Program || a.Egress.Program == b.Egress.Program {
		t.Error("the old programs still run")
	}
	for _, c := range calls {
		c.say(t)
		c.hangUp(t)
	}
	if _, err := allStored(ctx, g, len(calls)); err != nil {
		t.Fatal(err)
	}
	spansOnce(t, g, calls)
}
