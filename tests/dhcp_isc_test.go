package tests

import (
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/lab"
)

const isc4 = `[[dhcp.server]]
name = "old"
kind = "isc"
leases4 = "DIR/dhcpd.leases"
`

// dhcpd starts ISC dhcpd and waits until it listens.
func (d *dhcpLab) dhcpd(six bool, config string) *lab.Process {
	d.t.Helper()
	name, flag, port := "dhcpd", "-4", uint16(67)
	if six {
		name, flag, port = "dhcpd6", "-6", 547
	}
	d.write(name+".leases", 0o644, "")
	p := d.run("dhcpd", flag, "-f", "-q", "-cf", d.write(name+".conf", 0o644, config), "-lf", filepath.Join(d.dir, name+".leases"), "-pf", filepath.Join(d.dir, name+".pid"), "lan")
	d.must(p.WaitListening(d.ctx, "udp", port))
	return p
}

func TestISCsLeasesAreReadWithOption82RenewedReleasedAndRewritten(t *testing.T) {
	for _, format := range []string{"default", "local"} {
		t.Run(format, func(t *testing.T) {
			d := openDHCP(t, isc4)
			const config = "authoritative; min-lease-time 3600; default-lease-time 3600; stash-agent-options true;\nsubnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.10 10.9.0.99; }\n"
			server := d.dhcpd(false, "db-time-format "+format+";\n"+config)
			d.must(d.Start(d.ctx))
			d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
			relay := newRelay(d)
			a := relay.lease4([6]byte{2, 0, 0, 0, 0, 1}, optionsOf82("eth0/1:1;{\"}\\", "\x00\x11\x22\x33\x44\x55", "sub 1"))
			d.until("the relayed lease is read", func(s *dhcp.ServerStats) bool { return s.InForce == 1 })
			d.dhclient("c4", "-4")
			d.until("the client's lease is read", func(s *dhcp.ServerStats) bool { return s.InForce == 2 })
			b := d.assigned("c4", "fixed-address")
			d.release("c4", "-4")
			d.until("the release is read", func(s *dhcp.ServerStats) bool { return s.InForce == 1 })
			_ = server.Stop() // it ends by the signal
			before := d.until("the server is gone", func(*dhcp.ServerStats) bool { return true })
			again := d.run("dhcpd", "-4", "-f", "-q", "-cf", filepath.Join(d.dir, "dhcpd.conf"), "-lf", filepath.Join(d.dir, "dhcpd.leases"), "-pf", filepath.Join(d.dir, "dhcpd.pid"), "lan")
			s := d.until("the file that the new start rewrote is read", func(s *dhcp.ServerStats) bool {
				return s.Files[0].Replaced > 0 && s.Files[0].Leases >= before.Files[0].Leases+2
			})
			if s.InForce != 1 || s.News != before.News || len(s.Files[0].Faulty) > 0 {
				t.Errorf("after the rewriting: %+v", s)
			}
			_ = again.Stop()
			list := d.stopped()
			h := history(list, a)
			if len(h) != 1 || h[0].Subscriber != "sub 1" || h[0].Line != "eth0/1:1;{\"}\\; 0x001122334455" || h[0].Equipment != "02:00:00:00:00:01" || h[0].To != session.Forever || h[0].Certainty&session.FromInferred != 0 {
				t.Errorf("recorded of the relayed lease: %+v", h)
			}
			h = history(list, b)
			if len(h) != 1 || h[0].Equipment != d.mac || h[0].Certainty != 0 || h[0].To == session.Forever || h[0].Source != session.SourceLeases {
				t.Errorf("recorded of the client's lease: %+v", h)
			}
		})
	}
}

const isc6 = `[[dhcp.server]]
name = "old6"
kind = "isc"
leases6 = "DIR/dhcpd6.leases"
`

func TestISCsDHCPv6AddressesAndPrefixesAreReadReleasedAndRunOut(t *testing.T) {
	d := openDHCP(t, isc6)
	d.dhcpd(true, "default-lease-time 8; preferred-lifetime 4; max-lease-time 8;\nsubnet6 2001:db8:9::/64 { range6 2001:db8:9::10 2001:db8:9::99; prefix6 2001:db8:900:: 2001:db8:900:ff00:: /56; }\n")
	d.must(d.Start(d.ctx))
	d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	d.dhclient("c6", "-6", "-N", "-P")
	d.until("address and prefix are read", func(s *dhcp.ServerStats) bool { return s.InForce == 2 })
	a, prefix := d.assigned("c6", "iaaddr"), d.assigned("c6", "iaprefix")
	d.until("they are renewed", func(s *dhcp.ServerStats) bool { return s.InForce == 2 && s.News >= 4 })
	d.release("c6", "-6", "-N", "-P")
	d.until("the release is read", func(s *dhcp.ServerStats) bool { return s.InForce == 0 })
	list := d.stopped()
	for _, x := range []struct {
		what string
		h    []session.Binding
		bits int
	}{{"address", history(list, a), 128}, {"prefix", history(list, prefix.Next().Next()), 56}} {
		if len(x.h) != 1 || x.h[0].Equipment != d.mac || x.h[0].Certainty != 0 || x.h[0].To == session.Forever || x.h[0].Prefix.Bits() != x.bits {
			t.Errorf("recorded of the %s: %+v", x.what, x.h)
		}
	}
}
