package main

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/day"
)

// planned compares a figure that plans are made from with what is measured
// now: a plan may say too much, by a quarter, but not too little.
func planned(t *testing.T, what string, constant, measured float64) {
	t.Helper()
	t.Logf("%s: measured %.3f, planned with %.3f", what, measured, constant)
	if measured > constant || measured < constant*0.75 {
		t.Errorf("%s: measured %.3f, but plans are made with %.3f; correct it in plan_figures.go", what, measured, constant)
	}
}

func blockSize(t *testing.T, encode func(dst []byte) ([]byte, error), rows int) float64 {
	t.Helper()
	plain, err := encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(len(plain)+vault.MaxOverhead) / float64(rows)
}

// merged returns a block of sessions as the store merges them: every eighth
// part of those that are sorted together.
func merged() []session.Session {
	const unit, rows = 524_288, 65_536
	list := day.New(day.Options{Seed: 5, Begin: time.Date(2026, 11, 2, 17, 0, 0, 0, time.UTC)}).Append(nil, unit)
	slices.SortFunc(list, func(x, y session.Session) int {
		a, _, _ := x.LocalEnd()
		b, _, _ := y.LocalEnd()
		return bytes.Compare(a[:], b[:])
	})
	var out []session.Session // every eighth subscriber's, so that IPv4 and IPv6 are as in all
	var last session.Addr
	taken := 0
	for i := range list {
		if a, _, _ := list[i].LocalEnd(); a != last {
			last, taken = a, taken+1
		}
		if taken%8 == 0 && len(out) < rows {
			out = append(out, list[i])
		}
	}
	return out
}

func TestPlansAreMadeFromBytesAsTheyAreMeasured(t *testing.T) {
	list := merged()
	rows := len(list)
	h := block.Header{Profile: session.ProfileSession, Gateway: "gw-1", Provider: "Example Internet"}
	planned(t, "bytes of a session", planSessionBytes, blockSize(t, func(d []byte) ([]byte, error) { return block.EncodeSessions(d, h, list) }, rows))
	for i := range list {
		hideFar(&list[i])
	}
	h.Profile = session.ProfileSource
	planned(t, "bytes of a source record", planSourceBytes, blockSize(t, func(d []byte) ([]byte, error) { return block.EncodeSessions(d, h, list) }, rows))
}

// hideFar leaves what profile "source" records.
func hideFar(s *session.Session) {
	s.Flags |= session.LocalOnly
	s.InitiatorTCP, s.ResponderTCP = 0, 0
	if s.Local == session.SideInitiator {
		s.Responder, s.ResponderPort = session.Addr{}, 0
	} else {
		s.Initiator, s.InitiatorPort = session.Addr{}, 0
	}
}

func TestPlansAreMadeFromAccessRecordsAsTheyAreMeasured(t *testing.T) {
	list := accessRecords(300) // a block is written each minute, however little there is
	h := block.Header{Profile: session.ProfileAccess, Gateway: "gw-1", Provider: "Example Internet"}
	planned(t, "bytes of an access record", planBindingBytes, blockSize(t, func(d []byte) ([]byte, error) { return block.EncodeBindings(d, h, list) }, len(list)))
}

func TestPlansAreMadeFromTheHoursAndDurationsOfTheRealisticDay(t *testing.T) {
	planned(t, "busy hour", planBusyHour, day.BusyHour())
	s := day.New(day.Options{Seed: 5})
	var list []session.Session
	var sum, closing float64
	const n = 200_000
	for range n {
		list = s.Append(list[:0], 1)
		sum += float64(s.Now()-list[0].Start) / 1e9
		if r := list[0].EndReason; r == session.EndFIN || r == session.EndRST {
			closing++
		}
	}
	planned(t, "seconds in the table", planOpenSeconds, sum/n)
	planned(t, "sessions that close", planClosing, closing/n)
}

func TestATableIsPlannedAtHalfItsLoad(t *testing.T) {
	a := assumed{Subscribers: 100_000, PerMinute: 1, Packets: 100, BusyHour: 1.6, OpenSeconds: 150, LogOns: 2, RetentionDays: 365}
	p := a.plan(session.ProfileSession)
	if open := 100_000.0 / 60 * 1.6 * 150; float64(p.Slots) < 2*open || float64(p.Slots) >= 4*open {
		t.Errorf("%d slots for %.0f open sessions", p.Slots, open)
	}
	if want := p.DiskDay * 365; p.DiskYear != want || p.DiskKept != want {
		t.Errorf("a year is %.0f, kept %.0f, want %.0f", p.DiskYear, p.DiskKept, want)
	}
	if access := a.plan(session.ProfileAccess); access.Slots != 0 || access.RingBytes != 0 || access.DiskDay >= a.plan(session.ProfileSource).DiskDay {
		t.Errorf("profile access: %+v", access)
	}
	a.Subscribers = 1e9
	if p := a.plan(session.ProfileSession); !p.TooLarge || p.Slots != planMostSlots {
		t.Errorf("a table for 1,000 million subscribers: %+v", p)
	}
}

func TestPowersOfTwoAndPacketCosts(t *testing.T) {
	for v, want := range map[float64]uint64{0: 1, 1: 1, 2: 2, 2.5: 4, 65_536: 65_536, 65_537: 131_072} {
		if got := powerOfTwo(v); got != want {
			t.Errorf("powerOfTwo(%v) = %d, want %d", v, got, want)
		}
	}
	for open, want := range map[float64]float64{0: 21, 65_536: 77, 1e9: 252, 262_144: (77 + 252) / 2.0} {
		if got := packetNs(open); math.Abs(got-want) > 1e-9 {
			t.Errorf("packetNs(%v) = %v, want %v", open, got, want)
		}
	}
}

// accessRecords are those of a day: each subscriber logs on twice, each is
// written when it begins and when it ends.
func accessRecords(n int) (list []session.Binding) {
	heard := day.New(day.Options{Seed: 5}).Append(nil, 20*n)
	for i := range heard {
		s := &heard[i]
		a, _, ok := s.UserEnd()
		if !ok || !a.Is4() || s.Subscriber == "" {
			continue
		}
		b := session.Binding{
			Prefix: block.Exactly(a.Netip()), LastPort: 65535, From: s.Start / 1e9 * 1e9, To: session.Forever, Subscriber: s.Subscriber,
			Line: "bng-" + string(rune('a'+s.InitiatorPort%16)) + " eth 1/" + string(rune('0'+s.InitiatorPort%10)), Equipment: macOf(s),
			Source: session.SourceRADIUS, SourceName: "bng-1", SourceKey: "bng-1/" + macOf(s),
		}
		list = append(list, b)
		b.To = b.From + 3600e9 + int64(s.InitiatorPort)*1e9
		list = append(list, b)
		if len(list) >= n {
			return list
		}
	}
	return list
}

// macOf is an address of equipment that no other has.
func macOf(s *session.Session) string {
	const digits = "0123456789abcdef"
	out := []byte("02:00:00:00:00:00")
	h := uint64(s.InitiatorPort)<<16 ^ uint64(s.Start)/1e6
	for i := 3; i < len(out); i++ {
		if out[i] != ':' {
			out[i] = digits[h&15]
			h = h>>4 ^ h<<60
		}
	}
	return string(out)
}
