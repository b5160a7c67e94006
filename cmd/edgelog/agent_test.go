package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/office"
)

// table stands in for the kernel; all else of the agent is real.
type table struct {
	mu     sync.Mutex
	due    []session.Session
	events chan probe.Event
}

func (t *table) add(list ...session.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = append(t.due, list...)
}

func (t *table) Collect(b *probe.Batch, most int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(most, len(t.due))
	b.Sessions = append(b.Sessions, t.due[:n]...)
	t.due = t.due[n:]
	return nil
}

func (t *table) CollectAll(b *probe.Batch, most int) (bool, error) { return false, t.Collect(b, most) }
func (t *table) Stored(*probe.Batch)                               {}
func (t *table) Release(b *probe.Batch)                            { t.add(b.Sessions...) }
func (t *table) SetBorder([]netip.Prefix, []netip.Prefix) error    { return nil }
func (t *table) SetUplinks([]probe.Uplink) error                   { return nil }
func (t *table) Run(ctx context.Context) error                     { <-ctx.Done(); return nil }
func (t *table) Status() probe.Status                              { return probe.Status{Clock: t.Clock()} }
func (t *table) Clock() probe.ClockStatus {
	return probe.ClockStatus{Synchronised: true, MaxErrorMicro: 1234}
}
func (t *table) Events() <-chan probe.Event  { return t.events }
func (*table) Losses() (probe.Losses, error) { return probe.Losses{}, nil }
func (*table) Looked(uint64)                 {}
func (*table) Volume() (probe.Volume, error) { return probe.Volume{}, nil }
func (t *table) Close() error                { return nil }
func (t *table) Detach() error               { return nil }

// house is an agent that was set up with "init" and answers on its socket.
type house struct {
	t      *testing.T
	dir    string
	table  *table
	office *office.Office
	rec    *recorder.Recorder
	config string
	now    func() time.Time // the agent's clock; nil: the machine's
	stop   func()           // in good order; safe to call twice
}

func newHouse(t *testing.T, initFlags ...string) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgelog") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &house{t: t, dir: dir, table: &table{events: make(chan probe.Event)}, config: filepath.Join(dir, "edgelog.toml")}
	flags := append([]string{"init", "--dir", dir, "--gateway", "gw1", "--provider", "Net", "--uplink", "eth9", "--local", "10.0.0.0/8",
		"--custodian", "anna", "--radius-listen", "127.0.0.1:0"}, initFlags...)
	if out, errs, code := h.run(flags...); code != 0 {
		t.Fatalf("init: %d\n%s%s", code, out, errs)
	}
	h.office = staff(t, dir)
	h.start()
	return h
}

func (h *house) start() {
	h.t.Helper()
	conf, err := config.Load(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	o := recorder.DefaultOptions()
	o.Config, o.Version, o.ReadyFile, o.Now = conf, "test", filepath.Join(h.dir, "ready"), h.now
	o.OpenSource = func(probe.Options) (recorder.Source, error) { return h.table, nil }
	if h.rec, err = recorder.Open(h.t.Context(), o); err != nil {
		h.t.Fatal(err)
	}
	openGate(h.rec, slog.New(slog.DiscardHandler))
	openRegisters(h.rec, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done, rec := make(chan error, 1), h.rec
	go func() { done <- rec.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, rec.Close()); err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
	if err := h.rec.Flush(h.t.Context()); err != nil { // it runs
		h.t.Fatal(err)
	}
}

func (h *house) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errs bytes.Buffer
	code = run(h.t.Context(), append([]string{"edgelog"}, args...), &out, &errs)
	return out.String(), errs.String(), code
}

func (h *house) lookup(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.ask("lookup", append([]string{"--from", hourAgo(), "--to", "now"}, args...)...)
}

func hourAgo() string { return time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) }

func web(port uint16, subscriberAddr string) session.Session {
	now := time.Now()
	return session.Session{
		Start: now.Add(-time.Minute).UnixNano(), End: now.Add(-time.Second).UnixNano(), Proto: session.TCP,
		Initiator: session.AddrFrom(netip.MustParseAddr(subscriberAddr)), InitiatorPort: port,
		Responder: session.AddrFrom(netip.MustParseAddr("192.0.2.9")), ResponderPort: 443,
		Local: session.SideInitiator, EndReason: session.EndFIN,
	}
}

