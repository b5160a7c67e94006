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
	"strconv"
	"strings"
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
	client    *http.Client
	gate      *Gate
	stop      context.CancelFunc // what an agent's stop does to requests
}

func newGateRoom(t *testing.T, wrap func(Ledger) Ledger) *gateRoom {
	t.Helper()
	r := &gateRoom{custodian: testIdentity(t)}
	to, err := vault.ParseRecipients([]string{r.custodian.pair.Recipient})
	if err != nil {
		t.Fatal(err)
	}
	r.shelf = &shelf{t: t, profile: session.ProfileSession}
	if r.shelf.vault, err = vault.New(to.Names(), vault.Options{Keys: r.shelf}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if r.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Seal: to.SealTo}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.ledger.Close() })
	var l Ledger = r.ledger
	if wrap != nil {
		l = wrap(l)
	}
	r.gate = NewGate(GateOptions{
		Shelf: r.shelf, Ledger: l, Flush: func(context.Context) error { return nil }, Now: func() time.Time { return noon },
		Origin: func() Origin {
			return Origin{Gateway: "gw1", Provider: "Net", Profile: r.shelf.profile.String(), LegalBasis: "BEK"}
		},
		Peer: func(*http.Request) string { return "uid 0" },
	})
	mux := http.NewServeMux()
	r.gate.Serve(func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, h) })
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	base, stop := context.WithCancel(context.Background())
	r.stop = stop
	srv := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return base }}
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
	return r
}

func (r *gateRoom) entries(t *testing.T) []ledger.Record {
	t.Helper()
	list, err := r.ledger.Entries(context.Background(), 0, r.ledger.Size())
	if err != nil {
		t.Fatal(err)
	}
	return list
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
		a, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids)
		if err != nil {
			t.Fatal(err)
		}
		if s := a.Summary; len(a.Hits) != 1 || s.SessionBlocks != 2 || (s.Failed > 0) != c.failed {
			t.Errorf("merged %d times: %d sessions, %+v", merging, len(a.Hits), s)
		}
		r.shelf.merging = merging
		w, err := AskWho(t.Context(), r.client, asks(nil), r.custodian.ids)
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
	a, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Hits) != 1 || a.Hits[0].Subscriber != "anna" || a.Hits[0].Stored != "" {
		t.Errorf("hits %+v", a.Hits)
	}
	s := a.Summary
	if s.Records != 1 || s.SessionBlocks != 2 || s.BindingBlocks != 1 || s.Failed != 0 || s.ClockErrorMicro != 900 ||
		s.LedgerIntent != 0 || s.LedgerOutcome != 1 || s.Gateway != "gw1" || s.LegalBasis != "BEK" || s.Profiles[0] != "session" {
		t.Errorf("summary %+v", s)
	}
	e := r.entries(t)
	if len(e) != 2 || e[0].Kind != ledger.Intent || e[1].Kind != ledger.Outcome {
		t.Fatalf("ledger %+v", e)
	}
	if got := e[1].Fields; got["records"] != "1" || got["blocks_opened"] != "3" || got["blocks_failed"] != "0" || got["result"] != "answered" || got["intent"] != "0" {
		t.Errorf("outcome %v", got)
	}
	bytesSent := r.shelf.bytes
	if got := e[1].Fields; got["keys_sent"] != "1" || got["blocks_sent"] != "6" || got["bytes_sent"] != strconv.Itoa(bytesSent) {
		t.Errorf("what was sent, %d bytes: %v", bytesSent, got)
	}
	root := r.ledger.Checkpoint().Root
	if s.CheckpointSize != 2 || s.CheckpointRoot != base64.StdEncoding.EncodeToString(root[:]) || s.Provider != "Net" {
		t.Errorf("checkpoint %d %s", s.CheckpointSize, s.CheckpointRoot)
	}
	open, err := vault.OpenSealed(e[0].Sealed, r.custodian.ids)
	if err != nil {
		t.Fatal(err)
	}
	var intent struct {
		Query Query
		Peer  string
	}
	if err := json.Unmarshal(open, &intent); err != nil || intent.Query.Subscriber != "anna" || intent.Query.Reference != "case 7" || intent.Peer != "uid 0" {
		t.Errorf("the custodian reads %s, %v", open, err)
	}
}

func TestNobodyIsAnsweredWhoIsNotKnown(t *testing.T) {
	r := newGateRoom(t, nil)
	r.gate.o.Peer = func(*http.Request) string { return "" }
	r.shelf.addSessions(lived(-time.Minute, 0))
	if _, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids); !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "not known who asks") {
		t.Errorf("%v", err)
	}
	if r.ledger.Size() != 0 || r.shelf.handed != 0 {
		t.Error("it left traces")
	}
}

