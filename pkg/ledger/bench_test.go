package ledger

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAppend measures appends of k writers at once, which share their syncs,
// beside what the same disk takes to sync a file. ms/entry is the time of one
// entry; syncs/entry is that in the time of one write and sync, measured in the
// same run.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("%d writers", writers), func(b *testing.B) {
			dir := b.TempDir()
			once := syncTime(b, dir)
			l := mustOpen(b, filepath.Join(dir, "ledger"))
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := l.Append(b.Context(), testEntry(1)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			each := b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(each)/float64(time.Millisecond), "ms/entry")
			b.ReportMetric(float64(once)/float64(time.Millisecond), "ms/sync")
			b.ReportMetric(float64(each)/float64(once), "syncs/entry")
		})
	}
}

// syncTime is what it takes to write a page to a new file and sync it: the median.
func syncTime(b *testing.B, dir string) time.Duration {
	var took []time.Duration
	for i := range 31 {
		begin := time.Now()
		must(b, (&disk{dir: dir}).write(fmt.Sprint("probe", i), make([]byte, 4096)))
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// BenchmarkVerify reports entries verified in a second, and how long that takes in
// the time of SHA-256 over the same entries.
func BenchmarkVerify(b *testing.B) {
	const size = 400 * tileWidth
	dir := memoryDir(b)
	l := mustOpen(b, dir)
	fill(b, l, size)
	r, err := OpenReader(dir, l.VerifierKey())
	must(b, err)
	begin := time.Now()
	bundles := size / tileWidth
	for n := range bundles {
		data, err := r.src.read(tile{bundleLevel, int64(n), tileWidth}.path())
		must(b, err)
		entries, err := splitBundle(data, tileWidth)
		must(b, err)
		for _, e := range entries {
			hashed ^= sha256.Sum256(e)[0]
		}
	}
	plain := time.Since(begin)
	for b.Loop() {
		if _, err := r.Verify(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	each := b.Elapsed() / time.Duration(b.N)
	b.ReportMetric(size/each.Seconds(), "entries/s")
	b.ReportMetric(float64(each)/float64(plain), "sha256")
}

var hashed byte
