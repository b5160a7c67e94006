package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// busy is the status of an agent that has everything, and troubles that name
// addresses.
func busy() *recorder.Status {
	h := measure.New(1, 10)
	h.Observe(3)
	packets := probe.PacketCounter{Seen: 7, Segments: 9, Outcomes: map[string]uint64{"recorded": 5, "not_ip": 2}}
	return &recorder.Status{
		Version: "1", Gateway: "gw1", Profile: "session", State: "recording", Started: time.Unix(1000, 0),
		Probe: &probe.Status{
			Uplinks: []probe.UplinkStatus{
				{Name: "eth0", Up: true, In: packets, Out: packets, Ingress: probe.AttachStatus{Mode: "xdp"}, Egress: probe.AttachStatus{Mode: "none"}},
				{Name: "eth1", In: packets, Out: packets},
			},
			Table: probe.TableStatus{Slots: 65536, Open: 3, Refused: map[string]uint64{"table_full": 4}},
			Clock: probe.ClockStatus{Synchronised: true, MaxErrorMicro: 1500},
			Lag:   probe.LagStatus{Walk: h.Read()},
		},
		Store: recorder.StoreStatus{State: "low", OK: true},
		RADIUS: &recorder.RADIUSStatus{Listen: []string{"192.0.2.77:1813"}, Stats: radius.Stats{
			Received: 3, Dropped: map[string]uint64{"queue-full": 1},
			Clients: []radius.ClientStats{{Name: "192.0.2.66/32", Received: 3, ClockBehind: -2e9}},
		}},
		LastError: &recorder.Trouble{At: time.Unix(2000, 0), Text: "client 192.0.2.66 of anna"},
	}
}

func registry(t *testing.T, status func() *recorder.Status, o Options) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(newCollector(status, o.withDefaults())); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNumbersAreShownWithTheirLabelsAndBaseUnits(t *testing.T) {
	r := registry(t, busy, Options{})
	const want = `
# HELP edgelog_packets_total What became of each packet that was seen, by outcome.
# TYPE edgelog_packets_total counter
edgelog_packets_total{direction="in",outcome="not_ip",uplink="eth0"} 2
edgelog_packets_total{direction="in",outcome="not_ip",uplink="eth1"} 2
edgelog_packets_total{direction="in",outcome="recorded",uplink="eth0"} 5
edgelog_packets_total{direction="in",outcome="recorded",uplink="eth1"} 5
edgelog_packets_total{direction="out",outcome="not_ip",uplink="eth0"} 2
edgelog_packets_total{direction="out",outcome="not_ip",uplink="eth1"} 2
edgelog_packets_total{direction="out",outcome="recorded",uplink="eth0"} 5
edgelog_packets_total{direction="out",outcome="recorded",uplink="eth1"} 5
# HELP edgelog_clock_max_error_seconds The kernel's bound of the clock's error.
# TYPE edgelog_clock_max_error_seconds gauge
edgelog_clock_max_error_seconds 0.0015
# HELP edgelog_radius_client_clock_behind_seconds By how much the client's clock is behind; negative: ahead; 0: within 5 s.
# TYPE edgelog_radius_client_clock_behind_seconds gauge
edgelog_radius_client_clock_behind_seconds{client="1"} -2
# HELP edgelog_uplink_attached 1 when a direction of an uplink is watched, and how.
# TYPE edgelog_uplink_attached gauge
edgelog_uplink_attached{direction="in",mode="none",uplink="eth1"} 0
edgelog_uplink_attached{direction="in",mode="xdp",uplink="eth0"} 1
edgelog_uplink_attached{direction="out",mode="none",uplink="eth0"} 0
edgelog_uplink_attached{direction="out",mode="none",uplink="eth1"} 0
# HELP edgelog_walk_seconds From the end of one walk through the table to that of the next.
# TYPE edgelog_walk_seconds histogram
edgelog_walk_seconds_bucket{le="1"} 0
edgelog_walk_seconds_bucket{le="10"} 1
edgelog_walk_seconds_bucket{le="+Inf"} 1
edgelog_walk_seconds_sum 3
edgelog_walk_seconds_count 1
# HELP edgelog_disk_state 1 for the state that the disk is in: ok, low, stopped, stalled, failed.
# TYPE edgelog_disk_state gauge
edgelog_disk_state{state="failed"} 0
edgelog_disk_state{state="low"} 1
edgelog_disk_state{state="ok"} 0
edgelog_disk_state{state="stalled"} 0
edgelog_disk_state{state="stopped"} 0
# HELP edgelog_last_error_time_seconds When the last error was met, since 1970; 0: never. The status has its text.
# TYPE edgelog_last_error_time_seconds gauge
edgelog_last_error_time_seconds 2000
`
	err := testutil.GatherAndCompare(r, strings.NewReader(want), "edgelog_packets_total", "edgelog_clock_max_error_seconds", "edgelog_walk_seconds",
		"edgelog_radius_client_clock_behind_seconds", "edgelog_uplink_attached", "edgelog_disk_state", "edgelog_last_error_time_seconds")
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
}

