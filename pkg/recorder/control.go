package recorder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/config"
)

// ErrRunning is returned when another agent answers on the control socket.
var ErrRunning = errors.New("another agent is running on this socket")

// Peer is the process at the other end of the control socket, as the kernel
// vouches for it (SO_PEERCRED, unix(7)).
type Peer struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`

	// Groups are the further groups of the process when it connected (SO_PEERGROUPS).
	Groups []uint32 `json:"groups,omitempty"`
}

type peerKey struct{}

// PeerOf returns the peer of a request that came over the control socket.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// control is the server on the unix socket.
type control struct {
	path string
	ln   *net.UnixListener
	srv  *http.Server
}

// listen opens the socket at path: mode 0660, in a directory that is made with
// mode 0750, both for the group. A socket that nobody answers on is taken over.
func listen(path string, group config.Group, handler http.Handler, base context.Context, log *slog.Logger) (*control, error) {
	if err := makeRunDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %q: %w; stop it first", path, ErrRunning)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("listen on %q: a file that is no socket is in the way; move it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket %q of an earlier agent: %w", path, cause(err))
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w; check the rights of its directory", path, cause(err))
	}
	if err = os.Chmod(path, 0o660); err == nil && group != (config.Group{}) {
		err = share(path, group)
	}
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("open socket %q: %w", path, cause(err))
	}
	c := &control{path: path, ln: ln, srv: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    1 << 16,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
	}}
	return c, nil
}

// makeRunDir makes the directory of the socket, with its mode whatever the umask
// is: its group may talk to the agent. One that is there stays as it is.
func makeRunDir(dir string) error {
	_, err := os.Stat(dir)
	if err == nil {
		return nil
	}
	if err = os.MkdirAll(dir, 0o750); err == nil {
		err = os.Chmod(dir, 0o750)
	}
	if err != nil {
		return fmt.Errorf("make run directory %q: %w", dir, cause(err))
	}
	return nil
}

// share hands the socket at path, and its directory, to a group; the zero group
// takes them back to the agent's own. The directory is left alone when everybody may
// enter it anyway, as /run.
func share(path string, g config.Group) error {
	gid := os.Getegid()
	if g != (config.Group{}) {
		gid = int(g.GID)
	}
	dir := filepath.Dir(path)
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	hand := []string{path}
	if st.Mode().Perm()&0o001 == 0 {
		hand = []string{dir, path}
	}
	for _, p := range hand {
		if err := os.Chown(p, -1, gid); err != nil {
			return fmt.Errorf("hand %q to the group %s: %v; the agent's user must be in it: SupplementaryGroups=%s in the unit", p, groupText(g), cause(err), groupText(g))
		}
	}
	if len(hand) > 1 && st.Mode().Perm()&0o050 != 0o050 { // made with mode 0700, as by init
		return os.Chmod(dir, st.Mode().Perm()|0o050)
	}
	return nil
}

func groupText(g config.Group) string { return cmp.Or(g.Name, strconv.FormatUint(uint64(g.GID), 10)) }

// serve answers until stop is called.
func (c *control) serve() error {
	if err := c.srv.Serve(c.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket %q: %w", c.path, err)
	}
	return nil
}

// stop takes no new request, waits until ctx for those under way, and removes
// the socket.
func (c *control) stop(ctx context.Context) {
	if err := c.srv.Shutdown(ctx); err != nil {
		_ = c.srv.Close()
	}
	_ = c.ln.Close() // it may never have been served
}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			groups = peerGroups(int(fd))
		}
	}); err != nil || credErr != nil {
		return ctx
	}
	return contextWithPeer(ctx, Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Groups: groups})
}

func contextWithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// peerGroups returns the further groups of the process at the other end, as they were
// when it connected; none with a kernel before 4.13, which does not say.
func peerGroups(fd int) []uint32 {
	list := make([]uint32, 64)
	for {
		size := uint32(len(list) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return list[:min(int(size/4), len(list))]
		case errno == unix.ERANGE && int(size/4) > len(list) && size/4 <= mostGroups:
			list = make([]uint32, size/4)
		default:
			return nil
		}
	}
}

// mostGroups is the kernel's NGROUPS_MAX.
const mostGroups = 65536

// statusHandler answers GET /v1/status.
func (r *Recorder) statusHandler(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r.Status()); err != nil {
		r.log.Debug("status was not read to its end", "error", err)
	}
}

// cause takes the path out of a file system or network error that is said in
// a sentence which already names it.
func cause(err error) error {
	var pe *os.PathError
	var oe *net.OpError
	var se *os.SyscallError
	switch {
	case errors.As(err, &se):
		return se.Err
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &oe):
		return oe.Err
	}
	return err
}
