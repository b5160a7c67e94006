package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// compressed is a size in one of nfdump's compressions.
type compressed struct {
	name  string
	bytes int64
}

// nfdumpBytes has nfcapd collect the sessions as IPFIX, checks that all came,
// and packs them in each way that this version of nfdump has.
func (b *bench) nfdumpBytes(ctx context.Context, list []session.Session) ([]compressed, error) {
	dir := filepath.Join(b.dir, "nfdump")
	if err := collectNfdump(ctx, dir, list); err != nil {
		return nil, err
	}
	var out []compressed
	for _, c := range []struct{ name, flag string }{{"bz2", "-j"}, {"lz4", "-y"}, {"lzo", "-z"}} {
		file := filepath.Join(b.dir, "nfdump."+c.name)
		if text, err := exec.CommandContext(ctx, "nfdump", "-R", dir, "-w", file, c.flag).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("nfdump %s: %w: %s", c.flag, err, text)
		}
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if n, err := nfdumpFlows(ctx, "-r", file); err != nil || n != len(list) {
			return nil, fmt.Errorf("nfdump's %s file has %d of %d flows: %w", c.name, n, len(list), err)
		}
		out = append(out, compressed{c.name, info.Size()})
	}
	return out, nil
}

// nfcapd is a running collector on a loopback port.
type nfcapd struct {
	cmd     *exec.Cmd
	port    int
	conn    net.Conn
	pace    *time.Ticker
	message ipfix
	sent    int // messages
}

// startNfcapd returns a collector that listens.
func startNfcapd(ctx context.Context, dir string) (*nfcapd, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	n := &nfcapd{port: port, pace: time.NewTicker(200 * time.Microsecond), message: ipfix{at: uint32(time.Now().Unix())}}
	n.cmd = exec.CommandContext(ctx, "nfcapd", "-w", dir, "-b", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "3600")
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nfcapd: %w", err)
	}
	for ctx.Err() == nil {
		if _, bound, err := udpQueue(port); err != nil || bound {
			break
		}
		<-n.pace.C
	}
	if n.conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
		return nil, errors.Join(err, n.cmd.Process.Kill(), n.cmd.Wait())
	}
	return n, nil
}

// send sends no faster than nfcapd reads.
func (n *nfcapd) send(list []session.Session) error {
	for ; len(list) > 0; n.sent++ {
		if n.sent%32 == 0 { // a message takes 2.3 kB of a queue of some 200
			if err := n.drained(64 << 10); err != nil {
				return err
			}
		}
		taken := n.message.message(list)
		if _, err := n.conn.Write(n.message.bytes); err != nil {
			return err
		}
		list = list[taken:]
	}
	return nil
}

// stop ends it when it has read everything.
func (n *nfcapd) stop() error {
	err := n.drained(0)
	n.pace.Stop()
	if err = errors.Join(err, n.conn.Close(), n.cmd.Process.Signal(syscall.SIGTERM), n.cmd.Wait()); err != nil {
		return fmt.Errorf("nfcapd: %w", err)
	}
	return nil
}

// collectNfdump has nfcapd take all sessions, and counts them.
func collectNfdump(ctx context.Context, dir string, list []session.Session) error {
	n, err := startNfcapd(ctx, dir)
	if err != nil {
		return err
	}
	if err := errors.Join(n.send(list), n.stop()); err != nil {
		return err
	}
	count, err := nfdumpFlows(ctx, "-R", dir)
	if err == nil && count != len(list) {
		err = fmt.Errorf("nfcapd: %d of %d flows arrived", count, len(list))
	}
	return err
}

// freePort returns a UDP port of 127.0.0.1 that was free just now.
func freePort() (int, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	return c.LocalAddr().(*net.UDPAddr).Port, c.Close()
}

// drained waits until the socket holds at most so many bytes.
func (n *nfcapd) drained(most int) error {
	for {
		waits, bound, err := udpQueue(n.port)
		if err != nil {
			return err
		}
		if !bound {
			return errors.New("nfcapd does not listen")
		}
		if waits <= most {
			return nil
		}
		<-n.pace.C
	}
}

