package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

func TestEverySessionBehindSharedAddressesIsNamedRight(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		sessions   int // of each of 50 subscribers
		timed      string
	}{
		{"masquerade", masquerade, 100, "0"},
		{"masquerade, ports at random, exact times", masquerade + " fully-random", 20, "1"},
		{"a pool of addresses", fmt.Sprintf(`oifname "uplink" ip saddr 100.64.0.0/24 snat to %s-%s random`, pool.Addr(), pool.Addr().Next().Next()), 100, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := openTranslator(t, 50, c.rule, "", gateway.Options{})
			if err := x.Gateway.Gateway().Sysctl("net/netfilter/nf_conntrack_timestamp", c.timed); err != nil {
				t.Fatal(err)
			}
			watch, err := x.Gateway.Gateway().Start(lab.Command{Path: "conntrack", Args: []string{"-E", "-e", "NEW", "-b", "33554432"}})
			if err != nil {
				t.Fatal(err)
			}
			for !strings.Contains(watch.Output(), "icmp") { // it prints this once it listens
				if err := x.Subscribers[0].Ping(limited(t), x.Server4, 1); err != nil {
					t.Fatal(err)
				}
			}
			n := x.burst(t, 50, c.sessions)
			s, err := x.Until(limited(t), "all are open", func(s *gateway.Status) bool { return s.NAT.Table.Open >= n })
			if err != nil {
				t.Fatal(err)
			}
			if k := s.NAT.Kernel; k.Overruns != 0 || k.Malformed != 0 || s.NAT.Exact != (c.timed == "1") {
				t.Errorf("%+v", k)
			}
			x.end()
			x.stored(t, n)
			_ = watch.Stop() // it ends with an error of its own
			list := conntrackTruth(t, watch.Output(), x.server)
			if len(list) != n || len(x.truth) != n {
				t.Errorf("conntrack saw %d, the server %d of %d sessions", len(list), len(x.truth), n)
			}
			for f, inside := range x.truth {
				if list[f] != inside {
					t.Fatalf("conntrack says %v of %v, the server was told %v", list[f], f, inside)
				}
			}
			x.askByInside(t, c.sessions)
			if right, without := x.named(t); right != n || without != 0 {
				t.Errorf("%d of %d named right, %d without a name", right, n, without)
			}
		})
	}
}

// askByInside asks the way an officer does.
func (x *translator) askByInside(t *testing.T, n int) {
	t.Helper()
	for _, by := range [][]string{{"--subscriber", subscriberName(7)}, {"--address", insideAddr(7).String()}} {
		_, list, err := x.Sessions(limited(t), by...)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, s := range list {
			if s.Inside == insideAddr(7).String() && s.Subscriber == subscriberName(7) && s.InsidePort != 0 {
				count++
			}
		}
		if count != n || len(list) != n {
			t.Errorf("%v: %d of %d sessions, %d wanted", by, count, len(list), n)
		}
	}
}

func TestLostEventsOfConntrackAreMadeGood(t *testing.T) {
	for _, timed := range []string{"1", "0"} {
		t.Run("nf_conntrack_timestamp = "+timed, func(t *testing.T) {
			x := openTranslator(t, 10, masquerade, "", gateway.Options{Edit: map[string]string{"receive_buffer =": `receive_buffer = "64KiB"`}})
			if err := x.Gateway.Gateway().Sysctl("net/netfilter/nf_conntrack_timestamp", timed); err != nil {
				t.Fatal(err)
			}
			n := x.burst(t, 10, 20)
			if err := x.Agent().Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			n += x.burst(t, 10, 100) // far more than the buffer holds
			if err := x.Agent().Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			s, err := x.Until(limited(t), "the table is whole again", func(s *gateway.Status) bool {
				return s.NAT.Kernel.Gaps >= 2 && !s.NAT.Kernel.Resync && s.NAT.Table.Open >= n
			})
			if err != nil {
				t.Fatal(err)
			}
			if s.NAT.Kernel.Overruns == 0 {
				t.Errorf("no overrun: %+v", s.NAT.Kernel)
			}
			x.end()
			x.stored(t, n)
			right, without := x.named(t)
			if right+without != n || timed == "1" && without != 0 {
				t.Errorf("%d of %d named right, %d without a name", right, n, without)
			}
			if right < n*4/5 { // the others are UDP, silent since before the table was read: who had the port then is not known
				t.Errorf("only %d of %d named", right, n)
			}
		})
	}
}

func TestAnAgentThatWasKilledKnowsWhatWentOnMeanwhile(t *testing.T) {
	x := openTranslator(t, 10, masquerade, "", gateway.Options{})
	if err := x.Gateway.Gateway().Sysctl("net/netfilter/nf_conntrack_timestamp", "1"); err != nil {
		t.Fatal(err)
	}
	n := x.burst(t, 10, 20)
	x.Kill()
	n += x.burst(t, 10, 20)
	x.end() // of these too: conntrack remembers them for a while
	n += x.burst(t, 10, 20)
	if err := x.Start(limited(t)); err != nil {
		t.Fatal(err)
	}
	n += x.burst(t, 10, 20)
	x.end()
	x.stored(t, n)
	if right, without := x.named(t); right != n || without != 0 {
		t.Errorf("%d of %d named right, %d without a name", right, n, without)
	}
}

