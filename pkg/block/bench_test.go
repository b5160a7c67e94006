package block

import (
	"syscall"
	"testing"
	"time"
)

const benchRows = 1 << 16

// BenchmarkEncode prints the size of a block of the mix and how fast it is made.
func BenchmarkEncode(b *testing.B) {
	in := newMix(7, benchRows, 27*time.Second).sessions()
	e := NewEncoder()
	var out []byte
	var err error
	b.ReportAllocs()
	start := processorTime()
	for b.Loop() {
		if out, err = e.Sessions(out[:0], aHeader(), in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(out))/benchRows, "B/session")
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "sessions/s")
	b.ReportMetric(float64(processorTime()-start)/float64(b.N)/benchRows, "cpu-ns/session")
	_, cols, _ := readColumns(out, KindSessions)
	for _, id := range sessionColumns {
		b.Logf("column %d: %.2f bytes a session", id, float64(len(cols[id]))/benchRows)
	}
}

// BenchmarkMatch unpacks a block and looks for one address in it.
func BenchmarkMatch(b *testing.B) {
	in := newMix(7, benchRows, 27*time.Second).sessions()
	block := encode(b, in)
	d := NewDecoder()
	addr, _, _ := in[0].LocalEnd()
	q := Query{Address: Exactly(addr.Netip()), From: in[0].Start, To: in[0].End}
	b.ReportAllocs()
	for b.Loop() {
		s, err := d.Sessions(block)
		if err != nil {
			b.Fatal(err)
		}
		if len(s.Match(nil, q)) == 0 {
			b.Fatal("not found")
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "sessions/s")
}

// processorTime is what this process has used of the processors; on a busy
// machine it says more than the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
