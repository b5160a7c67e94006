package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

type keyTaker struct{ key []byte }

func (k *keyTaker) SaveKey(_ int32, _ uint64, wrapped []byte) error { k.key = wrapped; return nil }

// hold keeps some sessions under a number, as a custodian's process seals them.
func (r *room) hold(id uint64, gateway string, list []session.Session) error {
	r.t.Helper()
	taker := &keyTaker{}
	v, err := vault.New(r.Config().Custodians.Recipients, vault.Options{Keys: taker})
	if err != nil {
		r.t.Fatal(err)
	}
	defer v.Close() //nolint:errcheck // a test's
	plain, err := block.EncodeSessions(nil, block.Header{Gateway: gateway, Profile: session.ProfileSession}, list)
	if err != nil {
		r.t.Fatal(err)
	}
	day := session.DayOf(list[0].End)
	var blocks [][]byte
	for i, content := range [][]byte{[]byte("{}"), plain} {
		kind := store.KindHold + store.Kind(i)
		b, err := v.Seal(nil, vault.Place{Gateway: gateway, Kind: uint8(kind), Day: int32(day), Epoch: id, Seq: uint32(i),
			From: day.Start().UnixMilli(), To: (day + 1).Start().UnixMilli() - 1, Count: uint32(len(list))}, content)
		if err != nil {
			r.t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	_, err = r.KeepHold(context.Background(), id, taker.key, blocks)
	return err
}

// verified returns what a check finds, and its end.
func (r *room) verified() (bad []string, end VerifyEnd) {
	r.t.Helper()
	if err := r.step(); err != nil {
		r.t.Fatal(err)
	}
	ctx := r.t.Context()
	tell := func(p VerifyProblem) { bad = append(bad, p.Day+" "+p.Text) }
	if err := CheckStore(ctx, r.store, func(VerifyEvent) {}, tell); err != nil {
		r.t.Fatal(err)
	}
	if err := r.checkEvidence(ctx, &end, tell); err != nil {
		r.t.Fatal(err)
	}
	return bad, end
}

func TestAHoldOutlivesTheDestructionOfItsDayUntilItIsReleased(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	list := seen(2, r.clock.Now())
	if err := r.hold(41, "another", list); err == nil {
		t.Error("a hold of another gateway was kept")
	}
	if err := r.hold(42, "gw1", list); err != nil {
		t.Fatal(err)
	}
	r.clock.add(10 * oneDay)
	r.look()
	if got := r.days(); got != "" {
		t.Errorf("kept: %q", got)
	}
	if bad, end := r.verified(); len(bad) > 0 || end.Unnamed > 0 {
		t.Errorf("%q %+v", bad, end)
	}
	n := 0
	from := list[0].Start
	count := func([]byte) error { n++; return nil }
	if damaged, err := r.Shelf().Sessions(t.Context(), from, from+1, block.Heads, count); err != nil || damaged > 0 || n != 1 {
		t.Errorf("%d blocks of its day, %d damaged, %v", n, damaged, err)
	}
	if damaged, err := r.Shelf().Sessions(t.Context(), from+3*int64(oneDay), from+4*int64(oneDay), block.Heads, count); err != nil || damaged > 0 || n != 1 {
		t.Errorf("%d blocks of another day, %d damaged, %v", n-1, damaged, err)
	}
	r.shut()
	r.open()
	c, err := r.release(t.Context(), 42, "case")
	if err != nil || c.Hold.Sessions != 2 || c.Key == "" {
		t.Fatalf("%+v %v", c, err)
	}
	note, err := os.ReadFile(filepath.Join(r.dir, "data", "destroyed", "hold-42.note"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.OpenStatement(StatementReleased, note, r.ledger.VerifierKey()); err != nil {
		t.Error(err)
	}
	var states []string
	for _, e := range r.entries() {
		if e.Kind == ledger.Held || e.Kind == ledger.Released {
			states = append(states, e.Fields["hold"]+e.Fields["state"])
		}
	}
	if !slices.Equal(states, []string{"42", "42begun", "42destroyed"}) {
		t.Errorf("ledger: %q", states)
	}
	if bad, _ := r.verified(); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
}

func TestWithoutALedgerNothingIsHeldOrReleased(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	list := seen(2, r.clock.Now())
	if err := r.hold(1, "gw1", list); err != nil {
		t.Fatal(err)
	}
	r.evidence.ledger = deafLedger{r.ledger}
	if err := r.hold(2, "gw1", list); err == nil {
		t.Error("held")
	}
	if _, err := r.release(t.Context(), 1, ""); err == nil {
		t.Error("released")
	}
	if holds, _ := r.store.Holds(); len(holds) != 1 || holds[0].ID != 1 {
		t.Errorf("%+v", holds)
	}
	r.evidence.ledger = r.ledger
}

func TestVerifyFindsWhatTheLedgerNamesAndTheStoreHasNot(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	if err := r.hold(42, "gw1", seen(2, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	if bad, end := r.verified(); len(bad) > 0 || end.Unnamed > 0 {
		t.Fatalf("%q %+v", bad, end)
	}
	r.shut()
	data := filepath.Join(r.dir, "data", "store")
	runs, _ := filepath.Glob(filepath.Join(data, "days", "*", "*"))
	if len(runs) == 0 {
		t.Fatal("no runs")
	}
	for _, dir := range []string{runs[0], filepath.Join(data, "holds", "42")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	bad, _ := r.verified()
	all := strings.Join(bad, "\n")
	if !strings.Contains(all, "2025-03-01 run 2025-03-01/1 is in the ledger") || !strings.Contains(all, "hold 42 is in the ledger") {
		t.Errorf("%s", all)
	}
}

func TestVerifyFindsARunThatAnotherTookThePlaceOf(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	r.shut()
	if err := os.RemoveAll(filepath.Join(r.dir, "data", "store")); err != nil { // and the agent begins to count anew
		t.Fatal(err)
	}
	r.open()
	r.keep(3)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	if bad, _ := r.verified(); !strings.Contains(strings.Join(bad, "\n"), "2025-03-01 run 2025-03-01/1 was stored twice") {
		t.Errorf("%q", bad)
	}
}

func TestABackupIsOfAllThatWasRecordedAndKnowsWhatWasDestroyed(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	r.clock.add(10 * oneDay)
	r.look()
	r.keep(3)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.record(ctx) }()
	c, err := r.catalogue(t.Context())
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err != nil || !slices.Contains(c.Destroyed, "2025-03-01") || c.Gateway != "gw1" || c.RetentionDays != 3 {
		t.Fatalf("%+v %v", c, err)
	}
	if r.store.Waiting() != 0 || !slices.ContainsFunc(c.Parts, func(p store.CataloguePart) bool { return strings.HasPrefix(p.Name, "days/2025-03-11/") }) {
		t.Errorf("%+v", c.Parts)
	}
	b, err := store.Backup(t.Context(), c, filepath.Join(t.TempDir(), "b"), nil)
	if err != nil || len(b.Copied) != len(c.Parts) {
		t.Errorf("%+v %v", b, err)
	}
}

func TestWrappedKeysAreGivenOutOnlyWithALedgerEntry(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	ask := func(peer bool) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, PathKeysBackup, nil)
		if peer {
			req = req.WithContext(context.WithValue(req.Context(), peerKey{}, Peer{}))
		}
		w := httptest.NewRecorder()
		r.serveHTTP(w, req)
		return w
	}
	if w := ask(false); w.Code == http.StatusOK {
		t.Error("given to nobody knows whom")
	}
	before := r.ledger.Size()
	w := ask(true)
	var b store.KeysBackup
	if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &b) != nil || len(b.Keys) == 0 || r.ledger.Size() != before+1 {
		t.Errorf("%d %s, %d entries", w.Code, w.Body, r.ledger.Size()-before)
	}
	if bytes.Contains(w.Body.Bytes(), []byte("AGE-SECRET")) {
		t.Error("a private key")
	}
	r.evidence.ledger = deafLedger{r.ledger}
	if w := ask(true); w.Code == http.StatusOK {
		t.Error("given without an entry")
	}
	r.evidence.ledger = r.ledger
}

func TestARotationWrapsTheKeysOfHoldsToo(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	if err := r.hold(42, "gw1", seen(2, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	list, err := r.listKeys(t.Context(), "uid 0 gid 0")
	if err != nil || len(list.Keys) != 1 || !list.Keys[0].Hold || list.Keys[0].Epoch != 42 {
		t.Fatalf("%+v %v", list, err)
	}
	back, ids := r.rewrapped(list)
	k := back.Keys[0]
	gone := k
	gone.Epoch = 43 // released meanwhile
	if done, err := r.replaceKeys(t.Context(), &KeyList{Keys: []KeyOfADay{k, gone}}, "uid 0 gid 0"); err != nil || done.Keys != 1 {
		t.Fatalf("%+v %v", done, err)
	}
	r.shut()
	r.open()
	key, err := r.store.HoldKey(42)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.OpenKey(key, r.ids); err == nil {
		t.Error("the old key opens it")
	}
	if _, err := vault.OpenKey(key, ids); err != nil {
		t.Error(err)
	}
	if bad, _ := r.verified(); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
}

func TestOneCheckAtATimeAndItsEndIsSaid(t *testing.T) {
	r := newRoom(t, "")
	r.keep(2)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.record(ctx) }()
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r.verifyHandler(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, PathVerify, nil))
		return w
	}
	r.checking.Lock()
	if w := ask(); w.Code != http.StatusConflict {
		t.Errorf("a second one: %d", w.Code)
	}
	r.checking.Unlock()
	lines := strings.Split(strings.TrimSpace(ask().Body.String()), "\n")
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var last VerifyEvent
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.End == nil || last.End.Problems != 0 || last.End.Failed != "" || last.End.Records == 0 {
		t.Errorf("%v %+v", err, last.End)
	}
}

func TestAReleaseIsSaidInTheBodyAndItsCaseIsSealed(t *testing.T) {
	r := newRoom(t, "")
	if err := r.hold(42, "gw1", seen(2, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	ask := func(id, body string, peer bool) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, strings.Replace(PathRelease, "{id}", id, 1), strings.NewReader(body))
		req.SetPathValue("id", id)
		if peer {
			req = req.WithContext(context.WithValue(req.Context(), peerKey{}, Peer{UID: 7}))
		}
		w := httptest.NewRecorder()
		r.releaseHandler(w, req)
		return w.Code
	}
	for what, c := range map[string]struct {
		id, body string
		peer     bool
		code     int
	}{
		"nobody knows who":     {"42", `{"reference":"case"}`, false, http.StatusBadRequest},
		"no number":            {"x", `{"reference":"case"}`, true, http.StatusBadRequest},
		"no body":              {"42", "", true, http.StatusBadRequest},
		"too long":             {"42", `{"reference":"` + strings.Repeat("x", 1<<12) + `"}`, true, http.StatusBadRequest},
		"one that is not kept": {"43", `{"reference":"case"}`, true, http.StatusNotFound},
	} {
		if got := ask(c.id, c.body, c.peer); got != c.code {
			t.Errorf("%s: %d", what, got)
		}
	}
	if got := ask("42", `{"reference":"case 7"}`, true); got != http.StatusOK {
		t.Errorf("%d", got)
	}
	for _, e := range r.entries() {
		if e.Kind != ledger.Released || e.Fields["state"] != "begun" {
			continue
		}
		if text, err := vault.OpenSealed(e.Sealed, r.ids); err != nil || !strings.Contains(string(text), "case 7") || !strings.Contains(string(text), "uid 7") {
			t.Errorf("%s %v", text, err)
		}
		return
	}
	t.Error("it is not in the ledger")
}

func TestKeysOfHoldsThatCannotBeReadDoNotKeepTheOthersFromBeingWrappedAnew(t *testing.T) {
	r := newRoom(t, "")
	r.keep(5)
	for id := range uint64(4) {
		if err := r.hold(40+id, "gw1", seen(2, r.clock.Now())); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(r.dir, "data", "store", "holds")
	if err := os.Remove(filepath.Join(dir, "40", "key.age")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "41", "key.age"), []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := r.listKeys(t.Context(), "uid 0 gid 0")
	if err != nil || len(list.Keys) != 3 || list.Keys[1].Epoch != 42 || list.Keys[2].Epoch != 43 {
		t.Fatalf("%+v %v", list, err)
	}
	back, _ := r.rewrapped(list)
	if done, err := r.replaceKeys(t.Context(), back, "uid 0 gid 0"); err != nil || done.Keys != 3 {
		t.Errorf("%+v %v", done, err)
	}
}
