package ledger

import (
	"sync/atomic"
	"testing"
)

// BenchmarkAppend measures appends from one goroutine, and from 64 at once,
// which share their syncs. b.N entries; ns/op is the time of one.
func BenchmarkAppend(b *testing.B) {
	b.Run("one writer", func(b *testing.B) {
		l := mustOpen(b, b.TempDir())
		for b.Loop() {
			if _, err := l.Append(b.Context(), testEntry(1)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 writers", func(b *testing.B) {
		l := mustOpen(b, b.TempDir())
		var failed atomic.Bool
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := l.Append(b.Context(), testEntry(1)); err != nil {
					failed.Store(true)
				}
			}
		})
		if failed.Load() {
			b.Fatal("an append failed")
		}
	})
}

// BenchmarkVerify reports entries verified in a second.
func BenchmarkVerify(b *testing.B) {
	const size = 50 * tileWidth
	l := mustOpen(b, b.TempDir())
	fill(b, l, size)
	for b.Loop() {
		if err := l.Verify(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
