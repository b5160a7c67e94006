package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTranslationsAreReadAndChecked(t *testing.T) {
	c, err := Parse([]byte(good+`
[nat]
conntrack = true
receive_buffer = "8MiB"
translations = 4096
[nat.ipfix]
listen = ["192.0.2.7:4739"]
exporters = ["192.0.2.5", "2001:db8::/64"]
[[nat.rule]]
public = "203.0.113.0/28"
rule = "a rule"
from = 2025-03-01T00:00:00Z
until = "2025-04-01T00:00:00+01:00"
[[nat.rule]]
public = "203.0.113.0/28"
rule = "another"
from = "2025-04-01T00:00:00Z"
`), "/etc/x.toml")
	if err != nil {
		t.Fatal(err)
	}
	n := c.NAT
	if !n.Enabled() || n.ReceiveBuffer != 8<<20 || n.Translations != 4096 || len(n.IPFIX.Exporters) != 2 || n.IPFIX.Exporters[0] != netip.MustParsePrefix("192.0.2.5/32") {
		t.Errorf("%+v", n)
	}
	if len(n.Rules) != 2 || !n.Rules[0].Until.Equal(time.Date(2025, 3, 31, 23, 0, 0, 0, time.UTC)) || !n.Rules[1].Until.IsZero() {
		t.Errorf("%+v", n.Rules)
	}
	if c, err := Parse([]byte(good), "/etc/x.toml"); err != nil || c.NAT.Enabled() {
		t.Errorf("followed although nobody said so: %v", err)
	}
}

func TestWhatIsWrongWithTranslationsIsSaid(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a tiny buffer":        {"[nat]\nreceive_buffer = 100", "nat.receive_buffer is 100 bytes"},
		"nobody may send":      {"[nat.ipfix]\nlisten = [\"192.0.2.7:4739\"]", "nat.ipfix.listen is set, but no translator may send"},
		"every address":        {"[nat.ipfix]\nlisten = [\"0.0.0.0:4739\"]\nexporters = [\"192.0.2.1\"]", "is every address"},
		"not an address":       {"[nat.ipfix]\nexporters = [\"gw\"]", `"gw" is not an address or prefix`},
		"a rule of nothing":    {"[[nat.rule]]", "public is missing"},
		"a rule without text":  {"[[nat.rule]]\npublic = \"203.0.113.0/28\"", "rule is missing"},
		"a time that is none":  {"[[nat.rule]]\npublic = \"203.0.113.1\"\nrule = \"r\"\nfrom = \"soon\"", "must be a time"},
		"an end before":        {"[[nat.rule]]\npublic = \"203.0.113.1\"\nrule = \"r\"\nfrom = \"2025-03-02T00:00:00Z\"\nuntil = \"2025-03-01T00:00:00Z\"", "until is not after from"},
		"two rules at once":    {"[[nat.rule]]\npublic = \"203.0.113.0/28\"\nrule = \"r\"\n[[nat.rule]]\npublic = \"203.0.113.1\"\nrule = \"s\"", "overlaps with another rule"},
		"an unknown key":       {"[nat]\nconntrak = true", `did you mean "conntrack"`},
		"few translations":     {"[nat]\ntranslations = 5", "nat.translations"},
		"a key of a rule":      {"[[nat.rule]]\npublic = \"203.0.113.1\"\nrule = \"r\"\nfoo = 1", "foo is not a known key"},
		"a switch that is not": {"[nat]\nconntrack = \"yes\"", "nat.conntrack"},
	} {
		if _, err := Parse([]byte(good+"\n"+c.text+"\n"), "/etc/x.toml"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
