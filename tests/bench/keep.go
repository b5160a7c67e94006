package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/disclose/delivery"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/day"
)

// keeper is a whole recorder in this process, but for the kernel: sessions come
// from a generator, and the time is that of the session that ended last.
type keeper struct {
	*recorder.Recorder
	dir string
	ids *vault.Identities
	key string // age recipient of ids

	officer    vault.KeyPair
	officerIDs *vault.Identities
	begin      time.Time
	days       *day.Stream
	end        context.CancelFunc
	done       chan error

	mu     sync.Mutex
	left   uint64 // sessions that are still to come
	out    uint64 // given out, fate not known
	stored uint64
	idle   chan struct{} // closed when all are stored
	events chan probe.Event
	spent  time.Duration     // making sessions
	flows  []session.Session // all of them; nil: they are not kept
	sample []session.Session
}

// Now is the time of the generator.
func (k *keeper) Now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Unix(0, k.days.Now())
}

func (k *keeper) Collect(b *probe.Batch, most int) error {
	if k.merging().Waiting > 0 { // a month does not go by so fast that merging is shed
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	begin := time.Now()
	n := int(min(uint64(most), k.left))
	was := len(b.Sessions)
	b.Sessions = k.days.Append(b.Sessions, n)
	if k.flows != nil {
		k.flows = append(k.flows, b.Sessions[was:]...)
	}
	if n > 0 && len(k.sample) < 4096 {
		k.sample = append(k.sample, b.Sessions[was+n/2])
	}
	k.left -= uint64(n)
	k.out += uint64(n)
	k.spent += time.Since(begin)
	return nil
}

func (k *keeper) CollectAll(b *probe.Batch, most int) (bool, error) { return false, k.Collect(b, most) }

func (k *keeper) Stored(b *probe.Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stored += uint64(b.Len())
	k.out -= uint64(b.Len())
	if k.left == 0 && k.out == 0 && k.idle != nil {
		close(k.idle)
		k.idle = nil
	}
	b.Reset()
}

func (k *keeper) Release(b *probe.Batch) { panic("bench: sessions could not be stored") }

func (k *keeper) SetBorder([]netip.Prefix, []netip.Prefix) error { return nil }
func (k *keeper) SetUplinks([]probe.Uplink) error                { return nil }
func (k *keeper) Run(ctx context.Context) error                  { <-ctx.Done(); return nil }
func (k *keeper) Events() <-chan probe.Event                     { return k.events }
func (k *keeper) Close() error                                   { return nil }
func (k *keeper) Detach() error                                  { return nil }
func (k *keeper) Looked(uint64)                                  {}
func (k *keeper) Clock() probe.ClockStatus {
	return probe.ClockStatus{Synchronised: true, MaxErrorMicro: 500}
}
func (k *keeper) Losses() (probe.Losses, error) {
	return probe.Losses{At: k.Now().UnixNano()}, nil
}
func (k *keeper) Status() probe.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return probe.Status{Table: probe.TableStatus{Started: k.stored + k.out, Stored: k.stored, Closed: k.out}}
}

// daySubscribers is how many subscribers the sessions are of.
const daySubscribers = 10_000

// openKeeper starts a recorder in dir that gets perDay sessions a day from begin on.
func openKeeper(ctx context.Context, dir string, begin time.Time, perDay float64) (*keeper, error) {
	pair, err := vault.GenerateIdentity()
	if err != nil {
		return nil, err
	}
	k := &keeper{dir: dir, begin: begin, events: make(chan probe.Event), done: make(chan error, 1)}
	k.days = day.New(day.Options{Seed: sizedSeed, PerMinute: perDay / 1440 / daySubscribers, Begin: begin})
	static := []byte("prefix,subscriber\n")
	k.days.Prefixes(func(p netip.Prefix, subscriber string) { static = fmt.Appendf(static, "%s,%s\n", p, subscriber) })
	k.key = pair.Recipient
	if k.officer, err = vault.GenerateIdentity(); err != nil {
		return nil, err
	}
	if k.officerIDs, err = vault.ParseIdentities(bytes.NewReader(k.officer.File())); err != nil {
		return nil, err
	}
	if k.ids, err = vault.ParseIdentities(bytes.NewReader(pair.File())); err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "static.csv"), static, 0o600),
		os.WriteFile(filepath.Join(dir, "custodian.key"), pair.File(), 0o600)); err != nil {
		return nil, err
	}
	c, err := config.Parse([]byte(fmt.Sprintf(`gateway = "bench"
provider = "Bench Internet"
data_dir = "data"
run_dir = "run"
profile = "session"
legal_basis = "a benchmark"
static_file = "static.csv"
[[uplink]]
name = "none"
[border]
local = ["82.160.0.0/16", "203.0.112.0/20", "2a05:f6c0::/32"]
[custodians]
recipients = [%q]
[store]
min_free = "256MiB"
ballast = 0
`, pair.Recipient)), filepath.Join(dir, "edgelog.toml"))
	if err != nil {
		return nil, err
	}
	o := recorder.DefaultOptions()
	o.Config, o.Version, o.Now = c, "bench", k.Now
	o.Elapsed = func() time.Duration { return k.Now().Sub(begin) }
	o.Synchronised = func() bool { return true }
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o.OpenSource = func(probe.Options) (recorder.Source, error) { return k, nil }
	if k.Recorder, err = recorder.Open(ctx, o); err != nil {
		return nil, err
	}
	k.openGate()
	ctx, k.end = context.WithCancel(ctx)
	go func() { k.done <- k.Recorder.Run(ctx) }() // ends with stop
	return k, nil
}

