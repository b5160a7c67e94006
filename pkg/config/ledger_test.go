package config

import (
	"strings"
	"testing"
	"time"
)

func TestAWitnessIsAFileOutsideOrSyslog(t *testing.T) {
	for _, c := range []struct {
		section string
		want    string // the witnesses, or what is wrong
		every   time.Duration
	}{
		{"", "", 24 * time.Hour},
		{`witness = ["syslog"]`, "syslog", 24 * time.Hour},
		{"witness = [\"file:/mnt/w\", \"syslog\"]\nwitness_every = \"1h\"", "file:/mnt/w syslog", time.Hour},
		{`witness = ["file:w"]`, "file:/etc/edgelog/w", 24 * time.Hour},
		{`witness = ["file:"]`, `"file:" is not known`, 0},
		{`witness = ["mail"]`, `"mail" is not known`, 0},
		{`witness = ["/mnt/w"]`, `"/mnt/w" is not known`, 0},
		{`witness = ["syslog", "syslog"]`, `names "syslog" twice`, 0},
		{`witness = ["file:data/w"]`, "lies in data_dir", 0},
		{`witness_every = "1s"`, "it must be from 1m0s to 744h0m0s", 0},
		{`mail = "x"`, "is not a known key", 0},
	} {
		got, err := Parse([]byte(strings.Replace(good, "[store]", "[ledger]\n"+c.section+"\n[store]", 1)), "/etc/edgelog/edgelog.toml")
		switch {
		case c.every == 0:
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: got %v, want %q", c.section, err, c.want)
			}
		case err != nil:
			t.Errorf("%q: %v", c.section, err)
		case strings.Join(got.Ledger.Witness, " ") != c.want || got.Ledger.Every != c.every:
			t.Errorf("%q: %+v", c.section, got.Ledger)
		}
	}
}
