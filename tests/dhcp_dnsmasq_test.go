package tests

import (
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/lab"
)

// dnsmasq starts one that gives leases of both families.
func (d *dhcpLab) dnsmasq(more ...string) *lab.Process {
	d.t.Helper()
	p := d.run("dnsmasq", append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=0", "--no-ping",
		"--interface=lan", "--bind-interfaces", "--dhcp-authoritative", "--dhcp-range=10.9.0.10,10.9.0.99,1h", "--dhcp-range=2001:db8:9::10,2001:db8:9::99,64,1h",
		"--dhcp-leasefile=" + filepath.Join(d.dir, "dnsmasq.leases")}, more...)...)
	d.must(p.WaitListening(d.ctx, "udp", 67))
	return p
}

func TestDnsmasqsLeaseFileIsReadForBothFamilies(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"small\"\nkind = \"dnsmasq\"\nleases4 = \"DIR/dnsmasq.leases\"\nreport_user = \"none\"\n")
	d.dnsmasq()
	d.must(d.Start(d.ctx))
	d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	d.dhclient("c4", "-4")
	d.until("the lease is read", func(s *dhcp.ServerStats) bool { return s.InForce == 1 })
	d.dhclient("c6", "-6", "-N")
	d.until("the other one is read", func(s *dhcp.ServerStats) bool { return s.InForce == 2 })
	a, b := d.assigned("c4", "fixed-address"), d.assigned("c6", "iaaddr")
	d.release("c4", "-4")
	s := d.until("the release is read", func(s *dhcp.ServerStats) bool { return s.InForce == 1 })
	if s.Ended != 1 || !s.OK {
		t.Errorf("%+v", s)
	}
	list := d.stopped()
	h := history(list, a)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].To == session.Forever || h[0].Source != session.SourceLeases || h[0].Certainty != session.FromInferred|session.ToInferred {
		t.Errorf("recorded of the IPv4 lease: %+v", h)
	}
	h = history(list, b)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].To != session.Forever {
		t.Errorf("recorded of the IPv6 lease: %+v", h)
	}
}

func TestDnsmasqsScriptReportsLeasesWithWhatARelaySays(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"small\"\nkind = \"dnsmasq\"\nleases4 = \"DIR/dnsmasq.leases\"\n")
	d.must(d.Start(d.ctx))
	d.dnsmasq("--dhcp-script=" + filepath.Join(d.dir, "hook.sh"))
	d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	relay := newRelay(d)
	a := relay.lease4([6]byte{2, 0, 0, 0, 0, 1}, optionsOf82("eth0/1:1", "\xaa\x11\x22\x33\x44\x55", "sub 1"))
	d.until("the relayed lease is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 1 && s.Taken >= 1 })
	d.dhclient("c6", "-6", "-N")
	d.until("the IPv6 lease is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 2 && s.Taken >= 2 })
	b := d.assigned("c6", "iaaddr")
	d.release("c6", "-6", "-N")
	d.until("its release is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 1 && s.Taken >= 3 })
	list := d.stopped()
	h := history(list, a)
	if len(h) != 1 || h[0].Subscriber != "sub 1" || h[0].Line != "eth0/1:1; 0xaa1122334455" || h[0].Source != session.SourceDHCP || h[0].Certainty&session.FromInferred != 0 {
		t.Errorf("recorded of the relayed lease: %+v", h)
	}
	h = history(list, b)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].Source != session.SourceDHCP || h[0].To == session.Forever || h[0].Certainty != 0 {
		t.Errorf("recorded of the IPv6 lease: %+v", h)
	}
}
