package tests

import (
	"context"
	wire "encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
)

// pour makes TCP sessions at a steady rate through the program that hangs on
// the uplink at the moment, whichever agent hung it there: session i is a SYN and
// an ACK from 10.0.0.0+i to a subscriber, and, when so many later ones have
// begun, a RST. Nothing can be lost on a link, so it knows what was sent to the last
// packet.
type pour struct {
	g    *gateway.Gateway
	rate int // new sessions a second
	open int // how many go on at once

	program *ebpf.Program
	frame   []byte
	began   atomic.Int64 // sessions
	most    atomic.Int64 // it rests when so many have begun; 0: never
	bursts  []burst
	stop    atomic.Bool
	done    sync.WaitGroup
	err     error
}

// burst is when the sessions from number `from` on began.
type burst struct {
	from          int
	before, after time.Time
}

const (
	pourPort = 12345 // of the initiator
	rstFlag  = 0x04
	synFlag  = 0x02
	ackFlag  = 0x10
	perBurst = 2 * time.Millisecond
)

func newPour(g *gateway.Gateway, rate, open int) *pour {
	f := append(make([]byte, 12), 0x08, 0x00)
	f = append(f, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 0)
	f = append(f, g.Subscribers[0].Addr4.AsSlice()...)
	f = wire.BigEndian.AppendUint16(f, pourPort)
	return &pour{g: g, rate: rate, open: open, frame: append(f, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0, 0xff, 0xff, 0, 0, 0, 0)}
}

// start pours until end is called.
func (p *pour) start() {
	p.done.Go(func() { // ends with end, or with its first error
		tick := time.NewTicker(perBurst)
		defer tick.Stop()
		for since, sent := time.Now(), 0; !p.stop.Load() && p.err == nil; <-tick.C {
			if most := p.most.Load(); most > 0 && p.began.Load() >= most {
				since, sent = time.Now(), 0
				continue
			}
			due := int(time.Since(since).Seconds()*float64(p.rate)) - sent
			p.err = p.burst(min(due, p.rate/100)) // what could not be sent in time is sent later, not at once
			sent += min(due, p.rate/100)
		}
	})
}

// end ends the sessions that go on, and says how many there were.
func (p *pour) end() (int, error) {
	p.stop.Store(true)
	p.done.Wait()
	n := int(p.began.Load())
	err := p.err
	if err == nil {
		err = p.attached()
	}
	p.bursts = append(p.bursts, burst{from: n, before: time.Now()})
	for i := max(0, n-p.open); i < n && err == nil; i++ {
		err = p.send(i, rstFlag)
	}
	p.bursts[len(p.bursts)-1].after = time.Now()
	if p.program != nil {
		err = errors.Join(err, p.program.Close())
	}
	return n, err
}

func (p *pour) burst(n int) error {
	if n <= 0 {
		return nil
	}
	if err := p.attached(); errors.Is(err, errNobodyLooks) {
		return nil
	} else if err != nil {
		return err
	}
	from := int(p.began.Load())
	if from+n > 1<<24 {
		return errors.New("a pour has numbers for 16,777,216 sessions, and they are used up")
	}
	p.bursts = append(p.bursts, burst{from: from, before: time.Now()})
	for i := from; i < from+n; i++ {
		for _, flags := range []byte{synFlag, ackFlag} {
			if err := p.send(i, flags); err != nil {
				return err
			}
		}
		if i >= p.open {
			if err := p.send(i-p.open, rstFlag); err != nil {
				return err
			}
		}
	}
	p.bursts[len(p.bursts)-1].after = time.Now()
	p.began.Store(int64(from + n))
	return nil
}

func (p *pour) send(i int, flags byte) error {
	wire.BigEndian.PutUint32(p.frame[26:], 10<<24|uint32(i))
	p.frame[47] = flags
	_, err := p.program.Run(&ebpf.RunOptions{Data: p.frame, Repeat: 1})
	return err
}

// errNobodyLooks: there is no uplink, or nothing on it, and so no packet that
// could be recorded.
var errNobodyLooks = errors.New("no program is on the uplink")

// attached opens the program that sees the uplink's packets now.
func (p *pour) attached() error {
	var id int
	err := p.g.Gateway().Do(func() error {
		l, err := netlink.LinkByName(p.g.Uplink)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return err
		}
		if x := l.Attrs().Xdp; x != nil {
			id = int(x.ProgId)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case id == 0:
		return errNobodyLooks
	}
	if p.program != nil {
		if info, err := p.program.Info(); err == nil {
			if have, ok := info.ID(); ok && int(have) == id {
				return nil
			}
		}
		_ = p.program.Close() // it was replaced
		p.program = nil
	}
	p.program, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if errors.Is(err, os.ErrNotExist) { // it went at this moment
		return errNobodyLooks
	}
	if err != nil {
		return fmt.Errorf("open the program on %q: %w", p.g.Uplink, err)
	}
	return nil
}

// until waits until so many sessions have begun.
func (p *pour) until(ctx context.Context, n int64) error {
	tick := time.NewTicker(perBurst)
	defer tick.Stop()
	for p.began.Load() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d sessions to begin: %w", n, ctx.Err())
		}
		if p.stop.Load() {
			return errors.New("the pour ended")
		}
	}
	return nil
}

// when is the burst in which session i began.
func (p *pour) when(i int) burst {
	at, found := slices.BinarySearchFunc(p.bursts, i, func(b burst, i int) int { return b.from - i })
	if !found {
		at--
	}
	return p.bursts[at]
}

// number is which session of the pour this is; -1 when it is none.
func (p *pour) number(s *session.Session) int {
	a := s.Initiator.Netip()
	if s.Proto != unix.IPPROTO_TCP || s.InitiatorPort != pourPort || !netip.MustParsePrefix("10.0.0.0/8").Contains(a) {
		return -1
	}
	b := a.As4()
	return int(wire.BigEndian.Uint32(b[:]) & 0xffffff)
}
