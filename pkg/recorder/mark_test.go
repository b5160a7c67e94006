package recorder

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// live lets the agent do what it does, with n entries for the ledger, and ends it.
func (r *room) live(n int) {
	r.t.Helper()
	for range n {
		r.clock.add(time.Second)
		r.evidence.note(ledger.Gap, map[string]string{"cause": "of a test"})
	}
	r.clock.add(lookEvery)
	r.look()
	if err := r.step(); err != nil {
		r.t.Fatal(err)
	}
	r.shut()
}

// keepLedger copies the ledger away, and returns what puts the copy back.
func (r *room) keepLedger() (putBack func()) {
	r.t.Helper()
	kept := r.t.TempDir()
	if err := os.CopyFS(filepath.Join(kept, "ledger"), os.DirFS(r.ledgerDir())); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		r.t.Helper()
		err := errors.Join(os.RemoveAll(r.ledgerDir()), os.CopyFS(r.ledgerDir(), os.DirFS(filepath.Join(kept, "ledger"))),
			os.Chmod(filepath.Join(r.ledgerDir(), ledger.KeyName), 0o600), os.Chmod(r.ledgerDir(), 0o700))
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// records demands that sessions are recorded, and that nobody reads.
func (r *room) recordsAndDoesNotRead(because string) {
	r.t.Helper()
	before := uint64(len(r.table.stored))
	r.table.add(seen(7, r.clock.Now())...)
	if err := r.step(); err != nil {
		r.t.Fatal(err)
	}
	if got := uint64(len(r.table.stored)) - before; got != 7 {
		r.t.Errorf("%d of 7 sessions are stored", got)
	}
	size := r.ledger.Size()
	if _, err := r.Evidence().Append(r.t.Context(), ledger.Entry{Kind: ledger.Intent}); !errors.Is(err, ErrDoubted) {
		r.t.Errorf("somebody may read: %v", err)
	}
	r.evidence.note(ledger.Gap, nil)
	if r.ledger.Size() != size {
		r.t.Error("something was put into a ledger that is not trusted")
	}
	s := r.Status()
	if s.Ledger.OK || !strings.Contains(s.Ledger.Doubt, because) || !strings.Contains(s.Ledger.Doubt, "start the agent again") {
		r.t.Errorf("the status says %v %q, want %q", s.Ledger.OK, s.Ledger.Doubt, because)
	}
	if !s.Store.OK {
		r.t.Errorf("%+v", s.Store)
	}
}

// inLedger returns the path of a file of the ledger.
func inLedger(name string) func(*room) string {
	return func(r *room) string { return filepath.Join(r.ledgerDir(), name) }
}

// flip changes a bit in the middle of a file.
func flip(path func(*room) string) func(*room) {
	return func(r *room) {
		b, err := os.ReadFile(path(r))
		if err != nil {
			r.t.Fatal(err)
		}
		b[len(b)/2] ^= 4
		if err := os.WriteFile(path(r), b, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

func gone(path func(*room) string) func(*room) {
	return func(r *room) {
		if err := os.RemoveAll(path(r)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// anotherLedger is one of the same name, begun anew.
func anotherLedger(r *room) {
	gone((*room).ledgerPath)(r)
	l, err := ledger.Open(r.ledgerDir(), ledger.Options{Origin: "edgelog/gw1"})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) ledgerPath() string { return r.ledgerDir() }
func (r *room) markPath() string   { return r.mark.path }

func TestALedgerThatIsNotWhatItWasStopsReadingAndNotRecording(t *testing.T) {
	cases := []struct {
		name string
		do   func(r *room)
		want string
	}{
		{"the checkpoint is changed", flip(inLedger("checkpoint")), "checkpoint"},
		{"the public key is changed", flip(inLedger("public.key")), "public.key"},
		{"the growing bundle is gone", gone(inLedger("tile/entries")), "tile/entries"},
		{"the tiles are gone", gone(inLedger("tile")), "missing"},
		{"the signer key is gone", gone(inLedger("signer.key")), "signer key is missing"},
		{"the signer key is changed", func(r *room) {
			if err := os.WriteFile(inLedger("signer.key")(r), []byte("nonsense\n"), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}, "signer key cannot be used"},
		{"all of it is gone", gone((*room).ledgerPath), "says that there was a ledger"},
		{"what was seen last is changed", flip((*room).markPath), "damaged or of another ledger"},
		{"another ledger of the same name", anotherLedger, "damaged or of another ledger"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t, "")
			r.live(5)
			putBack := r.keepLedger()
			mark, err := os.ReadFile(r.mark.path)
			if err != nil {
				t.Fatal(err)
			}
			c.do(r)
			r.open()
			r.recordsAndDoesNotRead(c.want)
			r.shut()
			putBack()
			if err := os.WriteFile(r.mark.path, mark, 0o600); err != nil {
				t.Fatal(err)
			}
			r.open()
			if s := r.Status(); !s.Ledger.OK || s.Ledger.Entries != 5 {
				t.Errorf("put right, it says %+v", s.Ledger)
			}
		})
	}
}

func TestAnOldCopyACutAndAForkOfTheLedgerAreNoticedAtTheStart(t *testing.T) {
	r := newRoom(t, "")
	r.live(20)
	old := r.keepLedger()
	r.open()
	r.live(10)
	now := r.keepLedger()

	old()
	r.open()
	r.recordsAndDoesNotRead("cut: it has 20 entries, and a checkpoint of 30 was signed: the last 10")
	r.shut()

	now()
	r.open()
	if s := r.Status(); !s.Ledger.OK || s.Ledger.Entries != 30 {
		t.Fatalf("with the newest copy: %+v", s.Ledger)
	}
	r.shut()

	old() // and goes on from there, past what was seen
	l, err := ledger.Open(r.ledgerDir(), ledger.Options{Origin: "edgelog/gw1"})
	if err != nil {
		t.Fatal(err)
	}
	for range 15 {
		if _, err := l.Append(t.Context(), ledger.Entry{Kind: ledger.Gap}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.recordsAndDoesNotRead("forked: of its 35 entries the first 30 are not those that were signed")
	r.shut()

	// Without the mark it is taken, and the start says so.
	if err := os.Remove(r.mark.path); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.noteStart()
	list := r.entries()
	if last := list[len(list)-1]; last.Kind != ledger.Start || last.Fields["ledger_seen"] != "missing" {
		t.Errorf("%+v", last)
	}
}

func TestWhatSomebodyReadsIsMarkedAtOnce(t *testing.T) {
	r := newRoom(t, "")
	if _, err := r.Evidence().Append(t.Context(), ledger.Entry{Kind: ledger.Intent}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.mark.path)
	if err != nil || string(b) != string(r.ledger.Checkpoint().Note) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAMarkThatCannotBeWrittenKeepsNobodyFromReading(t *testing.T) {
	r := newRoom(t, "")
	if err := os.Mkdir(r.mark.path, 0o700); err != nil { // in its way
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.mark.path, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Evidence().Append(t.Context(), ledger.Entry{Kind: ledger.Intent}); err != nil || !r.mark.failing {
		t.Errorf("%v, failing: %v", err, r.mark.failing)
	}
	if err := os.RemoveAll(r.mark.path); err != nil {
		t.Fatal(err)
	}
	r.keepMark()
	if b, err := os.ReadFile(r.mark.path); err != nil || len(b) == 0 || r.mark.failing {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAFirstLedgerThatCannotBeMadeStopsTheStart(t *testing.T) {
	r := newRoom(t, "")
	err := r.refused(func(o *Options) {
		if err := os.MkdirAll(o.Config.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Config.DataDir, "ledger"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil && !strings.Contains(err.Error(), "ledger") {
		t.Error(err)
	}
}

func TestAnAgentWithoutUplinksNotesThatTheClockWasSet(t *testing.T) {
	r := newRoom(t, "")
	r.src = noSource{}
	r.look()
	for _, step := range []time.Duration{0, 500 * time.Millisecond, -90 * time.Second} {
		r.clock.jump(step)
		r.clock.add(lookEvery)
		r.look()
	}
	var steps []string
	for _, e := range r.entries() {
		if e.Kind == ledger.ClockStep {
			steps = append(steps, e.Fields["text"])
		}
	}
	if len(steps) != 1 || steps[0] != "the clock was set by -90.000 s" {
		t.Errorf("%q", steps)
	}
}

// get asks as the control socket does.
func (r *room) get(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	r.mux.ServeHTTP(w, req.WithContext(contextWithPeer(req.Context(), Peer{})))
	return w
}

func TestTheLedgersFilesAreServedAndNothingElse(t *testing.T) {
	r := newRoom(t, "")
	for range 3 {
		r.evidence.note(ledger.Gap, nil)
	}
	for _, name := range []string{"checkpoint", "public.key", "tile/0/000.p/3", "tile/entries/000.p/3"} {
		want, err := os.ReadFile(filepath.Join(r.ledgerDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if w := r.get(PathLedger + name); w.Code != http.StatusOK || w.Body.String() != string(want) {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	for _, name := range []string{"", "signer.key", "tile/0/000", "tile/0/..%2f..%2fsigner.key", "..%2fledger.seen", "%2e%2e/ledger.seen", "tile/../signer.key", "tile//0/000.p/3"} {
		if w := r.get(PathLedger + name); w.Code == http.StatusOK {
			t.Errorf("%q: %s", name, w.Body)
		}
	}
}

func TestWhatIsSaidToBeSentMustBeACheckpointOfThisLedger(t *testing.T) {
	r := newRoom(t, "")
	r.evidence.note(ledger.Gap, nil)
	note := string(r.ledger.Checkpoint().Note)
	post := func(body string, peer bool) int {
		req := httptest.NewRequest(http.MethodPost, PathWitness, strings.NewReader(body))
		if peer {
			req = req.WithContext(contextWithPeer(req.Context(), Peer{}))
		}
		w := httptest.NewRecorder()
		r.mux.ServeHTTP(w, req)
		return w.Code
	}
	for _, c := range []struct {
		body string
		peer bool
		want int
	}{
		{fmt.Sprintf(`{"to":"mail","note":%q}`, note), false, http.StatusForbidden},
		{`nonsense`, true, http.StatusBadRequest},
		{fmt.Sprintf(`{"to":"my friend","note":%q}`, note), true, http.StatusBadRequest},
		{fmt.Sprintf(`{"to":"mail","note":%q}`, strings.Replace(note, "\n1\n", "\n9\n", 1)), true, http.StatusConflict},
		{`{"to":"mail","note":""}`, true, http.StatusConflict},
		{fmt.Sprintf(`{"to":"mail","note":%q}`, note), true, http.StatusOK},
	} {
		if got := post(c.body, c.peer); got != c.want {
			t.Errorf("%.60s: %d, want %d", c.body, got, c.want)
		}
	}
	list := r.entries()
	last := list[len(list)-1]
	if len(list) != 3 || list[1].Kind != ledger.Refused || last.Kind != ledger.Witnessed || last.Fields["to"] != "mail" || last.Fields["size"] != "1" || len(last.Sealed) == 0 {
		t.Errorf("%+v", list)
	}
}
