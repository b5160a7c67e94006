package disclose

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

type identityPair struct {
	pair vault.KeyPair
	ids  *vault.Identities
}

func testIdentity(t testing.TB) identityPair {
	t.Helper()
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := vault.ParseIdentities(bytes.NewReader(pair.File()))
	if err != nil {
		t.Fatal(err)
	}
	return identityPair{pair, ids}
}

// gateRoom is a gate on a real unix socket with a real ledger.
type gateRoom struct {
	shelf     *shelf
	ledger    *ledger.Ledger
	custodian identityPair
	officer   identityPair
	client    *http.Client
	by        atomic.Pointer[Caller] // who asks
	now       atomic.Int64           // UTC, ns
	policy    Policy
	dir       string
	options   GateOptions
	gate      *Gate
	stop      context.CancelFunc // what an agent's stop does to requests
	open      func()             // what an agent's next start does to the gate
}

func newGateRoom(t *testing.T, wrap func(Ledger) Ledger) *gateRoom {
	t.Helper()
	r := &gateRoom{custodian: testIdentity(t), officer: testIdentity(t), dir: t.TempDir()}
	r.now.Store(noon.UnixNano())
	to, err := vault.ParseRecipients([]string{r.custodian.pair.Recipient})
	if err != nil {
		t.Fatal(err)
	}
	r.shelf = &shelf{t: t, profile: session.ProfileSession}
	if r.shelf.vault, err = vault.New(to.Names(), vault.Options{Keys: r.shelf}); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Unix(0, r.now.Load()).UTC() }
	if r.ledger, err = ledger.Open(filepath.Join(r.dir, "ledger"), ledger.Options{Seal: to.SealTo, Clock: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.ledger.Close() })
	var l Ledger = r.ledger
	if wrap != nil {
		l = wrap(l)
	}
	r.policy = Policy{
		Limits: Limits{Window: MaxWindow, MaxHits: MostHits}, Country: "DK", Approvals: 1, Wait: 14 * 24 * time.Hour, Run: 72 * time.Hour, Ratify: 24 * time.Hour,
		Custodians: []Holder{{"Carl", r.custodian.pair.Recipient}}, Seal: vault.SealTo,
	}
	r.options = GateOptions{
		Shelf: r.shelf, Ledger: l, Flush: func(context.Context) error { return nil }, Now: now,
		Dir: filepath.Join(r.dir, "requests"), Policy: func() Policy { return r.policy },
		Origin: func() Origin {
			return Origin{Gateway: "gw1", Provider: "Net", Profile: r.shelf.profile.String(), LegalBasis: "BEK"}
		},
		Caller: func(*http.Request) (Caller, bool) {
			by := r.by.Load()
			return *by, by != unknown
		},
	}
	r.as(r.olga())
	var handler atomic.Pointer[http.ServeMux]
	r.open = func() {
		mux := http.NewServeMux()
		r.gate = NewGate(r.options)
		r.gate.Serve(func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, h) })
		handler.Store(mux)
	}
	r.open()
	r.listen(t, func(w http.ResponseWriter, q *http.Request) { handler.Load().ServeHTTP(w, q) })
	return r
}

// listen has requests on a socket of the room answered.
func (r *gateRoom) listen(t *testing.T, handler http.HandlerFunc) {
	t.Helper()
	socket := filepath.Join(r.dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	base, stop := context.WithCancel(context.Background())
	r.stop = stop
	srv := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return base }}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	r.client = &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		stop()
		_ = srv.Shutdown(context.Background())
		<-done
	})
}

