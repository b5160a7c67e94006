package vault

import "testing"

// A block of 65,536 sessions has about this many frames and bytes.
const (
	benchFrames = 12
	benchFrame  = 51_000
)

func benchBlock(b *testing.B) (*Vault, *DayKey, [][]byte, []byte) {
	v, k := ownKey(b)
	frames := make([][]byte, benchFrames)
	for i := range frames {
		frames[i] = make([]byte, benchFrame)
	}
	sealed, err := v.Seal(nil, aPlace(), frames...)
	if err != nil {
		b.Fatal(err)
	}
	return v, k, frames, sealed
}

func BenchmarkSeal(b *testing.B) {
	v, _, frames, sealed := benchBlock(b)
	b.SetBytes(benchFrames * benchFrame)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Seal(sealed[:0], aPlace(), frames...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenHead opens three small frames of a block, as a question does
// that then passes it over.
func BenchmarkOpenHead(b *testing.B) {
	v, k := ownKey(b)
	sealed, err := v.Seal(nil, aPlace(), make([]byte, 150), make([]byte, 60), make([]byte, 24_000), make([]byte, benchFrame))
	if err != nil {
		b.Fatal(err)
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		blk, err := k.Block(sealed)
		for i := range 3 {
			if err == nil {
				out, err = blk.Frame(out[:0], i)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
