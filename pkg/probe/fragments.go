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
)

// fragmentKeeper removes what fragments left behind, and has those recorded
// without ports whose first fragment never came.
type fragmentKeeper struct {
	m      *ebpf.Map
	orphan *ebpf.Program
	meta   *kernelTableMeta
	window time.Duration
}

// held is an entry of the map.
type held struct {
	key   kernelFragmentKey
	value kernelFragment
}

// expire removes entries whose time is over: those with a first fragment when
// nothing came for the window, those without when their earliest fragment is
// that old; all of them when everything is set. It returns how many fragments
// go on waiting.
func (f *fragmentKeeper) expire(now uint64, everything bool) (waiting int, err error) {
	var stale []held
	var e held
	it := f.m.Iterate()
	for it.Next(&e.key, &e.value) {
		since := e.value.Last
		if e.value.Known == 0 {
			since = e.value.First
		}
		if everything || silence(now, since) > f.window {
			stale = append(stale, e)
		} else {
			waiting += int(e.value.Held)
		}
	}
	// A walk that insertions made too long starts again with the next call.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return waiting, fmt.Errorf("walk through the fragments: %w", err)
	}
	slices.SortFunc(stale, func(a, b held) int { return cmp.Compare(a.value.First, b.value.First) })
	for i := range stale {
		if !f.settle(&stale[i].value) {
			waiting += int(stale[i].value.Held) // no room now: the next round tries again
			continue
		}
		if err := f.m.Delete(&stale[i].key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return waiting, fmt.Errorf("remove a fragment: %w", err)
		}
	}
	return waiting, nil
}

// settle has the fragments of an entry recorded, if it holds any, before the
// entry goes: done twice it does no harm. It reports whether the entry may go.
func (f *fragmentKeeper) settle(v *kernelFragment) bool {
	if v.Held == 0 {
		return true
	}
	outcome, err := f.record(v)
	switch {
	case err != nil:
		return false
	case outcome == kernelOutcomeOUTCOME_RECORDED:
		atomic.AddUint64(&f.meta.Orphaned, uint64(v.Held))
	case outcome == kernelOutcomeOUTCOME_TABLE_FULL, outcome == kernelOutcomeOUTCOME_CONTENDED:
		return false
	default:
		atomic.AddUint64(&f.meta.FragmentsRefused, uint64(v.Held))
	}
	return true
}

// record runs the orphan program, which does in the kernel what a packet does.
func (f *fragmentKeeper) record(v *kernelFragment) (kernelOutcome, error) {
	o := kernelOrphan{Key: v.Key, First: v.First, Last: v.Last, Side: uint32(v.Side), Egress: uint32(v.Egress)}
	outcome, err := f.orphan.Run(&ebpf.RunOptions{Data: unsafe.Slice((*byte)(unsafe.Pointer(&o)), unsafe.Sizeof(o)), Repeat: 1})
	if err != nil {
		return 0, explain("record fragments without ports", err)
	}
	return kernelOutcome(outcome), nil
}
