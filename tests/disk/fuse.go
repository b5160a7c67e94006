package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// As much of FUSE (linux/fuse.h) as a directory with one file asks for. All
// numbers are in the machine's byte order.

const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
)

const (
	headIn   = 40
	headOut  = 16
	rootNode = 1
	fileNode = 2
	maxWrite = 1 << 17
	fileName = "disk"

	initBigWrites = 1 << 5  // FUSE_BIG_WRITES
	forAWhile     = 1 << 20 // seconds that names and sizes hold
)

var order = binary.NativeEndian

// serve mounts the device's directory and answers for it until leave.
func (d *Disk) serve() error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	d.fuse = os.NewFile(uintptr(fd), "fuse") // blocking: a read ends with the mount
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("edgelog-disk", d.device(), "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = d.fuse.Close() // the first error says why
		d.fuse = nil
		return fmt.Errorf("mount a disk on %q: %w", d.device(), err)
	}
	d.served = make(chan struct{})
	go d.answer() // ends with the mount
	return nil
}

func (d *Disk) leave() error {
	err := unix.Unmount(d.device(), unix.MNT_DETACH)
	<-d.served
	err = errors.Join(err, d.fuse.Close())
	d.fuse = nil
	if err != nil {
		return fmt.Errorf("unmount the disk on %q: %w", d.device(), err)
	}
	return nil
}

func (d *Disk) answer() {
	defer close(d.served)
	buf := make([]byte, maxWrite+4096)
	for {
		n, err := unix.Read(int(d.fuse.Fd()), buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n < headIn {
			return // unmounted
		}
		body, code, silent := d.one(order.Uint32(buf[4:]), order.Uint64(buf[16:]), buf[headIn:n])
		if silent {
			continue
		}
		out := make([]byte, headOut, headOut+len(body))
		order.PutUint32(out, uint32(headOut+len(body)))
		order.PutUint32(out[4:], uint32(-int32(code)))
		copy(out[8:16], buf[8:16])                                // which request
		_, _ = unix.Write(int(d.fuse.Fd()), append(out, body...)) // one that was given up is refused
	}
}

// one answers a request; silent says that none is expected.
func (d *Disk) one(op uint32, node uint64, in []byte) (body []byte, code unix.Errno, silent bool) {
	switch op {
	case opInit:
		out := make([]byte, 64)
		order.PutUint32(out, 7)
		order.PutUint32(out[4:], 31)
		copy(out[8:12], in[8:12]) // read-ahead as the kernel likes
		order.PutUint32(out[12:], initBigWrites)
		order.PutUint32(out[20:], maxWrite)
		order.PutUint32(out[24:], 1) // ns
		return out, 0, false
	case opLookup:
		if string(in) != fileName+"\x00" {
			return nil, unix.ENOENT, false
		}
		out := make([]byte, 40, 128)
		order.PutUint64(out, fileNode)
		order.PutUint64(out[16:], forAWhile)
		order.PutUint64(out[24:], forAWhile)
		return append(out, d.attributes(fileNode)...), 0, false
	case opGetattr, opSetattr:
		out := make([]byte, 16, 104)
		order.PutUint64(out, forAWhile)
		return append(out, d.attributes(node)...), 0, false
	case opOpen:
		return make([]byte, 16), 0, false
	case opRead:
		body, code = d.read(int64(order.Uint64(in[8:])), int(order.Uint32(in[16:])))
		return body, code, false
	case opWrite:
		n := order.Uint32(in[16:])
		if code = d.write(int64(order.Uint64(in[8:])), in[40:40+n]); code != 0 {
			return nil, code, false
		}
		return append(order.AppendUint32(nil, n), 0, 0, 0, 0), 0, false
	case opFsync:
		return nil, d.flush(), false
	case opFlush, opRelease, opDestroy:
		return nil, 0, false
	case opForget, opBatchForget, opInterrupt:
		return nil, 0, true
	}
	return nil, unix.ENOSYS, false
}

// attributes is struct fuse_attr.
func (d *Disk) attributes(node uint64) []byte {
	out := make([]byte, 88)
	order.PutUint64(out, node)
	mode := uint32(unix.S_IFDIR | 0o700)
	if node == fileNode {
		mode = unix.S_IFREG | 0o600
		order.PutUint64(out[8:], uint64(d.size))
		order.PutUint64(out[16:], uint64(d.size/sector))
	}
	order.PutUint32(out[60:], mode)
	order.PutUint32(out[64:], 1) // one name
	order.PutUint32(out[80:], 4096)
	return out
}
