package disclose

import (
	"cmp"
	"context"
	"testing"
	"time"
)

func later(d time.Duration) func(*gateRoom) { return func(r *gateRoom) { r.now.Add(int64(d)) } }

// called is somebody as the configuration has him now: a custodian, and what is not
// 0 is new.
func called(c Caller, name string, uid uint32) Caller {
	c.Person, c.Custodian, c.UID = name, true, cmp.Or(uid, c.UID)
	return c
}

// wrongSteps are what somebody may not do, or not at that time.
var wrongSteps = map[string]struct {
	by          func(r *gateRoom) Caller
	approved    bool
	before      func(*gateRoom)
	act         string
	words, why  string
	stillIsGood bool
}{
	"an operator approves":     {func(*gateRoom) Caller { return Caller{Operator: true} }, false, nil, "approve", `role "custodian"`, "no custodian", true},
	"an officer approves":      {(*gateRoom).olga, false, nil, "approve", `role "custodian"`, "no custodian", true},
	"who filed it approves it": {func(r *gateRoom) Caller { c := r.olga(); c.Custodian = true; return c }, false, nil, "approve", "who filed a request cannot approve it", "self-approval", true},
	"who filed it approves it under another name": {func(r *gateRoom) Caller { return called(r.olga(), "Olivia", 0) }, false, nil, "approve",
		"who filed a request cannot approve it", "self-approval", true},
	"who filed it approves it with another name and uid": {func(r *gateRoom) Caller { return called(r.olga(), "Olivia", 200) }, false, nil, "approve",
		"who filed a request cannot approve it", "self-approval", true},
	"who filed it approves it with another name and key": {func(r *gateRoom) Caller { c := called(r.olga(), "Olivia", 0); c.Key = "age1other"; return c }, false, nil, "approve",
		"who filed a request cannot approve it", "self-approval", true},
	"approved again under another name": {func(r *gateRoom) Caller { return called(r.carl(), "Charles", 0) }, true, nil, "approve", "", "approved twice", true},
	"a lapsed custodian approves":       {func(r *gateRoom) Caller { return Caller{Person: "Carl", Lapsed: true} }, false, nil, "approve", "clearance is over", "clearance over", true},
	"approved too late":                 {(*gateRoom).carl, false, later(15 * 24 * time.Hour), "approve", "was not approved by", "expired", false},
	"approved twice by one":             {(*gateRoom).carl, true, nil, "approve", "is approved, so it is not approved", "approved twice", true},
	"run before it is approved":         {(*gateRoom).olga, false, nil, "run", "needs to be approved", "not approved", true},
	"run by another officer":            {func(r *gateRoom) Caller { c := r.olga(); c.Person = "Otto"; return c }, true, nil, "run", "filed by another person", "not his", true},
	"run by a custodian":                {(*gateRoom).carl, true, nil, "run", `role "officer"`, "no officer", true},
	"run by a lapsed officer":           {func(r *gateRoom) Caller { return Caller{Person: "Olga", Lapsed: true} }, true, nil, "run", "clearance is over", "clearance over", true},
	"run too late":                      {(*gateRoom).olga, true, later(73 * time.Hour), "run", "the approval of request 0 is over", "expired", false},
	"the clock goes back to before": {(*gateRoom).olga, true, func(r *gateRoom) {
		r.now.Add(int64(73 * time.Hour))
		_, _ = ListRequests(context.Background(), r.client)
		_ = r.gate.Tick(context.Background())
		r.now.Add(-int64(73 * time.Hour))
	}, "run", "is expired", "state expired", false},
	"withdrawn by another":       {(*gateRoom).carl, true, nil, "withdraw", "filed by another person", "not his", true},
	"refused by who filed it":    {(*gateRoom).olga, false, nil, "refuse", `role "custodian"`, "no custodian", true},
	"refused when approved":      {(*gateRoom).carl, true, nil, "refuse", "is not refused any more", "state approved", true},
	"held by who filed it":       {func(r *gateRoom) Caller { c := r.olga(); c.Custodian = true; return c }, true, nil, "hold", "cannot hold its records", "his own", true},
	"held before it is approved": {(*gateRoom).carl, false, nil, "hold", "records are held for one that was approved", "state filed", true},
	"read for no request":        {(*gateRoom).carl, false, nil, "look", "needs an approved request", "no request", true},
}

func TestEachStepIsForItsPersonAndItsTime(t *testing.T) {
	for name, c := range wrongSteps {
		t.Run(name, func(t *testing.T) {
			r := annasRoom(t, nil)
			p := r.permit(t, askAnna(), r.custodian.ids)
			if c.approved {
				if _, _, err := r.approve(t, p.Request, r.carl(), r.custodian.ids); err != nil {
					t.Fatal(err)
				}
			}
			r.as(r.carl())
			handed := r.shelf.handed
			if c.before != nil {
				c.before(r)
			}
			r.as(c.by(r))
			err := r.attempt(t, c.act, p)
			if c.why == "approved twice" {
				c.words = "approved request 0 already"
			}
			r.denied(t, err, c.words, c.why)
			if r.shelf.handed != handed {
				t.Error("something was handed out")
			}
			if !c.stillIsGood {
				return
			}
			if !c.approved {
				if _, _, err := r.approve(t, p.Request, r.carl(), r.custodian.ids); err != nil {
					t.Fatal(err)
				}
			}
			if f, err := r.run(t, p.Request); err != nil || len(f.Sessions.Hits) != 1 {
				t.Errorf("who may is not answered: %v", err)
			}
		})
	}
}

// attempt does something with a request of which somebody has the text.
func (r *gateRoom) attempt(t *testing.T, act string, p *Permit) error {
	ctx := t.Context()
	var err error
	switch act {
	case "approve":
		if _, err = takeStep(ctx, r.client, p.Request, stepApprove, &Step{Text: p.Text, Grant: []byte("x")}); err == nil {
			return nil
		}
		if _, _, again := Read(ctx, r.client, p); again == nil {
			t.Error("it was read all the same")
		}
	case "withdraw", "refuse":
		_, err = takeStep(ctx, r.client, p.Request, act, &Step{Text: p.Text, Reason: "because"})
	case "run", "hold", "look":
		q := *p
		q.Act, q.Grant = Act(act), &Grant{}
		_, _, err = Read(ctx, r.client, &q)
	}
	return err
}