func TestHairpinsAndForwardedPortsDoNotConfuse(t *testing.T) {
	forward := `chain pre { type nat hook prerouting priority dstnat; policy accept; ip daddr 198.51.100.1 tcp dport 8080 dnat to 100.64.0.1:8081; }`
	x := openTranslator(t, 3, masquerade+"; ip saddr 100.64.0.0/24 ip daddr 100.64.0.0/24 masquerade", forward, gateway.Options{})
	ctx := limited(t)
	alice := x.Subscribers[0].Namespace
	at := netip.AddrPortFrom(insideAddr(1), 8081)
	if err := alice.ServeHTTP(at, "hello"); err != nil {
		t.Fatal(err)
	}
	url := "http://198.51.100.1:8080/"
	if _, err := alice.Run(ctx, "curl", "--silent", "--fail", "--noproxy", "*", "--interface", insideAddr(2).String(), url); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Internet.GetHTTP(ctx, url); err != nil {
		t.Fatal(err)
	}
	n := x.burst(t, 3, 5)
	x.end()
	x.stored(t, n+1)
	s, err := x.Status(ctx)
	if err != nil || s.NAT.Kernel.Hairpins == 0 {
		t.Errorf("no hairpin was seen: %v, %+v", err, s.NAT.Kernel)
	}
	_, list, err := x.Sessions(ctx, "--subscriber", subscriberName(1))
	if err != nil {
		t.Fatal(err)
	}
	forwarded := 0
	for _, s := range list {
		if s.ResponderPort == 8080 && s.Inside == insideAddr(1).String() && s.InsidePort == 8081 {
			forwarded++
		}
	}
	if forwarded != 1 {
		t.Errorf("%d sessions to the forwarded port: %+v", forwarded, list)
	}
	if right, without := x.named(t); right != n || without != 0 {
		t.Errorf("%d of %d named right, %d without a name", right, n, without)
	}
}

func TestAPortThatPassesOnIsOfWhoHadItThen(t *testing.T) {
	x := openTranslator(t, 2, `oifname "uplink" meta l4proto udp ip saddr 100.64.0.0/24 snat to 198.51.100.1:40000`, "", gateway.Options{})
	ctx := limited(t)
	use := func(subscriber int) {
		t.Helper()
		if err := x.talk(ctx, "udp4", subscriber, 0); err != nil {
			t.Fatal(err)
		}
		x.must(t, x.Gateway.Gateway(), "conntrack", "-D", "-p", "udp", "-s", insideAddr(subscriber).String())
	}
	until := func(n uint64) {
		t.Helper()
		if _, err := x.Until(ctx, "it is stored", func(s *gateway.Status) bool { return s.Sessions.Stored >= n }); err != nil {
			t.Fatal(err)
		}
	}
	use(1)
	until(1)
	use(2)
	until(2)
	use(1) // one session of the datapath, of two subscribers
	use(2)
	until(3)
	s, err := x.Status(ctx)
	if err != nil || s.NAT.Table.Ambiguous != 1 {
		t.Errorf("%v, %+v", err, s.NAT.Table)
	}
	if err := x.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var names []string
	err = eachRecord(ctx, x.Gateway, x.DataDir(), func(s *session.Session) { names = append(names, s.Subscriber) })
	if got := strings.Join(names, " "); err != nil || got != subscriberName(1)+" "+subscriberName(2)+" " {
		t.Errorf("%v: %q", err, names)
	}
}

func TestInTheProfileAccessTranslationsAreTheRecords(t *testing.T) {
	x := openTranslator(t, 10, masquerade+" fully-random", "", gateway.Options{Profile: "access"})
	n := x.burst(t, 10, 10)
	if _, err := x.Until(limited(t), "all are known", func(s *gateway.Status) bool { return s.NAT.Table.Open >= n }); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	if _, err := x.Lookup(limited(t), "--address", x.Gateway4.String()); err != nil { // a question: what goes on is written down
		t.Fatal(err)
	}
	x.must(t, x.Gateway.Gateway(), "conntrack", "-F")
	if _, err := x.Until(limited(t), "all have ended", func(s *gateway.Status) bool {
		return s.NAT.Table.Open == 0 && s.NAT.Records >= uint64(2*n)
	}); err != nil {
		t.Fatal(err)
	}
	if err := x.Stop(limited(t)); err != nil {
		t.Fatal(err)
	}
	if err := eachRecord(t.Context(), x.Gateway, x.DataDir(), func(s *session.Session) { t.Errorf("a session in the profile access: %v", s) }); err != nil {
		t.Fatal(err)
	}
	pieces := map[flow][]session.Binding{}
	err := eachBinding(t.Context(), x.Gateway, x.DataDir(), func(b *session.Binding) {
		if b.Source != session.SourceNAT {
			return
		}
		f := flow{session.UDP, netip.AddrPortFrom(b.Prefix.Addr(), b.FirstPort)}
		if strings.Contains(b.SourceKey, "/tcp/") {
			f.proto = session.TCP
		}
		pieces[f] = append(pieces[f], *b)
	})
	if err != nil {
		t.Fatal(err)
	}
	for f, inside := range x.truth {
		held := false
		for _, b := range pieces[f] {
			if b.Via != inside.Addr() || b.FirstPort != b.LastPort {
				t.Errorf("%v is recorded as of %v, and is of %v", f, b.Via, inside)
			}
			held = held || b.From <= asked.UnixNano() && asked.UnixNano() < b.To
		}
		if !held {
			t.Errorf("nobody had %v when it was asked: %v", f, pieces[f])
		}
	}
}
