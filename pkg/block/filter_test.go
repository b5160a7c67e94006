package block

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// built returns a filter of keys as it is stored, and as it is read.
func built(t *testing.T, keys []uint64) ([]byte, *filter) {
	t.Helper()
	p := newPacker()
	p.filter(slices.Clone(keys)) // which it changes
	u, f := newUnpacker(), new(filter)
	u.begin(p.out, "filter")
	u.filter(f)
	u.end("filter")
	if u.err != nil || !f.some {
		t.Fatalf("%v, %d bytes", u.err, len(p.out))
	}
	return p.out, f
}

// absent returns the key of the n-th address that is in no filter here.
func absent(n int) uint64 {
	a := v6(0x20010db8<<32, uint64(n))
	return filterKey(a[:])
}

// TestAddressesThatWereChosenForOneFilterAreNotChosenForTheNext: whoever is recorded
// knows how filters are made, and which addresses would not be told from those that
// are there, or would fit no seed; but not the salt.
func TestAddressesThatWereChosenForOneFilterAreNotChosenForTheNext(t *testing.T) {
	keys := make([]uint64, 2000)
	for i := range keys {
		keys[i] = filterKey([]byte{byte(i), byte(i >> 8), 7})
	}
	before := slices.Clone(keys)
	bytes1, first := built(t, keys)
	bytes2, second := built(t, keys)
	if bytes.Equal(bytes1, bytes2) {
		t.Error("two filters of the same keys are the same")
	}
	if !slices.Equal(keys, before) {
		t.Fatal("the keys were changed")
	}
	for _, k := range keys {
		if !first.mayHold(k) || !second.mayHold(k) {
			t.Fatalf("key %x is not in both", k)
		}
	}
	const chosen = 1000
	in1, in2 := 0, 0
	for n := 0; in1 < chosen; n++ {
		if n > 1000*chosen {
			t.Fatalf("%d of %d addresses collide: it tells too well", in1, n)
		}
		if k := absent(n); first.mayHold(k) {
			in1++
			if second.mayHold(k) {
				in2++
			}
		}
	}
	if in2 > chosen/20 { // some 4 are to be expected, 1 in 256
		t.Errorf("of %d addresses that collide in one filter %d do in the next", chosen, in2)
	}
}

func TestTwoBlocksOfTheSameSessionsHaveOtherFiltersAndHoldTheSame(t *testing.T) {
	in := newMix(7, 3000, time.Minute).sessions()
	one, two := encode(t, in), encode(t, in)
	if len(one) != len(two) || bytes.Equal(one, two) {
		t.Errorf("%d and %d bytes, equal: %v", len(one), len(two), bytes.Equal(one, two))
	}
	for _, b := range [][]byte{one, two} {
		mayMatchAll(t, b, in)
		_, out, err := DecodeSessions(b)
		if err != nil || len(out) != len(in) {
			t.Errorf("%d sessions, %v", len(out), err)
		}
	}
	// A remote address that is not there is ruled out by most of many blocks.
	yes := 0
	for range 20 {
		s, err := NewDecoder().Look(unsealed(encode(t, in)))
		if err != nil {
			t.Fatal(err)
		}
		if s.MayMatch(Query{Remote: Exactly(netip.MustParseAddr("2001:db8:ffff::1")), From: 0, To: 1 << 62}) {
			yes++
		}
	}
	if yes > 5 {
		t.Errorf("%d of 20 blocks may hold an address that is not there", yes)
	}
}
