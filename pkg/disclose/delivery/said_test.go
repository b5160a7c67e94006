package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// everywhere returns where a text stands: in the manifest, on the page, and in what is
// shown of a package that was verified.
func (d *desk) everywhere(text string) (manifest, page, shown bool) {
	d.t.Helper()
	z := d.zip()
	r, err := Verify(bytes.NewReader(z), Options{})
	d.ok(err)
	return bytes.Contains(member(d.t, z, manifestName), []byte(text)), strings.Contains(string(member(d.t, z, summaryName)), text),
		strings.Contains(strings.Join(append(r.Lines(), r.Proof()...), "\n"), text)
}

func TestAPackageIsMadeOfNothingFound(t *testing.T) {
	who, access, calls := sampleWho(), sampleAccess(), sampleCommunications()
	who.Candidates, who.Verdict, who.Reason = nil, disclose.NotKnown, "nobody is known to have held it at that time"
	access.Records, access.Names = nil, nil
	calls.Communications, calls.Names = nil, nil
	for kind, d := range map[string]*desk{
		kindSessions: newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil), kindWho: newDesk(t, nil, who, nil), kindAccess: newDesk(t, nil, nil, access),
		kindCommunications: exchangeDesk(t, calls),
	} {
		t.Run(kind, func(t *testing.T) {
			z := d.zip()
			r, err := Verify(bytes.NewReader(z), Options{PublicKey: d.ledger.VerifierKey()})
			if err != nil || r.Manifest.Answer.Found != 0 || r.Manifest.Answer.Delivered != 0 || r.Manifest.Answer.LimitReached || len(r.Manifest.Answer.Incomplete) > 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			if rows := readCSV(t, put(t, "a.csv", member(t, z, kind+".csv"))); len(rows) != 1 {
				t.Errorf("%d rows", len(rows))
			}
			if b := member(t, z, kind+".jsonl"); len(b) > 0 {
				t.Errorf("%q", b)
			}
			root := parse(t, member(t, z, "response.xml"))
			if n := len(root.all("ResponseRecord")); n != 0 || root.first("retainedDataPayload/responseMessage/responseStatus") != "responseComplete" {
				t.Errorf("%d records", n)
			}
			if page := string(r.Summary()); !strings.Contains(page, "0 "+strings.TrimPrefix(d.noun(), "0 ")+"; delivered: 0") || strings.Contains(page, "<table class=\"rows\">") {
				t.Errorf("the page:\n%s", page)
			}
		})
	}
}

func (d *desk) noun() string {
	f, err := take(&d.in)
	d.ok(err)
	return f.noun(0)
}

func TestTheAnswerIsAsOfTheApprovalAndWhatCameLaterIsSaid(t *testing.T) {
	for kind, d := range kinds(t) {
		s := d.summary()
		s.AsOf = "2025-03-01T12:34:56.789Z"
		if m, page, shown := d.everywhere(s.AsOf); !m || !page || !shown {
			t.Errorf("%s: as of is not said: %v %v %v", kind, m, page, shown)
		}
		if m, page, shown := d.everywhere("stored later"); m || page || shown {
			t.Errorf("%s: nothing was stored later: %v %v %v", kind, m, page, shown)
		}
		s.Newer = 7
		if m, page, shown := d.everywhere("7 blocks of the window were stored later, and what is in there is not in this answer"); !m || !page || !shown {
			t.Errorf("%s: what was stored later is not said: %v %v %v", kind, m, page, shown)
		}
		if got := d.build().Manifest().Answer; len(got.Incomplete) > 0 {
			t.Errorf("%s: %q: the answer is all that was approved", kind, got.Incomplete)
		}
	}
}

func (d *desk) summary() *disclose.Summary {
	f := disclose.Found{Sessions: d.in.Sessions, Who: d.in.Who, Access: d.in.Access, Communications: d.in.Communications}
	return f.Summary()
}

func TestHowManyApprovedIsInTheManifestAndVerified(t *testing.T) {
	emergency := func(r *disclose.Request) { r.Emergency = "a child is missing" }
	due := session.FormatTime(noon.Add(24 * time.Hour).UnixNano())
	for _, c := range []struct {
		name       string
		change     func(*disclose.Request)
		have, must int
		said       string
		loud       bool
	}{
		{"one who must", nil, 1, 1, "1 of 1 approvals", false},
		{"two of two", nil, 2, 2, "2 of 2 approvals", false},
		{"an emergency with one", emergency, 1, 1, "READ WITH 1 APPROVAL OF 2: ANOTHER CUSTODIAN HAD UNTIL " + due, true},
		{"an emergency with both", emergency, 2, 1, "2 of 2 approvals", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			change := []func(*disclose.Request){}
			if c.change != nil {
				change = append(change, c.change)
			}
			d := newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil, change...)
			d.approve(c.have, c.must)
			r, err := Verify(bytes.NewReader(d.zip()), Options{})
			d.ok(err)
			q := &r.Manifest.Request
			if q.Approvals != c.have || q.ApprovalsNeeded != max(c.must, 1+btoi(c.change != nil)) || r.Needed != q.ApprovalsNeeded || r.Emergency != d.in.Request.Emergency || (r.Due == due) != c.loud {
				t.Errorf("%+v\n%+v", q, r)
			}
			if _, page, shown := d.everywhere(c.said); !page || !shown {
				t.Errorf("%q is not said: %v %v", c.said, page, shown)
			}
			if _, page, _ := d.everywhere("READ WITH"); page != c.loud {
				t.Error("it is loud, or it is not")
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestAManifestThatSaysOtherThingsOfTheApprovalsIsRefused: the officer's process writes
// the manifest, and the ledger says what is so.
func TestAManifestThatSaysOtherThingsOfTheApprovalsIsRefused(t *testing.T) {
	emergency := func(r *disclose.Request) { r.Emergency = "a child is missing" }
	for name, c := range map[string]struct {
		change     []func(*disclose.Request)
		have, must int
		lie        func(*RequestFacts)
		want       string
	}{
		"no emergency":        {[]func(*disclose.Request){emergency}, 1, 1, func(q *RequestFacts) { q.Emergency = "" }, "an emergency"},
		"an emergency":        {nil, 1, 1, func(q *RequestFacts) { q.Emergency = "hurry" }, "an emergency"},
		"one more approval":   {nil, 1, 1, func(q *RequestFacts) { q.Approvals = 2 }, "2 approvals and there are 1"},
		"fewer are needed":    {[]func(*disclose.Request){emergency}, 1, 1, func(q *RequestFacts) { q.ApprovalsNeeded, q.Ratify = 1, "" }, "other things"},
		"nothing of it":       {nil, 2, 2, func(q *RequestFacts) { q.Approvals, q.ApprovalsNeeded = 0, 0 }, "other things"},
		"another time":        {[]func(*disclose.Request){emergency}, 1, 1, func(q *RequestFacts) { q.Ratify = "2030-01-01T00:00:00.000Z" }, "other things"},
		"too few have":        {nil, 1, 2, func(*RequestFacts) {}, "2 are needed"},
		"nothing but a claim": {nil, 0, 1, func(q *RequestFacts) { q.Approvals, q.ApprovalsNeeded = 0, 1 }, "nobody approved"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, &disclose.Answer{Summary: sampleSummary(0)}, nil, nil, c.change...)
			d.approve(c.have, c.must)
			p := d.build()
			c.lie(&p.manifest.Request)
			var err error
			p.text, err = encode(&p.manifest)
			d.ok(err)
			var b bytes.Buffer
			if err := p.write(&b, d.receipt(p)); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("sealed: %v", err)
			}
		})
	}
}

