package measure

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Histogram counts values between fixed bounds. All its methods may be called
// at any time; a nil Histogram counts nothing.
type Histogram struct {
	bounds []float64
	counts []atomic.Uint64 // one more than bounds
	sum    atomic.Uint64   // bits of a float64
}

// Reading is what a Histogram holds at one moment, but for what is observed
// meanwhile.
type Reading struct {
	Bounds []float64 `json:"bounds"` // upper ends, rising; each belongs to its bucket
	Counts []uint64  `json:"counts"` // in each bucket, not added up; the last one is beyond all bounds
	Sum    float64   `json:"sum"`    // of all values
}

// New returns a histogram with these upper bounds, which must rise.
func New(bounds ...float64) *Histogram {
	if !slices.IsSorted(bounds) || len(slices.Compact(slices.Clone(bounds))) != len(bounds) {
		panic("measure: bounds must rise") // a mistake in the program, at its start
	}
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	if h == nil {
		return
	}
	at, _ := slices.BinarySearch(h.bounds, v)
	h.counts[at].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Seconds counts a duration, in seconds; one that a step of the clock made
// negative counts as 0.
func (h *Histogram) Seconds(d time.Duration) { h.Observe(max(d, 0).Seconds()) }

// Read returns what was counted so far.
func (h *Histogram) Read() Reading {
	if h == nil {
		return Reading{}
	}
	r := Reading{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: math.Float64frombits(h.sum.Load())}
	for i := range h.counts {
		r.Counts[i] = h.counts[i].Load()
	}
	return r
}

// Count returns the number of values.
func (r *Reading) Count() (n uint64) {
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// Mean returns the mean of the values, 0 when there are none.
func (r *Reading) Mean() float64 {
	if n := r.Count(); n > 0 {
		return r.Sum / float64(n)
	}
	return 0
}

// Under returns a bound below which lies at least this share of the values,
// +Inf when it is beyond all bounds, and 0 when there are no values.
func (r *Reading) Under(share float64) float64 {
	n := r.Count()
	if n == 0 {
		return 0
	}
	want, have := uint64(math.Ceil(share*float64(n))), uint64(0)
	for i, b := range r.Bounds {
		if have += r.Counts[i]; have >= want {
			return b
		}
	}
	return math.Inf(1)
}
