package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
	"github.com/edgelog/edgelog/tests/load"
)

const peerTime = 10 * time.Second

// peer is a tool that is used where edgelog could be.
type peer struct {
	name     string
	programs []string                                                           // that must be installed
	start    func(dir string) ([]lab.Command, error)                            // in the gateway's namespace, the one that captures last
	stop     func(ctx context.Context, dir string, captures *lab.Process) error // hands over what it has, and ends
	read     func(dir string) (string, []string)                                // a program that prints source, port, destination, port with commas between
}

var peerTools = []peer{
	{
		name: "softflowd+nfcapd", programs: []string{"softflowd", "nfcapd", "nfdump"},
		start: func(dir string) ([]lab.Command, error) {
			return []lab.Command{
				{Path: "nfcapd", Args: []string{"-w", dir, "-p", "9995", "-b", "127.0.0.1", "-B", "67108864"}},
				{Path: "softflowd", Args: []string{"-i", "uplink", "-v", "10", "-n", "127.0.0.1:9995", "-d", "-m", "4000000", "-B", "67108864",
					"-t", "udp=5", "-t", "expint=1",
					"-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "ctl")}},
			}, nil
		},
		stop: func(ctx context.Context, dir string, _ *lab.Process) error { // a signal loses what is in memory
			return exec.CommandContext(ctx, "softflowctl", "-c", filepath.Join(dir, "ctl"), "shutdown").Run()
		},
		read: func(dir string) (string, []string) {
			return "nfdump", []string{"-R", dir, "-q", "-N", "-o", "fmt:%sa,%sp,%da,%dp"}
		},
	},
	{
		name: "pmacctd", programs: []string{"pmacctd"},
		start: func(dir string) ([]lab.Command, error) {
			config := "daemonize: false\npcap_interface: uplink\nplugins: print\naggregate: src_host,src_port,dst_host,dst_port,proto\n" +
				"print_refresh_time: 5\nprint_output: csv\nprint_output_file_append: true\nprint_cache_entries: 699967\n" +
				"plugin_buffer_size: 102400\nplugin_pipe_size: 104857600\nprint_output_file: " + filepath.Join(dir, "out.csv") + "\n"
			file := filepath.Join(dir, "pmacctd.conf")
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				return nil, fmt.Errorf("write a configuration: %w", err)
			}
			return []lab.Command{{Path: "pmacctd", Args: []string{"-f", file}}}, nil
		},
		stop: func(_ context.Context, _ string, p *lab.Process) error { return p.Signal(syscall.SIGINT) },
		read: func(dir string) (string, []string) {
			return "awk", []string{"-F", ",", `$5 == "udp" { print $1 "," $3 "," $2 "," $4 }`, filepath.Join(dir, "out.csv")}
		},
	},
	{
		name: "argus", programs: []string{"argus", "ra"},
		start: func(dir string) ([]lab.Command, error) {
			return []lab.Command{{Path: "argus", Args: []string{"-i", "uplink", "-w", filepath.Join(dir, "out")}}}, nil
		},
		stop: func(_ context.Context, _ string, p *lab.Process) error { return p.Signal(syscall.SIGTERM) },
		read: func(dir string) (string, []string) {
			return "ra", []string{"-n", "-c", ",", "-r", filepath.Join(dir, "out"), "-s", "saddr", "sport", "daddr", "dport", "-", "udp"}
		},
	},
}

// peers sends each the same sessions of one packet, and counts those that come
// out.
func (b *bench) peers(ctx context.Context) (out []Entry, err error) {
	o := load.Options{Mode: load.New, Rate: b.peerRate, Duration: peerTime, CPU: b.loadCPU}
	own, err := b.ownShare(ctx, o)
	if err != nil {
		return nil, err
	}
	out = append(out, own.entries("edgelog", own)...)
	for _, p := range peerTools {
		if missing := absent(p.programs); missing != "" {
			fmt.Fprintf(os.Stderr, "bench: peers: %s is left out: %s is not installed; scripts/setup.sh bench installs it\n", p.name, missing)
			continue
		}
		r, err := b.peer(ctx, p, o)
		if err != nil {
			return out, fmt.Errorf("%s: %w", p.name, err)
		}
		out = append(out, r.entries(p.name, own)...)
	}
	return out, nil
}

func absent(programs []string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return p
		}
	}
	return ""
}

// share is what came out of a tool.
type share struct {
	sent, found, once uint64 // sessions; found ones came out at least once, once exactly once
	cpu               time.Duration
}

func (s share) entries(name string, own share) []Entry {
	percent := func(n uint64) float64 { return 100 * float64(n) / float64(s.sent) }
	found := Entry{Name: "peers/" + name + "/sessions_found", Value: percent(s.found), Unit: "% of those sent",
		Note: fmt.Sprintf("%d sent, %d lost, %.2f %% exactly once", s.sent, s.sent-s.found, percent(s.once))}
	cpu := Entry{Name: "peers/" + name + "/cpu", Value: float64(s.cpu.Nanoseconds()) / float64(s.sent), Unit: "ns/session",
		Note: "of its processes, without what the kernel does behind each packet"}
	if own != s {
		found.Vs, found.Ratio = "edgelog", float64(own.found)/float64(own.sent)/max(1e-9, float64(s.found)/float64(s.sent))
		cpu.Vs, cpu.Ratio = "edgelog", cpu.Value/(float64(own.cpu.Nanoseconds())/float64(own.sent))
	}
	return []Entry{found, cpu}
}

