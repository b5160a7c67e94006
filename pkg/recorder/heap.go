package recorder

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// heapBase is what the heap may take, in bytes, as long as that is possible:
	// with what is no heap it fits 256 MiB beside the mapped table.
	heapBase = 208 << 20
	// heapBook is what is in use only where a book of very many bindings is:
	// collecting its garbage early costs more time than it saves memory.
	heapBook = 320 << 20
)

// heap sets how much garbage may lie about before it is collected.
type heap struct {
	sample []metrics.Sample
	set    int
}

// keep is called now and then. GOGC in the environment is left alone.
func (h *heap) keep() {
	if os.Getenv("GOGC") != "" {
		return
	}
	if h.sample == nil {
		h.sample = []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	}
	metrics.Read(h.sample)
	if p := gcPercent(h.sample[0].Value.Uint64()); p != h.set {
		h.set = p
		debug.SetGCPercent(p)
	}
}

// gcPercent is how much garbage there may be, in percent of what is in use.
func gcPercent(live uint64) int {
	const least, usual, ofBook = 25, 100, 60
	switch {
	case live >= heapBook:
		return ofBook
	case live >= heapBase:
		return least
	}
	return int(min(usual, max(least, (heapBase-live)*100/max(live, 1))))
}
