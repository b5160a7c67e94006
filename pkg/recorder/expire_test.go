package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/store"
)

const oneDay = 24 * time.Hour

// days returns which days are kept.
func (r *room) days() string {
	var out []string
	for _, d := range r.store.Kept() {
		out = append(out, d.String())
	}
	return strings.Join(out, " ")
}

// keep stores n sessions that end now.
func (r *room) keep(n int) {
	r.t.Helper()
	r.table.add(seen(n, r.clock.Now())...)
	if err := r.step(); err != nil {
		r.t.Fatal(err)
	}
}

// destructions returns the states of the ledger's entries, by day.
func (r *room) destructions() map[string][]string {
	out := map[string][]string{}
	for _, e := range r.entries() {
		if e.Kind == ledger.Destruction {
			out[e.Fields["day"]] = append(out[e.Fields["day"]], e.Fields["state"])
		}
	}
	return out
}

func TestADayIsDestroyedWhenItsTimeIsOverAndNotBefore(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5) // 2025-03-01
	r.clock.add(oneDay)
	r.keep(7)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	rows := r.store.Rows()
	kept := r.days()
	r.clock.add(2*oneDay + 59*time.Second) // 2025-03-04T23:59:59
	r.look()
	if got := r.days(); got != kept || kept != "2025-03-01 2025-03-02" {
		t.Errorf("a second before midnight: kept %q, were %q", got, kept)
	}
	r.clock.add(time.Minute)
	r.look()
	if got := r.days(); got != "2025-03-02" {
		t.Errorf("a minute later: kept %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "data", "store", "*", "2025-03-01*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := r.destructions(); len(got) != 1 || !slices.Equal(got["2025-03-01"], []string{"begun", "destroyed"}) {
		t.Errorf("ledger: %v", got)
	}
	if got := r.store.Rows(); got != rows {
		t.Errorf("%d records were put, not %d", got, rows)
	}
	sessions, _, _ := r.read()
	if len(sessions) != 7 {
		t.Errorf("%d sessions are left", len(sessions))
	}
	r.publish()
	if s := r.Status().Store.Expiry; s.Last != "2025-03-01" || s.Days != 1 || s.Due != 0 {
		t.Errorf("status: %+v", s)
	}
	r.certified("2025-03-01", 5)
}

// certified checks the certificate of a day.
func (r *room) certified(day string, atLeast uint64) {
	r.t.Helper()
	name := filepath.Join(r.dir, "data", "destroyed", day+".note")
	b, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := ledger.OpenStatement(StatementDestroyed, b, r.ledger.VerifierKey())
	if err != nil {
		r.t.Fatal(err)
	}
	var c Certificate
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		r.t.Fatal(err)
	}
	if c.Day != day || c.Records < atLeast || len(c.Keys) == 0 || c.Gateway != "gw1" || c.Ended.Before(c.Begun) {
		r.t.Errorf("certificate: %+v", c)
	}
	for _, at := range []int{10, len(b) / 2, len(b) - 20} {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		if _, err := ledger.OpenStatement(StatementDestroyed, bad, r.ledger.VerifierKey()); err == nil {
			r.t.Errorf("byte %d altered: still good", at)
		}
	}
	if _, err := ledger.OpenStatement("something else", b, r.ledger.VerifierKey()); err == nil {
		r.t.Error("good as another statement")
	}
}

func TestAnAgentThatWasDownDestroysWhatIsDueBeforeAnythingElse(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	r.shut()
	r.clock.add(20 * oneDay)
	r.open()
	if got := r.days(); got != "" {
		t.Errorf("kept after the start: %q", got)
	}
	// What lay in a fresh database goes with the next merge.
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{"fresh", "days"} {
		if left, _ := filepath.Glob(filepath.Join(r.dir, "data", "store", x, "*")); len(left) > 1 {
			t.Errorf("left: %v", left)
		}
	}
	bad, err := r.store.Check(context.Background(), nil)
	if err != nil || len(bad) > 0 {
		t.Errorf("check: %v %v", bad, err)
	}
	r.keep(2)
	if sessions, _, _ := r.read(); len(sessions) != 2 {
		t.Errorf("%d sessions", len(sessions))
	}
}