func (r *gateRoom) entries(t *testing.T) []ledger.Record {
	t.Helper()
	list, err := r.ledger.Entries(context.Background(), 0, r.ledger.Size())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func kinds(list []ledger.Record) (out []ledger.Kind) {
	for i := range list {
		out = append(out, list[i].Kind)
	}
	return out
}

// waitForOutcome returns the outcome that the ledger gets without an Ask.
func (r *gateRoom) waitForOutcome(t *testing.T) ledger.Record {
	t.Helper()
	for {
		list := r.entries(t)
		if n := len(list); n > 0 && list[n-1].Kind == ledger.Outcome {
			return list[n-1]
		}
		if t.Context().Err() != nil {
			t.Fatal("no outcome came")
		}
	}
}

func TestABlockThatIsMergedWhileItIsAskedForIsLookedForAgain(t *testing.T) {
	for merging, c := range map[int]struct {
		failed  bool
		verdict Verdict
	}{0: {false, Certain}, 2: {false, Certain}, 100: {true, Uncertain}} {
		r := newGateRoom(t, nil)
		r.shelf.addBindings(bind("anna", hour, 0))
		for range 2 { // of the second only the head is sent at first
			r.shelf.addSessions(lived(-31*minute, -29*minute))
			r.shelf.addEnds(bind("anna", hour, -500*hour))
		}
		r.shelf.merging = merging
		a, err := r.ask(t, askAnna())
		if err != nil {
			t.Fatal(err)
		}
		if s := a.Summary; len(a.Hits) != 1 || s.SessionBlocks != 2 || (s.Failed > 0) != c.failed {
			t.Errorf("merged %d times: %d sessions, %+v", merging, len(a.Hits), s)
		}
		r.shelf.merging = merging
		w, err := r.askWho(t, asks(nil))
		if err != nil || w.Verdict != c.verdict || w.Proofs != 1 {
			t.Errorf("merged %d times: %+v, %v", merging, w, err)
		}
	}
}

func askAnna() *Query {
	return &Query{Reference: "case 7", Subscriber: "anna", From: at(-time.Hour), To: at(0)}
}

func TestAskFindsNamesAndLedgersBothEnds(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever))
	r.shelf.addSessions(lived(-time.Minute, 0))
	other := lived(-time.Minute, 0)
	other.Initiator = addr("10.0.0.2")
	other.Subscriber = "bo"
	r.shelf.addSessions(other, lived(-time.Minute, 0)) // one of them a second time
	a, err := r.ask(t, askAnna())
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Hits) != 1 || a.Hits[0].Subscriber != "anna" || a.Hits[0].Stored != "" {
		t.Errorf("hits %+v", a.Hits)
	}
	s := a.Summary
	if s.Records != 1 || s.SessionBlocks != 2 || s.BindingBlocks != 1 || s.Failed != 0 || s.ClockErrorMicro != 900 ||
		s.LedgerIntent != 4 || s.LedgerOutcome != 5 || s.Request != 0 || s.Gateway != "gw1" || s.LegalBasis != "BEK" || s.Profiles[0] != "session" {
		t.Errorf("summary %+v", s)
	}
	e := r.entries(t)
	want := []ledger.Kind{ledger.Request, ledger.Intent, ledger.Outcome, ledger.Request, ledger.Intent, ledger.Outcome}
	if got := kinds(e); !slices.Equal(got, want) {
		t.Fatalf("ledger %v", got)
	}
	sent := 0
	for _, c := range []struct{ at, intent, keys, act string }{{"2", "1", "1", "approve"}, {"5", "4", "0", "run"}} {
		i, _ := strconv.Atoi(c.at)
		got := e[i].Fields
		if got["records"] != "1" || got["blocks_opened"] != "3" || got["blocks_failed"] != "0" || got["result"] != "answered" || got["intent"] != c.intent {
			t.Errorf("outcome %v", got)
		}
		if got["keys_sent"] != c.keys || got["blocks_sent"] != "6" || got["act"] != c.act || got["request"] != "0" {
			t.Errorf("what was sent: %v", got)
		}
		n, _ := strconv.Atoi(got["bytes_sent"])
		sent += n
	}
	if sent != r.shelf.bytes {
		t.Errorf("%d bytes were sent, %d handed out", sent, r.shelf.bytes)
	}
	root := r.ledger.Checkpoint().Root
	if s.CheckpointSize != 6 || s.CheckpointRoot != base64.StdEncoding.EncodeToString(root[:]) || s.Provider != "Net" {
		t.Errorf("checkpoint %d %s", s.CheckpointSize, s.CheckpointRoot)
	}
	open, err := vault.OpenSealed(e[4].Sealed, r.custodian.ids)
	if err != nil {
		t.Fatal(err)
	}
	intent, err := ParseAccountable(open)
	if err != nil || intent.Identifier != "anna" || intent.Reference != "case 7" || intent.Person != "Olga" || intent.LegalBasis != "BEK" || intent.Delivery != "by hand" {
		t.Errorf("the custodian reads %s, %v", open, err)
	}
}

