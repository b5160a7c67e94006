package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/session"
)

// manager is a service manager that remembers what it was told.
func manager(t testing.TB) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func told(t testing.TB, conn *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// start runs the agent until the returned function is called, which returns
// what Run returned. It waits until the agent is ready.
func (r *room) start() (stop func() error) {
	r.t.Helper()
	conn := manager(r.t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	if got := told(r.t, conn); got != "READY=1" {
		r.t.Fatalf("told %q first", got)
	}
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-done
	}
	r.t.Cleanup(func() {
		if !stopped {
			_ = stop()
		}
	})
	return stop
}

func (r *room) httpGet(path string) *http.Response {
	r.t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.Config().Socket())
	}}
	r.t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Get("http://agent" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestARunRecordsAnswersAndStopsInGoodOrder(t *testing.T) {
	r := newRoom(t, "")
	r.o.ReadyFile = filepath.Join(r.dir, "ready")
	r.table.open = seen(3, evening) // they go on
	stop := r.start()
	if _, err := os.Stat(r.o.ReadyFile); err != nil {
		t.Error(err)
	}
	want := seen(1200, evening)[3:]
	r.table.add(want...)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _, _ := r.read()
	once(t, want, got)
	var s Status
	if err := json.NewDecoder(r.httpGet("/v1/status").Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.State != "recording" || s.Gateway != "gw1" || s.Probe == nil || s.Probe.Table.Open != 3 {
		t.Errorf("status %+v", s)
	}
	r.table.add(seen(2, evening.Add(time.Second))...) // collected by the last look
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(r.table.stored) != len(want)+2 || len(r.table.open) != 3 || r.table.detached {
		t.Errorf("stored %d, open %d, detached %v", len(r.table.stored), len(r.table.open), r.table.detached)
	}
	var kinds []string
	for _, e := range r.entries() {
		kinds = append(kinds, string(e.Kind))
	}
	if d := cmp.Diff([]string{"start", "stored", "stop"}, kinds); d != "" {
		t.Error(d)
	}
	e := r.entries()[0].Fields
	if e["profile"] != "session" || e["legal_basis"] != "BEK 988/2006" || e["version"] != "test" || len(e["configuration"]) != 64 {
		t.Errorf("start entry %v", e)
	}
	r.shut()
	if _, err := os.Stat(r.o.ReadyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an agent that is gone is still ready: %v", err)
	}
	if _, err := os.Stat(r.Config().Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is still there: %v", err)
	}
}

func TestDrainStoresOpenSessionsAndRemovesThePrograms(t *testing.T) {
	r := newRoom(t, "[agent]\non_stop = \"drain\"\n")
	want := seen(2345, evening)
	r.table.open = want
	if err := r.start()(); err != nil {
		t.Fatal(err)
	}
	got, _, _ := r.read()
	once(t, want, got)
	if !r.table.detached {
		t.Error("the programs are still there")
	}
	for i := range got {
		if got[i].EndReason != session.EndShutdown {
			t.Fatalf("session %d ended by %v", i, got[i].EndReason)
		}
	}
}

func TestASecondAgentIsRefusedAndADeadOnesSocketIsTakenOver(t *testing.T) {
	r := newRoom(t, "")
	r.start()
	o := r.options()
	other := *o.Config
	other.DataDir = filepath.Join(r.dir, "other")
	o.Config = &other
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrRunning) {
		t.Errorf("want ErrRunning, got %v", err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(r.dir, "dead.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	c, err := listen(filepath.Join(r.dir, "dead.sock"), config.Group{}, http.NewServeMux(), t.Context(), r.log)
	if err != nil {
		t.Fatal(err)
	}
	c.stop(t.Context())
	if err := os.WriteFile(filepath.Join(r.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(filepath.Join(r.dir, "file"), config.Group{}, nil, t.Context(), r.log); err == nil || !strings.Contains(err.Error(), "no socket is in the way") {
		t.Errorf("a file was taken for a socket: %v", err)
	}
}

func TestTheSocketIsNotForEverybody(t *testing.T) {
	r := newRoom(t, "")
	st, err := os.Stat(r.Config().Socket())
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("socket %v, %v", st.Mode(), err)
	}
	if st, err = os.Stat(r.Config().RunDir); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
	got := make(chan Peer, 1)
	r.Handle("GET /peer", mayLook, func(_ http.ResponseWriter, req *http.Request) {
		p, _ := PeerOf(req.Context())
		got <- p
	})
	r.start()
	r.httpGet("/peer")
	if p := <-got; int(p.UID) != os.Getuid() || int(p.PID) != os.Getpid() {
		t.Errorf("peer %+v", p)
	}
}

func TestNewsOfTheProbeGoesToTheLedger(t *testing.T) {
	r := newRoom(t, "")
	r.table.events <- probe.Event{Kind: "link-vanished", Uplink: "eth9", At: evening}
	r.table.events <- probe.Event{Kind: "clock-step", Text: "+3.0 s", At: evening}
	stop := r.start()
	for r.Ledger().Size() < 3 {
		if t.Context().Err() != nil {
			t.Fatal("the news never came")
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	e := r.entries()
	if e[1].Kind != ledger.Gap || e[1].Fields["uplink"] != "eth9" || e[2].Kind != ledger.ClockStep {
		t.Errorf("%+v", e[1:])
	}
}

func TestAnUplinkThatDoesNotExistIsAnAlarmAndNoEnd(t *testing.T) {
	r := newRoom(t, "")
	r.table.links = []probe.UplinkStatus{{Name: "eth9", Error: "there is no such link"}}
	stop := r.start()
	if e := r.Status().LastError; e == nil || !strings.Contains(e.Text, `uplink "eth9" is not watched: there is no such link`) {
		t.Errorf("last error %+v", e)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if e := r.entries(); len(e) != 3 || e[1].Kind != ledger.Gap || e[1].Fields["uplink"] != "eth9" {
		t.Errorf("ledger %+v", e)
	}
}

func TestReloadSaysWhatChangedAndWhatCannot(t *testing.T) {
	r := newRoom(t, "")
	c := r.config(strings.NewReplacer(`"10.0.0.0/8"`, `"10.0.0.0/8", "2001:db8::/32"`, `"eth9"`, `"eth8"`,
		`"gw1"`, `"gw2"`, `1000`, `2000`).Replace(r.text) + "[agent]\non_stop = \"drain\"\n")
	done, err := r.Reload(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Reloaded{Changed: []string{"border", "uplink", "agent.on_stop"}, NeedsRestart: []string{"gateway", "store"}}, done); d != "" {
		t.Error(d)
	}
	if len(r.table.border) != 2 || len(r.table.uplinks) != 1 || r.table.uplinks[0].Name != "eth8" {
		t.Errorf("table has %v, %v", r.table.border, r.table.uplinks)
	}
	if now := r.Config(); now.Gateway != "gw1" || now.Agent.OnStop != "drain" || now.Store.BlockSessions != 1000 || now.Hash != c.Hash {
		t.Errorf("in force: %+v", now)
	}
	e := r.entries()
	if len(e) != 1 || e[0].Kind != ledger.Configuration || e[0].Fields["changed"] != "border uplink agent.on_stop" {
		t.Errorf("ledger %+v", e)
	}
	if done, err = r.Reload(t.Context(), c); err != nil || len(done.Changed) != 0 || !slices.Equal(done.NeedsRestart, []string{"gateway", "store"}) {
		t.Errorf("a second time: %+v, %v", done, err)
	}
}

func TestAReloadThatFailsLeavesTheOldInForce(t *testing.T) {
	r := newRoom(t, "")
	r.table.borderErr = errors.New("no")
	c := r.config(strings.Replace(r.text, `"10.0.0.0/8"`, `"10.0.0.0/9"`, 1))
	done, err := r.Reload(t.Context(), c)
	if err == nil || len(done.Changed) != 0 || r.Config().Border.Local[0].Bits() != 8 {
		t.Errorf("%+v, %v, %v", done, err, r.Config().Border.Local)
	}
}

func TestAHangupReadsTheConfigurationAgainAndAWrongOneChangesNothing(t *testing.T) {
	r := newRoom(t, "")
	hup, asked := make(chan os.Signal), make(chan bool)
	answers := []string{"local = 7", strings.Replace(r.text, `"10.0.0.0/8"`, `"10.0.0.0/9"`, 1)}
	r.o.Hangup, r.o.Load = hup, func() (*config.Config, error) {
		text := answers[0]
		answers = answers[1:]
		defer func() { asked <- true }()
		return config.Parse([]byte(text), filepath.Join(r.dir, "edgelog.toml"))
	}
	stop := r.start()
	hup <- syscall.SIGHUP
	<-asked
	hup <- syscall.SIGHUP // the first has been dealt with
	if r.Config().Border.Local[0].Bits() != 8 || r.Status().LastError == nil {
		t.Errorf("a wrong configuration is in force, or nobody was told: %+v", r.Status().LastError)
	}
	<-asked
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if r.Config().Border.Local[0].Bits() != 9 {
		t.Error("the right one is not in force")
	}
}

// brokenLedger takes nothing while err is set.
type brokenLedger struct {
	Ledger
	err error
}

func (b *brokenLedger) Append(ctx context.Context, e ledger.Entry) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.Ledger.Append(ctx, e)
}

func TestALedgerThatCannotBeWrittenIsOwedItsEntries(t *testing.T) {
	r := newRoom(t, "")
	b := &brokenLedger{Ledger: r.ledger, err: ledger.ErrNotWritten}
	r.evidence.ledger = b
	want := seen(5, evening)
	r.table.add(want...)
	r.evidence.note(ledger.Gap, map[string]string{"cause": "test"})
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	once(t, want, r.table.stored) // recording goes on
	if r.Status().Ledger.OK || r.Ledger().Size() != 0 {
		t.Error("nobody would notice")
	}
	b.err = nil
	r.evidence.step()
	if r.Ledger().Size() != 0 {
		t.Error("tried again at once")
	}
	r.clock.add(time.Minute)
	r.evidence.step()
	if e := r.entries(); len(e) != 1 || e[0].Fields["at"] != session.FormatTime(evening.UnixNano()) {
		t.Errorf("%+v", e)
	}
	if !r.Status().Ledger.OK {
		t.Error("the alarm stays")
	}
}

func TestAFailureOfTheSourceEndsTheRun(t *testing.T) {
	r := newRoom(t, "")
	r.src = failingSource{r.table}
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the ring is gone") {
		t.Errorf("%v", err)
	}
}

type failingSource struct{ *table }

func (failingSource) Run(context.Context) error { return errors.New("the ring is gone") }

func TestAFailedOpenLeavesNothingBehind(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	o := r.options()
	o.OpenSource = func(probe.Options) (Source, error) { return nil, probe.ErrPrivilege }
	if _, err := Open(t.Context(), o); !errors.Is(err, probe.ErrPrivilege) {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Config.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket: %v", err)
	}
	r.open() // store, ledger and book are free
}

func TestARenamedGatewayDoesNotSignInTheNameOfTheOld(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	old := r.text
	r.text = replaceOnce(t, r.text, `"gw1"`, `"gw2"`)
	if _, err := Open(t.Context(), r.options()); !errors.Is(err, ledger.ErrKey) || !strings.Contains(err.Error(), "a renamed gateway needs a data_dir of its own") {
		t.Errorf("%v", err)
	}
	r.text = old
	r.open()
}

func TestAccessRecordsAloneNeedNoKernel(t *testing.T) {
	r := newRoom(t, "")
	r.shut()
	r.text = strings.NewReplacer(`profile = "session"`, `profile = "access"`, "[[uplink]]\nname = \"eth9\"\n", "").Replace(r.text)
	o := r.options()
	o.OpenSource = func(probe.Options) (Source, error) { t.Error("the kernel was troubled"); return nil, nil }
	rec, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.Recorder = rec
	t.Cleanup(r.shut)
	r.logOn("anna", "10.0.0.1", evening)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	if _, bindings, _ := r.read(); len(bindings) == 0 {
		t.Error("no access record")
	}
	if s := r.Status(); s.Probe != nil {
		t.Errorf("%+v", s.Probe)
	}
	c := *o.Config
	c.Uplinks = r.config(r.text + "[[uplink]]\nname = \"eth1\"\n").Uplinks
	if _, err := r.Reload(t.Context(), &c); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("%v", err)
	}
}