var sessionProfile = []string{"--profile", "session", "--legal-basis", "BEK 988/2006"}

func TestLookupPrintsWhatWasRecorded(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"), web(4002, "10.0.0.1"), web(4001, "10.0.0.2")) // not yet flushed: the question does it
	out, errs, code := h.lookup("--address", "10.0.0.1")
	if code != 0 || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	for _, want := range []string{"10.0.0.1:4001", "10.0.0.1:4002", "192.0.2.9:443", "2 sessions in ", "profile session, legal basis now: BEK 988/2006",
		"worst clock error 1.234ms", "ledger: intent 5, outcome 6"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "10.0.0.2") {
		t.Errorf("another's session is in\n%s", out)
	}
	out, _, code = h.lookup("--address", "10.0.0.1", "--port", "4002", "--format", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var hit struct {
		Port int `json:"initiator_port"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &hit); err != nil || code != 0 || len(lines) != 2 || hit.Port != 4002 {
		t.Errorf("%d, %v in\n%s", code, err, out)
	}
	out, errs, code = h.lookup("--remote", "192.0.2.9:443", "--format", "csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || code != 0 || len(rows) != 4 || !strings.Contains(errs, "edgelog: ledger: intent 17, outcome 18") {
		t.Errorf("%d, %v, %d rows\n%s%s", code, err, len(rows), out, errs)
	}
}

func TestLookupWithAWrongIdentity(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"))
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(h.dir, "other.key")
	if err := errors.Join(os.WriteFile(key, pair.File(), 0o600), os.Chown(key, int(h.office.Custodian.UID), 0)); err != nil {
		t.Fatal(err)
	}
	out, errs, code := h.lookup("--address", "10.0.0.1", "--identity", key)
	if code != 1 || out != "" || !strings.Contains(errs, "none of the data keys opens with this identity") || strings.Contains(errs, "age1") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	e, err := h.rec.Ledger().Entries(t.Context(), 0, h.rec.Ledger().Size())
	if err != nil || len(e) != 2 || e[1].Kind != ledger.Request { // it was filed, and read by nobody
		t.Errorf("%v, %+v", err, e)
	}
}

func TestLookupOfARemoteWhereNoneIsRecorded(t *testing.T) {
	h := newHouse(t) // access
	_, errs, code := h.lookup("--remote", "192.0.2.9")
	if code != 1 || !strings.Contains(errs, `profile "access" records no remote address`) {
		t.Errorf("%d\n%s", code, errs)
	}
}

func TestStatusShowsTheAgent(t *testing.T) {
	h := newHouse(t, sessionProfile...)
	h.table.add(web(4001, "10.0.0.1"))
	if err := h.rec.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, errs, code := h.run("status", "--config", h.config)
	for _, want := range []string{"edgelog test on gw1 for Net: recording since", "profile    session, legal basis: BEK 988/2006",
		"sum        sessions: started", "clock      synchronised, error at most 1.234ms", "store      ok", "ledger     1 entry"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in (%d, %s)\n%s", want, code, errs, out)
		}
	}
	if strings.Contains(out, "10.0.0.1:") || strings.Contains(out, "192.0.2.9") {
		t.Errorf("the status names an address\n%s", out)
	}
	out, _, code = h.run("status", "--json", "--socket", filepath.Join(h.dir, "run", "edgelog.sock"))
	var s recorder.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 || s.Gateway != "gw1" {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
}

func TestTheHeadlineOfATroubleHasItsTime(t *testing.T) {
	s := recorder.Status{Started: time.Unix(0, 0), State: "recording into the table, NOT storing"}
	s.Store.Since = time.Unix(3600, 0)
	var b strings.Builder
	printStatus(&b, &s, nil)
	if head, _, _ := strings.Cut(b.String(), "\n"); !strings.HasSuffix(head, "NOT storing since 1970-01-01T01:00:00.000Z") {
		t.Error(head)
	}
	b.Reset()
	s.Store.OK = true
	printStatus(&b, &s, nil)
	if head, _, _ := strings.Cut(b.String(), "\n"); !strings.HasSuffix(head, "since 1970-01-01T00:00:00.000Z") {
		t.Error(head)
	}
}