func TestAKillInTheMiddleOfADestructionIsGoneOnWith(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	day := r.store.Kept()[0]
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	if err := r.store.DestroyBlocks(day); err == nil {
		t.Fatal("blocks went before their keys")
	}
	if err := r.store.DestroyKeys(day); err != nil {
		t.Fatal(err)
	}
	r.shut() // killed here
	r.clock.add(5 * oneDay)
	r.open()
	if got := r.days(); got != "" {
		t.Errorf("kept: %q", got)
	}
	if got := r.destructions()[day.String()]; !slices.Equal(got, []string{"begun", "destroyed"}) {
		t.Errorf("ledger: %v", got)
	}
}

func TestAClockThatCannotBeBelievedDestroysNothing(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	r.look()
	kept := r.days()
	r.table.clock.Synchronised = false
	r.clock.jump(300 * oneDay)
	r.clock.add(lookExpired)
	r.look()
	r.publish()
	if got := r.days(); got != kept {
		t.Errorf("the clock jumped, and %q of %q is left", got, kept)
	}
	if s := r.Status().Store.Expiry; s.Due == 0 || !s.Late || !strings.Contains(s.Text, "--clock-is-right") {
		t.Errorf("status: %+v", s)
	}
	r.clock.jump(-300 * oneDay) // it was wrong
	r.clock.add(oneDay)
	r.look()
	if s := r.expiry.status; s.Due != 0 || s.Text != "" || s.Late {
		t.Errorf("status: %+v", s)
	}
	// The same between two runs of the agent.
	r.shut()
	r.clock.jump(300 * oneDay)
	r.open()
	if got := r.days(); got != kept || r.expiry.status.Due == 0 {
		t.Errorf("after a start, %q of %q is left; %+v", got, kept, r.expiry.status)
	}
	r.clock.add(lookExpired)
	r.table.clock.Synchronised = true
	r.look()
	if got := r.days(); got != "" {
		t.Errorf("synchronised, and %q is left", got)
	}
}

func TestTheOperatorMayVouchForTheClock(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	r.keep(5)
	r.table.clock.Synchronised = false
	r.clock.jump(300 * oneDay)
	r.clock.add(lookExpired)
	r.look()
	if r.days() == "" {
		t.Fatal("destroyed")
	}
	r.expiry.trusted = true
	r.expiry.step(mostJump)
	if got := r.days(); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestWithoutALedgerNothingIsDestroyed(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	kept := r.days()
	r.evidence.ledger = deafLedger{r.ledger}
	r.clock.add(10 * oneDay)
	r.look()
	if got := r.days(); got != kept || !strings.Contains(r.expiry.status.Text, "ledger") {
		t.Errorf("%q of %q is left; %+v", got, kept, r.expiry.status)
	}
	r.evidence.ledger = r.ledger
	r.clock.add(lookExpired)
	r.look()
	if got := r.days(); got != "" || r.expiry.status.Text != "" {
		t.Errorf("left: %q; %+v", got, r.expiry.status)
	}
}

// deafLedger takes nothing.
type deafLedger struct{ Ledger }

func (deafLedger) Append(context.Context, ledger.Entry) (int64, error) {
	return 0, ledger.ErrNotWritten
}

func TestAnOldCopyOfTheBlocksCannotBeReadAfterTheDay(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	r.keep(5)
	day := r.store.Kept()[0]
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(filepath.Join(copied, "days"), os.DirFS(filepath.Join(r.dir, "data", "store", "days"))); err != nil {
		t.Fatal(err)
	}
	r.clock.add(10 * oneDay)
	r.look()
	r.shut()
	// The copy, and everything that the gateway and a custodian have today.
	for _, x := range []string{"keys", "VERSION"} {
		from := filepath.Join(r.dir, "data", "store", x)
		if fi, err := os.Stat(from); err == nil && fi.IsDir() {
			if err := os.CopyFS(filepath.Join(copied, x), os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, x), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(copied, "fresh"), 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(copied, store.Options{MinFree: 1 << 20, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close() //nolint:errcheck // a copy
	if facts, err := st.Day(day); err != nil || facts.Blocks == 0 || len(facts.Keys) != 0 {
		t.Errorf("the copy has %+v, %v", facts, err)
	}
}
