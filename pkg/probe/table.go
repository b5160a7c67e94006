package probe

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// table is the session table of bpf/table.h, mapped into this process. The
// kernel programs write to it at the same time: phases change by
// compare-and-swap only, all other fields are read after a slot can no longer
// change, or are times whose loss of one tick is allowed.
type table struct {
	slots []kernelSlot
	words []uint64 // of each bucket: tags, half-open bits, overflow count and lock
	meta  *kernelTableMeta

	mask   uint64 // buckets - 1
	mapped [][]byte
	seed   [6]uint64 // secret multipliers of the hash
	taken  []uint32  // bitmap: slots that are in a batch or wait for their grace
}

// mapTable maps the three memory-mappable maps of a loaded table.
func mapTable(sessions, words, meta *ebpf.Map) (*table, error) {
	t := &table{}
	slots, err := t.mmap(sessions)
	if err != nil {
		return nil, fmt.Errorf("map the session table: %w", err)
	}
	lines, err := t.mmap(words)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("map the bucket words: %w", err)
	}
	one, err := t.mmap(meta)
	if err != nil {
		t.close()
		return nil, fmt.Errorf("map the table's meta data: %w", err)
	}
	buckets := sessions.MaxEntries()
	t.slots = unsafe.Slice((*kernelSlot)(unsafe.Pointer(&slots[0])), buckets*slotsPerBucket)
	t.words = unsafe.Slice((*uint64)(unsafe.Pointer(&lines[0])), words.MaxEntries()*bucketsPerLine)
	t.meta = (*kernelTableMeta)(unsafe.Pointer(&one[0]))
	t.mask = uint64(buckets) - 1
	t.taken = make([]uint32, (len(t.slots)+31)/32)
	t.seed = t.meta.HashSeed
	return t, nil
}

// mmap maps all values of an array map; the kernel rounds up to whole pages.
func (t *table) mmap(m *ebpf.Map) ([]byte, error) {
	size := int(m.ValueSize()) * int(m.MaxEntries())
	page := unix.Getpagesize()
	b, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	t.mapped = append(t.mapped, b)
	return b, nil
}

func (t *table) close() {
	for _, b := range t.mapped {
		_ = unix.Munmap(b) // nothing can be done, and nothing depends on it
	}
	*t = table{}
}

// nh is nh of bpf/bucket.h.
func nh(word, seed uint64) uint64 {
	return uint64(uint32(word)+uint32(seed)) * uint64(uint32(word>>32)+uint32(seed>>32))
}

// hashKey is key_hash of bpf/bucket.h.
func (t *table) hashKey(k *kernelKey) uint64 {
	ends := uint64(k.RealmProto)<<32 | uint64(k.PortB)<<16 | uint64(k.PortA)
	h := nh(k.AddrA[0], t.seed[0]) + nh(k.AddrA[1], t.seed[1]) + nh(k.AddrB[0], t.seed[2]) + nh(k.AddrB[1], t.seed[3]) + nh(ends, t.seed[4])
	h ^= h >> 32
	h *= t.seed[5]
	h ^= h >> 29
	h *= 0x94D049BB133111EB
	return h ^ h>>32
}

// chainBucket is chain_bucket of bpf/bucket.h: the i-th bucket of a chain.
func (t *table) chainBucket(hash uint64, i int) uint32 {
	return uint32((hash + uint64(i)*(hash>>40|1)) & t.mask)
}

// hashTag is hash_tag of bpf/bucket.h.
func hashTag(hash uint64) uint64 { return (hash>>26&0x3fff)*wordTag>>14 + 1 }

func (t *table) state(slot uint32) uint32 { return atomic.LoadUint32(&t.slots[slot].State) }

func (t *table) swap(slot, from, to uint32) bool {
	return atomic.CompareAndSwapUint32(&t.slots[slot].State, from, to)
}

