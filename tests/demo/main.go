// Command demo shows edgelog at work: two subscribers, a gateway and an
// internet in network namespaces, real accounting, real traffic, and the sessions
// read back out of the sealed store, with a name beside each: by a request that an
// officer files and a custodian approves, as a package that the authority checks.
//
// It leaves nothing behind, whether it ends by itself, by Ctrl-C or by an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
	"github.com/edgelog/edgelog/tests/office"
)

func main() {
	binary := flag.String("edgelog", "bin/edgelog", "the program to show")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // a bound for a hang
	defer cancel()
	if err := run(ctx, *binary); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1) // everything is closed by now
	}
}

func run(ctx context.Context, binary string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and BPF programs need root: sudo make demo")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	b, err := lab.OpenBorder(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	say("a lab of network namespaces: two subscribers, a gateway, an internet")
	dir, err := os.MkdirTemp("", "edgelog-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	g, err := gateway.Open(ctx, b, dir, gateway.Options{Binary: binary, Edit: map[string]string{
		"half_open =": `half_open = "3s"`, "udp =": `udp = "4s"`, "icmp =": `icmp = "4s"`, "on_stop =": `on_stop = "drain"`,
	}})
	if err != nil {
		return err
	}
	if err := g.Start(ctx); err != nil {
		return err
	}
	say("edgelog records on the gateway's uplink, with the profile \"session\"")
	if err := logOn(ctx, g); err != nil {
		return err
	}
	sent, err := traffic(ctx, g)
	if err != nil {
		return err
	}
	return answer(ctx, g, sent)
}

func say(format string, args ...any) { fmt.Printf("demo: "+format+"\n", args...) }

var names = [2]string{"alice@example.net", "bob@example.net"}

// logOn sends real accounting requests for both subscribers.
func logOn(ctx context.Context, g *gateway.Gateway) error {
	for i, s := range g.Subscribers {
		err := g.Gateway().Accounting(ctx, netip.MustParseAddrPort("127.0.0.1:1813"), g.Secret,
			"Acct-Status-Type = Start", fmt.Sprintf("Acct-Session-Id = %q", fmt.Sprintf("demo-%d", i)), "NAS-Identifier = bng-1",
			fmt.Sprintf("User-Name = %q", names[i]), "Framed-IP-Address = "+s.Addr4.String(),
			"Framed-IPv6-Prefix = "+s.Prefix6.String(), fmt.Sprintf("Calling-Station-Id = \"02-00-00-00-00-0%d\"", i+1))
		if err != nil {
			return err
		}
		say("RADIUS accounting: %s logs on with %s and %s", names[i], s.Addr4, s.Prefix6)
	}
	return nil
}

// traffic makes the sessions and returns how many there are.
func traffic(ctx context.Context, g *gateway.Gateway) (sessions int, err error) {
	alice, bob := g.Subscribers[0], g.Subscribers[1]
	web, dns, perf := netip.AddrPortFrom(g.Server4, 80), netip.AddrPortFrom(g.Server4, 53), netip.AddrPortFrom(g.Server6, 5201)
	if err := g.Internet.ServeHTTP(web, "hello\n"); err != nil {
		return 0, err
	}
	if _, err := g.Internet.ServeDNS(ctx, dns, map[string]netip.Addr{"www.example.com": g.Server4}); err != nil {
		return 0, err
	}
	if _, err := g.Internet.ServeIperf3(ctx, perf); err != nil {
		return 0, err
	}
	steps := []struct {
		what     string
		sessions int
		do       func() error
	}{
		{"alice asks the DNS, over UDP", 1, func() error { _, _, err := alice.Lookup(ctx, dns, "ip4", "www.example.com"); return err }},
		{"alice fetches a page, HTTP over TCP", 1, func() error { _, _, err := alice.GetHTTP(ctx, "http://"+web.String()+"/"); return err }},
		{"alice pings", 1, func() error { return alice.Ping(ctx, g.Server4, 3) }},
		{"bob sends a megabyte with iperf3, over IPv6", 2, func() error { _, err := bob.Iperf3(ctx, perf, "--bytes", "1M"); return err }},
		{"bob is refused a connection", 1, func() error { _, err := bob.Refused(ctx, netip.AddrPortFrom(g.Server4, 81)); return err }},
		{"bob leaves a connection half-open", 1, func() error { _, err := bob.HalfOpen(netip.AddrPortFrom(g.Blackhole4, 443)); return err }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return 0, fmt.Errorf("%s: %w", s.what, err)
		}
		say("%s", s.what)
		sessions += s.sessions
	}
	return sessions, nil
}

