package disclose

import (
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// begun begins a reading as the agent does, which then hears nothing of it any more.
func (r *gateRoom) begun(t *testing.T, o *opening, by Caller) *reading {
	t.Helper()
	rd, err := r.gate.admit(o, &by)
	if err == nil {
		err = r.gate.intend(httptest.NewRequestWithContext(t.Context(), "POST", PathLookup, nil), rd, &by)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rd
}

func everythingAsked() *Query {
	return &Query{Ask: WantVerify, Reference: "verify", From: at(-time.Hour), To: at(0)}
}

func TestAReadingThatItsAgentDidNotSurviveHasNoOutcomeGiven(t *testing.T) {
	r := annasRoom(t, nil)
	p := r.permit(t, askAnna(), nil)
	if _, _, err := r.approve(t, p.Request, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	for i, o := range []opening{
		{Act: Run, Request: p.Request, Text: p.Text},
		{Act: Preserve, Request: p.Request, Text: p.Text},
		{Act: Verify, Query: everythingAsked()},
	} {
		by := r.carl()
		if o.Act == Run {
			by = r.olga()
		}
		was := r.begun(t, &o, by)
		size := r.ledger.Size()
		r.open() // a start after kill -9
		list := r.entries(t)
		if int64(len(list)) != size+1 {
			t.Fatalf("%s: %d entries more", o.Act, int64(len(list))-size)
		}
		last := list[size]
		if last.Kind != ledger.Outcome || last.Fields[FieldResult] != "no outcome given" || last.Fields[FieldIntent] != strconv.FormatInt(was.intent, 10) ||
			last.Fields[FieldAct] != string(o.Act) || last.Fields[FieldAction] != list[was.intent].Fields[FieldAction] ||
			last.Fields[FieldRequest] != list[was.intent].Fields[FieldRequest] {
			t.Errorf("reading %d: %+v", i, last)
		}
		r.open()
		if n := r.ledger.Size(); n != size+1 {
			t.Errorf("%s: the second start wrote %d more", o.Act, n-size-1)
		}
	}
	if f, err := r.run(t, p.Request); err != nil || len(f.Sessions.Hits) != 1 {
		t.Errorf("the request cannot be run any more: %v", err)
	}
}

func TestAReadingOfThisAgentIsNotEndedWhenTheLedgerIsReadAgain(t *testing.T) {
	r := annasRoom(t, nil)
	r.begun(t, &opening{Act: Verify, Query: everythingAsked()}, r.carl())
	size := r.ledger.Size()
	r.gate.desk.broken = errNoCase
	if err := r.gate.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.ledger.Size(); n != size {
		t.Errorf("%v", r.entries(t)[size].Fields)
	}
}