// closeSlot makes a LIVE slot CLOSED; it is found by no packet from then on.
func (t *table) closeSlot(slot, state, mark uint32) (closed uint32, ok bool) {
	closed = state&^phaseMask | phaseClosed | mark
	if !t.swap(slot, state, closed) {
		return closed, false
	}
	t.clearField(slot)
	return closed, true
}

// bit is where bits of a slot's field stand in the word of its bucket.
func bit(slot uint32, bits uint64) uint64 { return bits << (slot % slotsPerBucket * wordSlotBits) }

// clearField takes a slot that no packet finds any more out of its bucket's
// word. It always comes before the slot is FREE, so that done twice, by this
// agent or the next, it does no harm.
func (t *table) clearField(slot uint32) {
	if word, mask := &t.words[slot/slotsPerBucket], bit(slot, wordTag|wordHalfOpen); atomic.LoadUint64(word)&mask != 0 {
		atomic.AndUint64(word, ^mask)
	}
}

// isHalfOpen says what the half-open bit of a slot should be: it counts
// sessions that are not on disk.
func isHalfOpen(state, flags uint32) bool {
	return state&(phaseMask|stateStored) == phaseLive && flags&flagsEstablished == 0
}

// settleHalfOpen sets the half-open bit of a slot to what its session is.
// Programs change the session first and then the bit, as this does, and look
// no second time: so this looks again until nothing has changed meanwhile.
func (t *table) settleHalfOpen(slot uint32) {
	word, mask := &t.words[slot/slotsPerBucket], bit(slot, wordHalfOpen)
	for range settleTries {
		state, flags := t.state(slot), atomic.LoadUint32(&t.slots[slot].Flags)
		switch want := isHalfOpen(state, flags); {
		case state&phaseMask == phaseBusy:
			continue // for less than a microsecond
		case want == (atomic.LoadUint64(word)&mask != 0):
		case want:
			atomic.OrUint64(word, mask)
		default:
			atomic.AndUint64(word, ^mask)
		}
		if t.state(slot) == state && atomic.LoadUint32(&t.slots[slot].Flags) == flags {
			return
		}
	}
}

// free wipes a slot and gives it back, if it still has that state. First it is
// CLOSED|STORED, which belongs to the agent alone, for the next agent too.
// Buckets that its session was placed beyond are told when no packet can find
// it any more; a count too high for a moment only makes searches longer.
func (t *table) free(slot, state uint32) bool {
	mine := state&^phaseMask | phaseClosed | stateStored
	if !t.swap(slot, state, mine) {
		return false
	}
	t.clearField(slot)
	s := &t.slots[slot]
	if state&stateDisplaced != 0 && !isWiped(state) {
		t.leaveChain(slot, t.hashKey(&s.Key))
	}
	s.Key, s.First, s.Last, s.Flags = kernelKey{}, 0, 0, 0
	return t.swap(slot, mine, state>>genShift<<genShift|phaseFree)
}

// leaveChain lowers the overflow counts of the buckets before the slot's own.
func (t *table) leaveChain(slot uint32, hash uint64) {
	for i := range maxChain {
		b := t.chainBucket(hash, i)
		if b == slot/slotsPerBucket {
			return
		}
		atomic.AddUint64(&t.words[b], ^(wordOverflows - 1)) // one less; never reaches the lock bit
	}
}

// isCrowded: less than half of a bucket is free. A session on disk that was
// displaced to it is then in the way: no program may take its slot over, and in
// a flood of half-open sessions such ones would fill the whole table.
func (t *table) isCrowded(bucket uint32) bool {
	word, used := atomic.LoadUint64(&t.words[bucket]), 0
	for slot := range uint32(slotsPerBucket) {
		if word&bit(slot, wordTag) != 0 {
			used++
		}
	}
	return used > slotsPerBucket/2
}

// isWiped: an agent was killed while it freed this slot.
func isWiped(state uint32) bool {
	return state&(phaseMask|stateStored) == phaseClosed|stateStored
}