// show prints a command as one of the persons types it, runs it, and prints what it
// says.
func show(ctx context.Context, g *gateway.Gateway, p office.Person, args ...string) (string, error) {
	words := make([]string, len(args))
	for i, a := range args {
		switch {
		case strings.HasPrefix(a, "/"):
			a = filepath.Base(a)
		case strings.HasPrefix(a, "age1"):
			a = a[:8] + "…"
		case strings.Contains(a, " "):
			a = strconv.Quote(a)
		}
		words[i] = a
	}
	fmt.Printf("\n%s$ edgelog %s\n", strings.ToLower(strings.Fields(p.Name)[0]), strings.Join(words, " "))
	out, err := g.RunAs(ctx, p, args...)
	fmt.Print(out)
	return out, err
}

// approved has the officer file a request and the custodian approve it.
func approved(ctx context.Context, g *gateway.Gateway, what ...string) (id string, err error) {
	o := g.Office
	args := append([]string{"request", "new"}, what...)
	out, err := show(ctx, g, o.Officer, append(args, "--reference", "2026-1234", "--authority", "Police", "--legal-basis", "an order of the court", "--recipient", o.Authority.Key)...)
	if err != nil {
		return "", err
	}
	id = strings.Fields(out)[1]
	_, err = show(ctx, g, o.Custodian, "request", "approve", id, "--yes", "--identity", o.Custodian.Identity)
	return id, err
}

// who asks whose the address and port of one of the sessions were at its time, and
// hands the answer over.
func who(ctx context.Context, g *gateway.Gateway, found []gateway.Session) error {
	at := slices.IndexFunc(found, func(s gateway.Session) bool { return s.Proto == unix.IPPROTO_TCP })
	if at < 0 {
		return errors.New("no TCP session was found to ask about")
	}
	s, o := found[at], g.Office
	what := fmt.Sprintf("%s:%d", s.Initiator, s.InitiatorPort)
	id, err := approved(ctx, g, "who", what, "--at", s.Start.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return err
	}
	mail := filepath.Join(g.Dir, "mail")
	if err := errors.Join(os.Mkdir(mail, 0o700), os.Chown(mail, int(o.Officer.UID), office.Group)); err != nil {
		return err
	}
	answer := filepath.Join(mail, "answer.age")
	if _, err := show(ctx, g, o.Officer, "request", "run", id, "--identity", o.Officer.Identity, "--out", answer); err != nil {
		return err
	}
	say("the authority opens it on a machine of its own, which has nothing but this file, its key and the provider's public key")
	key, err := g.Run(ctx, "audit", "key")
	if err != nil {
		return err
	}
	for _, word := range []string{"verify", "show"} {
		fmt.Printf("\npolice$ edgelog package %s answer.age --identity authority.key --public-key %.20s…\n", word, key)
		out, err := g.Bare(ctx, "package", word, answer, "--identity", o.Authority.Identity, "--public-key", strings.TrimSpace(key))
		fmt.Print(out)
		if err != nil {
			return err
		}
	}
	_, err = show(ctx, g, o.Auditor, "audit", "verify")
	return err
}

// answer waits until all sessions are on disk and reads them back.
func answer(ctx context.Context, g *gateway.Gateway, sent int) error {
	say("waiting until silence ends the last session")
	done := func(s *gateway.Status) bool {
		return s.Probe.Table.Stored >= uint64(sent) && s.Probe.Table.Open+s.Probe.Table.Closed == 0
	}
	if _, err := g.Until(ctx, "all sessions are stored", done); err != nil {
		return err
	}
	for i, s := range g.Subscribers {
		id, err := approved(ctx, g, "lookup", "--subscriber", names[i], "--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "--to", "now")
		if err != nil {
			return err
		}
		if _, err := show(ctx, g, g.Office.Officer, "lookup", "--request", id, "--identity", g.Office.Officer.Identity); err != nil {
			return err
		}
		_, found, err := g.Sessions(ctx, "--subscriber", names[i])
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("no session of %s at %s was found", names[i], s.Addr4)
		}
		sent -= len(found)
		if i == 0 {
			if err := who(ctx, g, found); err != nil {
				return err
			}
		}
	}
	if sent > 0 {
		return fmt.Errorf("%d sessions are missing from the answers", sent)
	}
	fmt.Println("\n$ edgelog status")
	out, err := g.Run(ctx, "status")
	if err != nil {
		return err
	}
	fmt.Print(out)
	return g.Stop(ctx)
}
