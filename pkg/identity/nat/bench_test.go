package nat

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkKernelEvents has the kernel tell of a million entries of conntrack
// that begin and end, and follows them; beside it
// the same events only read. events/s is what one core would do: by the CPU time
// that the thread used.
func BenchmarkKernelEvents(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		ours := follow(b, n, func(w *Watcher, ctx context.Context) error { return w.Run(ctx) })
		read := follow(b, n, func(w *Watcher, ctx context.Context) error {
			for ctx.Err() == nil {
				data, err := w.events.read()
				if err != nil {
					return err
				}
				if data == nil {
					if err := w.events.wait(idle); err != nil {
						return err
					}
					continue
				}
				w.count.Messages++
				w.publish()
			}
			return nil
		})
		b.ReportMetric(ours.perCore, "events/s")
		b.ReportMetric(ours.rate, "sent/s")
		b.ReportMetric(read.perCore, "read-events/s")
		b.ReportMetric(ours.perCore/read.perCore, "x-read")
		b.ReportMetric(float64(ours.overruns), "overruns")
	}
}

type followed struct {
	perCore, rate float64
	overruns      uint64
}

func follow(b *testing.B, n int, run func(*Watcher, context.Context) error) (f followed) {
	inNamespace(b, func() {
		m := newMaker(b)
		defer m.s.close()
		w, err := Watch(WatchOptions{Table: NewTable(TableOptions{Keep: func(uint8) time.Duration { return time.Minute }})})
		if err != nil {
			b.Error(err)
			return
		}
		defer w.Close()
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
		defer cancel()
		var took atomic.Int64
		go func() { // ends when all are sent and read
			took.Store(int64(send(b, m, n)))
			for ctx.Err() == nil && w.Stats().Messages < uint64(n) && w.Stats().Overruns == 0 {
				<-time.After(10 * time.Millisecond)
			}
			cancel()
		}()
		before := threadTime()
		if err := run(w, ctx); err != nil {
			b.Error(err)
		}
		used := threadTime() - before
		s := w.Stats()
		f = followed{float64(s.Messages) / used.Seconds(), float64(n) / time.Duration(took.Load()).Seconds(), s.Overruns}
		if s.Messages < uint64(n) && s.Overruns == 0 {
			b.Errorf("%d of %d events", s.Messages, n)
		}
	})
	return f
}

// pace is how many events are sent a second: more than the goal, and as evenly
// as connections come.
const pace = 250_000

// send makes entries and deletes them, n events.
func send(b *testing.B, m *maker, n int) time.Duration {
	const batch = 500
	began := time.Now()
	for i := 0; i < n/2; i += batch {
		for _, remove := range []bool{false, true} {
			for j := range batch {
				m.add(udp(1+(i+j)%(1<<20)), remove)
			}
			m.send(b)
		}
		if early := time.Until(began.Add(time.Duration(2*(i+batch)) * time.Second / pace)); early > 0 {
			<-time.After(early)
		}
	}
	return time.Since(began)
}

func threadTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTake reads events out of memory into the table.
func BenchmarkTake(b *testing.B) {
	var m maker
	var messages [][]byte
	for i := range 1 << 16 {
		for _, kind := range []bool{false, true} {
			m.buf = nil
			m.add(udp(i), false)
			if kind {
				m.buf[4] = ctDelete
			}
			messages = append(messages, m.buf)
		}
	}
	table := NewTable(TableOptions{Keep: func(uint8) time.Duration { return time.Second }})
	w := &Watcher{o: WatchOptions{Table: table, Clock: time.Now}, empty: time.Now()}
	w.SetLocal(nil)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if _, err := w.take(messages[i%len(messages)], now, false); err != nil {
			b.Fatal(err)
		}
		if len(w.batch) >= batchSize {
			w.flush()
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkFind asks for translations among a million.
func BenchmarkFind(b *testing.B) {
	table := NewTable(TableOptions{})
	for i := range 1 << 20 {
		table.apply([]change{{kind: began, Translation: udp(i), at: sec(0)}}, sec(0))
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		x := udp(i * 7919 % (1 << 20))
		s := seen(public, 1, 2)
		s.Proto, s.Initiator, s.InitiatorPort, s.Responder, s.ResponderPort = x.Proto, x.Public, x.PublicPort, x.Far, x.FarPort
		if inside, _, a := table.Find(s); a != Found || inside != x.Inside {
			b.Fatal(a)
		}
		i++
	}
}
