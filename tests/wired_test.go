package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// hostapd watches the port of the first subscriber by 802.1X, and accounts to
// the agent.
func hostapd(t *testing.T, g *gateway.Gateway) *lab.Process {
	t.Helper()
	dir := t.TempDir()
	users, conf := filepath.Join(dir, "users"), filepath.Join(dir, "hostapd.conf")
	text := fmt.Sprintf(`interface=sub1
driver=wired
logger_stdout=-1
logger_stdout_level=1
ieee8021x=1
use_pae_group_addr=1
eap_server=1
eap_user_file=%s
nas_identifier=edge-switch
own_ip_addr=192.0.2.1
acct_server_addr=127.0.0.1
acct_server_port=1813
acct_server_shared_secret=%s
radius_acct_interim_interval=1
`, users, g.Secret)
	write(t, users, "\"anna\" MD5 \"sesame\"\n")
	write(t, conf, text)
	p, err := g.Gateway().Start(lab.Command{Path: "hostapd", Args: []string{conf}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("hostapd said:\n%s", p.Output())
		}
	})
	return p
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func supplicant(t *testing.T, n *lab.Namespace) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "wpa.conf")
	write(t, conf, `ap_scan=0
network={
	key_mgmt=IEEE8021X
	eap=MD5
	identity="anna"
	password="sesame"
	eapol_flags=0
}
`)
	p, err := n.Start(lab.Command{Path: "wpa_supplicant", Args: []string{"-D", "wired", "-i", "wan", "-c", conf}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("wpa_supplicant said:\n%s", p.Output())
		}
	})
}

// hostapd knows no address of who logs on by 802.1X: what is bound is the MAC
// address, which a DHCP lease is joined by.
func TestHostapdAccountsForWhoLogsOnByCableWithoutAnAddress(t *testing.T) {
	g := start(t, gateway.Options{})
	ctx := limited(t)
	ap := hostapd(t, g)
	until(ctx, t, g, "hostapd has said that it is on", func(s *recorder.Status) bool { return s.Bindings.Book.Events["on"] > 0 })
	supplicant(t, g.Subscribers[0].Namespace)
	s := until(ctx, t, g, "anna is logged on", func(s *recorder.Status) bool {
		return s.Bindings.Book.InForce == 1 && s.Bindings.Book.Events["start"] == 1 && s.Bindings.Book.Events["interim"] > 1
	})
	// Without a RADIUS server of its own hostapd sends the MAC address as
	// User-Name, which names nobody.
	if s.RADIUS.Remarks["no-address"] == 0 || s.RADIUS.Remarks["mac-as-user-name"] == 0 {
		t.Errorf("%+v", s.RADIUS.Remarks)
	}
	if err := ap.Stop(); err != nil { // it logs everybody off, and says that it is off
		t.Log(err)
	}
	until(ctx, t, g, "anna is logged off", func(s *recorder.Status) bool {
		return s.Bindings.Book.InForce == 0 && s.Bindings.Book.Events["stop"] == 1 && s.Bindings.Book.Events["off"] > 0
	})
}
