package dhcp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgelog/edgelog/pkg/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// material is where files of other projects are.
const material = "../../../../shared/testdata/open/aaa"

func given(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(material, name))
	if err != nil {
		t.Skip("no such test data: ", err)
	}
	return b
}

// all reads a whole file, and checks that its lines add up.
func all(t testing.TB, p parser, b []byte) (list []Record, faults []string) {
	t.Helper()
	p.lines().fault = func(f *Fault) { faults = append(faults, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Reason)) }
	n, err := p.parse(b, true, func(r *Record) { list = append(list, *r) })
	if err != nil {
		t.Fatal(err)
	}
	if n != len(b) {
		t.Errorf("%d of %d bytes were read", n, len(b))
	}
	if c := p.lines(); c.read != c.used+c.skipped+c.faulty {
		t.Errorf("lines do not add up: %+v", c)
	}
	return list, faults
}

func TestKeasOwnDumpsAreRead(t *testing.T) {
	list, faults := all(t, newKeaParser("leases4", false), given(t, "kea__lease4_dump_test.reference.csv"))
	if len(faults) > 0 || len(list) != 3 {
		t.Fatalf("%d leases, faults %v", len(list), faults)
	}
	a := list[0]
	if a.Prefix.String() != "0.0.0.10/32" || a.Heard != 1642000000-40 || a.Until != 1642000000 || a.State != Active || a.Client != "33:30" || a.Hostname != "one.example.com" {
		t.Errorf("first: %+v", a)
	}
	if list[1].State != Declined || list[2].State != Expired || list[2].Ended != 1643212345 || list[2].Hostname != "three,example,com" {
		t.Errorf("others: %+v", list[1:])
	}
	list, faults = all(t, newKeaParser("leases6", true), given(t, "kea__lease6_dump_test.reference.csv"))
	if len(faults) > 0 || len(list) != 4 {
		t.Fatalf("%d leases, faults %v", len(list), faults)
	}
	a = list[0]
	if a.Prefix.String() != "::10/128" || a.Kind != identity.IPv6Address || a.IAID != 60 || a.Client != "32:30:33" || a.Until != 1642000000 || a.Heard != 1642000000-30 {
		t.Errorf("first: %+v", a)
	}
}

func TestKeasUserContextMayHoldCommas(t *testing.T) {
	const text = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n" +
		`10.0.0.1,02:00:00:00:00:01,01:02:00:00:00:00:01,3600,1700003600,1,0,0,h,0,{ "ISC": { "relay-agent-info": "0x0108657468302f313a32020672656d6f746506057375622c31" }, "x": [1,2] }` + "\n" +
		`10.0.0.2,02:00:00:00:00:02,,3600,1700003600,1,0,0,h,0,{ "ISC": { "relay-agent-info": { "sub-options": "0x0206aabbccddee00" }}}` + "\n" +
		`10.0.0.3,02:00:00:00:00:03,,3600,1700003600,1,0,0,h,0,{ "a": 1&#x2c "ISC": {"relay-agent-info":"0x010131"} }` + "\n"
	list, faults := all(t, newKeaParser("x", false), []byte(text))
	if len(faults) > 0 || len(list) != 3 {
		t.Fatalf("%d leases, faults %v", len(list), faults)
	}
	if r := list[0]; r.Circuit != "eth0/1:2" || r.Remote != "remote" || r.Subscriber != "sub,1" {
		t.Errorf("first: %+v", r)
	}
	if r := list[1]; r.Remote != "0xaabbccddee00" {
		t.Errorf("second: %+v", r)
	}
	if r := list[2]; r.Circuit != "1" {
		t.Errorf("third: %+v", r)
	}
	const six = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source\n" +
		`2001:db8:900::,00:03:00:01:02:00:00:00:00:09,8,1700000008,1,6,2,7,56,0,0,,,0,{ "ISC": { "relays": [ { "hop": 1, "options": "0x0012000166" }, { "hop": 0, "options": "0x002500070000197f616263002600027375" } ] } },1,0` + "\n"
	list, faults = all(t, newKeaParser("x", true), []byte(six))
	if len(faults) > 0 || len(list) != 1 {
		t.Fatalf("%d leases, faults %v", len(list), faults)
	}
	if r := list[0]; r.Kind != identity.DelegatedPrefix || r.Prefix.String() != "2001:db8:900::/56" || r.Remote != "abc" || r.Subscriber != "su" || r.Circuit != "f" || r.mac() != "02:00:00:00:00:09" {
		t.Errorf("prefix: %+v", r)
	}
}

