package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/identity/dhcp"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/tests/lab"
)

// keaConfig is one for Kea 4 or 6. Leases run out soon, and the clean-up of the
// lease file comes often.
func keaConfig(d *dhcpLab, six bool, valid int, hook bool) string {
	family, version := "Dhcp4", "4"
	if six {
		family, version = "Dhcp6", "6"
	}
	hooks := []any{map[string]any{"library": "/usr/lib/x86_64-linux-gnu/kea/hooks/libdhcp_lease_cmds.so"}}
	if hook {
		hooks = append(hooks, map[string]any{
			"library":    "/usr/lib/x86_64-linux-gnu/kea/hooks/libdhcp_run_script.so",
			"parameters": map[string]any{"name": filepath.Join(d.dir, "hook.sh"), "sync": false},
		})
	}
	c := map[string]any{
		"interfaces-config": map[string]any{"interfaces": []string{"lan"}},
		"control-socket":    map[string]any{"socket-type": "unix", "socket-name": filepath.Join(d.dir, "kea"+version+".sock")},
		"lease-database":    map[string]any{"type": "memfile", "persist": true, "name": filepath.Join(d.dir, "leases"+version+".csv"), "lfc-interval": 4},
		"valid-lifetime":    valid, "renew-timer": valid / 3, "rebind-timer": valid * 2 / 3, "store-extended-info": true,
		"expired-leases-processing": map[string]any{"reclaim-timer-wait-time": 1, "hold-reclaimed-time": 3600, "flush-reclaimed-timer-wait-time": 2},
		"hooks-libraries":           hooks,
		"loggers":                   []any{map[string]any{"name": "kea-dhcp" + version, "severity": "WARN", "output_options": []any{map[string]any{"output": "stdout"}}}},
	}
	if six {
		c["interfaces-config"] = map[string]any{"interfaces": []string{"lan", "lan/" + dhcpNet6 + "::1"}} // and for relays
		c["preferred-lifetime"] = valid / 2
		c["server-id"] = map[string]any{"type": "LL", "htype": 1, "identifier": "020000000001", "persist": false}
		c["subnet6"] = []any{map[string]any{
			"id": 1, "subnet": dhcpNet6 + "::/64", "interface": "lan", "rapid-commit": true, "pools": []any{map[string]any{"pool": dhcpNet6 + "::10 - " + dhcpNet6 + "::99"}},
			"pd-pools": []any{map[string]any{"prefix": "2001:db8:900::", "prefix-len": 40, "delegated-len": 56}},
		}}
	} else {
		c["subnet4"] = []any{map[string]any{"id": 1, "subnet": dhcpNet4 + ".0/24", "pools": []any{map[string]any{"pool": dhcpNet4 + ".10 - " + dhcpNet4 + ".99"}}}}
	}
	text, err := json.Marshal(map[string]any{family: c})
	d.must(err)
	return d.write("kea"+version+".json", 0o644, string(text))
}

// kea starts Kea and waits until it answers on its control socket.
func (d *dhcpLab) kea(six bool, valid int, hook bool) *lab.Process {
	d.t.Helper()
	version := "4"
	if six {
		version = "6"
	}
	p := d.run("kea-dhcp"+version, "-c", keaConfig(d, six, valid, hook))
	d.must(p.WaitFile(d.ctx, filepath.Join(d.dir, "kea"+version+".sock")))
	return p
}

const keaHook4 = `[[dhcp.server]]
name = "kea"
kind = "kea"
control4 = "DIR/kea4.sock"
report_user = "root"
reconcile = "1h"
`