var anAddress = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+|[0-9a-f]+:[0-9a-f]*:|anna`)

func TestNoAddressAndNoNameIsShown(t *testing.T) {
	s, body := serve(t, busy, Options{})
	text := body()
	if !strings.Contains(text, "edgelog_radius_requests_total 3") {
		t.Fatalf("the scrape is empty:\n%s", text)
	}
	if found := anAddress.FindString(text); found != "" {
		t.Errorf("%q is in the scrape of %v", found, s.Addr())
	}
}

func TestAnAgentWithoutUplinksAndAccountingIsShownToo(t *testing.T) {
	r := registry(t, func() *recorder.Status { return &recorder.Status{State: "starting"} }, Options{})
	if n, err := testutil.GatherAndCount(r, "edgelog_recording", "edgelog_uplink_up", "edgelog_radius_requests_total"); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAStatusIsAskedForAtMostOnceInMinAge(t *testing.T) {
	now, asked := time.Unix(0, 0), 0
	r := registry(t, func() *recorder.Status { asked++; return busy() }, Options{Now: func() time.Time { return now }})
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{0, 1}, {0, 1}, {4 * time.Second, 1}, {time.Second, 2}, {5 * time.Second, 3}, {-time.Hour, 4}} {
		now = now.Add(step.wait)
		if _, err := r.Gather(); err != nil {
			t.Fatal(err)
		}
		if asked != step.want {
			t.Errorf("after %v more: asked %d times, not %d", step.wait, asked, step.want)
		}
	}
}

// serve runs a server until the test ends; body scrapes it.
func serve(t *testing.T, status func() *recorder.Status, o Options) (*Server, func() string) {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, status) }()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Errorf("closed a second time: %v", err)
		}
		if conn, err := net.Dial("tcp", s.Addr().String()); err == nil {
			_ = conn.Close()
			t.Error("it still listens after its end")
		}
	})
	return s, func() string {
		t.Helper()
		resp, err := client.Get("http://" + s.Addr().String() + Path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // only read
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %v", resp.Status, err)
		}
		return string(text)
	}
}

func TestNothingButTheMetricsIsAnswered(t *testing.T) {
	s, _ := serve(t, busy, Options{})
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for _, c := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/debug/pprof/"}, {"POST", Path}, {"GET", "/v1/status"}} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+s.Addr().String()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s %s is answered with %s", c.method, c.path, resp.Status)
		}
	}
}

func TestAnAddressThatCannotBeListenedOnIsSaidPlainly(t *testing.T) {
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // of a test
	for at, want := range map[string]string{
		s.Addr().String():  "is another server using the port?",
		"203.0.113.9:9477": `listen for metrics on "203.0.113.9:9477": no such address on this machine`,
	} {
		if _, err := Listen(netip.MustParseAddrPort(at), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", at, err)
		}
	}
}
