package recorder

import (
	"slices"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// ids are the sessions by what names them, sorted.
func ids(list []session.Session) []string {
	var out []string
	for i := range list {
		x := list[i].ID()
		out = append(out, x.Initiator.String()+" "+session.FormatTime(x.StartMilli*1e6)+" "+list[i].Endpoint(session.SideInitiator))
	}
	slices.Sort(out)
	return out
}

func TestWhatIsMergedIsTheSameSessionsInFewerBlocks(t *testing.T) {
	r := newRoom(t, "")
	for range 6 {
		r.keep(40)
		r.clock.add(10 * time.Second)
	}
	before, bindings, heads := r.read()
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	after, bindingsAfter, headsAfter := r.read()
	if !slices.Equal(ids(before), ids(after)) || len(before) != 240 {
		t.Errorf("%d sessions, before %d", len(after), len(before))
	}
	if len(headsAfter) >= len(heads) || len(bindingsAfter) != len(bindings) {
		t.Errorf("%d blocks, before %d; %d bindings, before %d", len(headsAfter), len(heads), len(bindingsAfter), len(bindings))
	}
	if c := r.merger.status(); c.Merged == 0 || c.Into == 0 || c.Records == 0 || c.Failures != 0 {
		t.Errorf("%+v", c)
	}
	r.publish()
	if err := r.Status().Balance(); err != nil {
		t.Error(err)
	}
}

func TestAMergeThatIsUnderWayIsOverWhenTheAgentIsClosed(t *testing.T) {
	r := newRoom(t, "")
	for range 6 {
		r.keep(40)
		r.clock.add(10 * time.Second)
	}
	if _, err := r.merger.turn(store.Ripe{}); err != nil {
		t.Fatal(err)
	}
	r.merger.begin(false)
	over := r.merger.under
	r.shut()
	select {
	case <-over:
	default:
		t.Error("it goes on, and its store is closed")
	}
	if c := r.merger.status(); c.Failures != 0 {
		t.Errorf("%+v", c)
	}
}

func TestADayIsNotDestroyedInTheMiddleOfAMergeThatWritesToIt(t *testing.T) {
	r := newRoom(t, "retention_days = 30\n")
	for range 6 {
		r.keep(40)
		r.clock.add(10 * time.Second)
	}
	if _, err := r.merger.turn(store.Ripe{}); err != nil {
		t.Fatal(err)
	}
	r.merger.begin(false)
	over := r.merger.under
	r.clock.jump(300 * oneDay)
	r.expiry.step(mostAbsence)
	select {
	case <-over:
	default:
		t.Error("it goes on, and its day is destroyed")
	}
	if got := r.destructions(); len(got) != 1 || r.days() != "" {
		t.Errorf("destroyed: %v, kept: %q", got, r.days())
	}
	if c := r.merger.status(); c.Failures != 0 {
		t.Errorf("%+v", c)
	}
}

func TestBlocksOfAnAgentThatWasKilledAreKeptAsTheyAre(t *testing.T) {
	r := newRoom(t, "")
	r.keep(40)
	r.clock.add(10 * time.Second)
	r.keep(40)
	before, _, heads := r.read()
	r.shut() // in no good order: nothing was merged, and the key is gone
	r.open()
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	after, _, headsAfter := r.read()
	if !slices.Equal(ids(before), ids(after)) || len(headsAfter) != len(heads) {
		t.Errorf("%d sessions in %d blocks, before %d in %d", len(after), len(headsAfter), len(before), len(heads))
	}
	if c := r.merger.status(); c.Copied == 0 || c.Merged != 0 {
		t.Errorf("%+v", c)
	}
	if n := r.store.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestMergingIsShedWhileSessionsRushOrTheDiskFillsUp(t *testing.T) {
	for what, c := range map[string]struct {
		prepare func(*merger)
		shed    bool
	}{
		"at ease":               {func(m *merger) {}, false},
		"the disk fills up":     {func(m *merger) { m.low = true }, true},
		"full after a second":   {func(m *merger) { m.turned = m.now().Add(-time.Second) }, true},
		"full after a minute":   {func(m *merger) { m.turned = m.now().Add(-time.Minute) }, false},
		"a failure just before": {func(m *merger) { m.next = m.now().Add(time.Second) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRoom(t, "")
			r.keep(40)
			c.prepare(r.merger)
			if _, err := r.merger.turn(store.Ripe{}); err != nil {
				t.Fatal(err)
			}
			if err := r.merger.step(); err != nil {
				t.Fatal(err)
			}
			if what == "a failure just before" {
				if r.merger.under != nil {
					t.Error("it did not rest")
				}
				return
			}
			<-r.merger.under
			if got := r.merger.status(); got.Shed > 0 != c.shed || got.Merged > 0 == c.shed {
				t.Errorf("%+v", got)
			}
		})
	}
}

// wrongKeys gives the key of another day out.
type wrongKeys struct{ key *vault.DayKey }

func (w wrongKeys) Own(int32, uint64) (*vault.DayKey, bool) { return w.key, true }

// TestABlockThatCannotBeOpenedDoesNotKeepAllFromBeingMerged: after the first
// failure what waits is taken over as it is.
func TestABlockThatCannotBeOpenedDoesNotKeepAllFromBeingMerged(t *testing.T) {
	r := newRoom(t, "")
	r.keep(40)
	r.clock.add(oneDay)
	r.keep(40)
	before, _, _ := r.read()
	key, ok := r.vault.Own(int32(session.DayOf(evening.UnixNano())), r.sessions.shelf.epoch)
	if !ok {
		t.Fatal("no key")
	}
	r.merger.keys = wrongKeys{key}
	for range 2 {
		if err := r.merger.finish(); err != nil {
			t.Fatal(err)
		}
		r.clock.add(lastRetry)
	}
	if c := r.merger.status(); c.Failures != 1 || c.Shed == 0 || r.store.Waiting() != 0 {
		t.Errorf("%+v, %d wait", c, r.store.Waiting())
	}
	if after, _, _ := r.read(); !slices.Equal(ids(before), ids(after)) || len(after) != 80 {
		t.Errorf("%d sessions, before %d", len(after), len(before))
	}
	r.merger.keys = r.vault // and then as before
	r.keep(40)
	if err := r.merger.finish(); err != nil {
		t.Fatal(err)
	}
	if c := r.merger.status(); c.Merged == 0 || c.Failures != 1 {
		t.Errorf("%+v", c)
	}
}
