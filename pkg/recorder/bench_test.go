package recorder

import (
	"encoding/binary"
	"testing"
	"time"
)

// BenchmarkToDisk takes sessions from a table in memory to the disk, with all
// that lies between: join, encode, seal, store, fsync.
func BenchmarkToDisk(b *testing.B) {
	r := newRoom(b, "")
	r.sessions.max = 65536
	r.logOn("anna", "10.0.0.1", evening.Add(-time.Hour))
	const part = 1 << 16
	n := 0
	for b.Loop() {
		b.StopTimer()
		list := seen(part, evening)
		for i := range list {
			s := &list[i]
			binary.BigEndian.PutUint32(s.Initiator[12:], 10<<24|uint32(i%5000))
			binary.BigEndian.PutUint32(s.Responder[12:], 0xc0000000|uint32(i*2654435761)>>20)
			s.Start = evening.Add(-time.Duration(i%60000) * time.Millisecond).UnixNano()
			s.End = s.Start + int64(i%3000)*1e6
			s.InitiatorPort = uint16(i * 40503)
			s.Reuse = uint8(n)
		}
		r.table.due, r.table.stored = list, nil
		b.StartTimer()
		if err := r.step(); err != nil {
			b.Fatal(err)
		}
		n += part
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sessions/s")
	b.ReportMetric(float64(r.sessions.count.bytes)/float64(n), "bytes/session")
	if r.Status().Sessions.Stored != uint64(n) {
		b.Fatalf("%d stored of %d", r.Status().Sessions.Stored, n)
	}
}
