package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAGoalIsJudgedByItsNameAndBaseline(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name    string
		e       Entry
		goal    string
		reached *bool
	}{
		{"a ratio below its limit", Entry{Name: "datapath/established/xdp/ipv4/flows=1", Vs: "empty", Ratio: 2.9}, "<= 3 x", &yes},
		{"a ratio above its limit", Entry{Name: "datapath/established/egress/qinq/flows=65536", Vs: "empty", Ratio: 8.1}, "<= 8 x", &no},
		{"the same beside the other baseline", Entry{Name: "datapath/established/xdp/ipv6/flows=65536", Vs: "hash", Ratio: 4.5}, ">= 4.50 x", &yes},
		{"a value, whatever the ratio", Entry{Name: "datapath/new/xdp/ipv4", Vs: "empty", Value: 251, Ratio: 2}, "<= 250", &no},
		{"a rate", Entry{Name: "e2e/new_sessions_per_second", Vs: "table_to_disk", Value: 1e6}, ">= 1.00M", &yes},
		{"a figure without a goal", Entry{Name: "e2e/new_sessions_per_second/udp", Vs: "table_to_disk", Value: 1e6}, "", nil},
		{"a name that only begins alike", Entry{Name: "datapath/established/xdp/ipv4/flows=10", Vs: "empty", Ratio: 1}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.e.judge()
			if c.e.Goal != c.goal || (c.e.Reached == nil) != (c.reached == nil) || c.reached != nil && *c.e.Reached != *c.reached {
				t.Errorf("goal %q, reached %v; want %q, %v", c.e.Goal, c.e.Reached, c.goal, c.reached)
			}
		})
	}
}

func TestTheFileIsAListOfEntries(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bench.json")
	want := Entry{Name: "datapath/new/xdp/ipv4", Value: 240.5, Unit: "ns/packet", Vs: "hash", Ratio: 1.5}
	if err := write(name, []Entry{want}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0]["name"] != want.Name || got[0]["value"] != want.Value || got[0]["unit"] != want.Unit ||
		got[0]["vs"] != want.Vs || got[0]["ratio"] != want.Ratio || len(got[0]) != 5 {
		t.Errorf("the file says %s", text)
	}
	var b strings.Builder
	if err := table(&b, []Entry{want}); err != nil || !strings.Contains(b.String(), "240") {
		t.Errorf("the table is %q, %v", b.String(), err)
	}
}

func TestEndsAreReadAsToolsPrintThem(t *testing.T) {
	want := [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1024"), netip.MustParseAddrPort("192.0.2.1:4433")}
	for line, ok := range map[string]bool{
		"10.0.0.1,1024,192.0.2.1,4433":                  true,
		"        10.0.0.1, 1024,       192.0.2.1, 4433": true,
		"10.0.0.1,1024,192.0.2.1,4433,udp":              true,
		"SRC_IP,SRC_PORT,DST_IP,DST_PORT":               false,
		"10.0.0.1,1024":                                 false,
		"":                                              false,
	} {
		pair, got := ends(line)
		if got != ok || ok && pair != want {
			t.Errorf("%q is read as %v, %v", line, pair, got)
		}
	}
}

func TestMemoryAndTimeOfAProcessAreRead(t *testing.T) {
	resident, mapped, err := memory(os.Getpid())
	if err != nil || resident == 0 || mapped != 0 {
		t.Errorf("this process has %d bytes, %d of BPF maps, %v", resident, mapped, err)
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}
