package tests

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
)

func TestDoctorAndStatusOfAGatewayWithPersonsReportNothingThatIsNotSo(t *testing.T) {
	a := newAffair(t, start(t, gateway.Options{Edit: quickEnds()}))
	ctx := limited(t)
	annas := a.annas(caseOf(t, a.Gateway, 1))
	a.filed("lookup", annas...)
	waits := a.approved("lookup", annas...)
	out, err := a.Gateway.Gateway().Run(ctx, binary, "doctor", "--config", a.Config)
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "FAIL") {
			t.Errorf("%s", line)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	out = strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"ok ownership only root and this user", "ok persons 3 persons: 1 officers, 1 custodians, 1 auditors, 0 operators", "ok approvals 1 of 1 custodian",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the doctor does not say %q: %s", want, out)
		}
	}
	if strings.Contains(out, "warn person") || strings.Contains(out, "warn officers") {
		t.Errorf("the doctor warns of a person: %s", out)
	}
	says(t, a.Gateway, true, "requests   1 wait for approval, 1 to be run\n", "status", "--config", a.Config)
	a.answered(waits)
	says(t, a.Gateway, true, "requests   1 wait for approval, 0 to be run\n", "status", "--config", a.Config)
	a.statusIsFor(map[string]bool{"operator": true, "auditor": true, "officer": false, "custodian": false})
}

// statusIsFor checks who is told how the gateway is, and that who is not is counted.
func (a *affair) statusIsFor(may map[string]bool) {
	a.t.Helper()
	before := until(limited(a.t), a.t, a.Gateway, "it answers", func(*recorder.Status) bool { return true }).Refused.Total
	refused := uint64(0)
	for _, p := range []struct {
		role string
		ask  func() (string, error)
	}{
		{"operator", func() (string, error) { return a.Run(limited(a.t), "status", "--json") }},
		{"auditor", func() (string, error) { return a.RunAs(limited(a.t), a.Office.Auditor, "status", "--json") }},
		{"officer", func() (string, error) { return a.RunAs(limited(a.t), a.Office.Officer, "status", "--json") }},
		{"custodian", func() (string, error) { return a.RunAs(limited(a.t), a.Office.Custodian, "status", "--json") }},
	} {
		var s recorder.Status
		out, err := p.ask()
		if told := err == nil && json.Unmarshal([]byte(out), &s) == nil && s.Gateway == "lab"; told != may[p.role] {
			a.t.Errorf("as %s: %v\n%s", p.role, err, out)
		}
		if strings.Contains(out, "anna") || strings.Contains(out, "case 7") {
			a.t.Errorf("as %s it names somebody:\n%s", p.role, out)
		}
		if !may[p.role] {
			refused++
		}
	}
	if after := until(limited(a.t), a.t, a.Gateway, "it answers", func(*recorder.Status) bool { return true }).Refused.Total; after != before+refused {
		a.t.Errorf("%d were refused, and %d are counted", refused, after-before)
	}
}