func TestNobodyIsAnsweredWhoIsNotKnown(t *testing.T) {
	r := newGateRoom(t, nil)
	r.by.Store(unknown)
	r.shelf.addSessions(lived(-time.Minute, 0))
	if _, err := FileRequest(t.Context(), r.client, r.order(askAnna())); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "not known who asks") {
		t.Errorf("%v", err)
	}
	if _, _, err := Read(t.Context(), r.client, &Permit{Act: Run, Query: askAnna()}); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "not known who asks") {
		t.Errorf("%v", err)
	}
	if r.ledger.Size() != 0 || r.shelf.handed != 0 {
		t.Error("it left traces")
	}
}

func TestTheLedgerNamesNobodyInTheClear(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	if _, err := r.ask(t, askAnna()); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.entries(t) {
		for k, v := range e.Fields {
			if strings.Contains(v, "anna") || strings.Contains(v, "case 7") || strings.Contains(v, "uid") || strings.Contains(v, "Olga") || strings.Contains(v, "Carl") {
				t.Errorf("field %s = %q", k, v)
			}
		}
		if bytes.Contains(e.Sealed, []byte("anna")) || bytes.Contains(e.Sealed, []byte("Olga")) {
			t.Error("the payload is not sealed")
		}
	}
}

type brokenLedger struct {
	Ledger
	kind ledger.Kind
}

func (b brokenLedger) Append(ctx context.Context, e ledger.Entry) (int64, error) {
	if e.Kind == b.kind {
		return 0, ledger.ErrNotWritten
	}
	return b.Ledger.Append(ctx, e)
}

func TestNothingIsStreamedWithoutAnIntentInTheLedger(t *testing.T) {
	r := newGateRoom(t, func(l Ledger) Ledger { return brokenLedger{l, ledger.Intent} })
	r.shelf.addSessions(lived(-time.Minute, 0))
	_, err := r.ask(t, askAnna())
	if !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "the ledger cannot be written, so nothing is read") {
		t.Errorf("%v", err)
	}
	if r.shelf.handed != 0 {
		t.Errorf("%d frames were handed out", r.shelf.handed)
	}
}

func TestNothingIsPrintedWithoutAnOutcomeInTheLedger(t *testing.T) {
	r := newGateRoom(t, func(l Ledger) Ledger { return brokenLedger{l, ledger.Outcome} })
	r.shelf.addSessions(lived(-time.Minute, 0))
	a, err := r.ask(t, askAnna())
	if a != nil || !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "nothing may be printed") {
		t.Errorf("%v, %v", a, err)
	}
}

func TestAWrongIdentityOpensNothingAndIsRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever))
	r.shelf.addSessions(lived(-time.Minute, 0))
	stranger := testIdentity(t)
	_, _, err := Read(t.Context(), r.client, r.permit(t, askAnna(), stranger.ids))
	if !errors.Is(err, ErrWrongIdentity) {
		t.Fatal(err)
	}
	for _, secret := range []string{"anna", "case 7", stranger.pair.Recipient, r.custodian.pair.Recipient} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q names %q", err, secret)
		}
	}
	if e := r.entries(t); len(e) != 3 || e[2].Fields["result"] != "wrong identity" || e[2].Fields["records"] != "0" {
		t.Errorf("ledger %+v", e)
	}
}

func TestAReaderThatGoesAwayIsRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := post(ctx, r.client, PathLookup, r.opening(t))
	if err != nil {
		t.Fatal(err)
	}
	f := newFrameReader(body)
	for {
		k, _, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if k == frameEnd {
			break
		}
	}
	cancel() // it has everything, and says nothing
	_ = body.Close()
	if e := r.waitForOutcome(t); e.Fields["result"] != "no outcome given" || e.Fields["intent"] != "1" {
		t.Errorf("ledger %+v", e)
	}
}

func TestAStopOfTheAgentSendsReadersAway(t *testing.T) {
	r := newGateRoom(t, nil)
	body, err := post(t.Context(), r.client, PathLookup, r.opening(t))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() //nolint:errcheck // only read
	if _, _, err := newFrameReader(body).next(); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if e := r.waitForOutcome(t); e.Fields["result"] != "no outcome given" {
		t.Errorf("ledger %+v", e)
	}
}

