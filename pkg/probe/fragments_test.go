package probe

import (
	"net/netip"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

func TestHeldFragmentsWaitForRoomInAFullTable(t *testing.T) {
	r, err := openReplay(ReplayOptions{Slots: MinSlots}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range uint32(4 * MinSlots) { // until nothing fits any more
		if err := r.Packet(udpN(i), t0); err != nil {
			t.Fatal(err)
		}
	}
	body := append(udp(1, 2), make([]byte, 24)...)
	const many = 50
	for i := range uint16(many) {
		if err := r.Packet(fragment4(a4, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), i, 17, body, 8, 32, false), t0); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := r.frags.expire(uint64(t0)+uint64(40*second), false)
	if err != nil || waiting+int(r.t.meta.Orphaned) != many || waiting == 0 {
		t.Fatalf("%d wait, %d recorded, %v", waiting, r.t.meta.Orphaned, err)
	}
	clear(r.t.slots)
	clear(r.t.words)
	if waiting, err = r.frags.expire(uint64(t0)+uint64(41*second), false); err != nil || waiting != 0 || r.t.meta.Orphaned != many {
		t.Errorf("%d wait, %d recorded, %v", waiting, r.t.meta.Orphaned, err)
	}
}

func TestHeldFragmentsAreRecordedAtTheEndOfAFullTable(t *testing.T) {
	recorded := 0
	r, err := openReplay(ReplayOptions{Slots: MinSlots, Emit: func(s []session.Session) {
		for i := range s {
			if s[i].Flags&session.Orphan != 0 {
				recorded++
			}
		}
	}}, 4096, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range uint32(4 * MinSlots) { // until nothing fits any more
		if err := r.Packet(udpN(i), t0); err != nil {
			t.Fatal(err)
		}
	}
	body := append(udp(1, 2), make([]byte, 24)...)
	const many = 50
	for i := range uint16(many) {
		if err := r.Packet(fragment4(a4, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), i, 17, body, 8, 32, false), t0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(); err != nil || recorded != many {
		t.Errorf("%d of %d sessions of held fragments were recorded, %v", recorded, many, err)
	}
}