func (t *table) take(slot uint32)         { t.taken[slot/32] |= 1 << (slot % 32) }
func (t *table) untake(slot uint32)       { t.taken[slot/32] &^= 1 << (slot % 32) }
func (t *table) isTaken(slot uint32) bool { return t.taken[slot/32]&(1<<(slot%32)) != 0 }

const settleTries = 1 << 10

const (
	fin = uint32(session.FIN)
	rst = uint32(session.RST)
)

func bothSides(f uint32) uint32 { return f<<flagsAShift | f<<flagsBShift }

// closing is tcp_closing of bpf/table.h: RST, or FIN from both sides.
func closing(flags uint32) bool {
	return flags&bothSides(rst) != 0 || flags&bothSides(fin) == bothSides(fin)
}

func proto(k *kernelKey) uint8 { return uint8(k.RealmProto >> realmBits) }

// halfOpen: TCP that began with SYN or SYN+ACK, in which every packet since had
// SYN or RST.
func halfOpen(flags uint32) bool { return flags&flagsEstablished == 0 }

// endReason reads from a slot why its session ended.
func endReason(state, flags uint32) session.EndReason {
	switch {
	case flags&bothSides(rst) != 0:
		return session.EndRST
	case flags&bothSides(fin) == bothSides(fin):
		return session.EndFIN
	case state&stateBuried != 0 && state&stateSplit == 0:
		return session.EndFIN // one side's FIN, and then the tuple began anew
	case halfOpen(flags):
		return session.EndHalfOpen
	}
	return session.EndIdle
}

func addr(a [2]uint64) (out session.Addr) {
	binary.NativeEndian.PutUint64(out[:8], a[0])
	binary.NativeEndian.PutUint64(out[8:], a[1])
	return out
}

func port(be uint16) uint16 { return be>>8 | be<<8 }

// read turns a slot that can no longer change, or whose last changes do not
// matter, into a session. Times stay in the programs' clock.
func (t *table) read(slot, state uint32, localOnly bool, into *session.Session) ref {
	s := &t.slots[slot]
	flags := atomic.LoadUint32(&s.Flags)
	last := atomic.LoadUint64(&s.Last)
	s.read(state, flags, last, localOnly, into)
	return ref{slot: slot, state: state, flags: flags, last: last}
}

func (s *kernelSlot) read(state, flags uint32, last uint64, localOnly bool, into *session.Session) {
	*into = session.Session{
		Start: int64(s.First), End: int64(last),
		Initiator: addr(s.Key.AddrA), InitiatorPort: port(s.Key.PortA), InitiatorTCP: uint8(flags >> flagsAShift),
		Responder: addr(s.Key.AddrB), ResponderPort: port(s.Key.PortB), ResponderTCP: uint8(flags >> flagsBShift),
		Proto: proto(&s.Key), Reuse: uint8(flags & flagsReuse),
		EndReason: endReason(state, flags),
	}
	local := session.SideUnknown
	switch {
	case state&stateLocalA != 0:
		local = session.SideInitiator
	case state&stateLocalB != 0:
		local = session.SideResponder
	}
	if state&stateInitiatorB != 0 {
		into.Initiator, into.Responder = into.Responder, into.Initiator
		into.InitiatorPort, into.ResponderPort = into.ResponderPort, into.InitiatorPort
		into.InitiatorTCP, into.ResponderTCP = into.ResponderTCP, into.InitiatorTCP
		switch local {
		case session.SideInitiator:
			local = session.SideResponder
		case session.SideResponder:
			local = session.SideInitiator
		}
	}
	into.Local = local
	into.Flags = remarks(state, localOnly)
}

func remarks(state uint32, localOnly bool) (f session.Flags) {
	for _, r := range [...]struct {
		bit  uint32
		flag session.Flags
	}{
		{stateMidstream, session.MidStream}, {stateSynAck, session.SynAck},
		{stateFragment, session.Fragments}, {stateOrphan, session.Orphan},
	} {
		if state&r.bit != 0 {
			f |= r.flag
		}
	}
	if localOnly {
		f |= session.LocalOnly
	}
	return f
}