func TestKeaReportsALeaseByItsHookFromBeginToRelease(t *testing.T) {
	d := openDHCP(t, keaHook4)
	d.kea(false, 3600, true)
	d.must(d.Start(d.ctx))
	d.until("the first list is read", func(s *dhcp.ServerStats) bool { return s.Lists == 1 && s.Whole })
	d.dhclient("c4", "-4")
	d.until("the lease is reported", func(s *dhcp.ServerStats) bool { return s.Taken == 1 && s.InForce == 1 })
	a := d.assigned("c4", "fixed-address")
	d.release("c4", "-4")
	s := d.until("the release is reported", func(s *dhcp.ServerStats) bool { return s.Taken >= 2 && s.InForce == 0 })
	if !s.OK {
		t.Errorf("trouble: %s", s.Trouble)
	}
	h := history(d.stopped(), a)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].Certainty != 0 || h[0].Source != session.SourceDHCP || h[0].SourceName != "kea" || h[0].To == session.Forever {
		t.Errorf("recorded: %+v", h)
	}
}

const keaFile4 = `[[dhcp.server]]
name = "kea"
kind = "kea"
leases4 = "DIR/leases4.csv"
report_user = "none"
`

func TestKeasLeaseFileIsFollowedThroughItsCleanUp(t *testing.T) {
	d := openDHCP(t, keaFile4)
	d.must(d.Start(d.ctx)) // before there is a file
	d.until("the missing file is told of", func(s *dhcp.ServerStats) bool { return !s.OK })
	kea := d.kea(false, 6, false)
	client := d.dhclient("c4", "-4")
	d.until("the lease is read", func(s *dhcp.ServerStats) bool { return s.OK && s.InForce == 1 })
	a := d.assigned("c4", "fixed-address")
	d.until("the file was replaced twice, and the lease renewed", func(s *dhcp.ServerStats) bool { return s.Files[0].Replaced >= 2 && s.News >= 4 && s.InForce == 1 })
	client.Kill() // without a word: the lease runs out
	s := d.until("the lease has run out", func(s *dhcp.ServerStats) bool { return s.InForce == 0 })
	if s.Files[0].Truncated != 0 || len(s.Files[0].Faulty) != 0 {
		t.Errorf("the file: %+v", s.Files[0])
	}
	d.until("the server has reclaimed it", func(x *dhcp.ServerStats) bool {
		return x.Records > s.Records || x.Files[0].Replaced > s.Files[0].Replaced+1
	})
	d.must(kea.Stop())
	h := history(d.stopped(), a)
	if len(h) != 1 || h[0].Source != session.SourceLeases || h[0].Certainty&session.ToInferred != 0 || h[0].To == session.Forever || h[0].Equipment != d.mac {
		t.Errorf("recorded: %+v", h)
	}
}

const keaHook6 = `[[dhcp.server]]
name = "kea"
kind = "kea"
control6 = "DIR/kea6.sock"
leases6 = "DIR/leases6.csv"
reconcile = "1h"
`

func TestKea6ReportsAnAddressAndADelegatedPrefixAsItsOwnUser(t *testing.T) {
	d := openDHCP(t, keaHook6)
	// Kea runs as the user of Debian's package.
	d.must(os.Mkdir(filepath.Join(d.dir, "own"), 0o755))
	d.write("leases6.csv", 0o644, "")
	for _, f := range []string{d.dir, filepath.Join(d.dir, "leases6.csv")} {
		out, err := d.client.Run(d.ctx, "chown", "_kea", f)
		if err != nil {
			t.Fatal(err, out)
		}
	}
	p := d.run("setpriv", "--reuid=_kea", "--regid=_kea", "--init-groups", "--inh-caps=+net_bind_service,+net_raw", "--ambient-caps=+net_bind_service,+net_raw",
		"kea-dhcp6", "-c", keaConfig(d, true, 3600, true))
	d.must(p.WaitFile(d.ctx, filepath.Join(d.dir, "kea6.sock")))
	d.must(d.Start(d.ctx))
	d.until("the first list is read", func(s *dhcp.ServerStats) bool { return s.Lists == 1 && s.Whole })
	d.dhclient("c6", "-6", "-N", "-P")
	d.until("the leases are reported", func(s *dhcp.ServerStats) bool { return s.Taken >= 1 && s.InForce == 2 })
	a, prefix := d.assigned("c6", "iaaddr"), d.assigned("c6", "iaprefix")
	inside := prefix.Next().Next()
	d.release("c6", "-6", "-N", "-P")
	d.until("the release is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 0 })
	list := d.stopped()
	h := history(list, a)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].Certainty != 0 || h[0].Source != session.SourceDHCP {
		t.Errorf("recorded of the address: %+v", h)
	}
	h = history(list, inside)
	if len(h) != 1 || h[0].Equipment != d.mac || h[0].Certainty != 0 || h[0].Prefix.Bits() != 56 {
		t.Errorf("recorded of the prefix: %+v", h)
	}
}

