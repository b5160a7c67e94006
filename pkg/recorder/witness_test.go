package recorder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

const toAFile = "[ledger]\nwitness = [\"file:outside/checkpoints\"]\nwitness_every = \"1h\"\n"

func (r *room) witnessFile() string { return filepath.Join(r.dir, "outside", "checkpoints") }

func (r *room) sent() int {
	r.t.Helper()
	b, err := os.ReadFile(r.witnessFile())
	if err != nil {
		r.t.Fatal(err)
	}
	found, others := ledger.FindCheckpoints(b, "edgelog/gw1")
	if others != 0 {
		r.t.Errorf("%d of others", others)
	}
	for _, n := range found {
		if err := r.ledger.Consistent(n); err != nil {
			r.t.Error(err)
		}
	}
	return len(found)
}

func TestCheckpointsAreSentToAWitnessWhenTheirTimeHasCome(t *testing.T) {
	r := newRoom(t, toAFile)
	r.evidence.note(ledger.Gap, nil)
	r.witness.step() // there is no such directory
	s := r.Status().Ledger
	if len(s.Witness) != 1 || s.Witness[0].OK || !strings.Contains(s.Witness[0].Text, "no such file") || !s.OK {
		t.Errorf("%+v", s)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "outside"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.witness.step() // not yet tried again
	if _, err := os.Stat(r.witnessFile()); err == nil {
		t.Error("it was tried again at once")
	}
	r.clock.add(witnessAgain)
	r.witness.step()
	if n := r.sent(); n != 1 {
		t.Errorf("%d were sent", n)
	}
	if s := r.Status().Ledger.Witness[0]; !s.OK || s.Size != 2 || !s.Last.Equal(r.clock.Now()) {
		t.Errorf("%+v", s)
	}
	for range 4 {
		r.clock.add(30 * time.Minute)
		r.witness.step()
	}
	if n := r.sent(); n != 3 {
		t.Errorf("%d were sent in two hours more", n)
	}
	var states []string
	for _, e := range r.entries() {
		if e.Kind == ledger.Witnessed {
			states = append(states, e.Fields["to"]+" "+e.Fields["state"]+" "+e.Fields["size"])
		}
	}
	if got := strings.Join(states, ", "); got != "file could not be sent 1, file sent 2, file sent 3, file sent 4" {
		t.Error(got)
	}
}

func TestALedgerThatTheWitnessKnowsOtherwiseIsNotTrusted(t *testing.T) {
	r := newRoom(t, toAFile)
	if err := os.Mkdir(filepath.Join(r.dir, "outside"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.live(5)
	old := r.keepLedger()
	r.open()
	r.evidence.note(ledger.Gap, nil)
	r.witness.step()
	r.live(3)
	old()
	if err := os.Remove(r.mark.path); err != nil { // whoever did it knew of that
		t.Fatal(err)
	}
	r.open()
	r.witness.step()
	r.recordsAndDoesNotRead("cut: it has 5 entries, and a checkpoint of 6 was signed")
	if s := r.Status().Ledger.Witness[0]; s.OK {
		t.Errorf("%+v", s)
	}
	before, err := os.ReadFile(r.witnessFile())
	if err != nil {
		t.Fatal(err)
	}
	r.clock.add(2 * time.Hour)
	r.witness.step()
	if after, err := os.ReadFile(r.witnessFile()); err != nil || string(after) != string(before) {
		t.Errorf("a checkpoint of a ledger that is not trusted was sent: %v", err)
	}
}

func TestRubbishInTheFileOfAWitnessStopsNobody(t *testing.T) {
	r := newRoom(t, toAFile)
	if err := os.Mkdir(filepath.Join(r.dir, "outside"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.evidence.note(ledger.Gap, nil)
	forged := strings.Replace(string(r.ledger.Checkpoint().Note), "\n1\n", "\n900\n", 1)
	if err := os.WriteFile(r.witnessFile(), []byte("rubbish\n"+forged), 0o600); err != nil {
		t.Fatal(err)
	}
	r.witness.step()
	if s := r.Status().Ledger; !s.OK || !s.Witness[0].OK {
		t.Errorf("%+v", s)
	}
	if _, err := r.Evidence().Append(t.Context(), ledger.Entry{Kind: ledger.Intent}); err != nil {
		t.Error(err)
	}
}

func TestACheckpointIsSentNowhereElse(t *testing.T) {
	if err := SendCheckpoint("http://example.net", ledger.Checkpoint{}); err == nil || !strings.Contains(err.Error(), "use file:PATH or syslog") {
		t.Error(err)
	}
}
