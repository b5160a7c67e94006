package main

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
)

// How the access servers of the measurement send: so many of them, each with so
// many requests that wait for their answer.
const (
	accessServers = 32
	outstanding   = 64
	answerTime    = 2 * time.Second // for an answer, before a request is sent again
	accountTime   = 15 * time.Second
)

// radius measures accounting by UDP to a running agent: sessions begin, and each
// is answered when it is durable. Beside it is what a server could do that writes
// and syncs for each request.
func (b *bench) radius(ctx context.Context) (out []Entry, err error) {
	err = b.withGateway(ctx, setting{slots: 1 << 16}, func(g *gateway.Gateway) error {
		syncs, err := b.syncs(filepath.Dir(g.DataDir()))
		if err != nil {
			return err
		}
		pid := g.Agent().PID()
		before, err := cpuTime(pid)
		if err != nil {
			return err
		}
		r, err := b.account(ctx, g)
		if err != nil {
			return err
		}
		after, err := cpuTime(pid)
		if err != nil {
			return err
		}
		rate := float64(r.answered.Load()) / r.took.Seconds()
		out = append(out, Entry{
			Name: "radius/requests_per_second", Value: rate, Unit: "requests/s", Vs: "sync_each", Ratio: rate / syncs,
			Note: fmt.Sprintf("a write and sync for each: %s/s; the agent used %.0f %% of its CPU; %d sent again", figure(syncs), 100*(after-before).Seconds()/r.took.Seconds(), r.again.Load()),
		})
		return nil
	})
	return out, err
}

// syncs is how many small writes a second the disk makes durable one by one.
func (b *bench) syncs(dir string) (perSecond float64, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	n, begin := 0, time.Now()
	for time.Since(begin) < 2*time.Second {
		if _, err := f.Write(make([]byte, 200)); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// accounted is what became of the requests.
type accounted struct {
	answered, again atomic.Uint64
	took            time.Duration
}

// account sends requests for a while, on the CPU of the traffic.
func (b *bench) account(ctx context.Context, g *gateway.Gateway) (*accounted, error) {
	restore, err := confine(b.loadCPU)
	if err != nil {
		return nil, err
	}
	defer restore()
	var r accounted
	var wg sync.WaitGroup
	errs := make(chan error, accessServers)
	begin := time.Now()
	over := begin.Add(accountTime)
	for i := range accessServers {
		conn, err := g.Gateway().Dial(ctx, "udp4", netip.AddrPort{}, "127.0.0.1:1813")
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		wg.Go(func() { // ends at over, when nothing comes any more
			if err := accessServer(&r, conn, []byte(g.Secret), i, over); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	r.took = time.Since(begin)
	close(errs)
	return &r, <-errs
}

// accessServer is one.
func accessServer(r *accounted, conn net.Conn, secret []byte, number int, over time.Time) error {
	var open [256][]byte
	buf := make([]byte, 4096)
	next, waiting := 0, 0
	more := func(id byte) error {
		open[id] = request(open[id][:0], secret, id, number, next)
		next++
		_, err := conn.Write(open[id])
		return err
	}
	for id := range outstanding {
		if err := more(byte(id)); err != nil {
			return err
		}
		waiting++
	}
	for waiting > 0 {
		if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) { // what was lost is sent again
			for id := range open {
				if len(open[id]) > 0 {
					r.again.Add(1)
					if _, err := conn.Write(open[id]); err != nil {
						return err
					}
				}
			}
			continue
		}
		if err != nil {
			return err
		}
		if n < 20 || buf[0] != 5 || len(open[buf[1]]) == 0 {
			continue
		}
		r.answered.Add(1)
		if time.Now().After(over) {
			open[buf[1]] = open[buf[1]][:0]
			waiting--
			continue
		}
		if err := more(buf[1]); err != nil {
			return err
		}
	}
	return nil
}

// request appends an Accounting-Request that begins a session.
func request(b, secret []byte, id byte, server, session int) []byte {
	attr := func(kind byte, value ...byte) { b = append(append(b, kind, byte(2+len(value))), value...) }
	b = append(b, 4, id)
	b = append(b, make([]byte, 18)...)
	attr(40, 0, 0, 0, 1)
	attr(44, fmt.Appendf(nil, "%08X%08X", server, session)...)
	attr(1, fmt.Appendf(nil, "user-%d-%d@isp.example", server, session)...)
	attr(32, []byte("bng-"+strconv.Itoa(server))...)
	attr(4, 10, 0, 0, byte(server))
	attr(8, 100, 64+byte(server), byte(session>>8), byte(session))
	attr(31, []byte("0045112233")...)
	attr(55, binary.BigEndian.AppendUint32(nil, uint32(time.Now().Unix()))...)
	attr(7, 0, 0, 0, 1)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	sum := md5.Sum(append(b, secret...))
	copy(b[4:], sum[:])
	return b
}

// confine puts all threads of this process on one CPU.
func confine(cpu int) (restore func(), err error) {
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, fmt.Errorf("ask for the CPUs of a thread: %w", err)
	}
	one.Set(cpu)
	set := func(to *unix.CPUSet) error {
		tasks, err := os.ReadDir("/proc/self/task")
		for _, e := range tasks {
			if tid, err := strconv.Atoi(e.Name()); err == nil {
				_ = unix.SchedSetaffinity(tid, to) // one that has ended meanwhile
			}
		}
		return err
	}
	return func() { _ = set(&old) }, set(&one)
}
