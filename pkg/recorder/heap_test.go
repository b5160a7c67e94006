package recorder

import "testing"

func TestGarbageIsCollectedSoonerTheMoreIsInUse(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {1 << 20, 100}, {104 << 20, 100}, {156 << 20, 33}, {180 << 20, 25}, {300 << 20, 25}, {800 << 20, 60}} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("with %d MiB in use it is %d percent, not %d", c.live>>20, got, c.want)
		}
	}
}
