package probe

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
)

// packetCounters sums the counters of one direction of one uplink.
func packetCounters(m *ebpf.Map, uplink, egress uint32) (PacketCounter, error) {
	out, err := readPacketCounters(m, uplink, egress)
	if err != nil || out.Seen == out.outcomes() {
		return out, err
	}
	// Each CPU may be in the middle of a packet, and the reading takes its time:
	// what is read in the middle lies between what came before and after.
	between, err := readPacketCounters(m, uplink, egress)
	if err != nil {
		return between, err
	}
	after, err := readPacketCounters(m, uplink, egress)
	between.Moving = after.Seen - out.Seen + uint64(runtime.NumCPU())
	return between, err
}

func readPacketCounters(m *ebpf.Map, uplink, egress uint32) (PacketCounter, error) {
	var perCPU []kernelPacketCounters
	if err := m.Lookup(uplink*2+egress, &perCPU); err != nil {
		return PacketCounter{}, fmt.Errorf("read the packet counters: %w", err)
	}
	out := PacketCounter{Outcomes: map[string]uint64{}}
	for _, name := range outcomeNames {
		out.Outcomes[name] = 0
	}
	for _, c := range perCPU {
		out.Seen += c.Seen
		out.Segments += c.Seen + c.MoreSegments
		for i, n := range c.Outcome {
			out.Outcomes[outcomeNames[i]] += n
		}
	}
	return out, nil
}

// refusals are the outcomes of packets that should have been recorded and were not.
var refusals = [...]string{"table_full", "half_open", "contended", "fragment_lost"}

// refused counts them, by reason.
func refused(counters ...PacketCounter) map[string]uint64 {
	out := map[string]uint64{}
	for _, name := range refusals {
		for _, c := range counters {
			out[name] += c.Outcomes[name]
		}
	}
	return out
}

// Balanced reports whether each packet seen has one outcome. While packets
// flow each CPU may be in the middle of one.
func (p PacketCounter) Balanced() bool {
	sum := p.outcomes()
	return max(p.Seen, sum)-min(p.Seen, sum) <= p.Moving
}

func (p PacketCounter) outcomes() (sum uint64) {
	for _, n := range p.Outcomes {
		sum += n
	}
	return sum
}

// Sum prints the outcomes that occurred, as " recorded 12 + not_ip 3".
func (p PacketCounter) Sum() string {
	var out strings.Builder
	for _, name := range outcomeNames {
		if n := p.Outcomes[name]; n > 0 {
			if out.Len() > 0 {
				out.WriteString(" +")
			}
			fmt.Fprintf(&out, " %s %d", name, n)
		}
	}
	return out.String()
}

func tableCounters(m *ebpf.Map) (sum kernelTableCounters, err error) {
	var perCPU []kernelTableCounters
	if err := m.Lookup(uint32(0), &perCPU); err != nil {
		return sum, fmt.Errorf("read the table counters: %w", err)
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&sum)), unsafe.Sizeof(sum)/8)
	for i := range perCPU {
		for j, n := range unsafe.Slice((*uint64)(unsafe.Pointer(&perCPU[i])), len(words)) {
			words[j] += n
		}
	}
	return sum, nil
}

// tableStatus counts the slots and checks the balance of sessions: the kernel
// goes on inserting meanwhile, so what is counted must lie between the sums
// before and after.
func tableStatus(t *table, counts *ebpf.Map) (TableStatus, error) {
	first, err := tableCounters(counts)
	if err != nil {
		return TableStatus{}, err
	}
	s := TableStatus{Slots: uint64(len(t.slots)), Stored: atomic.LoadUint64(&t.meta.Stored)}
	for slot := range uint32(len(t.slots)) {
		state := t.state(slot)
		switch state & phaseMask {
		case phaseClosed:
			if !isWiped(state) {
				s.Closed++
			}
		case phaseNegative:
			s.Negative++
		case phaseLive:
			if state&stateStored != 0 {
				s.Lingers++
				continue
			}
			s.Open++
			if halfOpen(atomic.LoadUint32(&t.slots[slot].Flags)) {
				s.HalfOpen++
			}
		}
	}
	last, err := tableCounters(counts)
	if err != nil {
		return TableStatus{}, err
	}
	s.Started, s.Reopened, s.Carried = last.Started, last.Reopened, last.Carried
	s.RingSent, s.RingFull = last.RingSent, last.RingFull
	s.FragmentsReleased, s.FragmentsOrphaned = last.FragmentsReleased, atomic.LoadUint64(&t.meta.Orphaned)
	s.FragmentsRefused = atomic.LoadUint64(&t.meta.FragmentsRefused)
	s.Sampled, s.SamplesStored = last.Sampled, atomic.LoadUint64(&t.meta.SamplesStored)
	s.SamplesLost, s.SampleCrowd = last.SamplesLost, last.SampleCrowd
	counted := s.Stored + s.Open + s.Closed
	moving := uint64(runtime.NumCPU()) // each may be between a slot and its counter
	before, after := first.Started+first.Reopened+first.Carried, last.Started+last.Reopened+last.Carried
	if after != counted {
		s.Moving = after - before + moving
	}
	s.Balanced = before <= counted+moving && counted <= after+moving
	return s, nil
}
