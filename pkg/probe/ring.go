package probe

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads the programs' news where the kernel wrote it, without a system
// call or a copy (kernel/bpf/ringbuf.c): a page with the reader's position,
// which is ours to write, a page with the writers' position, and the data,
// mapped twice over so that a record is never in two pieces. A record is a
// header of 8 bytes, which begins with its length and two flags, and a T.
type ring[T any] struct {
	read    *uint64 // position of the reader
	written *uint64 // position of the writers
	data    []byte  // twice the ring
	size    uint64
	mapped  [][]byte
}

const (
	recordHeader = 8
	recordBusy   = 1 << 31 // unix.BPF_RINGBUF_BUSY_BIT: still being written
	recordGone   = 1 << 30 // unix.BPF_RINGBUF_DISCARD_BIT
	ringPart     = 1 << 12 // records after which the writers get their room back
)

func openRing[T any](m *ebpf.Map) (*ring[T], error) {
	page := os.Getpagesize()
	size := int(m.MaxEntries())
	own, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the reader's position: %w", err)
	}
	rest, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(own) // the first error says why
		return nil, fmt.Errorf("map the events: %w", err)
	}
	return &ring[T]{
		read: (*uint64)(unsafe.Pointer(&own[0])), written: (*uint64)(unsafe.Pointer(&rest[0])),
		data: rest[page:], size: uint64(size), mapped: [][]byte{own, rest},
	}, nil
}

// close unmaps the ring. It may be called twice.
func (r *ring[T]) close() {
	for _, b := range r.mapped {
		_ = unix.Munmap(b) // nothing can be done, and nothing depends on it
	}
	*r = ring[T]{}
}

// waiting returns how many bytes wait to be read. As long as the ring is full
// and nothing is read, events are lost, and it stays full.
func (r *ring[T]) waiting() uint64 {
	return atomic.LoadUint64(r.written) - atomic.LoadUint64(r.read)
}

// full reports whether events may have been lost since the last call of take.
func (r *ring[T]) full() bool { return r.waiting() > r.size-r.size/8 }

// first returns the event that has waited longest, and nil when none waits.
func (r *ring[T]) first() *T {
	at := atomic.LoadUint64(r.read)
	if at == atomic.LoadUint64(r.written) {
		return nil
	}
	return r.event(at & (r.size - 1))
}

// event returns the event of the record at a place; nil while it is being
// written, and when its writer gave it up.
func (r *ring[T]) event(at uint64) *T {
	header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
	if header&(recordBusy|recordGone) != 0 || uint64(header) < uint64(unsafe.Sizeof(*new(T))) {
		return nil
	}
	return (*T)(unsafe.Pointer(&r.data[at+recordHeader]))
}

// take gives up to most events to each, which may be nil, and their room back
// to the writers. It reports whether the ring was full meanwhile.
func (r *ring[T]) take(most int, each func(*T)) (full bool) {
	at, end := atomic.LoadUint64(r.read), atomic.LoadUint64(r.written)
	for n := 1; at < end && n <= most; n++ {
		place := at & (r.size - 1)
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[place])))
		if header&recordBusy != 0 {
			break // it and what is behind it comes next time
		}
		if each != nil {
			if e := r.event(place); e != nil {
				each(e)
			}
		}
		at = next(at, header)
		if n%ringPart == 0 {
			full = full || r.full()
			atomic.StoreUint64(r.read, at)
		}
	}
	full = full || r.full()
	atomic.StoreUint64(r.read, at)
	return full
}

// next is where the record behind one with this header begins.
func next(at uint64, header uint32) uint64 {
	return at + (uint64(header&^recordGone)+recordHeader+7)&^7
}

// look gives each the records from one position to another, most of them at
// the most, and leaves them where they are. It returns where it stopped: there,
// or at a record that is still being written.
func (r *ring[T]) look(from, to uint64, most int, each func(*T)) (end uint64) {
	for at := from; at < to && most > 0; most-- {
		place := at & (r.size - 1)
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[place])))
		if header&recordBusy != 0 {
			return at
		}
		if e := r.event(place); e != nil {
			each(e)
		}
		at = next(at, header)
		from = at
	}
	return from
}
