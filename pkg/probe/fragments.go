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

// expire removes entries that nothing was added to for the window; all of
// them when everything is set. It returns how many wait for a first fragment.
func (f *fragmentKeeper) expire(now uint64, everything bool) (held int, err error) {
	var stale []kernelFragmentKey
	var k kernelFragmentKey
	var v kernelFragment
	it := f.m.Iterate()
	for it.Next(&k, &v) {
		if everything || silence(now, v.Last) > f.window {
			stale = append(stale, k)
		} else {
			held += int(v.Held)
		}
	}
	// A walk that insertions made too long starts again with the next call.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return held, fmt.Errorf("walk through the fragments: %w", err)
	}
	var orphans []kernelFragment
	for _, k := range stale {
		err := f.m.LookupAndDelete(&k, &v)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return held, fmt.Errorf("remove a fragment: %w", err)
		}
		if v.Held > 0 {
			orphans = append(orphans, v)
		}
	}
	slices.SortFunc(orphans, func(a, b kernelFragment) int { return cmp.Compare(a.First, b.First) })
	for i := range orphans {
		if err := f.record(&orphans[i]); err != nil {
			return held, err
		}
	}
	return held, nil
}

// record runs the orphan program, which does in the kernel what a packet does.
func (f *fragmentKeeper) record(v *kernelFragment) error {
	o := kernelOrphan{Key: v.Key, First: v.First, Last: v.Last, Side: uint32(v.Side), Egress: uint32(v.Egress)}
	outcome, err := f.orphan.Run(&ebpf.RunOptions{Data: unsafe.Slice((*byte)(unsafe.Pointer(&o)), unsafe.Sizeof(o)), Repeat: 1})
	if err != nil {
		return explain("record fragments without ports", err)
	}
	if kernelOutcome(outcome) == kernelOutcomeOUTCOME_RECORDED {
		atomic.AddUint64(&f.meta.Orphaned, uint64(v.Held))
	}
	return nil
}
