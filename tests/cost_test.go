package tests

import (
	"regexp"
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

func TestWhatAPacketCostsIsMeasuredOnTheRunningPrograms(t *testing.T) {
	g := start(t, gateway.Options{})
	ctx := limited(t)
	ping, err := g.Subscribers[0].Start(lab.Command{Path: "ping", Args: []string{"-q", "-i", "0.01", g.Server4.String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ping.Kill)
	if _, err := g.Until(ctx, "packets pass", func(s *gateway.Status) bool { return s.Probe.Uplinks[0].In.Seen > 0 }); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"status --cost":    `(?m)^cost       uplink: in [1-9]\d* ns a packet \(\d+\), out [1-9]\d* ns a packet`,
		"doctor --measure": `(?m)^ok    cost +program \d+: [1-9]\d* ns a packet, of \d+ packets`,
	} {
		args := regexp.MustCompile(` `).Split(command, 2)
		out, _ := g.Run(ctx, args[0], args[1]) // doctor has its own opinion of this machine
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("edgelog %s prints no cost:\n%s", command, out)
		}
	}
}
