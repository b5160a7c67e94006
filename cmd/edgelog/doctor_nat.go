package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// conntrackDir holds the kernel's settings of conntrack.
const conntrackDir = "/proc/sys/net/netfilter"

// checkNAT finds out whether translations can be followed.
func (d *doctor) checkNAT() {
	n := &d.conf.NAT
	if n.Conntrack {
		d.checkConntrack(conntrackDir)
	}
	if err := recorder.CheckRules(n.Rules); err != nil {
		d.fail("nat", err.Error(), "")
	}
	if d.agentRunning {
		d.checkNATBuffer()
		return // it holds the ports
	}
	for _, at := range n.IPFIX.Listen {
		conn, err := recorder.ListenAccounting(at)
		if err != nil {
			d.fail("nat", "cannot listen for IPFIX on "+at.String()+": "+recorder.ListenError(err).Error(), "")
			continue
		}
		_ = conn.Close()
		d.ok("nat", "can listen for IPFIX on "+at.String())
	}
}

// checkConntrack looks at the settings in dir.
func (d *doctor) checkConntrack(dir string) {
	setting := func(name string) (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, "nf_conntrack_"+name))
		return strings.TrimSpace(string(b)), err
	}
	if _, err := setting("max"); errors.Is(err, fs.ErrNotExist) {
		d.fail("nat", "nat.conntrack is on, and the kernel has no conntrack",
			"modprobe nf_conntrack_netlink; if another machine translates, use [nat.ipfix]")
		return
	}
	if v, err := setting("timestamp"); err == nil && v == "1" {
		d.ok("nat", "the kernel tells the times of translations")
	} else {
		d.warn("nat", "the kernel does not tell the times of translations: they are known to some milliseconds while the agent keeps up",
			"sysctl -w net.netfilter.nf_conntrack_timestamp=1, before traffic comes")
	}
	switch v, err := setting("events"); {
	case err == nil && v == "0":
		d.fail("nat", "the kernel tells nobody of translations", "sysctl -w net.netfilter.nf_conntrack_events=1")
	case err == nil && v != "1":
		d.warn("nat", "the end of translations that begin while no agent runs is not told: the table is read once a minute instead",
			"sysctl -w net.netfilter.nf_conntrack_events=1")
	}
}

// checkNATBuffer asks the agent which buffer it got.
func (d *doctor) checkNATBuffer() {
	s, err := fetchStatus(d.ctx, d.conf.Socket())
	if err != nil || s.NAT == nil || s.NAT.Kernel == nil {
		return
	}
	got, want := s.NAT.Kernel.Buffer, s.NAT.Buffer
	if got < want {
		d.warn("nat", fmt.Sprintf("the agent has %s for conntrack events that wait, and nat.receive_buffer is %s", bytesText(uint64(got)), bytesText(uint64(want))),
			"let it have CAP_NET_ADMIN, or raise net.core.rmem_max")
		return
	}
	d.ok("nat", bytesText(uint64(got))+" for conntrack events that wait")
}