func TestAHoldThatAnAnswerRestsOnIsSaid(t *testing.T) {
	for kind, d := range kinds(t) {
		if kind == kindCommunications {
			continue // none is held
		}
		d.summary().Holds = []uint64{41}
		if m, page, shown := d.everywhere("41"); !m || !page || !shown {
			t.Errorf("%s: %v %v %v", kind, m, page, shown)
		}
	}
}

func TestAPackageOfCommunicationsSaysWhereTheyComeFrom(t *testing.T) {
	d := exchangeDesk(t, sampleCommunications(), func(r *disclose.Request) { r.Task.Query.Number, r.Task.Query.Subscriber = "", "anna" })
	z := d.zip()
	var m Manifest
	d.ok(json.Unmarshal(member(t, z, manifestName), &m))
	r := &m.Recording
	if r.Definition != "" || !strings.Contains(r.DefinitionOfCommunication, "no coverage of packets") || r.Coverage != nil || r.WorstClockErrorMicro != -1 || len(r.Profiles) != 0 || r.LegalBasis != "" {
		t.Errorf("%+v", r)
	}
	if r.Imports == nil || len(r.Imports.Files) != 1 || r.Imports.Files[0].Records != 77 || !slices.Equal(r.Imports.Without, []string{"mail of 2025-03-01"}) {
		t.Errorf("%+v", r.Imports)
	}
	if slices.ContainsFunc(m.Members, func(m Member) bool { return strings.HasSuffix(m.Name, ".ipfix") }) || len(m.Members) != 5 {
		t.Errorf("%+v", m.Members)
	}
	read := string(member(t, z, "README.txt"))
	for want, there := range map[string]bool{
		"There is no IPFIX file": true, "IPFIX has no elements for": true, `"imports"`: true, "what a communication is": true, "communications.ipfix": false, "tshark": false, "what a session is": false,
	} {
		if strings.Contains(read, want) != there {
			t.Errorf("README.txt: %q: %v\n%s", want, !there, read)
		}
	}
	for _, text := range []string{"2 lines were bad and LEFT OUT", "NOTHING was imported of mail of 2025-03-01", "own records of calls"} {
		if _, page, shown := d.everywhere(text); !page || !shown {
			t.Errorf("%q is not said: %v %v", text, page, shown)
		}
	}
	if m.Request.Identifier != "subscriber" || exchangeDesk(t, sampleCommunications()).build().Manifest().Request.Identifier != "number" || identifierKind(&disclose.Query{Mail: "a@b"}) != "mail address" {
		t.Error("the kind of the identifier")
	}
	d.in.Communications.Imports = nil
	if _, page, shown := d.everywhere("NOT KNOWN"); !page || !shown {
		t.Error("that the imports are not known is not said")
	}
	d.in.Communications.Imports = &disclose.Imports{Files: []disclose.ImportedFile{}}
	if got := d.build().Manifest().Answer.Incomplete; len(got) != 1 || !strings.Contains(got[0], "was imported") {
		t.Errorf("nothing was imported: %q", got)
	}
	d.in.Communications.Summary.Limited = true
	if got := d.build().Manifest().Answer.Incomplete; !strings.Contains(got[0], "communications that an answer holds") {
		t.Errorf("%q", got)
	}
}

func TestAPackageHoldsTheAnswerThatWasAskedFor(t *testing.T) {
	for kind, d := range kinds(t) {
		d.in.Communications, d.in.Sessions, d.in.Who, d.in.Access = sampleCommunications(), nil, nil, nil
		if _, err := Build(d.in); kind != kindCommunications && !errors.Is(err, ErrInput) {
			t.Errorf("communications for %s: %v", kind, err)
		}
		d.in.Sessions = &disclose.Answer{}
		if _, err := Build(d.in); !errors.Is(err, ErrInput) {
			t.Errorf("two answers for %s: %v", kind, err)
		}
	}
}
