package identity

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// inHugePages asks the kernel to keep a large, new array in huge pages: nearly
// every look-up touches another page of it, and with small ones the processor
// would have to look for the page first. It is only asked for: without them all
// goes on as it did.
func inHugePages(buckets []bucket) {
	const huge = 2 << 20
	size := uintptr(len(buckets)) * unsafe.Sizeof(bucket{})
	if size < 2*huge {
		return
	}
	start := uintptr(unsafe.Pointer(&buckets[0]))
	skip := -start & (huge - 1)
	all := unsafe.Slice((*byte)(unsafe.Pointer(&buckets[0])), size)
	_ = unix.Madvise(all[skip:(size-skip)/huge*huge+skip], unix.MADV_HUGEPAGE)
}