func TestTheLedgerNamesNobodyInTheClear(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	if _, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.entries(t) {
		for k, v := range e.Fields {
			if strings.Contains(v, "anna") || strings.Contains(v, "case 7") || strings.Contains(v, "uid") {
				t.Errorf("field %s = %q", k, v)
			}
		}
		if bytes.Contains(e.Sealed, []byte("anna")) {
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
	_, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids)
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
	a, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids)
	if a != nil || !errors.Is(err, ErrAgent) || !strings.Contains(err.Error(), "nothing may be printed") {
		t.Errorf("%v, %v", a, err)
	}
}

func TestAWrongIdentityOpensNothingAndIsRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addBindings(held("anna", "10.0.0.1/32", at(-2*time.Hour), session.Forever))
	r.shelf.addSessions(lived(-time.Minute, 0))
	stranger := testIdentity(t)
	_, err := Ask(t.Context(), r.client, askAnna(), stranger.ids)
	if !errors.Is(err, ErrWrongIdentity) {
		t.Fatal(err)
	}
	for _, secret := range []string{"anna", "case 7", stranger.pair.Recipient, r.custodian.pair.Recipient} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q names %q", err, secret)
		}
	}
	if e := r.entries(t); len(e) != 2 || e[1].Fields["result"] != "wrong identity" || e[1].Fields["records"] != "0" {
		t.Errorf("ledger %+v", e)
	}
}

func TestAReaderThatGoesAwayIsRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	ctx, cancel := context.WithCancel(t.Context())
	body, err := post(ctx, r.client, PathLookup, askAnna())
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
	if e := r.waitForOutcome(t); e.Fields["result"] != "no outcome given" || e.Fields["intent"] != "0" {
		t.Errorf("ledger %+v", e)
	}
}

func TestAStopOfTheAgentSendsReadersAway(t *testing.T) {
	r := newGateRoom(t, nil)
	body, err := post(t.Context(), r.client, PathLookup, askAnna())
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
	body, err := post(t.Context(), r.client, PathLookup, askAnna())
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
	if e := r.entries(t); len(e) != 2 || e[1].Fields["records"] != "2" {
		t.Errorf("ledger %+v", e)
	}
}

func TestRemoteIsRefusedWhereNoRemoteWasRecorded(t *testing.T) {
	r := newGateRoom(t, nil)
	q := &Query{Reference: "r", Remote: netip.MustParseAddr("192.0.2.9"), From: at(-time.Hour), To: at(0)}
	r.shelf.profile = session.ProfileAccess
	if _, err := Ask(t.Context(), r.client, q, r.custodian.ids); !errors.Is(err, ErrNothingCan) || !strings.Contains(err.Error(), `profile "access"`) {
		t.Errorf("no blocks: %v", err)
	}
	r.shelf.profile = session.ProfileSource
	s := lived(-time.Minute, 0)
	s.Flags, s.Responder, s.ResponderPort = session.LocalOnly, session.Addr{}, 0
	r.shelf.addSessions(s)
	if _, err := Ask(t.Context(), r.client, q, r.custodian.ids); !errors.Is(err, ErrNothingCan) || !strings.Contains(err.Error(), `profile "source"`) {
		t.Errorf("blocks of the profile source: %v", err)
	}
	r.shelf.profile = session.ProfileSession
	r.shelf.addSessions(lived(-time.Minute, 0))
	if a, err := Ask(t.Context(), r.client, q, r.custodian.ids); err != nil || len(a.Hits) != 1 || len(a.Summary.Profiles) != 2 {
		t.Errorf("one block of the profile session: %+v, %v", a, err)
	}
	if e := r.entries(t); e[1].Fields["result"] != "nothing can match" {
		t.Errorf("ledger %+v", e[1])
	}
}

func TestADamagedBlockIsCountedAndTheRestAnswers(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	r.shelf.addSessions(lived(-2*time.Minute, 0))
	b := r.shelf.session[0]
	b[len(b)-1] ^= 1
	a, err := Ask(t.Context(), r.client, &Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour), To: at(0)}, r.custodian.ids)
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
	a, err := Ask(t.Context(), r.client, &Query{Reference: "r", Address: netip.MustParseAddr("10.0.0.1"), From: at(-time.Hour), To: at(0)}, r.custodian.ids)
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
	if a, err := Ask(t.Context(), r.client, askAnna(), r.custodian.ids); a != nil || !errors.Is(err, ErrAgent) {
		t.Errorf("%v, %v", a, err)
	}
	if e := r.entries(t); len(e) != 2 || e[1].Fields["result"] != "stream cut off" {
		t.Errorf("ledger %+v", e)
	}
}

func TestTheGateChecksTheQuestionItself(t *testing.T) {
	r := newGateRoom(t, nil)
	for _, q := range []*Query{
		{Reference: "r", Subscriber: "s", From: at(-time.Hour), To: at(time.Hour)},
		{Reference: "r", From: at(-time.Hour), To: at(0)},
	} {
		if _, err := Ask(t.Context(), r.client, q, r.custodian.ids); !errors.Is(err, ErrAgent) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if r.ledger.Size() != 0 || r.shelf.handed != 0 {
		t.Error("a question that cannot be asked left traces")
	}
}
