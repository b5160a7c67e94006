package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// Where FreeRADIUS and radsecproxy take accounting from the access servers of
// the lab, and the secret between them.
var proxyAt = netip.MustParseAddrPort("127.0.0.1:1816")

const nasSecret = "between NAS and proxy"

// radiusdConf is a whole configuration of FreeRADIUS: the secret of the agent,
// that of the lab, more, the listener, and its server.
const radiusdConf = `
prefix = /usr
libdir = /usr/lib/freeradius
logdir = DIR
run_dir = DIR
pidfile = DIR/radiusd.pid
max_requests = 16384
log { destination = stdout }
security { status_server = no }
proxy_requests = yes
proxy server { default_fallback = no }
home_server edgelog {
	type = acct
	ipaddr = 127.0.0.1
	port = 1813
	secret = %q
	response_window = 2
	zombie_period = 2
	status_check = status-server
	check_interval = 6
	num_answers_to_alive = 3
	check_timeout = 1
}
home_server_pool edgelog { home_server = edgelog }
realm logger { acct_pool = edgelog }
client lab {
	ipaddr = 127.0.0.1
	secret = %q
}
thread pool {
	start_servers = 4
	max_servers = 8
}
modules {
	always ok { rcode = ok }
	replicate { }
	detail {
		filename = DIR/detail
		header = "%%t"
		locking = yes
	}
}
%s
server lab {
	listen {
		type = acct
		ipaddr = %s
		port = %d
	}
	%s
}
`

// freeradius runs FreeRADIUS in front of the agent. server is what stands in its
// server { } behind the listener, more stands beside it; DIR in them is its
// directory.
func freeradius(ctx context.Context, t *testing.T, g *gateway.Gateway, server, more string) (dir string, p *lab.Process) {
	t.Helper()
	dir = t.TempDir()
	conf := fmt.Sprintf(radiusdConf, g.Secret, nasSecret, more, proxyAt.Addr(), proxyAt.Port(), server)
	conf = strings.ReplaceAll(conf, "DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "radiusd.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := g.Gateway().Start(lab.Command{Path: "freeradius", Args: []string{"-f", "-d", dir, "-D", "/usr/share/freeradius", "-l", "stdout"}})
	if err == nil {
		err = p.WaitListening(ctx, "udp", proxyAt.Port())
	}
	if err != nil {
		t.Fatalf("freeradius: %v\n%s", err, conf)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("freeradius said:\n%s", p.Output())
		}
	})
	return dir, p
}

