package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// dhcpLab is a gateway with a network behind it whose hosts get their
// addresses by DHCP.
type dhcpLab struct {
	*gateway.Gateway
	t      *testing.T
	ctx    context.Context
	dir    string // open to the users that DHCP servers run as
	socket string
	client *lab.Namespace
	mac    string
}

const dhcpNet4, dhcpNet6 = "10.9.0", "2001:db8:9"

// openDHCP makes it. The servers are lines of the configuration; DIR in them
// stands for the lab's folder.
func openDHCP(t *testing.T, servers string) *dhcpLab {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgelog-dhcp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &dhcpLab{t: t, ctx: short(t), dir: dir, socket: filepath.Join(dir, "run", "report.sock")}
	d.Gateway = open(t, 0, gateway.Options{Edit: map[string]string{
		"[dhcp]":        fmt.Sprintf("[dhcp]\nlisten = %q", d.socket),
		"join_by_mac =": "join_by_mac = \"without-line\"\n" + strings.ReplaceAll(servers, "DIR", dir),
	}})
	if d.client, err = d.Namespace("client"); err != nil {
		t.Fatal(err)
	}
	err = d.Link(lab.End{In: d.Gateway.Gateway(), Name: "lan", Addrs: []netip.Prefix{
		netip.MustParsePrefix(dhcpNet4 + ".1/24"), netip.MustParsePrefix(dhcpNet6 + "::1/64"),
	}}, lab.End{In: d.client, Name: "wan"}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.client.Run(d.ctx, "ip", "-json", "link", "show", "wan")
	var links []struct{ Address string }
	if err == nil {
		err = json.Unmarshal([]byte(out), &links)
	}
	if err != nil || len(links) != 1 {
		t.Fatalf("ask for the MAC address: %v: %s", err, out)
	}
	d.mac = links[0].Address
	d.write("client.sh", 0o755, `#!/bin/sh
case $reason in
BOUND|RENEW|REBIND|REBOOT) ip addr replace "$new_ip_address/24" dev "$interface" ;;
BOUND6|RENEW6|REBIND6) [ -z "$new_ip6_address" ] || ip addr replace "$new_ip6_address/128" dev "$interface" ;;
PREINIT) ip link set "$interface" up ;;
esac
exit 0
`)
	hook, err := os.ReadFile("../scripts/dhcp-report.sh")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(hook), "/usr/local/sbin/edgelog", binary)
	d.write("hook.sh", 0o755, strings.ReplaceAll(text, "/run/edgelog-dhcp/report.sock", d.socket))
	return d
}

// short gives up waiting before the programs' own patience ends.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times(2, 30))*20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// write makes a file in the lab's folder and returns its path.
func (d *dhcpLab) write(name string, mode os.FileMode, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", d.dir)), mode); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// must fails the test.
func (d *dhcpLab) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// run starts a program in the gateway's namespace.
func (d *dhcpLab) run(path string, args ...string) *lab.Process {
	d.t.Helper()
	p, err := d.Gateway.Gateway().Start(lab.Command{Path: path, Args: args, Env: []string{
		"KEA_PIDFILE_DIR=" + d.dir, "KEA_LOCKFILE_DIR=" + d.dir,
	}})
	d.must(err)
	d.show(p)
	return p
}

// show prints what a program said if the test has failed.
func (d *dhcpLab) show(p *lab.Process) {
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("a program said:\n%s", p.Output())
		}
	})
}

// dhclient starts a client; it goes on until it is stopped.
func (d *dhcpLab) dhclient(name string, args ...string) *lab.Process {
	d.t.Helper()
	d.write(name+".lease", 0o644, "")
	p, err := d.client.Start(lab.Command{Path: "dhclient", Args: append([]string{"-d", "-v",
		"-sf", filepath.Join(d.dir, "client.sh"), "-lf", filepath.Join(d.dir, name+".lease"), "-pf", filepath.Join(d.dir, name+".pid"),
	}, append(args, "wan")...)})
	d.must(err)
	d.show(p)
	return p
}

