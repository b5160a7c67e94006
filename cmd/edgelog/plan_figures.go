package main

import (
	"math"
	"math/bits"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// What a plan is worked out from. Bytes and seconds are those of the realistic
// day in tests/day, which plan_test.go measures again; the rest is from
// "make bench".
const (
	planSessionBytes = 12.0 // on disk, of a session: both ends
	planSourceBytes  = 8.5  // of a session without its far end
	planBindingBytes = 24.0 // of an access record
	planBusyHour     = 1.71 // busiest hour, times the mean of the day
	planOpenSeconds  = 90.0 // that a session is in the table, silence at its end included, mean
	planClosing      = 0.27 // of sessions, send a closing event into the ring

	planPerMinute    = 1.0     // sessions of a subscriber, mean of the day
	planPacketsASec  = 100.0   // of a subscriber, both directions, mean of the day
	planLogOns       = 2.0     // of a subscriber and day; each is written when it begins and when it ends, and what is in force once a day
	planSampleOneIn  = 500     // packets: BEK 988/2006 § 5 stk. 4
	planSlotBytes    = 65      // slot and its part of the index
	planEventBytes   = 24      // in the ring, with its header
	planBookBytes    = 779     // of the agent's memory, a binding in force
	planAgentBytes   = 256e6   // of the agent beside table and book
	planAgentRate    = 1.02e6  // sessions a second that the agent takes on one CPU from table to disk
	planFewestSlots  = 1 << 16 // less is not worth setting
	planMostSlots    = probe.MaxSlots
	planSmallestRing = 1 << 20
	planLargestRing  = 1 << 30
)

// planPacketNs is what a packet of an established session costs in XDP, by how
// many sessions take turns: the empty program is not in it.
var planPacketNs = []struct {
	open float64
	ns   float64
}{{1, 21}, {65_536, 77}, {1_048_576, 252}}

// planNewNs is what the first packet of a session costs, ns.
const planNewNs = 235

// assumed is what a plan starts from.
type assumed struct {
	Subscribers   float64 `json:"subscribers"`
	PerMinute     float64 `json:"sessions_per_minute"`     // of a subscriber, mean of the day
	Packets       float64 `json:"packets_per_second"`      // of a subscriber, mean of the day
	BusyHour      float64 `json:"busy_hour_factor"`        // times the mean
	OpenSeconds   float64 `json:"seconds_in_table"`        // mean
	LogOns        float64 `json:"log_ons_per_day"`         // of a subscriber
	RetentionDays float64 `json:"retention_days"`          //
	Capture       string  `json:"measured_from,omitempty"` // file that the rates are from
}

// profilePlan is what one profile takes.
type profilePlan struct {
	Profile    string  `json:"profile"`
	Available  bool    `json:"available"` // in this version
	Records    float64 `json:"records_per_second"`
	Busy       float64 `json:"records_per_second_busy_hour"`
	Bytes      float64 `json:"bytes_per_record"`
	DiskDay    float64 `json:"disk_bytes_per_day"`
	DiskYear   float64 `json:"disk_bytes_per_year"`
	DiskKept   float64 `json:"disk_bytes_retained"`
	Slots      uint64  `json:"slots"` // 0: none are used
	RingBytes  uint64  `json:"ring_bytes"`
	Memory     float64 `json:"memory_bytes"`
	PacketCPUs float64 `json:"packet_path_cpus_busy_hour"`
	PacketNs   float64 `json:"packet_ns"`
	AgentCPUs  float64 `json:"agent_cpus_busy_hour"`
	Legal      bool    `json:"needs_legal_basis"`
	TooLarge   bool    `json:"too_large_for_one_gateway"` // more slots than a table has
}

// plan works out one profile.
func (a *assumed) plan(p session.Profile) profilePlan {
	bindings := a.Subscribers * (a.LogOns*2 + 1) / 86400
	sessions := a.Subscribers * a.PerMinute / 60
	packets := a.Subscribers * a.Packets
	out := profilePlan{Profile: p.String(), Available: p != session.ProfileSample500, Legal: p.NeedsLegalBasis(), Memory: planAgentBytes + a.Subscribers*planBookBytes}
	var rows, bytes float64
	switch p {
	case session.ProfileSource:
		rows, bytes = sessions, planSourceBytes
	case session.ProfileSession:
		rows, bytes = sessions, planSessionBytes
	case session.ProfileSample500:
		rows, bytes = packets/planSampleOneIn, planSessionBytes
	}
	out.Records = rows + bindings
	out.Busy = rows*a.BusyHour + bindings
	daily := (rows*bytes + bindings*planBindingBytes) * 86400
	out.Bytes = daily / 86400 / out.Records
	out.DiskDay, out.DiskYear, out.DiskKept = daily, daily*365, daily*a.RetentionDays
	out.AgentCPUs = out.Busy / planAgentRate
	if !p.RecordsSessions() {
		return out
	}
	open := sessions * a.BusyHour * a.OpenSeconds
	slots := powerOfTwo(open * 2)
	out.Slots = min(max(slots, planFewestSlots), planMostSlots)
	out.TooLarge = slots > planMostSlots
	out.RingBytes = min(max(powerOfTwo(sessions*a.BusyHour*planClosing*planEventBytes*4), planSmallestRing), planLargestRing)
	out.Memory += float64(out.Slots)*planSlotBytes + float64(2*out.RingBytes) // there are two rings
	out.PacketNs = packetNs(open)
	out.PacketCPUs = (packets*a.BusyHour*out.PacketNs + sessions*a.BusyHour*planNewNs) / 1e9
	return out
}

// powerOfTwo returns the least power of two that is not below v.
func powerOfTwo(v float64) uint64 {
	if v <= 1 {
		return 1
	}
	if v > 1<<62 {
		return 1 << 62
	}
	return 1 << bits.Len64(uint64(math.Ceil(v))-1)
}

// packetNs lies between the measured figures, on a scale of logarithms; beyond
// them it is the nearest.
func packetNs(open float64) float64 {
	if open <= planPacketNs[0].open {
		return planPacketNs[0].ns
	}
	for i, b := range planPacketNs[1:] {
		if a := planPacketNs[i]; open <= b.open {
			return a.ns + (b.ns-a.ns)*math.Log(open/a.open)/math.Log(b.open/a.open)
		}
	}
	return planPacketNs[len(planPacketNs)-1].ns
}
