package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMetricsMayBeReadOnThisMachineAndWithExposeByOthers(t *testing.T) {
	for _, c := range []struct{ section, want string }{
		{"", ""},
		{`listen = ""`, ""},
		{`listen = "127.0.0.1:9477"`, "127.0.0.1:9477"},
		{`listen = "127.8.8.8:9477"`, "127.8.8.8:9477"},
		{`listen = "[::1]:9477"`, "[::1]:9477"},
		{`listen = "[::ffff:127.0.0.1]:9477"`, "[::ffff:127.0.0.1]:9477"},
		{"listen = \"192.0.2.7:9477\"\nexpose = true", "192.0.2.7:9477"},
		{"listen = \"0.0.0.0:9477\"\nexpose = true", "0.0.0.0:9477"},
	} {
		got, err := Parse([]byte(strings.Replace(good, "[store]", "[metrics]\n"+c.section+"\n[store]", 1)), "/etc/edgelog/edgelog.toml")
		if err != nil {
			t.Errorf("%q: %v", c.section, err)
			continue
		}
		if at := got.Metrics.Listen; at.IsValid() != (c.want != "") || at.IsValid() && at != netip.MustParseAddrPort(c.want) {
			t.Errorf("%q: listens on %v", c.section, at)
		}
	}
}