// udpQueue returns the bytes that wait for the reader of a port of 127.0.0.1;
// see proc_net(5).
func udpQueue(port int) (n int, bound bool, err error) {
	f, err := os.Open("/proc/net/udp")
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	end := fmt.Sprintf("0100007F:%04X", port)
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 5 || w[1] != end {
			continue
		}
		_, hex, _ := strings.Cut(w[4], ":")
		v, err := strconv.ParseInt(hex, 16, 64)
		return int(v), true, err
	}
	return 0, false, nil
}

// nfdumpFlows counts the flows of files.
func nfdumpFlows(ctx context.Context, args ...string) (int, error) {
	text, err := exec.CommandContext(ctx, "nfdump", append(args, "-I")...).Output()
	if err != nil {
		return 0, fmt.Errorf("nfdump -I: %w", err)
	}
	total, found := 0, false
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "Flows:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				return 0, fmt.Errorf("nfdump -I says %q", line)
			}
			total, found = total+n, true
		}
	}
	if !found {
		return 0, fmt.Errorf("nfdump -I does not count flows: %q", text)
	}
	return total, nil
}

// ipfix makes messages of RFC 7011.
type ipfix struct {
	bytes []byte
	at    uint32 // export time
	seq   uint32
}

// The fields of a record: element of the IANA registry, length.
var ipfixFields = [2][][2]uint16{
	{{152, 8}, {153, 8}, {8, 4}, {12, 4}, {7, 2}, {11, 2}, {4, 1}, {6, 1}, {2, 4}},
	{{152, 8}, {153, 8}, {27, 16}, {28, 16}, {7, 2}, {11, 2}, {4, 1}, {6, 1}, {2, 4}},
}

// message packs sessions of one address family from the front of list, and
// returns how many; the templates go with each message.
func (m *ipfix) message(list []session.Session) (n int) {
	be := binary.BigEndian
	b := be.AppendUint16(m.bytes[:0], 10)
	b = be.AppendUint16(b, 0) // length
	b = be.AppendUint32(b, m.at)
	b = be.AppendUint32(b, m.seq)
	b = be.AppendUint32(b, 1)
	begin := len(b)
	b = be.AppendUint32(b, 2<<16)
	for i, fields := range ipfixFields {
		b = be.AppendUint16(b, 256+uint16(i))
		b = be.AppendUint16(b, uint16(len(fields)))
		for _, f := range fields {
			b = be.AppendUint16(be.AppendUint16(b, f[0]), f[1])
		}
	}
	be.PutUint16(b[begin+2:], uint16(len(b)-begin))
	four := list[0].Initiator.Is4()
	begin = len(b)
	set := uint32(257 << 16)
	if four {
		set = 256 << 16
	}
	b = be.AppendUint32(b, set)
	for n < len(list) && len(b) < 1400 && list[n].Initiator.Is4() == four {
		b = appendFlow(b, &list[n], four)
		n++
	}
	be.PutUint16(b[begin+2:], uint16(len(b)-begin))
	be.PutUint16(b[2:], uint16(len(b)))
	m.bytes, m.seq = b, m.seq+uint32(n)
	return n
}

func appendFlow(b []byte, s *session.Session, four bool) []byte {
	be := binary.BigEndian
	b = be.AppendUint64(b, uint64(s.Start/1e6))
	b = be.AppendUint64(b, uint64(s.End/1e6))
	from := 0
	if four {
		from = 12
	}
	b = append(append(b, s.Initiator[from:]...), s.Responder[from:]...)
	b = be.AppendUint16(b, s.InitiatorPort)
	b = be.AppendUint16(b, s.ResponderPort)
	b = append(b, s.Proto, s.InitiatorTCP|s.ResponderTCP)
	return be.AppendUint32(b, 1)
}
