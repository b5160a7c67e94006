package nat

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a netlink socket of netfilter's, in the network namespace of the
// thread that opened it.
type socket struct {
	fd  int
	buf []byte
}

// readSize holds the longest message of a dump (netlink(7): 32 KiB).
const readSize = 64 << 10

// openSocket joins the multicast groups of that mask; receive is the size of the
// receive buffer that is asked for, in bytes, 0 for the usual one.
func openSocket(groups uint32, receive int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a socket for conntrack events: %w; the kernel needs nf_conntrack_netlink", err)
	}
	s := &socket{fd: fd, buf: make([]byte, readSize)}
	if receive > 0 {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receive/2); err != nil { // the kernel doubles it (socket(7))
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receive/2) // without CAP_NET_ADMIN: up to rmem_max
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket for conntrack events: %w", err), s.close())
	}
	return s, nil
}

func (s *socket) close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// buffer returns the size of the receive buffer in force, bytes.
func (s *socket) buffer() int {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return n
}

// read returns what came, nothing when there is nothing now, or ENOBUFS when
// something was lost. The bytes are valid until the next call.
func (s *socket) read() ([]byte, error) {
	for {
		n, err := unix.Read(s.fd, s.buf)
		switch {
		case err == nil:
			return s.buf[:n], nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil, nil
		default:
			return nil, err
		}
	}
}

// wait returns when there is something to read, or after d.
func (s *socket) wait(d time.Duration) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for conntrack events: %w", err)
	}
	return nil
}

// ask requests the whole table.
func (s *socket) ask() error {
	b := make([]byte, nlHeader+nfHeader)
	putHeader(b, unix.NFNL_SUBSYS_CTNETLINK<<8|ctGet, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for the table of conntrack: %w", err)
	}
	return nil
}
