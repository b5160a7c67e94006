package nat

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/session"
)

// inNamespace runs fn on a thread of a network namespace of its own, which ends
// with it.
func inNamespace(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { // ends with fn; its thread is not used again
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace: %v; this test needs root", err)
	}
}

// maker makes and deletes entries of conntrack, many with one call.
type maker struct {
	s   *socket
	buf []byte
}

func newMaker(t testing.TB) *maker {
	s, err := openSocket(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{s: s}
}

func (m *maker) attr(kind uint16, value ...byte) {
	n := nlaHeader + len(value)
	m.buf = binary.NativeEndian.AppendUint16(m.buf, uint16(n))
	m.buf = binary.NativeEndian.AppendUint16(m.buf, kind)
	m.buf = append(m.buf, value...)
	for len(m.buf)%4 != 0 {
		m.buf = append(m.buf, 0)
	}
}

func (m *maker) nest(kind uint16, inner func()) {
	at := len(m.buf)
	m.buf = append(m.buf, 0, 0, 0, 0)
	inner()
	binary.NativeEndian.PutUint16(m.buf[at:], uint16(len(m.buf)-at))
	binary.NativeEndian.PutUint16(m.buf[at+2:], kind|1<<15)
}

func (m *maker) tuple(kind, proto uint16, src, dst end) {
	m.nest(kind, func() {
		m.nest(ctaTupleIP, func() {
			m.attr(ctaIP4Src, src.addr[12:]...)
			m.attr(ctaIP4Dst, dst.addr[12:]...)
		})
		m.nest(ctaTupleProto, func() {
			m.attr(ctaProtoNum, byte(proto))
			m.attr(ctaProtoSrc, byte(src.port>>8), byte(src.port))
			m.attr(ctaProtoDst, byte(dst.port>>8), byte(dst.port))
		})
	})
}

// add puts an entry of UDP for x into the next call, or its deletion.
func (m *maker) add(x Translation, remove bool) {
	at := len(m.buf)
	m.buf = append(m.buf, make([]byte, nlHeader)...)
	m.buf = append(m.buf, unix.AF_INET, 0, 0, 0) // nfgenmsg
	in, out, far := end{x.Inside, x.InsidePort}, end{x.Public, x.PublicPort}, end{x.Far, x.FarPort}
	m.tuple(ctaTupleOrig, uint16(x.Proto), in, far)
	kind, flags := uint16(ctDelete), uint16(unix.NLM_F_REQUEST)
	if !remove {
		m.tuple(ctaTupleReply, uint16(x.Proto), far, out)
		m.attr(3, 0, 0, 0, 1<<3)  // CTA_STATUS: confirmed
		m.attr(7, 0, 0, 0x0e, 10) // CTA_TIMEOUT: an hour
		kind, flags = ctNew, flags|unix.NLM_F_CREATE|unix.NLM_F_EXCL
	}
	putHeader(m.buf[at:], unix.NFNL_SUBSYS_CTNETLINK<<8|kind, flags)
}

// send makes the calls. The kernel works through them before it returns.
func (m *maker) send(t testing.TB) {
	err := unix.Sendto(m.s.fd, m.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil {
		t.Fatalf("make entries of conntrack: %v", err)
	}
	m.buf = m.buf[:0]
	for {
		b, err := m.s.read()
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return
		}
		var answer message
		if _, ok := answer.next(b); ok && answer.err != nil {
			t.Fatalf("make entries of conntrack: %v", answer.err)
		}
	}
}

// udp is the i-th of many translations.
func udp(i int) Translation {
	return Translation{
		Proto: session.UDP, Inside: session.Addr{10: 0xff, 11: 0xff, 12: 100, 13: 64, 14: byte(i >> 8), 15: byte(i)}, InsidePort: uint16(i),
		Public: addr("192.0.2.1"), PublicPort: uint16(i), Far: session.Addr{10: 0xff, 11: 0xff, 12: 198, 13: 51, 14: 100, 15: byte(i >> 16)}, FarPort: 53,
	}
}
