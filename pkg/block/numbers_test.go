package block

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// someFars are n values with repetitions, of both families.
func someFars(r *rand.Rand, n int) []far {
	out := make([]far, n)
	for i := range out {
		out[i] = far{widen(v4(r.Uint32() >> r.UintN(32))), r.Uint64() >> 40 >> r.UintN(24)}
		if r.IntN(3) == 0 {
			out[i].wide = wide{r.Uint64() >> r.UintN(64), r.Uint64() >> r.UintN(64)}
		}
		if i > 0 && r.IntN(3) == 0 {
			out[i] = out[r.IntN(i)]
		}
	}
	return out
}

func TestNumbersAreThoseOfAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var n numbers
	for range 30 {
		n.reset()
		known := map[far]uint32{}
		for _, f := range someFars(r, 1+r.IntN(5000)) {
			want, ok := known[f]
			if !ok {
				want = uint32(len(known))
				known[f] = want
			}
			if got := n.number(f); got != want || n.values[got] != f {
				t.Fatalf("number of %v is %d, not %d", f, got, want)
			}
		}
	}
}

func TestTheSorterPutsAddressesInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var s sorter
	for range 100 {
		list := someFars(r, r.IntN(700))
		want := slices.Clone(list)
		slices.SortFunc(want, func(a, b far) int { return cmp.Or(a.wide.compare(b.wide), cmp.Compare(a.service, b.service)) })
		for i, n := range s.sort(list) {
			if list[n] != want[i] {
				t.Fatalf("place %d of %d: %v, not %v", i, len(list), list[n], want[i])
			}
		}
	}
}

func TestTheBusiestEntriesComeFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	e := NewEncoder()
	for range 100 {
		n := 1 + r.IntN(1500)
		e.counts = make([]uint32, n)
		order, want := make([]uint32, n), make([]uint32, n)
		for i := range n {
			e.counts[i] = uint32(r.IntN(1 << r.IntN(12)))
			order[i], want[i] = uint32(i), uint32(i)
		}
		slices.SortStableFunc(want, func(a, b uint32) int { return cmp.Compare(e.counts[b], e.counts[a]) })
		if got := e.busiest(order); !slices.Equal(got, want[:min(n, maxHot)]) {
			t.Fatalf("of %d: %v, not %v", n, got, want[:min(n, maxHot)])
		}
	}
}