// ownShare is edgelog's.
func (b *bench) ownShare(ctx context.Context, o load.Options) (s share, err error) {
	err = b.withGateway(ctx, setting{slots: 1 << 22, udp: "5s"}, func(g *gateway.Gateway) error {
		on := load.On(g.Border, o.Mode)
		on.Rate, on.Duration, on.CPU = o.Rate, o.Duration, o.CPU
		sent, err := b.send(ctx, on)
		if err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		status, err := await(wait, g, func(s *gateway.Status) bool { return s.Probe.Table.Stored >= sent.Sessions })
		if err != nil && status == nil {
			return err
		}
		stored := status.Probe.Table.Stored
		s = share{sent: sent.Sessions, found: min(stored, sent.Sessions), once: min(stored, sent.Sessions)}
		s.cpu, err = cpuTime(g.Agent().PID())
		return err
	})
	return s, err
}

// peer runs one of the tools.
func (b *bench) peer(ctx context.Context, p peer, o load.Options) (s share, err error) {
	border, err := lab.OpenBorder(0)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, border.Close()) }()
	dir, err := os.MkdirTemp(b.dir, "peer-")
	if err != nil {
		return s, err
	}
	var running []*lab.Process
	err = onCPU(b.agentCPU, func() error {
		commands, err := p.start(dir)
		if err != nil {
			return err
		}
		for _, c := range commands {
			process, err := border.Gateway.Start(c)
			if err != nil {
				return err
			}
			running = append(running, process)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	if err := captures(ctx, border, running[len(running)-1]); err != nil {
		return s, err
	}
	on := load.On(border, o.Mode)
	on.Rate, on.Duration, on.CPU = o.Rate, o.Duration, o.CPU
	sent, err := b.send(ctx, on)
	if err != nil {
		return s, err
	}
	s.sent = sent.Sessions
	if s.cpu, err = stopAll(ctx, p, dir, running); err != nil {
		return s, err
	}
	name, args := p.read(dir)
	s.found, s.once, err = b.compare(ctx, on, sent.Sessions, name, args)
	return s, err
}

// stopAll ends a peer's programs when their sessions are over by their idle
// time, and returns the CPU time that they used.
func stopAll(ctx context.Context, p peer, dir string, running []*lab.Process) (used time.Duration, err error) {
	over := time.NewTimer(8 * time.Second)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for _, r := range running {
		t, err := groupTime(r.PID())
		if err != nil {
			return 0, err
		}
		used += t
	}
	last := len(running) - 1
	if err := p.stop(ctx, dir, running[last]); err != nil {
		return 0, fmt.Errorf("stop it: %w: %s", err, running[last].Output())
	}
	_ = running[last].Wait(ctx) // what it printed counts, not how it ends
	for _, r := range running[:last] {
		if err := idles(ctx, r.PID()); err != nil { // it has what was handed over
			return 0, err
		}
		if err := r.Signal(syscall.SIGTERM); err != nil {
			return 0, err
		}
		_ = r.Wait(ctx)
	}
	return used, nil
}

// idles waits until a process uses no CPU time for a second.
func idles(ctx context.Context, pid int) error {
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	last := time.Duration(-1)
	for {
		now, err := cpuTime(pid)
		if err != nil || now == last {
			return err
		}
		last = now
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// captures waits until there is a packet socket in the gateway.
func captures(ctx context.Context, border *lab.Border, p *lab.Process) error {
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for {
		open := false
		err := border.Gateway.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/packet")
			open = strings.Count(string(text), "\n") > 1
			return err
		})
		if err != nil || open {
			return err
		}
		select {
		case <-pace.C:
		case <-p.Done():
			return fmt.Errorf("it has ended: %s", p.Output())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compare counts which of the sessions that were sent a program prints.
func (b *bench) compare(ctx context.Context, o load.Options, n uint64, name string, args []string) (found, once uint64, err error) {
	tuples, err := load.Tuples(o, n)
	if err != nil {
		return 0, 0, err
	}
	seen := make(map[[2]netip.AddrPort]uint8, n)
	for _, t := range tuples {
		seen[[2]netip.AddrPort{t.Initiator(), t.Responder()}] = 0
	}
	cmd := exec.CommandContext(ctx, name, args...)
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	text, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		if pair, ok := ends(lines.Text()); ok {
			if k, sent := seen[pair]; sent {
				seen[pair] = min(k+1, 2)
			}
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", name, err, trouble.String())
	}
	for _, k := range seen {
		if k > 0 {
			found++
		}
		if k == 1 {
			once++
		}
	}
	return found, once, nil
}

// ends reads source, port, destination, port; they may be padded.
func ends(line string) (pair [2]netip.AddrPort, ok bool) {
	f := strings.Split(strings.ReplaceAll(line, " ", ""), ",")
	if len(f) < 4 {
		return pair, false
	}
	for i := range pair {
		a, err := netip.ParseAddrPort(f[2*i] + ":" + f[2*i+1])
		if err != nil {
			return pair, false
		}
		pair[i] = a
	}
	return pair, true
}
