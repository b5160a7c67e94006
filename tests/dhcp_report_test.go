package tests

import (
	bytesof "encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/tests/lab"
)

// option6 is an option of DHCPv6 (RFC 8415 §21.1).
func option6(code uint16, value []byte) []byte {
	b := bytesof.BigEndian.AppendUint16(nil, code)
	return append(bytesof.BigEndian.AppendUint16(b, uint16(len(value))), value...)
}

// lease6 gets an address for a client with this MAC address through a relay
// that names the line (RFC 8415 §19.1, RFC 4649, RFC 4580), by rapid commit.
func lease6(d *dhcpLab, mac byte, remote, subscriber string) {
	d.t.Helper()
	relay := netip.MustParseAddr(dhcpNet6 + "::200")
	out, err := d.client.Run(d.ctx, "ip", "addr", "replace", relay.String()+"/64", "dev", "wan")
	if err != nil {
		d.t.Fatal(err, out)
	}
	var conn net.PacketConn
	d.must(d.client.Do(func() (err error) {
		conn, err = net.ListenPacket("udp6", netip.AddrPortFrom(relay, 547).String())
		return err
	}))
	defer conn.Close() //nolint:errcheck // a test's
	solicit := []byte{1, 0, 0, mac}
	solicit = append(solicit, option6(1, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, mac})...)
	solicit = append(solicit, option6(3, []byte{0, 0, 0, mac, 0, 0, 0, 0, 0, 0, 0, 0})...)
	solicit = append(append(solicit, option6(8, []byte{0, 0})...), option6(14, nil)...)
	forward := append([]byte{12, 0}, relay.AsSlice()...)
	forward = append(forward, netip.MustParseAddr("fe80::1").AsSlice()...)
	forward = append(forward, option6(18, []byte("eth0/1"))...)
	forward = append(forward, option6(37, append([]byte{0, 0, 0x19, 0x7f}, remote...))...)
	if subscriber != "" {
		forward = append(forward, option6(38, []byte(subscriber))...)
	}
	forward = append(forward, option6(9, solicit)...)
	buf := make([]byte, 1500)
	for d.ctx.Err() == nil {
		_, err := conn.WriteTo(forward, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(dhcpNet6+"::1"), 547)))
		d.must(err)
		d.must(conn.SetReadDeadline(time.Now().Add(time.Second)))
		if n, _, err := conn.ReadFrom(buf); err == nil && n > 34 && buf[0] == 13 {
			return
		}
	}
	d.t.Fatal("the DHCPv6 server does not answer the relay")
}

func TestADHCPv6RelaysWordsNameTheSubscriberOfALeaseThatWasReportedWithoutThem(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"kea\"\nkind = \"kea\"\nleases6 = \"DIR/leases6.csv\"\nreport_user = \"root\"\n")
	d.kea(true, 3600, true)
	d.must(d.Start(d.ctx))
	d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	lease6(d, 1, "far end", "")
	lease6(d, 2, "\x00\x01\xff", "sub 2")
	d.until("both leases are reported, and the file says more", func(s *dhcp.ServerStats) bool { return s.Taken >= 2 && s.InForce == 2 && s.News >= 4 })
	list := d.stopped()
	got := map[string]string{}
	for i := range list {
		if b := &list[i]; b.Subscriber != "" {
			got[b.Equipment] = b.Source.String() + ", " + b.Subscriber + ", " + b.Line
		}
	}
	if got["02:00:00:00:00:01"] != "dhcp, far end, eth0/1; far end" || got["02:00:00:00:00:02"] != "dhcp, sub 2, eth0/1; 0x0001ff" {
		t.Errorf("recorded: %v", got)
	}
}

