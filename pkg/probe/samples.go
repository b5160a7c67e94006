package probe

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/pkg/session"
)

const (
	sampleMemory = 60 * time.Second                                     // without a refusal, until the counters of end users are forgotten
	sampleRecord = recordHeader + uint64(unsafe.Sizeof(kernelSample{})) // bytes of the ring
)

// sampler hands out the samples of refused packets (bpf/sample.h). A sample
// stays in the ring until it is on the disk: an agent that is killed with it
// leaves it to the next.
type sampler struct {
	ring      *ring[kernelSample]
	meta      *kernelTableMeta
	localOnly bool
	next      uint64 // up to here the ring was read
	redo      []span // of batches that could not be stored
	done      []span // on the disk, behind one that is not
}

// span is a piece of the ring.
type span struct{ from, to uint64 }

func openSampler(maps map[string]*ebpf.Map, t *table, localOnly bool) (sampler, error) {
	r, err := openRing[kernelSample](maps["samples"])
	if err != nil {
		return sampler{}, fmt.Errorf("open the ring of samples: %w", err)
	}
	s := sampler{ring: r, meta: t.meta, localOnly: localOnly, next: atomic.LoadUint64(r.read)}
	s.count()
	return s, nil
}

func (s *sampler) close() {
	if s.ring != nil {
		s.ring.close()
	}
}

// collect adds samples to b until it holds max sessions. Times are in the
// programs' clock.
func (s *sampler) collect(b *Batch, max int) {
	for len(s.redo) > 0 && b.Len() < max {
		sp := &s.redo[0]
		if sp.from = s.read(b, sp.from, sp.to, max-b.Len()); sp.from == sp.to {
			s.redo = s.redo[1:]
		}
	}
	if b.Len() < max {
		s.next = s.read(b, s.next, atomic.LoadUint64(s.ring.written), max-b.Len())
	}
}

func (s *sampler) read(b *Batch, from, to uint64, most int) (end uint64) {
	end = s.ring.look(from, to, most, func(k *kernelSample) { b.Sessions = append(b.Sessions, s.session(k)) })
	if end > from {
		b.samples = append(b.samples, span{from, end})
	}
	return end
}

// session is the record of one packet: its sender is the initiator.
func (s *sampler) session(k *kernelSample) (out session.Session) {
	slot := kernelSlot{Key: k.Key, First: k.Time, Last: k.Time}
	slot.read(k.State, k.Flags, k.Time, s.localOnly, &out)
	out.EndReason = session.EndSample
	out.Flags |= session.Sampled
	return out
}

// stored says that the samples of a batch are on the disk.
func (s *sampler) stored(b *Batch) {
	if len(b.samples) == 0 {
		return
	}
	s.done = append(s.done, b.samples...)
	slices.SortFunc(s.done, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for len(s.done) > 0 && s.done[0].from == atomic.LoadUint64(s.ring.read) {
		atomic.StoreUint64(s.ring.read, s.done[0].to)
		s.done = s.done[1:]
	}
	s.count()
}

// count derives how many are on the disk from the place in the ring, which
// never turns back: so a kill cannot part the two.
func (s *sampler) count() {
	atomic.StoreUint64(&s.meta.SamplesStored, atomic.LoadUint64(s.ring.read)/sampleRecord)
}

// release says that they are not: they are handed out again.
func (s *sampler) release(b *Batch) { s.redo = append(s.redo, b.samples...) }

// waiting is the number of samples that are not yet on the disk.
func (s *sampler) waiting() uint64 {
	return s.ring.waiting() / sampleRecord
}

// drained: there are none to be collected.
func (s *sampler) drained() bool {
	return len(s.redo) == 0 && s.next == atomic.LoadUint64(s.ring.written)
}

// forgetUsers empties the counters of end users when nothing was refused for a
// while: they hold addresses.
func forgetUsers(maps map[string]*ebpf.Map, now uint64) error {
	var user kernelEndUser
	switch err := maps["sample_counts"].NextKey(nil, &user); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look into the counters of refused packets: %w", err)
	}
	last, err := lastRefusal(maps["packet_counts"])
	if err != nil || silence(now, last) < sampleMemory {
		return err
	}
	var users []kernelEndUser
	var count uint64
	it := maps["sample_counts"].Iterate()
	for it.Next(&user, &count) {
		users = append(users, user)
	}
	// A walk that insertions made too long goes on with the next call.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("walk through the counters of refused packets: %w", err)
	}
	for i := range users {
		if err := maps["sample_counts"].Delete(&users[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a counter of refused packets: %w", err)
		}
	}
	return nil
}

// lastRefusal is when a packet was last refused on any uplink; programs' clock.
func lastRefusal(m *ebpf.Map) (last uint64, err error) {
	for i := range m.MaxEntries() {
		var perCPU []kernelPacketCounters
		if err := m.Lookup(i, &perCPU); err != nil {
			return 0, fmt.Errorf("read the packet counters: %w", err)
		}
		for _, c := range perCPU {
			last = max(last, c.RefusedLast)
		}
	}
	return last, nil
}
