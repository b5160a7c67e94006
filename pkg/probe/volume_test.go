package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// borderOptions those of a probe with an uplink that is not there: frames come by
// hand, and are counted as its own.
func borderOptions(t *testing.T, pins string) Options {
	o := gatewayOptions(t, pins)
	o.Uplinks = []Uplink{{Name: "nowhere", Attach: AttachTCX}}
	return o
}

func volume(t *testing.T, p *Probe) Volume {
	t.Helper()
	v, err := p.Volume()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSessionsAreCountedByTheDirectionOfThePacketThatBeganThem(t *testing.T) {
	p := mustOpen(t, "", borderOptions(t, bpffs(t)))
	from := programsNow() - uint64(5*second)
	passes(t, p, from,
		packet{0, udp4(a4, b4, 5000, 53)}, packet{0, udp4(b4, a4, 53, 5000)}, // one, from inside
		packet{0, udp4(b4, a4, 7, 9)}, packet{0, udp4(b4, a4, 8, 9)}, packet{0, udp4(a4, b4, 9, 8)}, // two, from outside
		packet{0, tcp4(true, "S")}, packet{time.Second, tcp4(true, "R")}, packet{2 * time.Second, tcp4(true, "S")}) // and a tuple that begins anew
	want := Volume{Settled: true, Uplinks: []UplinkVolume{{"nowhere", Traffic{Packets: 6, Sessions: 4}, Traffic{Packets: 2, Sessions: 1}}}}
	if d := cmp.Diff(want, volume(t, p)); d != "" {
		t.Error(d)
	}
	if st := p.Status(); st.Table.Started != 5 {
		t.Errorf("%d sessions began in all", st.Table.Started)
	}
}

func TestSessionsThatTheAgentBeginsAreOfNoDirection(t *testing.T) {
	body := append(udp(5000, 53), make([]byte, 52)...)
	r, err := openReplay(ReplayOptions{Slots: MinSlots}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Packet(fragment4(a4, b4, 9, 17, body, 24, 48, true), t0); err != nil {
		t.Fatal(err)
	}
	if err := r.Packet(udp4(b4, a4, 7, 9), t0); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	c, err := tableCounters(r.maps["table_counts"])
	if err != nil {
		t.Fatal(err)
	}
	if c.Started != 2 || c.Began != [2 * maxUplinks]uint64{1} {
		t.Errorf("%d began, %v of them in a direction", c.Started, c.Began)
	}
}

func TestPacketsOfTheTableBeforeAreCountedOnAndSessionsAnew(t *testing.T) {
	o := borderOptions(t, bpffs(t))
	old := mustOpen(t, "old", o)
	from := programsNow() - uint64(5*second)
	passes(t, old, from, packet{0, udp4(b4, a4, 7, 9)}, packet{0, udp4(b4, a4, 8, 9)})
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Volume(); err == nil {
		t.Error("a closed probe counts")
	}
	p := mustOpen(t, "", o)
	passes(t, p, from, packet{time.Second, udp4(b4, a4, 9, 9)})
	want := Volume{Settled: true, Uplinks: []UplinkVolume{{Uplink: "nowhere", In: Traffic{Packets: 3, Sessions: 1}}}}
	if d := cmp.Diff(want, volume(t, p)); d != "" {
		t.Error(d)
	}
	p.older = []*older{{t: &table{}}} // one whose programs may still be counting
	if volume(t, p).Settled {
		t.Error("it is settled while an older table counts")
	}
	p.older[0].counted = true // only its sessions wait
	if !volume(t, p).Settled {
		t.Error("it is not settled although all is counted")
	}
	p.older = nil
}