// configure adds sections to the configuration.
func configure(t *testing.T, g *gateway.Gateway, text string) {
	t.Helper()
	f, err := os.OpenFile(g.Config, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("\n" + text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// statusOf is the whole status.
func statusOf(ctx context.Context, g *gateway.Gateway) (*recorder.Status, error) {
	out, err := g.Run(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	s := new(recorder.Status)
	return s, json.Unmarshal([]byte(out), s)
}

// until waits until the agent says so.
func until(ctx context.Context, t *testing.T, g *gateway.Gateway, what string, ok func(*recorder.Status) bool) *recorder.Status {
	t.Helper()
	for {
		s, err := statusOf(ctx, g)
		if err == nil && ok(s) {
			return s
		}
		if ctx.Err() != nil {
			text, _ := json.Marshal(s)
			t.Fatalf("wait until %s: %v\n%s", what, errors.Join(err, ctx.Err()), text)
		}
	}
}

func inForce(n int) func(*recorder.Status) bool {
	return func(s *recorder.Status) bool { return s.Bindings.Book.InForce == n }
}

// crowdOf is accounting of so many subscribers, as radclient reads it.
func crowdOf(n int, status string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Acct-Status-Type = %s\nAcct-Session-Id = s%d\nUser-Name = user-%d\nFramed-IP-Address = 192.0.2.%d\nFramed-IPv6-Prefix = 2001:db8:%x::/64\nNAS-Identifier = bng\nNAS-IP-Address = 10.0.0.1\nEvent-Timestamp = \"%d\"\n\n",
			status, i, i, 1+i%250, i, eventTime(status))
	}
	return b.String()
}

// radclient sends what a NAS would, and fails the test unless all is answered.
func radclient(ctx context.Context, t *testing.T, g *gateway.Gateway, to netip.AddrPort, secret, text string) {
	t.Helper()
	if out, err := radclientTries(ctx, t, g, to, secret, text, "10"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func radclientTries(ctx context.Context, t *testing.T, g *gateway.Gateway, to netip.AddrPort, secret, text, tries string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return g.Gateway().RunCommand(ctx, lab.Command{
		Path: "radclient", Args: []string{"-S", file, "-r", tries, "-t", "1", "-p", "20", to.String(), "acct"}, Stdin: strings.NewReader(text),
	})
}

const proxying = `
	preacct {
		update control {
			Proxy-To-Realm := "logger"
		}
	}
	accounting {
		ok
	}`

func TestFreeRADIUSProxiesAccountingToTheAgent(t *testing.T) {
	g := start(t, gateway.Options{})
	ctx := limited(t)
	freeradius(ctx, t, g, proxying, "")
	const n = 100
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Start"))
	until(ctx, t, g, "all are logged on", inForce(2*n))
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Interim-Update"))
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Stop"))
	s := until(ctx, t, g, "all are logged off", inForce(0))
	if s.RADIUS.Answered < 3*n || s.Bindings.Book.Contradictions != 0 {
		t.Errorf("%+v %+v", s.RADIUS.Stats, s.Bindings.Book)
	}
}

// replicate loses what the agent does not take: interim updates open the
// sessions then, and a Stop whose Start was lost is kept.
func TestFreeRADIUSReplicatesAndWhatIsLostIsMadeGoodByInterims(t *testing.T) {
	g := open(t, 0, gateway.Options{})
	ctx := limited(t)
	freeradius(ctx, t, g, `
	preacct {
		ok
	}
	accounting {
		update control {
			Replicate-To-Realm := "logger"
		}
		replicate
		ok
	}`, "")
	const n = 50
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Start")) // answered, and lost: nobody listens
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Interim-Update"))
	until(ctx, t, g, "all are known to be logged on", inForce(2*n))
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Stop"))
	until(ctx, t, g, "all are logged off", inForce(0))
}

// spooling keeps all in a file, answers, and has another server read it.
const spooling = `
	preacct {
		ok
	}
	accounting {
		detail
		ok
	}`

const reading = `
server relay {
	listen {
		type = detail
		filename = DIR/detail
		load_factor = 100
		poll_interval = 1
		retry_interval = 1
	}
	preacct {
		update control {
			Proxy-To-Realm := "logger"
		}
	}
	accounting {
		ok
	}
}`

// The reader of FreeRADIUS tries again for ever: what happened while the agent
// was down, or was killed while it took it, is there in the end, and once, though
// it also came directly, and from the file by hand.
func TestFreeRADIUSsDetailReaderLosesNothingWhileTheAgentIsDown(t *testing.T) {
	g := open(t, 0, gateway.Options{})
	ctx := limited(t)
	freeradius(ctx, t, g, spooling, reading)
	const n = 100
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Start"))
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, g, "some has come", func(s *recorder.Status) bool { return s.Bindings.Book.InForce > 10 })
	g.Kill()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, g, "all has come", inForce(2*n))
	radclient(ctx, t, g, netip.MustParseAddrPort("127.0.0.1:1813"), g.Secret, crowdOf(n, "Start")) // as replicated
	s := until(ctx, t, g, "the same has come directly", func(s *recorder.Status) bool { return s.Bindings.Book.Repeated >= n })
	if s.Bindings.Book.InForce != 2*n || s.Bindings.Book.Contradictions != 0 {
		t.Errorf("%+v", s.Bindings.Book)
	}
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Stop"))
	until(ctx, t, g, "all are logged off", inForce(0))
}

func TestAccountingIsImportedFromWhatFreeRADIUSWrote(t *testing.T) {
	g := open(t, 0, gateway.Options{})
	ctx := limited(t)
	configure(t, g, "[[radius.port_block]]\nvendor = 2011\naddress = 161\nstart = 162\nend = 163\n")
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	dir, _ := freeradius(ctx, t, g, spooling, "")
	const n = 40
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Start")+everyAttribute())
	file := filepath.Join(dir, "detail")
	for range 2 {
		out, err := g.Run(ctx, "accounting", "import", file)
		if err != nil || !strings.Contains(out, fmt.Sprintf("done: %d entries, %d taken, 0 not about sessions, 0 that cannot be read", n+1, n+1)) {
			t.Fatalf("%v: %s", err, out)
		}
		until(ctx, t, g, "all are logged on, once", inForce(2*n+8))
	}
	if s, err := statusOf(ctx, g); err != nil || s.Bindings.Book.Repeated < n {
		t.Errorf("%v %+v", err, s)
	}
	// The same by UDP adds nothing: each attribute is read alike on both ways.
	radclient(ctx, t, g, netip.MustParseAddrPort("127.0.0.1:1813"), g.Secret, everyAttribute())
	until(ctx, t, g, "it is known", inForce(2*n+8))
	broken := filepath.Join(t.TempDir(), "broken")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(broken, append([]byte("Mon Jun  1 12:00:00 2026\n\tAcct-Status-Type = Start\n\tgarbage\n\tTimestamp = 1780315200\n\n"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := edgelog(ctx, t, nil, "accounting", "import", "--config", g.Config, broken)
	if r.code != 0 || !strings.Contains(r.stderr, "line 3: it is not") || !strings.Contains(r.stdout, "41 taken, 0 not about sessions, 1 that cannot be read") {
		t.Errorf("%+v", r)
	}
	edgelog(ctx, t, nil, "accounting", "import", "--config", g.Config, g.Config).refuses(t, "not a detail file of FreeRADIUS", "nothing of it was taken")
	edgelog(ctx, t, nil, "accounting", "import", "--config", g.Config, filepath.Join(dir, "none")).refuses(t, "no such file", "detail file of FreeRADIUS")
	edgelog(ctx, t, nobody, "accounting", "import", "--socket", filepath.Join(g.Dir, "gw", "run", "edgelog.sock"), "/etc/hostname").refuses(t, "permission denied", "")
}

// everyAttribute is a session with all that edgelog reads: eight bindings.
func everyAttribute() string { return strings.ReplaceAll(allAttributes, "BEGAN", fmt.Sprint(began)) }

const allAttributes = `User-Name = "anna@isp.example"
Acct-Status-Type = Start
Acct-Session-Id = "8F3A-01"
Acct-Multi-Session-Id = "M-77"
NAS-Identifier = "bng-1"
NAS-IP-Address = 198.51.100.9
NAS-IPv6-Address = 2001:db8::9
NAS-Port-Id = "eth 1/2:100.7"
NAS-Port-Type = Wireless-802.11
Class = 0x00ff
Calling-Station-Id = "E6-FB-DF-05-7A-88"
Called-Station-Id = "00-19-06-EA-B8-8C:hotspot"
Chargeable-User-Identity = "cui-4711"
Operator-Name = "1isp.example"
Location-Information = 0x0001000100000000000000000000000000000000
Location-Data = 0x0001444b0306416172687573
Framed-IP-Address = 198.51.100.117
Framed-IPv6-Address = 2001:db8:0:1::17
Framed-IPv6-Prefix = 2001:db8:ffff:2::/64
Framed-Interface-Id = 0:0:0:5
Delegated-IPv6-Prefix = 2001:db8:ff00::/56
ADSL-Agent-Circuit-Id = "dslam-3 eth 0/4"
ADSL-Agent-Remote-Id = "0xcafe01"
Event-Timestamp = "BEGAN"
Acct-Delay-Time = 7
Acct-Session-Time = 3
IP-Port-Range-Ext-IPv4-Addr = 203.0.113.7
IP-Port-Range-Range-Start = 1024
IP-Port-Range-Range-End = 2047
IP-Port-Range-Alloc = Allocation
Huawei-NAT-Public-Address = 203.0.113.7
Huawei-NAT-Start-Port = 4096
Huawei-NAT-End-Port = 5119

`

// began is when the sessions of crowdOf began.
var began = time.Now().Add(-10 * time.Minute).Unix()

// eventTime is when each event of crowdOf happened.
func eventTime(status string) int64 {
	return began + map[string]int64{"Start": 0, "Interim-Update": 60, "Stop": 120}[status]
}