func TestAnOutcomeCanBeGivenOnceAndOnlyInKnownWords(t *testing.T) {
	r := newGateRoom(t, nil)
	body, err := post(t.Context(), r.client, PathLookup, r.opening(t))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() //nolint:errcheck // only read
	_, payload, err := newFrameReader(body).next()
	if err != nil {
		t.Fatal(err)
	}
	var b begin
	if err := json.Unmarshal(payload, &b); err != nil {
		t.Fatal(err)
	}
	path := strings.Replace(PathOutcome, "{id}", b.ID, 1)
	for _, o := range []Outcome{{Error: "anna was found"}, {Records: -1}} {
		if _, err := post(t.Context(), r.client, path, o); !errors.Is(err, ErrAgent) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := post(t.Context(), r.client, strings.Replace(PathOutcome, "{id}", "other", 1), Outcome{}); !errors.Is(err, ErrAgent) {
		t.Errorf("another's outcome: %v", err)
	}
	ok, err := post(t.Context(), r.client, path, Outcome{Records: 2})
	if err != nil {
		t.Fatal(err)
	}
	_ = ok.Close()
	if _, err := post(t.Context(), r.client, path, Outcome{}); !errors.Is(err, ErrAgent) {
		t.Errorf("twice: %v", err)
	}
	if e := r.entries(t); len(e) != 3 || e[2].Fields["records"] != "2" {
		t.Errorf("ledger %+v", e)
	}
}

func TestRemoteIsRefusedWhereNoRemoteWasRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	q := &Query{Reference: "r", Remote: netip.MustParseAddr("192.0.2.9"), From: at(-time.Hour), To: at(0)}
	r.shelf.profile = session.ProfileAccess
	if _, err := r.ask(t, q); !errors.Is(err, ErrNothingCan) || !strings.Contains(err.Error(), `profile "access"`) {
		t.Errorf("no blocks: %v", err)
	}
	r.shelf.profile = session.ProfileSource
	s := lived(-time.Minute, 0)
	s.Flags, s.Responder, s.ResponderPort = session.LocalOnly, session.Addr{}, 0
	r.shelf.addSessions(s)
	if _, err := r.ask(t, q); !errors.Is(err, ErrNothingCan) || !strings.Contains(err.Error(), `profile "source"`) {
		t.Errorf("blocks of the profile source: %v", err)
	}
	r.shelf.profile = session.ProfileSession
	r.shelf.addSessions(lived(-time.Minute, 0))
	if a, err := r.ask(t, q); err != nil || len(a.Hits) != 1 || len(a.Summary.Profiles) != 2 {
		t.Errorf("one block of the profile session: %+v, %v", a, err)
	}
	if e := r.entries(t); e[2].Fields["result"] != "nothing can match" {
		t.Errorf("ledger %+v", e[2].Fields)
	}
}

func TestADamagedBlockIsCountedAndTheRestAnswers(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	r.shelf.addSessions(lived(-2*time.Minute, 0))
	b := r.shelf.session[0]
	b[len(b)-1] ^= 1
	a, err := r.ask(t, &Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour), To: at(0)})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Hits) != 1 || a.Summary.Failed != 1 || a.Summary.Complete() {
		t.Errorf("%+v", a)
	}
}

func TestABlockIsReadThoughItsHeadThatIsKeptApartIsDamaged(t *testing.T) {
	r := newGateRoom(t, nil)
	for range 2 { // of the second only the head is sent at first
		r.shelf.addSessions(lived(-time.Minute, 0))
	}
	r.shelf.badHeads = true
	a, err := r.ask(t, &Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour), To: at(0)})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Summary; s.SessionBlocks != 2 || s.Failed != 0 || !s.Complete() {
		t.Errorf("%+v", s)
	}
}

func TestAStoreThatFailsMidwayGivesNoAnswer(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	r.shelf.failWith = os.ErrInvalid
	if a, err := r.ask(t, askAnna()); a != nil || !errors.Is(err, ErrAgent) {
		t.Errorf("%v, %v", a, err)
	}
	if e := r.entries(t); len(e) != 3 || e[2].Fields["result"] != "stream cut off" {
		t.Errorf("ledger %+v", e)
	}
}

func TestTheGateChecksTheQuestionItself(t *testing.T) {
	r := newGateRoom(t, nil)
	for _, q := range []*Query{
		{Reference: "r", Subscriber: "s", From: at(-time.Hour), To: at(time.Hour)},
		{Reference: "r", From: at(-time.Hour), To: at(0)},
	} {
		if _, err := FileRequest(t.Context(), r.client, r.order(q)); !errors.Is(err, ErrAgent) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if r.ledger.Size() != 0 || r.shelf.handed != 0 {
		t.Error("a question that cannot be asked left traces")
	}
}