func TestKeasControlAgentIsAskedWhereItsSocketIsOutOfReach(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"kea\"\nkind = \"kea\"\ncontrol4 = \"http://127.0.0.1:8000\"\nlogin_file = \"DIR/login\"\nreport_user = \"none\"\nreconcile = \"200ms\"\n")
	d.write("login", 0o600, "reader:a password\n")
	d.must(d.Start(d.ctx))
	d.until("there is no agent", func(s *dhcp.ServerStats) bool { return !s.OK })
	d.kea(false, 3600, false)
	d.run("kea-ctrl-agent", "-c", d.write("ca.json", 0o600, `{"Control-agent": {"http-host": "127.0.0.1", "http-port": 8000,
"authentication": {"type": "basic", "realm": "kea", "clients": [{"user": "reader", "password": "a password"}]},
"control-sockets": {"dhcp4": {"socket-type": "unix", "socket-name": "DIR/kea4.sock"}},
"loggers": [{"name": "kea-ctrl-agent", "severity": "WARN", "output_options": [{"output": "stdout"}]}]}}`))
	d.until("the agent answers", func(s *dhcp.ServerStats) bool { return s.OK && s.Lists > 0 })
	newRelay(d).lease4([6]byte{2, 0, 0, 0, 0, 1}, optionsOf82("eth0/1:1", "line 1", ""))
	d.until("the lease is in the list", func(s *dhcp.ServerStats) bool { return s.InForce == 1 && s.News == 1 })
}

func TestAReportOfAnotherUserOrFormIsNotBelieved(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"small\"\nkind = \"dnsmasq\"\nleases4 = \"DIR/dnsmasq.leases\"\n")
	d.write("dnsmasq.leases", 0o644, "")
	d.must(d.Start(d.ctx))
	d.until("the empty file is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	hook := filepath.Join(d.dir, "hook.sh")
	report := func(command ...string) error {
		_, err := d.Gateway.Gateway().RunCommand(d.ctx, lab.Command{Path: command[0], Args: command[1:], Env: []string{"DNSMASQ_LEASE_EXPIRES=1999999999"}})
		return err
	}
	if err := report("setpriv", "--reuid=65534", "--clear-groups", hook, "add", "02:00:00:00:00:01", "10.9.0.66"); err == nil || !strings.Contains(err.Error(), "user id 65534") {
		t.Errorf("another user: %v", err)
	}
	if err := report(hook, "lease4_release"); err == nil {
		t.Error("a report of a server that there is not was taken")
	}
	if err := report(hook, "add", "02:00:00:00:00:01", "not an address; $(reboot)"); err == nil {
		t.Error("a report without an address was taken")
	}
	d.must(report(hook, "add", "02:00:00:00:00:01", "10.9.0.66", "name"))
	s, err := d.status()
	d.must(err)
	x := s.DHCP.Servers[0]
	if s.DHCP.Dropped["user"] != 1 || s.DHCP.Dropped["unknown-server"] != 1 || x.NotTaken["form"] != 1 || x.Taken != 1 || x.InForce != 1 {
		t.Errorf("%+v", s.DHCP)
	}
	if log := d.Agent().Output(); strings.Contains(log, "10.9.0.66") || strings.Contains(log, "02:00:00") {
		t.Errorf("the log holds a lease:\n%s", log)
	}
}

func TestDoctorAndStatusSayWhichLeaseFileIsNotReadAndWhy(t *testing.T) {
	d := openDHCP(t, "[[dhcp.server]]\nname = \"old\"\nkind = \"isc\"\nleases4 = \"DIR/dhcpd.leases\"\n")
	d.write("dhcpd.leases", 0o644, "address,hwaddr,client_id\n10.9.0.77,02:00:00:00:00:01,\n")
	out, _ := d.Run(d.ctx, "doctor") // which finds other things of this machine
	if !strings.Contains(out, "line 1 column 1") || strings.Contains(out, "10.9.0.77") {
		t.Errorf("doctor:\n%s", out)
	}
	d.must(d.Start(d.ctx))
	d.until("it is told of", func(s *dhcp.ServerStats) bool { return !s.OK })
	out, err := d.Run(d.ctx, "status")
	d.must(err)
	if !strings.Contains(out, "leases of old are NOT ALL heard of") || !strings.Contains(out, "line 1 column 1") {
		t.Errorf("status:\n%s", out)
	}
	d.must(os.Remove(filepath.Join(d.dir, "dhcpd.leases")))
	d.write("other.leases", 0o644, "lease 10.9.0.77 {\n  ends never;\n  binding state active;\n}\n")
	d.must(d.Reconfigure(map[string]string{"leases4 =": `leases4 = "` + d.dir + `/other.leases"`}))
	s := d.until("the other file is read after a reload", func(s *dhcp.ServerStats) bool { return s.OK && s.InForce == 1 })
	if s.Name != "old" {
		t.Errorf("%+v", s)
	}
}
