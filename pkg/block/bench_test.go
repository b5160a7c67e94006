package block

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
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
		if len(match(b, s, q)) == 0 {
			b.Fatal("not found")
		}
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkAsk asks a block of the mix in the ways that users ask, from its
// head on, and counts how many of its bytes are opened.
func BenchmarkAsk(b *testing.B) {
	in := newMix(7, benchRows, 27*time.Second).sessions()
	plain := encode(b, in)
	addr, port, _ := in[0].LocalEnd()
	for _, c := range []struct {
		what string
		q    Query
	}{
		{"not in the head", Query{Remote: netip.MustParsePrefix("5.6.7.8/32")}},
		{"an address that is not there", Query{Address: netip.MustParsePrefix("82.0.0.250/32")}},
		{"address, port and time", Query{Address: Exactly(addr.Netip()), Port: port}},
		{"another port", Query{Address: Exactly(addr.Netip()), Port: 1}},
	} {
		c.q.From, c.q.To = in[0].Start, in[0].End
		b.Run(c.what, func(b *testing.B) {
			d := NewDecoder()
			frames, err := Frames(nil, plain)
			if err != nil {
				b.Fatal(err)
			}
			opened := 0
			var out []session.Session
			for b.Loop() {
				opened = 0
				s, err := d.Look(func(i int) ([]byte, error) { opened += len(frames[i]); return frames[i], nil })
				if err == nil {
					out, err = s.Match(out[:0], c.q)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(opened)/float64(len(plain)), "opened")
			b.ReportMetric(float64(len(out)), "found")
		})
	}
}

// processorTime is what this process has used of the processors; on a busy
// machine it says more than the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMerge makes 524,288 sessions of the mix, written as time went by in
// blocks of 2,400, into sorted blocks, and prints their size.
func BenchmarkMerge(b *testing.B) {
	const rows = 1 << 19
	in := newMix(7, rows, 27*8*time.Second).sessions()
	var fresh [][]byte
	for at := 0; at < rows; at += 2400 {
		fresh = append(fresh, encode(b, in[at:min(at+2400, rows)]))
	}
	freshBytes := 0
	for _, x := range fresh {
		freshBytes += len(x)
	}
	size, blocks := 0, 0
	columns := map[byte]int{}
	var frames [][]byte
	for b.Loop() {
		m := NewMerger(MergeOptions{})
		for _, x := range fresh {
			if err := m.Add(x); err != nil {
				b.Fatal(err)
			}
		}
		size, blocks = 0, 0
		clear(columns)
		if err := m.Blocks(func(_ Header, plain []byte) (err error) {
			size += len(plain)
			blocks++
			frames, err = Frames(frames[:0], plain)
			for i, f := range frames[1:] {
				columns[sessionColumns[i]] += len(f)
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/rows, "B/session")
	b.ReportMetric(float64(freshBytes)/rows, "fresh-B/session")
	b.ReportMetric(float64(blocks), "blocks")
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "sessions/s")
	for _, id := range sessionColumns {
		b.Logf("column %d: %.3f bytes a session", id, float64(columns[id])/rows)
	}
}
