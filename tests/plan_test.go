package tests

import (
	"bytes"
	enc "encoding/binary"
	"encoding/json"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// questions is a capture (pcap, Ethernet) of an evening of DNS: a question and
// its answer each second and user.
func questions(t *testing.T, seconds, users int) string {
	t.Helper()
	le := enc.LittleEndian
	file := le.AppendUint32(nil, 0xa1b2c3d4)
	file = append(file, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	for s := range seconds {
		for u := range users {
			user, server := net.IPv4(192, 0, 2, byte(1+u)), net.IPv4(198, 51, 100, 53)
			port := layers.UDPPort(20_000 + s)
			for micros, f := range [][]byte{question(t, user, server, port, 53), question(t, server, user, 53, port)} {
				file = le.AppendUint32(file, uint32(1_790_000_000+s))
				file = le.AppendUint32(file, uint32(u*2+micros))
				file = le.AppendUint32(file, uint32(len(f)))
				file = append(le.AppendUint32(file, uint32(len(f))), f...)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "evening.pcap")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func question(t *testing.T, from, to net.IP, source, target layers.UDPPort) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from, DstIP: to}
	udp := &layers.UDP{SrcPort: source, DstPort: target}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, eth, ip, udp, gopacket.Payload("a question"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

func TestAPlanIsMeasuredInACapture(t *testing.T) {
	const seconds, users = 121, 3
	name := questions(t, seconds, users)
	got := edgelog(limited(t), t, nil, "plan", "--subscribers", "1000", "--capture", name, "--local", "192.0.2.0/24", "--json")
	if got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	var plan struct {
		Assumed struct {
			PerMinute float64 `json:"sessions_per_minute"`
			Packets   float64 `json:"packets_per_second"`
			BusyHour  float64 `json:"busy_hour_factor"`
			Open      float64 `json:"seconds_in_table"`
		}
		Capture struct {
			Sessions  int                `json:"sessions"`
			Packets   int                `json:"packets"`
			Addresses int                `json:"local_addresses"`
			Mix       map[string]float64 `json:"mix"`
		}
		Profiles []struct {
			Profile string  `json:"profile"`
			Busy    float64 `json:"records_per_second_busy_hour"`
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &plan); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	c, a := plan.Capture, plan.Assumed
	if c.Sessions != seconds*users || c.Packets != 2*seconds*users || c.Addresses != users || c.Mix["dns"] != 1 || c.Mix["ipv6"] != 0 {
		t.Errorf("the capture is measured as %+v", c)
	}
	// 121 sessions begin within 120 s and some microseconds.
	for what, v := range map[string][2]float64{
		"sessions a minute, busy hour": {a.PerMinute * a.BusyHour, 60 * 121 / 120.},
		"packets a second, busy hour":  {a.Packets * a.BusyHour, 2 * 121 / 120.},
		"seconds in the table":         {a.Open, 60},
	} {
		if math.Abs(v[0]/v[1]-1) > 0.001 {
			t.Errorf("%s: %v, want %v", what, v[0], v[1])
		}
	}
	for _, p := range plan.Profiles {
		if want := 1000 * 121 / 120.; p.Profile == "session" && math.Abs(p.Busy/want-1) > 0.01 {
			t.Errorf("profile session is planned with %v records a second at the busy hour, want %v", p.Busy, want)
		}
	}
}

func TestACaptureThatSaysNothingIsRefusedByAPlan(t *testing.T) {
	for _, c := range []struct {
		name           string
		seconds        int
		local, problem string
	}{
		{"nobody of the provider's is in it", 20, "203.0.113.0/24", "no session crosses the border in it"},
		{"it is too short for a rate", 2, "192.0.2.0/24", "too short for a rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := edgelog(limited(t), t, nil, "plan", "--subscribers", "1000", "--capture", questions(t, c.seconds, 1), "--local", c.local)
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, c.problem) || !strings.Contains(got.stderr, "hint: ") {
				t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}