func TestABrokenLineIsNamedAndTheOthersAreRead(t *testing.T) {
	const head = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n"
	const good = "10.0.0.1,02:00:00:00:00:01,,3600,1700003600,1,0,0,h,0,\n"
	list, faults := all(t, newKeaParser("x", false), []byte(head+good+
		"10.0.0.300,02:00:00:00:00:01,,3600,1700003600,1,0,0,h,0,\n"+
		"10.0.0.2,02:00:00:00:00:01,,36x0,1700003600,1,0,0,h,0,\n"+
		"10.0.0.3,02:00:00:00\n"+good+
		"10.0.0.2,02:00:00:00:00:01,,3600,17000"))
	if want := "[3:1 address 4:29 time 5:0 columns 7:0 cut-off]"; fmt.Sprint(faults) != want || len(list) != 2 {
		t.Errorf("%d leases, faults %v, want %s", len(list), faults, want)
	}
	list, faults = all(t, newISCParser("x"), []byte("lease 10.0.0.1 {\n  starts 2 2013/12/10 12:57:04;\n  ends never;\n}\nlease 10.0.0.2 {\n  starts 2 2013/13/10 12:57:04;\n}\nlease 10.0.0.3 {\n  starts;;\n} }\nlease 10.0.0.4 {\n}\nlease 10.0.0.5 {\n  starts 2 20"))
	if want := "[5:1 time 8:1 syntax 13:1 cut-off]"; fmt.Sprint(faults) != want || len(list) != 2 {
		t.Errorf("%d leases, faults %v, want %s", len(list), faults, want)
	}
	list, faults = all(t, newDnsmasqParser("x"), []byte("1700000000 02:00:00:00:00:01 10.0.0.1 h *\n1700000000 02:00:00:00:00:01 10.0.0 h *\nx 02:00:00:00:00:01 10.0.0.1 h *\nduid 00:01\n1700000000 7 2001:db8::1 * 00:01:00:01:32:9c:74:4a:36:60:4f:4c:11:2d\n"))
	if want := "[2:30 address 3:1 time]"; fmt.Sprint(faults) != want || len(list) != 2 {
		t.Errorf("%d leases, faults %v, want %s", len(list), faults, want)
	}
	if list[1].mac() != "36:60:4f:4c:11:2d" || list[1].IAID != 7 {
		t.Errorf("the DHCPv6 lease: %+v", list[1])
	}
}

func TestAFileOfAnotherProgramIsRefusedWithLineAndColumn(t *testing.T) {
	kea := given(t, "kea__lease4_dump_test.reference.csv")
	isc := given(t, "pyiscleases__debian7.leases")
	dnsmasq := []byte("1700000000 02:00:00:00:00:01 10.0.0.1 h *\n")
	for _, c := range []struct {
		name string
		p    parser
		b    []byte
	}{
		{"ISC as Kea", newKeaParser("f", false), isc}, {"dnsmasq as Kea", newKeaParser("f", false), dnsmasq},
		{"Kea 4 as Kea 6", newKeaParser("f", true), kea},
		{"Kea as ISC", newISCParser("f"), kea}, {"dnsmasq as ISC", newISCParser("f"), dnsmasq},
		{"Kea as dnsmasq", newDnsmasqParser("f"), kea}, {"ISC as dnsmasq", newDnsmasqParser("f"), isc},
		{"noise as ISC", newISCParser("f"), []byte{0x7f, 'E', 'L', 'F', 0, 1, '{', '\n', ';'}},
	} {
		_, err := c.p.parse(c.b, true, func(*Record) { t.Errorf("%s: a lease was read", c.name) })
		if !errors.Is(err, ErrForeign) || !regexp.MustCompile(`line \d+ `).MatchString(err.Error()) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestISCFilesOfOtherProjectsAreRead(t *testing.T) {
	// dhcpd-pools counts what is active in its ranges, which begin at .1.
	list, faults := all(t, newISCParser("pools"), given(t, "dhcpd-pools__leases-complete"))
	n := map[string]int{}
	for _, r := range list {
		if p := r.Prefix.Addr().As4(); p[3] > 0 && p[3] <= 20 && r.State == Active {
			n[fmt.Sprintf("10.%d", p[1])]++
		}
	}
	if fmt.Sprint(n) != "map[10.0:11 10.1:10 10.2:8 10.3:9 10.4:5]" || len(faults) > 0 {
		t.Errorf("dhcpd-pools: %v, faults %v", n, faults)
	}
	list, faults = all(t, newISCParser("pools6"), given(t, "dhcpd-pools__leases-v6"))
	last := map[string]State{}
	for _, r := range list {
		last[r.Prefix.String()] = r.State
	}
	if len(list) != 13 || len(last) != 8 || last["dead:abba:1000:fe00::/56"] != Active || last["dead:abba:4000:fe00::/56"] != Expired || len(faults) > 0 {
		t.Errorf("dhcpd-pools, DHCPv6: %v, faults %v", last, faults)
	}
	list, _ = all(t, newISCParser("d7"), given(t, "pyiscleases__debian7.leases"))
	if len(list) != 6 || list[5].State != Declined || list[1].Client != "01:bc:f5:ac:fe:d1:7d" || list[1].mac() != "bc:f5:ac:fe:d1:7d" ||
		list[1].Heard != 1390484445 || list[1].Ended != 1390485045 || list[0].Client != "ff:00:00:00:02:00:01:00:01:1a:31:c1:c0:00:23:8b:f0:46:e8" {
		t.Errorf("debian7: %+v", list)
	}
	list, _ = all(t, newISCParser("d6"), given(t, "pyiscleases__dhcpd6-4.3.3.leases"))
	if len(list) != 4 || list[1].Prefix.String() != "2001:10:30:ff00::/56" || list[1].Client != "00:01:00:01:1d:34:4c:00:00:25:90:6b:a1:34" ||
		list[1].mac() != "00:25:90:6b:a1:34" || list[1].IAID != 0 || list[0].IAID != 1 || list[0].Heard != 1452091834 || list[0].Until != 1452092698 {
		t.Errorf("dhcpd6: %+v", list)
	}
	list, _ = all(t, newISCParser("epoch"), given(t, "pyiscleases__epoch.leases"))
	if len(list) == 0 || list[0].State != Deleted || list[0].Heard != 1508167349 || list[0].Ended != 1508141363 {
		t.Errorf("epoch: %+v", list)
	}
	list, _ = all(t, newISCParser("options"), given(t, "pyiscleases__options.leases"))
	if len(list) != 1 || list[0].Circuit != "0x000103e9" || list[0].Remote != "0xa4a24a33dbe5" || list[0].Hostname != "KRONOS" {
		t.Errorf("options: %+v", list)
	}
}
