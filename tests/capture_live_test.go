package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// run is one capture that is sent over an uplink of its own: what local
// addresses send goes out of the gateway, the rest comes in.
type run struct {
	name   string
	tcp    bool // sent by tcpreplay, which wants both ends of the link in one namespace
	link   string
	peer   string
	file   string
	truth  *truth
	local  map[netip.Addr]bool
	frames []frame
	sent   map[int64]int64 // recorded time of a frame → when it was sent, ns since 1970
}

func TestCapturesSentOverAnUplinkAreStoredAsTheirTruth(t *testing.T) {
	const mtu = 9000
	names := []string{ // the links carry them all at once, each in its own time
		"ndpi__ethereum by tcpreplay", "zeek__wikipedia by tcpreplay", "arkime__twovlan by tcpreplay",
		"ndpi__ja3_lots_of_cipher_suites", "ndpi__discord_mid_flow", "arkime__pppoe", "arkime__mpls-basic", "arkime__sctp-www",
		"zeek__ipv4-fragmented-3", "zeek__ipv6-fragmented-dns", "zeek__ftp-ipv6", "ndpi__synscan", "ndpi__teams",
	}
	runs := make([]*run, len(names))
	for i, n := range names {
		runs[i] = openRun(t, i, n)
	}
	g := openWires(t, mtu, runs)
	ctx := limited(t)
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s := attachedAll(t, g)
	for _, u := range s.Probe.Uplinks {
		if u.Ingress.Mode != "xdp" || u.Egress.Mode != "tcx" {
			t.Errorf("%s: ingress %s (%s), egress %s", u.Name, u.Ingress.Mode, u.Ingress.Note, u.Egress.Mode)
		}
	}
	sendAll(t, g, runs)
	onlyTheirFrames(t, g, runs)
	// What is still open is stored by a stop that drains the table; the answer
	// comes from the next agent.
	if err := errors.Join(g.Stop(ctx), g.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	checkBalanceAtEnd(t, g)
	for _, r := range runs {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.check(t, g)
		})
	}
}

// openRun reads a capture. " by tcpreplay" behind its name says who sends it.
func openRun(t *testing.T, number int, name string) *run {
	t.Helper()
	r := &run{link: fmt.Sprintf("wire%d", number), peer: fmt.Sprintf("far%d", number), sent: map[int64]int64{}}
	r.name, r.tcp = strings.CutSuffix(name, " by tcpreplay")
	_, files := captures(t, "open/"+r.name+".pcap")
	r.file = files[0]
	r.truth = readTruth(t, strings.TrimSuffix(r.file, ".pcap")+".sessions.tsv")
	r.local = r.truth.localSide(t)
	var err error
	if r.frames, err = frames(r.file); err != nil {
		t.Fatal(err)
	}
	return r
}