// openGate puts the gate onto the socket, as the agent does.
func (k *keeper) openGate() {
	gate := disclose.NewGate(disclose.GateOptions{
		Shelf: k.Shelf(), Ledger: k.Evidence(), Flush: k.Flush, Now: k.Now,
		Origin: func() disclose.Origin { return disclose.Origin{Gateway: "bench", Profile: "session"} },
		Dir:    filepath.Join(k.dir, "data", "requests"),
		Policy: func() disclose.Policy {
			return disclose.Policy{
				Limits: disclose.Limits{Window: disclose.MaxWindow, MaxHits: disclose.MostHits}, Country: "DK", Approvals: 1,
				Wait: time.Hour, Run: time.Hour, Ratify: time.Hour, Custodians: []disclose.Holder{{Person: custodian, Key: k.key}}, Seal: vault.SealTo,
			}
		},
		Paper: func() disclose.Paper { return disclose.Paper{LedgerKey: k.Evidence().VerifierKey(), Version: "bench"} },
		Caller: func(r *http.Request) (disclose.Caller, bool) { // one process is both persons: it says which
			if r.Header.Get(asHeader) == officer {
				return disclose.Caller{Person: officer, UID: 1, Key: k.officer.Recipient, Officer: true}, true
			}
			return disclose.Caller{Person: custodian, UID: 2, Key: k.key, Custodian: true}, true
		},
	})
	gate.Serve(func(pattern string, h http.HandlerFunc) { k.Handle(pattern, config.Operator, h) })
}

// keep has n more sessions stored.
func (k *keeper) keep(ctx context.Context, n uint64) error {
	k.mu.Lock()
	idle := make(chan struct{})
	k.left, k.idle = n, idle
	k.mu.Unlock()
	for {
		select {
		case <-idle:
			return k.Flush(ctx)
		case err := <-k.done:
			return fmt.Errorf("the recorder ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond): // sessions that wait for a full block wait for ever: no time passes
			if k.waiting() {
				if err := k.Flush(ctx); err != nil {
					return err
				}
			}
		}
	}
}

func (k *keeper) waiting() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.left == 0 && k.out > 0
}

// merged waits until nothing is to be merged any more.
func (k *keeper) merged(ctx context.Context) error {
	for k.merging().Waiting > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// merging says how merging goes.
func (k *keeper) merging() recorder.MergeStatus { return k.Recorder.Status().Store.Merge }

// stop ends the recorder in good order: all is merged then.
func (k *keeper) stop() error {
	k.end()
	return errors.Join(<-k.done, k.Recorder.Close())
}

// client reaches the recorder.
func (k *keeper) client(person string) *http.Client {
	return &http.Client{Transport: asPerson{person, &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", k.Config().Socket())
	}}}}
}

// The persons of the bench.
const (
	officer   = "officer"
	custodian = "custodian"
	asHeader  = "Bench-Person"
)

// asPerson says in each request who asks.
type asPerson struct {
	person string
	http.RoundTripper
}

func (p asPerson) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(asHeader, p.person)
	return p.RoundTripper.RoundTrip(r)
}

// ask is the way of a question from the request to the package, with nothing of the
// store in memory before the approval and before the run.
func (k *keeper) ask(ctx context.Context, q *disclose.Query) (a *disclose.Answer, approved, ran time.Duration, err error) {
	f, err := disclose.FileRequest(ctx, k.client(officer), &disclose.Request{
		Authorisation: disclose.Authorisation{Authority: "bench", Number: q.Reference, LegalBasis: "bench"},
		Task:          disclose.Task{Query: *q, MaxHits: disclose.MostHits, Priority: disclose.Routine}, Delivery: disclose.Delivery{Recipient: k.key},
	})
	if err != nil {
		return nil, 0, 0, err
	}
	get := func(person string) (*disclose.Requests, time.Time, error) {
		if err := dropCaches(); err != nil {
			return nil, time.Time{}, err
		}
		begin := time.Now()
		l, err := disclose.GetRequest(ctx, k.client(person), f.Case.ID)
		return l, begin, err
	}
	l, begin, err := get(custodian)
	if err == nil {
		_, _, err = disclose.ApproveRequest(ctx, k.client(custodian), l, k.ids, k.Now(), nil)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("approve: %w", err)
	}
	approved = time.Since(begin)
	if l, begin, err = get(officer); err != nil {
		return nil, 0, 0, err
	}
	p, r, err := disclose.RunPermit(l, k.officerIDs)
	if err != nil {
		return nil, 0, 0, err
	}
	var pack *delivery.Package
	p.Pack = func(f *disclose.Found, paper *disclose.Paper) (sum [32]byte, err error) {
		pack, err = delivery.Build(delivery.Input{Request: r, Text: p.Text, ID: p.Request, Entries: paper.Entries, LedgerKey: paper.LedgerKey, Sessions: f.Sessions, Version: "bench"})
		if err != nil {
			return sum, err
		}
		return pack.Digest(), nil
	}
	found, receipt, err := disclose.Read(ctx, k.client(officer), p)
	if err == nil {
		err = pack.Seal(io.Discard, receipt, k.key)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("run: %w", err)
	}
	return found.Sessions, approved, time.Since(begin), nil
}

// onDisk returns the bytes of all files below dir, as the file system has given
// room to them.
func onDisk(dir string, but ...string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		for _, b := range but {
			if strings.Contains(path, b) {
				return nil
			}
		}
		size, err := allocated(path)
		n += size
		return err
	})
	return n, err
}
