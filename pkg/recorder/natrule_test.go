package recorder

import (
	"net/netip"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

func TestRulesBeginAndEndWithTheConfiguration(t *testing.T) {
	now := evening
	rules := []config.NATRule{
		{Public: netip.MustParsePrefix("203.0.113.0/28"), Rule: "one"},
		{Public: netip.MustParsePrefix("203.0.113.16/28"), Rule: "two", From: now.Add(-48 * time.Hour), Until: now.Add(time.Hour)},
		{Public: netip.MustParsePrefix("203.0.113.32/28"), Rule: "later", From: now.Add(time.Hour)},
	}
	first := ruleEvents(rules, nil, now)
	if len(first) != 2 || first[0].Kind != identity.Start || first[1].Held != 48*time.Hour || first[1].Until != now.Add(time.Hour).UnixNano() {
		t.Fatalf("%+v", first)
	}
	var inForce []session.Binding
	for i := range first {
		if err := first[i].Validate(); err != nil {
			t.Fatal(err)
		}
		inForce = append(inForce, session.Binding{
			Source: session.SourceNAT, SourceName: ruleSource, SourceKey: first[i].SourceKey(), Prefix: first[i].Leases[0].Prefix, Rule: first[i].Leases[0].Rule,
		})
	}
	if again := ruleEvents(rules, inForce, now.Add(time.Minute)); len(again) != 0 {
		t.Errorf("nothing is new: %+v", again)
	}
	gone := ruleEvents(rules[:1], inForce, now.Add(time.Minute))
	if len(gone) != 1 || gone[0].Kind != identity.Stop || gone[0].SourceKey() != first[1].SourceKey() {
		t.Errorf("%+v", gone)
	}
}

func TestRulesAreCheckedBeforeAnythingIsRecorded(t *testing.T) {
	const text = "inside=100.64.0.0/24 outside=203.0.113.0/30 ports=1024-65535 per-host=1008"
	for name, c := range map[string]struct {
		public, rule string
		ok           bool
	}{
		"good":               {"203.0.113.0/30", text, true},
		"as in the sample":   {"203.0.113.0/28", "inside=100.64.0.0/22 outside=203.0.113.0/28 ports=1024-65535 per-host=1008", true},
		"of other addresses": {"203.0.113.0/29", text, false},
		"no rule":            {"203.0.113.0/30", "half of the ports", false},
	} {
		err := CheckRules([]config.NATRule{{Public: netip.MustParsePrefix(c.public), Rule: c.rule}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