// openWires makes a gateway with a link for each capture. The links have no
// addresses: nothing but the captures crosses them.
func openWires(t *testing.T, mtu int, runs []*run) *gateway.Gateway {
	t.Helper()
	l := lab.New(t)
	b := &lab.Border{Lab: l, Uplink: runs[0].link, MTU: mtu}
	for name, into := range map[string]**lab.Namespace{"gateway": &b.Gateway, "internet": &b.Internet} {
		n, err := l.Namespace(name)
		if err == nil {
			err = n.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		}
		if err != nil {
			t.Fatal(err)
		}
		*into = n
	}
	whose := map[netip.Addr]string{}
	uplinks := make([]string, len(runs))
	for i, r := range runs {
		uplinks[i] = fmt.Sprintf("name = %q", r.link)
		far := b.Internet
		if r.tcp {
			far = b.Gateway
		}
		if err := l.Link(lab.End{In: b.Gateway, Name: r.link}, lab.End{In: far, Name: r.peer}, mtu); err != nil {
			t.Fatal(err)
		}
		for a, local := range r.local {
			if other, taken := whose[a]; taken && (local || slices.Contains(b.Local, netip.PrefixFrom(a, a.BitLen()))) {
				t.Fatalf("%s and %s cannot be sent together: both have %s", r.name, other, a)
			}
			whose[a] = r.name
			if local {
				b.Local = append(b.Local, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	g, err := gateway.Open(limited(t), b, t.TempDir(), gateway.Options{Binary: binary, Edit: map[string]string{
		"exempt =":  "exempt = []",
		"name =":    strings.Join(uplinks, "\n[[uplink]]\n"),
		"on_stop =": `on_stop = "drain"`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// attachedAll waits until every uplink is watched both ways.
func attachedAll(t *testing.T, g *gateway.Gateway) *gateway.Status {
	t.Helper()
	s, err := g.Until(limited(t), "all uplinks are attached", func(s *gateway.Status) bool {
		for _, u := range s.Probe.Uplinks {
			if u.Error != "" || u.Ifindex == 0 {
				return false
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sendAll sends all captures at once, each in its own time.
func sendAll(t *testing.T, g *gateway.Gateway, runs []*run) {
	t.Helper()
	ctx := limited(t)
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	begin := time.Now().Add(time.Second)
	for i, r := range runs {
		send := r.send
		if r.tcp {
			send = r.tcpreplay
		}
		wg.Go(func() { errs[i] = send(ctx, g, begin) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tcpreplay has tcpprep divide the frames by their sender, and tcpreplay send
// them. It keeps time less well than the agent, so when each frame was sent is
// looked up at the two ends of the link.
func (r *run) tcpreplay(ctx context.Context, g *gateway.Gateway, _ time.Time) error {
	var cidr []string
	for a, local := range r.local {
		if local {
			cidr = append(cidr, netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
	cache := filepath.Join(g.Lab.Dir(), r.name+".cache")
	n := g.Gateway()
	if _, err := n.Run(ctx, "tcpprep", "--cidr="+strings.Join(cidr, ","), "--pcap="+r.file, "--cachefile="+cache); err != nil {
		return err
	}
	w := newWatch(r.frames)
	for _, link := range []string{r.link, r.peer} {
		if err := w.tap(ctx, n, link); err != nil {
			return err
		}
	}
	out, err := n.Run(ctx, "nice", "-n", "-20", "tcpreplay", "--cachefile="+cache, "--intf1="+r.link, "--intf2="+r.peer, r.file)
	if err != nil {
		return err
	}
	if err := w.wait(ctx); err != nil {
		return fmt.Errorf("%s: %w: %s", r.name, err, out)
	}
	r.sent = w.sent
	return nil
}

// send puts each frame on the link at its time, or as soon after as the
// machine lets it, and notes when that was.
func (r *run) send(ctx context.Context, g *gateway.Gateway, begin time.Time) error {
	out, err := packetSocket(g.Gateway(), r.link)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	in, err := packetSocket(g.Internet, r.peer)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, f := range r.frames {
		timer.Reset(time.Until(begin.Add(time.Duration(f.at - r.frames[0].at))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		fd := out
		if from, ok := sender(f.data); ok && !r.local[from] {
			fd = in
		}
		if _, known := r.sent[f.at]; !known {
			r.sent[f.at] = time.Now().UnixNano()
		}
		if _, err := unix.Write(fd, f.data); err != nil {
			return fmt.Errorf("send frame %d of %s, %d bytes: %w", i+1, r.name, len(f.data), err)
		}
	}
	return nil
}

// packetSocket opens a socket that frames can be written to and that receives
// none.
func packetSocket(n *lab.Namespace, link string) (fd int, err error) {
	err = n.Do(func() error {
		ifindex, err := ifindexHere(link)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex})
	})
	if err != nil {
		return -1, fmt.Errorf("open a packet socket on %q: %w", link, err)
	}
	return fd, nil
}

// onlyTheirFrames checks that each link saw each frame of its capture, and no
// frame of anybody else.
func onlyTheirFrames(t *testing.T, g *gateway.Gateway, runs []*run) {
	t.Helper()
	want := map[string]uint64{}
	for _, r := range runs {
		want[r.link] = uint64(len(r.frames))
	}
	s, err := g.Until(limited(t), "all frames were seen", func(s *gateway.Status) bool {
		for _, u := range s.Probe.Uplinks {
			if u.In.Seen+u.Out.Seen < want[u.Name] {
				return false
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range s.Probe.Uplinks {
		if u.In.Seen+u.Out.Seen != want[u.Name] || u.Out.Seen == 0 {
			t.Errorf("%s: %d frames were sent; seen %d in and %d out", u.Name, want[u.Name], u.In.Seen, u.Out.Seen)
		}
	}
}

// check asks for the sessions of each local address and has them judged.
func (r *run) check(t *testing.T, g *gateway.Gateway) {
	var lines []string
	for _, a := range slices.SortedFunc(maps.Keys(r.local), netip.Addr.Compare) {
		if !r.local[a] {
			continue
		}
		l, _, err := g.Sessions(limited(t), "--address", a.String())
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l...)
	}
	least, most := int64(1<<62), int64(0)
	for at, sent := range r.sent {
		least, most = min(least, sent-at), max(most, sent-at)
	}
	t.Logf("%d frames; the offset to the recorded times varied by %s", len(r.frames), time.Duration(most-least))
	when := func(ns int64) int64 { return r.sent[ns] }
	shifted := filepath.Join(t.TempDir(), r.name+".sessions.tsv")
	if err := os.WriteFile(shifted, []byte(r.truth.text(t, when)), 0o600); err != nil {
		t.Fatal(err)
	}
	judge(t, shifted, strings.Join(lines, "\n")+"\n", "--tolerance-ms", "20")
}