// release has a client give back what it has.
func (d *dhcpLab) release(name string, args ...string) {
	d.t.Helper()
	out, err := d.client.Run(d.ctx, "dhclient", append([]string{"-v", "-r",
		"-sf", filepath.Join(d.dir, "client.sh"), "-lf", filepath.Join(d.dir, name+".lease"), "-pf", filepath.Join(d.dir, name+".pid"),
	}, append(args, "wan")...)...)
	d.must(err)
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("the release:\n%s", out)
		}
	})
}

// status returns the whole of it.
func (d *dhcpLab) status() (*recorder.Status, error) {
	out, err := d.Run(d.ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	s := new(recorder.Status)
	if err := json.Unmarshal([]byte(out), s); err != nil {
		return nil, err
	}
	if s.DHCP == nil || len(s.DHCP.Servers) == 0 {
		return nil, errors.New("the status says nothing of DHCP")
	}
	return s, nil
}

// until asks for the first server's status until ok.
func (d *dhcpLab) until(what string, ok func(*dhcp.ServerStats) bool) *dhcp.ServerStats {
	d.t.Helper()
	var last *dhcp.ServerStats
	for {
		s, err := d.status()
		if err == nil {
			if last = &s.DHCP.Servers[0]; ok(last) {
				return last
			}
		}
		if d.ctx.Err() != nil {
			d.t.Fatalf("wait until %s: %v: %+v", what, err, last)
		}
	}
}

// stopped stops the agent and returns what it has recorded of who had what.
func (d *dhcpLab) stopped() []session.Binding {
	d.t.Helper()
	d.must(d.Stop(d.ctx))
	list, err := accessRecords(d.ctx, d.Gateway)
	d.must(err)
	return list
}

// accessRecords reads every access record that a stopped agent has stored, all
// versions.
func accessRecords(ctx context.Context, g *gateway.Gateway) (list []session.Binding, err error) {
	ids, err := vault.OpenIdentities(g.Identity, nil)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(filepath.Join(g.DataDir(), "store"), store.Options{MinFree: 1 << 20, Ballast: -1})
	if err != nil {
		return nil, err
	}
	type name struct {
		day   int32
		epoch uint64
	}
	keys := map[name]*vault.DayKey{}
	wrapped, err := s.WrappedKeys()
	for _, w := range wrapped {
		k, err := vault.OpenKey(w.Wrapped, ids)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		keys[name{k.Day(), k.Epoch()}] = k
	}
	if err == nil {
		err = s.Scan(ctx, store.KindBindings, 0, 1<<60, func(p vault.Place, b store.Sealed) error {
			_, plain, err := keys[name{p.Day, p.Epoch}].Open(nil, b)
			if err != nil {
				return err
			}
			_, part, err := block.DecodeBindings(plain)
			list = append(list, part...)
			return err
		})
	}
	return list, errors.Join(err, s.Close())
}

// history is what a reader makes of the records of one address, oldest first.
func history(list []session.Binding, a netip.Addr) []session.Binding {
	all := identity.NewReader(list, identity.ReaderOptions{}).AllOn(session.AddrFrom(a), 0, 0xffff, 0, session.Forever-1)
	for i := range all { // by start
		for j := i; j > 0 && all[j].From < all[j-1].From; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all
}

// assigned returns the address that dhclient was given.
func (d *dhcpLab) assigned(name, word string) netip.Addr {
	d.t.Helper()
	for {
		b, err := os.ReadFile(filepath.Join(d.dir, name+".lease"))
		d.must(err)
		if i := strings.LastIndex(string(b), word+" "); i >= 0 {
			text := strings.TrimRight(strings.Fields(string(b[i+len(word):]))[0], ";{")
			if p, err := netip.ParsePrefix(text); err == nil {
				return p.Addr()
			}
			if a, err := netip.ParseAddr(text); err == nil {
				return a
			}
		}
		if d.ctx.Err() != nil {
			d.t.Fatalf("dhclient got no %s", word)
		}
	}
}
