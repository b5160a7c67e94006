package tests

import (
	"context"
	byteorder "encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/lab"
)

// watch notes when the frames of a capture leave an end of a link.
type watch struct {
	mu      sync.Mutex
	pending map[string][]int64 // recorded times of frames with the same bytes, in order
	sent    map[int64]int64    // recorded time → when it was sent, ns since 1970
	left    int
	all     chan struct{} // closed when no frame is left
}

func newWatch(frames []frame) *watch {
	w := &watch{pending: map[string][]int64{}, sent: map[int64]int64{}, left: len(frames), all: make(chan struct{})}
	for _, f := range frames {
		w.pending[string(f.data)] = append(w.pending[string(f.data)], f.at)
	}
	return w
}

func (w *watch) saw(data []byte, at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	times := w.pending[string(data)]
	if len(times) == 0 {
		return
	}
	w.pending[string(data)] = times[1:]
	if before, known := w.sent[times[0]]; !known || at < before {
		w.sent[times[0]] = at
	}
	if w.left--; w.left == 0 {
		close(w.all)
	}
}

// wait returns when each frame was seen.
func (w *watch) wait(ctx context.Context) error {
	select {
	case <-w.all:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		return fmt.Errorf("%d frames were not sent as they are: %w", w.left, ctx.Err())
	}
}

// tap reads what leaves the link, with the kernel's time, until all was seen
// or ctx ends.
func (w *watch) tap(ctx context.Context, n *lab.Namespace, link string) error {
	fd, err := packetSocket(n, link)
	if err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network byte order
	ifindex := 0
	err = n.Do(func() (err error) { ifindex, err = ifindexHere(link); return err })
	err = errors.Join(err,
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}), // ends are looked at between
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}))
	if err != nil {
		return errors.Join(fmt.Errorf("watch %q: %w", link, err), unix.Close(fd))
	}
	go func() { // ends when all was seen, or with ctx
		defer unix.Close(fd)
		for ctx.Err() == nil {
			select {
			case <-w.all:
				return
			default:
				w.read(fd)
			}
		}
	}()
	return nil
}

func (w *watch) read(fd int) {
	var data [1 << 16]byte
	var oob [128]byte
	n, oobn, _, from, err := unix.Recvmsg(fd, data[:], oob[:], 0)
	if err != nil {
		return // nothing came in time
	}
	link, ok := from.(*unix.SockaddrLinklayer)
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if !ok || link.Pkttype != unix.PACKET_OUTGOING || err != nil {
		return
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			sec, nsec := byteorder.NativeEndian.Uint64(m.Data), byteorder.NativeEndian.Uint64(m.Data[8:])
			w.saw(data[:n], int64(sec*1e9+nsec))
		}
	}
}

// ifindexHere is the number of a link in the namespace of the thread.
func ifindexHere(link string) (int, error) {
	dev, err := net.InterfaceByName(link)
	if err != nil {
		return 0, err
	}
	return dev.Index, nil
}
