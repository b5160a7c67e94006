package measure

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAValueOnABoundBelongsBelowIt(t *testing.T) {
	h := New(1, 2, 5)
	for _, v := range []float64{0, 1, 1.5, 2, 5, 5.1, 100} {
		h.Observe(v)
	}
	r := h.Read()
	if d := cmp.Diff([]uint64{2, 2, 1, 2}, r.Counts); d != "" {
		t.Error(d)
	}
	if r.Sum != 114.6 || r.Count() != 7 || math.Abs(r.Mean()-114.6/7) > 1e-9 {
		t.Errorf("%+v", r)
	}
	if r.Under(0.5) != 2 || r.Under(0.71) != 5 || !math.IsInf(r.Under(1), 1) {
		t.Errorf("half under %v, 71 %% under %v, all under %v", r.Under(0.5), r.Under(0.71), r.Under(1))
	}
}

func TestNothingIsObservedByNoHistogram(t *testing.T) {
	var none *Histogram
	none.Observe(1)
	none.Seconds(time.Second)
	r := none.Read()
	if r.Count() != 0 || r.Mean() != 0 || r.Under(0.5) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAClockThatStepsBackGivesNoNegativeTime(t *testing.T) {
	h := New(1)
	h.Seconds(-time.Hour)
	if r := h.Read(); r.Sum != 0 || r.Counts[0] != 1 {
		t.Errorf("%+v", r)
	}
}

func TestManyObserveAtOnceAndNoneIsLost(t *testing.T) {
	h := New(1, 10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Observe(2)
			}
		})
	}
	wg.Wait()
	if r := h.Read(); r.Counts[1] != 8000 || r.Sum != 16000 {
		t.Errorf("%+v", r)
	}
}

func TestBoundsThatDoNotRiseAreRefused(t *testing.T) {
	for _, bounds := range [][]float64{{2, 1}, {1, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was taken", bounds)
				}
			}()
			New(bounds...)
		}()
	}
}

func BenchmarkObserve(b *testing.B) {
	h := New(1, 2, 5, 10, 20, 50)
	for b.Loop() {
		h.Observe(7)
	}
}
