package store

import (
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// someSessions are n sessions of 5,000 subscribers, spread over a minute: not a
// realistic mix (pkg/block has one), but work of the same kind.
func someSessions(n int) []session.Session {
	out := make([]session.Session, n)
	x := uint64(1)
	rnd := func(n uint64) uint64 { // xorshift
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return x % n
	}
	start := aDay.Start().UnixNano()
	names := make([]string, 5000)
	for i := range names {
		names[i] = time.Duration(i * i).String()
	}
	for i := range out {
		sub := rnd(5000)
		s := session.Session{Start: start + int64(rnd(60e9)), Proto: session.UDP, Local: session.SideInitiator,
			InitiatorPort: uint16(32768 + rnd(28000)), ResponderPort: 443, Subscriber: names[sub], EndReason: session.EndIdle}
		s.End = s.Start + int64(rnd(1<<(20+rnd(14))))
		s.Initiator = session.Addr{10: 0xff, 11: 0xff, 12: 100, 13: 64, 14: byte(sub >> 8), 15: byte(sub)}
		far := rnd(1 << (2 + rnd(14)))
		s.Responder = session.Addr{10: 0xff, 11: 0xff, 12: 34, 13: byte(far >> 16), 14: byte(far >> 8), 15: byte(far)}
		out[i] = s
	}
	return out
}

// BenchmarkToDisk takes sessions all the way: encoded, sealed in frames, fsynced,
// and taken over into runs as they are, which is what becomes of them while they
// come so fast.
func BenchmarkToDisk(b *testing.B) {
	const rows = 1 << 16
	in := someSessions(rows)
	l := newLab(b, b.TempDir(), testOptions())
	e := block.NewEncoder()
	h := block.Header{Profile: session.ProfileSession, Gateway: "gw-1"}
	var plain, sealed []byte
	var frames [][]byte
	var err error
	sum := 0
	cpu := ownCPU()
	b.ReportAllocs()
	for b.Loop() {
		if plain, err = e.Sessions(plain[:0], h, in); err != nil {
			b.Fatal(err)
		}
		if frames, err = block.Frames(frames[:0], plain); err != nil {
			b.Fatal(err)
		}
		p := vault.Place{Gateway: "gw-1", Kind: uint8(KindSessions), Day: int32(aDay), Epoch: l.epoch,
			Seq: l.s.NextSeq(KindSessions, aDay, l.epoch), Count: rows}
		if sealed, err = l.v.Seal(sealed[:0], p, frames...); err != nil {
			b.Fatal(err)
		}
		if err := l.s.Put(sealed); err != nil {
			b.Fatal(err)
		}
		sum += len(sealed)
		if waiting, err := l.s.Turn(Ripe{Records: math.MaxUint64, Age: time.Hour}); err != nil || waiting > 0 {
			w := liver{s: l.s}
			if err := errors.Join(err, w.copyOver()); err != nil {
				b.Fatal(err)
			}
		}
	}
	used := ownCPU() - cpu
	b.ReportMetric(float64(sum)/float64(b.N)/rows, "B/session")
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "sessions/s")
	b.ReportMetric(float64(b.N)*rows/used.Seconds(), "sessions/cpu-s")
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScan reads blocks of a window without opening them.
func BenchmarkScan(b *testing.B) {
	l := newLab(b, b.TempDir(), testOptions())
	for i := range 200 {
		p := l.place(KindSessions, aDay)
		p.From, p.To = int64(i), int64(i)
		if err := l.s.Put(l.seal(p, make([]byte, 500_000))); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		if err := l.s.Scan(b.Context(), KindSessions, 100, 101, func(vault.Place, Sealed) error { n++; return nil }); err != nil || n != 2 {
			b.Fatalf("%d blocks, %v", n, err)
		}
	}
}

// largeRun is a store with 64 MiB in one run.
func largeRun(b *testing.B) *lab {
	l := newLab(b, b.TempDir(), testOptions())
	for range 6 {
		for range 11 {
			l.put(KindSessions, aDay, string(make([]byte, 1<<20-200)))
		}
		l.merge(nil)
	}
	b.SetBytes(66 << 20)
	return l
}

// BenchmarkCheck reads all blocks, and their tables for the sums.
func BenchmarkCheck(b *testing.B) {
	l := largeRun(b)
	for b.Loop() {
		l.check()
	}
}

// BenchmarkBackup copies all, fsyncs, reads it again and compares.
func BenchmarkBackup(b *testing.B) {
	l := largeRun(b)
	for b.Loop() {
		l.backUp(filepath.Join(b.TempDir(), "backup"))
	}
}
