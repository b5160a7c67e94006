package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/store"
)

func (r *room) destroyedDir() string { return filepath.Join(r.dir, "data", "destroyed") }

// keptRoom stores n sessions on each of so many days, and has them merged.
func keptRoom(t *testing.T, n, days int) *room {
	t.Helper()
	r := newRoom(t, "retention_days = 3\n")
	for i := range days {
		if i > 0 {
			r.clock.add(oneDay)
		}
		r.keep(n)
	}
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	return r
}

// certificates returns the names of what lies beside the clock.
func (r *room) certificates() (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.destroyedDir())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != clockFile {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *room) mustHave(want ...string) {
	r.t.Helper()
	if got := r.certificates(); !slices.Equal(got, want) {
		r.t.Errorf("certificates: %q, want %q", got, want)
	}
}

// deafFrom is a ledger that takes no entry of a state.
type deafFrom struct {
	Ledger
	state string
}

func (d deafFrom) Append(ctx context.Context, e ledger.Entry) (int64, error) {
	if e.Fields["state"] == d.state {
		return 0, ledger.ErrNotWritten
	}
	return d.Ledger.Append(ctx, e)
}

// obstacle is something that stops a destruction in the middle.
type obstacle struct {
	what        string
	put, remove func(r *room) error
	draft       bool // the draft of the certificate was written before
}

var obstacles = []obstacle{
	{
		"the draft cannot be written",
		func(r *room) error { return os.Rename(r.destroyedDir(), r.destroyedDir()+"-away") },
		func(r *room) error { return os.Rename(r.destroyedDir()+"-away", r.destroyedDir()) }, false,
	},
	{
		"the certificate cannot be written",
		func(r *room) error { return os.Mkdir(filepath.Join(r.destroyedDir(), "2025-03-01.note.new"), 0o700) },
		func(r *room) error { return os.Remove(filepath.Join(r.destroyedDir(), "2025-03-01.note.new")) }, true,
	},
	{
		"the ledger does not take the end",
		func(r *room) error { r.evidence.ledger = deafFrom{r.ledger, "destroyed"}; return nil },
		func(r *room) error { r.evidence.ledger = r.ledger; return nil }, true,
	},
}

// TestADestructionThatFailsInTheMiddleEndsInOneCertificate, whether the agent goes
// on with it or the next one does.
func TestADestructionThatFailsInTheMiddleEndsInOneCertificate(t *testing.T) {
	for _, c := range obstacles {
		for _, again := range []bool{false, true} {
			t.Run(c.what+map[bool]string{false: "", true: ", and the agent is killed"}[again], func(t *testing.T) {
				r := keptRoom(t, 5, 1)
				if err := c.put(r); err != nil {
					t.Fatal(err)
				}
				r.clock.add(3*oneDay + time.Minute)
				for range 5 {
					r.look()
					r.clock.add(lookExpired)
				}
				if s := r.expiry.status; s.Text == "" || s.Days != 0 {
					t.Errorf("while it fails: %+v", s)
				}
				if got := r.destructions(); !slices.Equal(got["2025-03-01"], []string{"begun"}) {
					t.Errorf("the ledger, while it fails: %v", got)
				}
				if err := c.remove(r); err != nil {
					t.Fatal(err)
				}
				if drafts := slices.ContainsFunc(r.certificates(), func(n string) bool { return n == "2025-03-01"+Begun }); drafts != c.draft {
					t.Errorf("draft %v: %q", drafts, r.certificates())
				}
				want := []string{"begun", "destroyed"}
				if again {
					r.shut()
					r.open()
					if !c.draft { // nobody knows any more that it was announced
						want = []string{"begun", "begun", "destroyed"}
					}
				} else {
					r.look()
				}
				if s := r.expiry.status; r.days() != "" || s.Text != "" || s.Days != 1 {
					t.Errorf("in the end %q is left, %+v", r.days(), s)
				}
				r.mustHave("2025-03-01.note")
				r.certified("2025-03-01", 5)
				if got := r.destructions()["2025-03-01"]; !slices.Equal(got, want) {
					t.Errorf("ledger: %v", got)
				}
				if bad, _ := r.verified(); len(bad) > 0 {
					t.Errorf("%q", bad)
				}
			})
		}
	}
}