func TestWhatKeaDidWhileTheAgentWasAwayIsHealedByItsList(t *testing.T) {
	d := openDHCP(t, keaHook4)
	d.kea(false, 3600, true)
	d.must(d.Start(d.ctx))
	d.until("the first list is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	d.dhclient("c4", "-4")
	d.until("the lease is reported", func(s *dhcp.ServerStats) bool { return s.InForce == 1 })
	first := d.assigned("c4", "fixed-address")
	d.must(d.Stop(d.ctx))
	d.release("c4", "-4") // nobody hears of it
	relay := newRelay(d)
	second := relay.lease4([6]byte{2, 0, 0, 0, 0, 0x42}, optionsOf82("eth0/1:2", "remote", "sub,1"))
	d.must(d.Start(d.ctx))
	s := d.until("the list is read", func(s *dhcp.ServerStats) bool { return s.Lists == 1 && s.Whole && s.InForce == 1 })
	if s.Ended != 1 || s.Reports != 0 {
		t.Errorf("%d leases were ended by the list, %d reports", s.Ended, s.Reports)
	}
	list := d.stopped()
	h := history(list, first)
	if len(h) == 0 || h[0].Equipment != d.mac || h[0].Certainty&session.ToInferred == 0 || h[0].To == session.Forever {
		t.Errorf("recorded of the lease that was given back: %+v", h)
	}
	h = history(list, second)
	if last := len(h) - 1; last < 0 || h[last].Subscriber != "sub,1" || h[last].Line != "eth0/1:2; remote" || h[last].Certainty&session.FromInferred == 0 {
		t.Errorf("recorded of the lease that began meanwhile: %+v", h)
	}
}

func TestOption82NamesTheSubscriberOfALeaseThatKeaReports(t *testing.T) {
	d := openDHCP(t, keaHook4)
	d.kea(false, 3600, true)
	d.must(d.Start(d.ctx))
	d.until("the first list is read", func(s *dhcp.ServerStats) bool { return s.Whole })
	relay := newRelay(d)
	a := relay.lease4([6]byte{2, 0, 0, 0, 0, 1}, optionsOf82("eth0/1:1", "\x00\x11\x22\x33\x44\x55", ""))
	b := relay.lease4([6]byte{2, 0, 0, 0, 0, 2}, optionsOf82("eth0/1:2", "far, \"away\" $(reboot) `id`; 'x'", ""))
	d.until("both leases are reported", func(s *dhcp.ServerStats) bool { return s.Taken == 2 && s.InForce == 2 })
	list := d.stopped()
	for _, c := range []struct{ got, want string }{
		{fmt.Sprint(names(history(list, a))), "[0x001122334455 eth0/1:1; 0x001122334455]"},
		{fmt.Sprint(names(history(list, b))), "[far, \"away\" $(reboot) `id`; 'x' eth0/1:2; far, \"away\" $(reboot) `id`; 'x']"},
	} {
		if c.got != c.want {
			t.Errorf("recorded %s, want %s", c.got, c.want)
		}
	}
}

func names(h []session.Binding) (out []string) {
	for i := range h {
		out = append(out, h[i].Subscriber, h[i].Line)
	}
	return out
}
