package dhcp

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
)

// seeds adds all files of the material, and some lines.
func seeds(f *testing.F, more ...string) {
	names, _ := filepath.Glob(filepath.Join(material, "*leases*"))
	dumps, _ := filepath.Glob(filepath.Join(material, "kea__*"))
	for _, n := range append(names, dumps...) {
		if b, err := os.ReadFile(n); err == nil {
			f.Add(b)
		}
	}
	for _, s := range more {
		f.Add([]byte(s))
	}
}

// check reads b at once and in two parts: both must give the same leases, the
// lines must add up, and what comes out must be fit for the book.
func check(t *testing.T, b []byte, fresh func() parser) {
	whole, err := readAll(t, fresh(), b)
	p := fresh()
	cut := len(b) / 2
	var parts []Record
	n, err2 := p.parse(b[:cut], false, func(r *Record) { parts = append(parts, *r) })
	if err2 == nil {
		if n > cut {
			t.Fatalf("%d bytes of %d were read", n, cut)
		}
		_, err2 = p.parse(b[n:], true, func(r *Record) { parts = append(parts, *r) })
	}
	if (err == nil) != (err2 == nil) || err == nil && len(parts) != len(whole) {
		t.Fatalf("%d leases at once (%v), %d in two parts (%v)", len(whole), err, len(parts), err2)
	}
	var c counters
	table := newTable("x", &c)
	table.order, table.join = SubscriberWords, JoinAlways
	for i := range whole {
		for _, e := range table.take(nil, &whole[i], byTail, time.Unix(1<<31, 0)) {
			if err := e.Validate(); err != nil && e.At > 0 {
				t.Fatalf("%v: %+v of %+v", err, e, whole[i])
			}
		}
	}
}

func readAll(t *testing.T, p parser, b []byte) (list []Record, err error) {
	n, err := p.parse(b, true, func(r *Record) { list = append(list, *r) })
	if c := p.lines(); err == nil && (n != len(b) || c.read != c.used+c.skipped+c.faulty) {
		t.Fatalf("%d of %d bytes, %+v", n, len(b), c)
	}
	for i := range list {
		r := &list[i]
		if !r.Prefix.IsValid() || r.Kind == identity.IPv4Address != r.Prefix.Addr().Is4() || len(r.Client) > 3*maxID || len(r.line()) > 4*maxID+8 {
			t.Fatalf("%+v", r)
		}
	}
	return list, err
}

func FuzzKeaLeases4(f *testing.F) {
	seeds(f, "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n10.0.0.1,02:00:00:00:00:01,,3600,1700003600,1,0,0,h,0,{\"ISC\":{\"relay-agent-info\":\"0x010131\",\"x\":[1,2]}}\n")
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b, func() parser { return newKeaParser("x", false) }) })
}

func FuzzKeaLeases6(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b, func() parser { return newKeaParser("x", true) }) })
}

func FuzzISCLeases(f *testing.F) {
	seeds(f, "failover peer \"x\" state {\n  my state normal at 2 2013/12/10 12:57:04;\n}\nlease 10.0.0.1 {\n uid \"\\001\\\"\\\\\"; option agent.circuit-id 0:4; }\n")
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b, func() parser { return newISCParser("x") }) })
}

func FuzzDnsmasqLeases(f *testing.F) {
	seeds(f, "1700000000 02:00:00:00:00:01 10.0.0.1 h 01:02\nduid 00:01\n0 T7 2001:db8::1 * 00:01:00:01:32:9c:74:4a:36:60:4f:4c:11:2d\n")
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b, func() parser { return newDnsmasqParser("x") }) })
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"at":1,"args":["leases4_committed"],"env":{"LEASES4_SIZE":"1","LEASES4_AT0_ADDRESS":"10.0.0.1","LEASES4_AT0_CLTT":"1700000000","LEASES4_AT0_VALID_LIFETIME":"8","QUERY4_OPTION_82_SUB_OPTION_1":"0x31"}}`))
	f.Add([]byte(`{"at":1,"args":["add","02:00:00:00:00:01","10.0.0.1"],"env":{"DNSMASQ_LEASE_EXPIRES":"1700000000"},"raw":{"DNSMASQ_REMOTE_ID":"qhEi"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Report
		if json.Unmarshal(b, &r) != nil || r.kind() == "" {
			return
		}
		list, _ := r.records()
		for i := range list {
			if !list[i].Prefix.IsValid() || len(list[i].Client) > 3*maxID {
				t.Fatalf("%+v", list[i])
			}
		}
	})
}

func FuzzControlAnswer(f *testing.F) {
	f.Add([]byte(`{"arguments":{"leases":[{"cltt":1795798993,"duid":"00:01","iaid":1,"ip-address":"2001:db8:900::","prefix-len":56,"state":0,"type":"IA_PD","valid-lft":8,"user-context":{"ISC":{"relays":[{"hop":0,"options":"0x00120001"}]}}}]},"result":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a keaAnswer
		if json.Unmarshal(b, &a) != nil {
			return
		}
		for i := range a.Arguments.Leases {
			for _, six := range []bool{false, true} {
				if r, ok := a.Arguments.Leases[i].record(six); ok && !r.Prefix.IsValid() {
					t.Fatalf("%+v", r)
				}
			}
		}
	})
}
