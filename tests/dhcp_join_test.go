package tests

import (
	"net/netip"
	"testing"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/tests/gateway"
)

func TestALogOnWithoutAnAddressNamesTheSessionsOfTheLeaseWithItsMAC(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"small\"\nkind = \"dnsmasq\"\nleases4 = \"DIR/dnsmasq.leases\"\n")
	d.must(d.Reconfigure(map[string]string{"local =": `local = ["10.9.0.0/24", "192.0.2.0/24"]`}))
	d.must(d.Start(d.ctx))
	d.run("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=0", "--no-ping", "--interface=lan",
		"--dhcp-authoritative", "--dhcp-range=10.9.0.10,10.9.0.99,1h", "--dhcp-leasefile="+d.dir+"/dnsmasq.leases", "--dhcp-script="+d.dir+"/hook.sh")
	d.must(d.Gateway.Gateway().Accounting(d.ctx, netip.MustParseAddrPort("127.0.0.1:1813"), d.Secret,
		"Acct-Status-Type=Start", `Acct-Session-Id="802.1X-1"`, `User-Name="carol@example.net"`, `NAS-Identifier="ap1"`, `Calling-Station-Id="`+d.mac+`"`))
	d.dhclient("c4", "-4")
	d.until("the lease is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 1 && s.Taken >= 1 })
	a := d.assigned("c4", "fixed-address")
	d.must(d.client.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(dhcpNet4+".1")))
	d.must(d.Internet.Route(netip.MustParsePrefix(dhcpNet4+".0/24"), d.Gateway4))
	web := netip.AddrPortFrom(d.Server4, 80)
	d.must(d.Internet.ServeHTTP(web, "hello"))
	_, flow, err := d.client.GetHTTP(d.ctx, "http://"+web.String()+"/")
	d.must(err)
	_, err = d.Until(d.ctx, "the session is stored", func(s *gateway.Status) bool { return s.Sessions.Named >= 1 })
	d.must(err)
	_, sessions, err := d.Sessions(d.ctx, "--subscriber", "carol@example.net")
	d.must(err)
	if len(sessions) != 1 || sessions[0].Initiator != a.String() || sessions[0].InitiatorPort != flow.Initiator.Port() || sessions[0].Subscriber != "carol@example.net" {
		t.Errorf("the sessions of the subscriber: %+v", sessions)
	}
}
