package tests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/load"
)

const (
	floodSessions = 100_000 // that go on all the time
	mostMemory    = 256 << 20
	mostPerRecord = 64 // bytes on disk: of a flood's session, whose far end and port are random
)

// span is when a generator ran.
type span struct{ from, to time.Time }

func (w span) holds(ns int64) bool {
	return ns >= w.from.Add(-tick-time.Millisecond).UnixNano() && ns <= w.to.Add(tick).UnixNano()
}

// generate runs a generator to its end.
func generate(ctx context.Context, o load.Options) (sent load.Sent, w span, err error) {
	g, err := load.Open(o)
	if err != nil {
		return sent, w, err
	}
	w.from = time.Now()
	sent, err = g.Run(ctx)
	w.to = time.Now()
	return sent, w, errors.Join(err, g.Close())
}

// memory is what a process has of its own in memory, bytes; the table is not
// counted.
func memory(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory is a process's own")
}

// onDiskBytes is what a directory takes on the disk.
func onDiskBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			n += fi.Size()
		}
		return err
	})
	return n, err
}

// flood has a SYN flood beside steady traffic of the established sessions, and
// returns the most memory that the agent took meanwhile.
func flood(ctx context.Context, g *gateway.Gateway, steady load.Options, length time.Duration) (sent load.Sent, most int64, err error) {
	steady.Rate, steady.Duration, steady.CPU = floodSessions/5, length, 1
	o := load.On(g.Border, load.Flood)
	o.Duration, o.Seed = length, 99
	both := make(chan error, 2)
	go func() { _, _, err := generate(ctx, steady); both <- err }() // ends with its duration
	go func() { var err error; sent, _, err = generate(ctx, o); both <- err }()
	for running := 2; running > 0; {
		select {
		case e := <-both:
			running--
			err = errors.Join(err, e)
		case <-time.After(20 * time.Millisecond): // a sample of the memory
			now, e := memory(g.Agent().PID())
			if most = max(most, now); e != nil {
				return sent, most, e
			}
		}
	}
	return sent, most, err
}

func TestAFloodOfSYNsLosesAndMistimesNoEstablishedSession(t *testing.T) {
	program, err := quick()
	if err != nil {
		t.Fatal(err)
	}
	g := open(t, 0, gateway.Options{Slots: 1 << 18, Edit: map[string]string{ // the flood fills it
		"half_open =": `half_open = "3s"`, "on_stop =": `on_stop = "drain"`,
	}})
	g.Use(program)
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	hands := load.On(g.Border, load.Handshakes)
	hands.Seed, hands.Count = 7, floodSessions
	steady := load.On(g.Border, load.Established)
	steady.Seed, steady.Flows = hands.Seed, floodSessions
	last := steady
	last.Count = floodSessions // each is met once
	_, begun, err := generate(ctx, hands)
	if err != nil {
		t.Fatal(err)
	}
	sent, most, err := flood(ctx, g, steady, time.Duration(times(5, 60))*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, ended, err := generate(ctx, last)
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Status(ctx)
	if err == nil {
		err = g.Stop(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	stored := checkEstablished(t, g, hands, begun, ended)
	refused := uint64(0)
	for _, why := range []string{"table_full", "half_open", "contended"} {
		refused += s.Probe.Uplinks[0].In.Outcomes[why]
	}
	if uint64(stored)+refused != sent.Sessions {
		t.Errorf("%d SYNs flooded: %d stored, %d counted as refused", sent.Sessions, stored, refused)
	}
	if refused == 0 {
		t.Error("the table was never too small, so this test proves little")
	}
	disk := checkBounds(t, g, stored+floodSessions, most)
	t.Logf("%d SYNs in %v, %.2f million a second: %d stored, %d refused and counted; %d MiB of memory beside the table, %d MiB on disk",
		sent.Sessions, sent.Took.Round(time.Millisecond), float64(sent.Sessions)/sent.Took.Seconds()/1e6, stored, refused, most>>20, disk>>20)
}

// checkBounds holds what the agent took against what is stated, and returns what
// it took on the disk.
func checkBounds(t *testing.T, g *gateway.Gateway, records int, most int64) (disk int64) {
	t.Helper()
	disk, err := onDiskBytes(filepath.Join(g.DataDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(records)*mostPerRecord*2 + 128<<20; disk > limit { // written to the log and to a table
		t.Errorf("%d bytes on disk for %d records, more than %d", disk, records, limit)
	}
	if most > mostMemory {
		t.Errorf("the agent took %d MiB of memory beside the table, more than %d", most>>20, mostMemory>>20)
	}
	return disk
}

// checkEstablished compares the sessions that went on with what is stored, and
// returns how many others are.
func checkEstablished(t *testing.T, g *gateway.Gateway, o load.Options, begun, ended span) (others int) {
	t.Helper()
	tuples, err := load.Tuples(o, floodSessions)
	if err != nil {
		t.Fatal(err)
	}
	type ends struct{ from, to netip.AddrPort }
	want := make(map[ends]*found, len(tuples))
	for _, s := range tuples {
		want[ends{s.Initiator(), s.Responder()}] = &found{}
	}
	flooded := map[session.ID]bool{}
	err = eachRecord(t.Context(), g, g.DataDir(), func(s *session.Session) {
		f := want[ends{netip.AddrPortFrom(s.Initiator.Netip(), s.InitiatorPort), netip.AddrPortFrom(s.Responder.Netip(), s.ResponderPort)}]
		switch {
		case s.Flags&session.Sampled != 0:
		case f == nil:
			flooded[s.ID()] = true
		default:
			f.add(s)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	missing, wrong := 0, 0
	for _, f := range want {
		switch {
		case f.records == 0:
			missing++
		case f.doubled || !begun.holds(f.start) || !ended.holds(f.end):
			if wrong++; wrong < 5 {
				t.Logf("%+v: begun %v, ended %v", *f, begun, ended)
			}
		}
	}
	if missing+wrong > 0 {
		t.Errorf("of %d established sessions %d are missing, %d doubled or mistimed", len(want), missing, wrong)
	}
	return len(flooded)
}
