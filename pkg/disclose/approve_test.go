package disclose

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/vault"
)

func TestRequestsThatMayNotBeFiled(t *testing.T) {
	r := annasRoom(t, nil)
	r.policy.Limits = Limits{Window: 48 * time.Hour, MaxHits: 1000}
	for name, c := range map[string]struct {
		spoil func(*Request)
		want  string
	}{
		"no authority":                    {func(r *Request) { r.Authorisation.Authority = " " }, "authority is missing"},
		"no legal basis":                  {func(r *Request) { r.Authorisation.LegalBasis = "" }, "legal basis is missing"},
		"a country of three":              {func(r *Request) { r.Authorisation.Country = "DNK" }, "two capital letters"},
		"another reference":               {func(r *Request) { r.Task.Query.Reference = "other" }, "another reference"},
		"two identifiers":                 {func(r *Request) { r.Task.Query.Address = addr("10.0.0.1").Netip() }, "more than one identifier"},
		"a window too wide":               {func(r *Request) { r.Task.Query.From = at(-49 * time.Hour) }, "longer than 48h"},
		"an end in the future":            {func(r *Request) { r.Task.Query.To = at(time.Hour) }, "ends in the future"},
		"too many hits":                   {func(r *Request) { r.Task.MaxHits = 1001 }, "1 to 1000"},
		"a line break":                    {func(r *Request) { r.Delivery.To = "a\nb" }, "control characters"},
		"a priority of its own":           {func(r *Request) { r.Task.Priority = "now" }, "priority is not known"},
		"what is no answer":               {func(r *Request) { r.Task.Query.Ask = WantVerify }, "what is no answer"},
		"an emergency with one custodian": {func(r *Request) { r.Emergency = "life at stake" }, "there are not two"},
	} {
		o := r.order(askAnna())
		o.Task.MaxHits = 1000
		c.spoil(o)
		if _, err := FileRequest(t.Context(), r.client, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.ledger.Size() != 0 {
		t.Errorf("%d entries", r.ledger.Size())
	}
}

func TestTwoOfThreeMustApproveAndNoneCanBePassedOver(t *testing.T) {
	r := annasRoom(t, nil)
	cora, cleo := testIdentity(t), testIdentity(t)
	r.policy.Approvals = 2
	r.policy.Custodians = append(r.policy.Custodians, Holder{"Cora", cora.pair.Recipient}, Holder{"Cleo", cleo.pair.Recipient})
	second := Caller{Person: "Cora", UID: 103, Custodian: true, Key: cora.pair.Recipient}
	id := r.filed(t, askAnna())
	c, _, err := r.approve(t, id, r.carl(), r.custodian.ids)
	if err != nil || c.State != Filed || len(c.Approvals) != 1 {
		t.Fatalf("%+v %v", c, err)
	}
	l, err := GetRequest(t.Context(), r.client, id)
	if err != nil {
		t.Fatal(err)
	}
	for who, ids := range map[string]*vault.Identities{"the officer": r.officer.ids, "the first custodian": r.custodian.ids} {
		if _, err := vault.OpenSealed(l.Cases[0].SealedGrant, ids); err == nil {
			t.Errorf("%s opens a grant that is approved once", who)
		}
	}
	if _, err := r.run(t, id); !errors.Is(err, ErrNoGrant) {
		t.Errorf("run: %v", err)
	}
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err == nil {
		t.Error("one approved twice")
	}
	r.open()
	if c, _, err = r.approve(t, id, second, cora.ids); err != nil || c.State != Approved {
		t.Fatalf("%+v %v", c, err)
	}
	if f, err := r.run(t, id); err != nil || len(f.Sessions.Hits) != 1 {
		t.Error(err)
	}
}

func TestAnApprovalThatTheLedgerDoesNotTakeHarmsNoOtherOne(t *testing.T) {
	fail := false
	r := annasRoom(t, func(l Ledger) Ledger { return &failing{l, &fail} })
	cora := testIdentity(t)
	r.policy.Approvals = 2
	r.policy.Custodians = append(r.policy.Custodians, Holder{"Cora", cora.pair.Recipient})
	second := Caller{Person: "Cora", UID: 103, Custodian: true, Key: cora.pair.Recipient}
	id := r.filed(t, askAnna())
	if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the agent goes on, and starts again
		fail = true
		if _, _, err := r.approve(t, id, second, cora.ids); !errors.Is(err, ErrAgent) {
			t.Fatalf("without the ledger: %v", err)
		}
		fail = false
		r.open()
	}
	if c, _, err := r.approve(t, id, second, cora.ids); err != nil || c.State != Approved {
		t.Fatalf("%+v %v", c, err)
	}
	if f, err := r.run(t, id); err != nil || len(f.Sessions.Hits) != 1 {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.options.Dir, "*.grant*")); len(left) != 0 {
		t.Errorf("grants are left: %q", left)
	}
}

func TestAnEmergencyNeedsTwoAllTheSameOneOfThemLater(t *testing.T) {
	cora := testIdentity(t)
	for _, ratified := range []bool{true, false} {
		t.Run(fmt.Sprint("ratified ", ratified), func(t *testing.T) {
			r := annasRoom(t, nil)
			r.policy.Approvals = 2
			r.policy.Custodians = append(r.policy.Custodians, Holder{"Cora", cora.pair.Recipient})
			o := r.order(askAnna())
			o.Emergency = "a child is missing"
			f, err := FileRequest(t.Context(), r.client, o)
			if err != nil {
				t.Fatal(err)
			}
			id := f.Case.ID
			if c, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err != nil || c.State != Approved || !c.Emergency {
				t.Fatalf("%+v %v", c, err)
			}
			got, err := r.run(t, id)
			if err != nil || len(got.Sessions.Hits) != 1 {
				t.Fatal(err)
			}
			if _, _, err := r.approve(t, id, r.carl(), r.custodian.ids); err == nil {
				t.Error("one ratified his own approval")
			}
			if ratified {
				second := Caller{Person: "Cora", UID: 103, Custodian: true, Key: cora.pair.Recipient}
				if _, _, err := r.approve(t, id, second, cora.ids); err != nil {
					t.Fatal(err)
				}
			}
			r.now.Add(int64(25 * time.Hour))
			if err := r.gate.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			last := r.entries(t)[r.ledger.Size()-1]
			if got := last.Fields["step"] == stepOverdue; got == ratified {
				t.Errorf("ledger %v", last.Fields)
			}
			if w := r.gate.Status(); (w.Overdue == 1) == ratified {
				t.Errorf("%+v", w)
			}
		})
	}
}