func TestADayThatCannotBeDestroyedDoesNotKeepTheOthers(t *testing.T) {
	r := keptRoom(t, 5, 3)
	inTheWay := filepath.Join(r.destroyedDir(), "2025-03-01"+Begun+".new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	r.clock.add(9 * oneDay)
	r.look()
	if got := r.days(); got != "2025-03-01" {
		t.Errorf("left: %q", got)
	}
	if s := r.expiry.status; s.Due != 1 || s.Days != 2 || !s.Late || !strings.Contains(s.Text, "2025-03-01") {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	r.clock.add(lookExpired)
	r.look()
	if got := r.days(); got != "" || r.expiry.status.Text != "" {
		t.Errorf("left: %q, %+v", got, r.expiry.status)
	}
}

func TestAKeyThatCannotBeReadDoesNotKeepItsDay(t *testing.T) {
	r := keptRoom(t, 5, 2)
	keys, err := filepath.Glob(filepath.Join(r.dir, "data", "store", "keys", "2025-03-01*"))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	if err := os.Remove(keys[0]); err != nil {
		t.Fatal(err)
	}
	r.clock.add(9 * oneDay)
	r.look()
	if got := r.days(); got != "" || r.expiry.status.Text != "" {
		t.Errorf("left: %q, %+v", got, r.expiry.status)
	}
	for day, known := range map[string]bool{"2025-03-01": false, "2025-03-02": true} {
		r.certified(day, 5)
		if c := r.certificate(day); len(c.Keys) != 1 || (len(c.Keys[0].Hash) == 64) != known || !known && c.Keys[0].Hash != "" {
			t.Errorf("%s: %+v", day, c.Keys)
		}
	}
}

func (r *room) certificate(day string) (c Certificate) {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.destroyedDir(), day+".note"))
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := ledger.OpenStatement(StatementDestroyed, b, r.ledger.VerifierKey())
	if err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestADayThatIsOnlyFreshYetIsCertifiedOnceHoweverOftenTheAgentStarts(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	r.shut()
	r.clock.add(20 * oneDay)
	for range 3 {
		r.open()
		r.shut()
	}
	r.open()
	r.mustHave("2025-03-01.note")
	if got := r.destructions(); len(got) != 1 || !slices.Equal(got["2025-03-01"], []string{"begun", "destroyed"}) {
		t.Errorf("ledger: %v", got)
	}
	if n, err := r.store.Day(r.store.Days(store.KindSessions)[0]); err != nil || n.Blocks == 0 {
		t.Errorf("it is not there any more, so this proves nothing: %+v %v", n, err)
	}
}

func TestSessionsOfADayThatWasDestroyedAreCountedAndNotKept(t *testing.T) {
	r := keptRoom(t, 5, 1)
	old := r.clock.Now()
	r.shut()
	r.clock.add(20 * oneDay)
	r.open()
	r.table.add(seen(3, old)...)
	r.table.add(seen(4, r.clock.Now())...)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if n := s.Sessions; n.Stored != 4 || n.Expired != 3 || n.Collected != 7 || n.Waiting+n.Returned != 0 {
		t.Errorf("%+v", n)
	}
	if err := s.Balance(); err != nil {
		t.Error(err)
	}
	if len(r.table.stored) != 5+7 { // the table need not give them out again
		t.Errorf("%d are out of the table", len(r.table.stored))
	}
	if got := r.days(); got != "2025-03-21" {
		t.Errorf("kept: %q", got)
	}
	if sessions, _, _ := r.read(); len(sessions) != 4 {
		t.Errorf("%d sessions", len(sessions))
	}
}

func TestADraftOfSomethingElseIsNotGoneOnWith(t *testing.T) {
	r := keptRoom(t, 5, 1)
	for name, text := range map[string]string{
		"2024-01-01": `{"day":"2025-03-01"}`, "2024-01-02": `{"day":`, "2024-01-03": `{"day":"soon"}`, "hold-7": `{"hold":{"id":8}}`,
	} {
		if err := os.WriteFile(filepath.Join(r.destroyedDir(), name+Begun), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		r.clock.add(lookExpired)
		r.look()
	}
	if got := r.days(); got != "2025-03-01" {
		t.Errorf("left: %q", got)
	}
	if len(r.destructions()) > 0 || slices.ContainsFunc(r.certificates(), func(n string) bool { return strings.HasSuffix(n, ".note") }) {
		t.Errorf("%v %q", r.destructions(), r.certificates())
	}
	if text := r.expiry.status.Text; !strings.Contains(text, Begun) {
		t.Errorf("nobody is told: %q", text)
	}
	r.table.clock.Synchronised = false // nor when the clock is in doubt, and nothing is due
	r.expiry.status.Text = ""
	r.clock.jump(2 * time.Hour)
	r.expiry.step(mostJump)
	if text := r.expiry.status.Text; !strings.Contains(text, Begun) {
		t.Errorf("nobody is told: %q", text)
	}
}

// The draft is all that knows the key once it is gone.
func TestAReleaseThatFailsInTheMiddleEndsInOneCertificateThatKnowsTheKey(t *testing.T) {
	key := func(r *room) string { return filepath.Join(r.dir, "data", "store", "holds", "42", "key.age") }
	inTrash := func(r *room) string { return filepath.Join(r.dir, "data", "store", "trash", "holds-42") }
	for what, c := range map[string]struct{ put, remove func(r *room) error }{
		"it cannot be moved away": {
			func(r *room) error { return os.WriteFile(filepath.Dir(inTrash(r)), nil, 0o600) },
			func(r *room) error { return os.Remove(filepath.Dir(inTrash(r))) },
		},
		"the certificate cannot be written": {
			func(r *room) error { return os.Mkdir(filepath.Join(r.destroyedDir(), "hold-42.note.new"), 0o700) },
			func(r *room) error { return os.Remove(filepath.Join(r.destroyedDir(), "hold-42.note.new")) },
		},
		"the ledger does not take the end": {
			func(r *room) error { r.evidence.ledger = deafFrom{r.ledger, "destroyed"}; return nil },
			func(r *room) error { r.evidence.ledger = r.ledger; return nil },
		},
	} {
		for _, by := range []string{"said again", "looked at again", "started again"} {
			t.Run(what+", "+by, func(t *testing.T) {
				r := newRoom(t, "retention_days = 3\n")
				if err := r.hold(42, "gw1", seen(2, r.clock.Now())); err != nil {
					t.Fatal(err)
				}
				wrapped, err := os.ReadFile(key(r))
				if err != nil {
					t.Fatal(err)
				}
				if err := c.put(r); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if _, err := r.release(t.Context(), 42, "case"); err == nil {
						t.Error("released")
					}
				}
				if err := c.remove(r); err != nil {
					t.Fatal(err)
				}
				switch by {
				case "said again":
					if c, err := r.release(t.Context(), 42, "case"); err != nil || c.Key != hashOf(wrapped) {
						t.Errorf("%+v %v", c, err)
					}
				case "looked at again":
					r.clock.add(lookExpired)
					r.look()
				default:
					r.shut()
					r.open()
				}
				r.releasedOnce(42, hashOf(wrapped))
			})
		}
	}
}

// releasedOnce checks that a hold is gone, and what was said of that.
func (r *room) releasedOnce(id uint64, key string) {
	r.t.Helper()
	r.mustHave("hold-" + itoa(id) + ".note")
	b, err := os.ReadFile(filepath.Join(r.destroyedDir(), "hold-"+itoa(id)+".note"))
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := ledger.OpenStatement(StatementReleased, b, r.ledger.VerifierKey())
	var c ReleaseCertificate
	if err == nil {
		err = json.Unmarshal([]byte(text), &c)
	}
	if err != nil || c.Hold.ID != id || c.Key != key || c.Hold.Sessions != 2 || c.Ended.IsZero() {
		r.t.Errorf("%+v %v", c, err)
	}
	var states []string
	for _, e := range r.entries() {
		if e.Kind == ledger.Released {
			states = append(states, e.Fields["state"])
			if e.Fields["state"] == "destroyed" && e.Fields["certificate"] != hashOf(b) {
				r.t.Errorf("the ledger has another certificate: %v", e.Fields)
			}
		}
	}
	if !slices.Equal(states, []string{"begun", "destroyed"}) {
		r.t.Errorf("ledger: %q", states)
	}
	if list, bad := r.store.Holds(); len(list)+len(bad) > 0 {
		r.t.Errorf("it is still there: %v %v", list, bad)
	}
	if bad, _ := r.verified(); len(bad) > 0 {
		r.t.Errorf("%q", bad)
	}
}

// TestTwoWhoReleaseAHoldAtOnce: one does it, and the other is told that it is gone.
func TestTwoWhoReleaseAHoldAtOnce(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	if err := r.hold(42, "gw1", seen(2, r.clock.Now())); err != nil {
		t.Fatal(err)
	}
	key, err := r.store.HoldKey(42)
	if err != nil {
		t.Fatal(err)
	}
	const n = 8
	errs := make(chan error, n)
	for range n {
		go func() { // ends with its release
			_, err := r.release(t.Context(), 42, "case")
			errs <- err
		}()
	}
	done := 0
	for range n {
		switch err := <-errs; {
		case err == nil:
			done++
		case !errors.Is(err, store.ErrMissing):
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d released it", done)
	}
	r.releasedOnce(42, hashOf(key))
}
