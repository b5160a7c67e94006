package config

import (
	"path/filepath"
	"strings"
	"time"
)

// Ledger says to whom outside the gateway the checkpoints of the ledger are sent:
// with one of them, nobody can cut, fork or put back the ledger unseen.
type Ledger struct {
	Witness []string      // "file:/absolute/path" or "syslog"
	Every   time.Duration // between two checkpoints
}

// WitnessFile begins the word of a witness that is a file.
const WitnessFile = "file:"

func defaultLedger() Ledger { return Ledger{Every: 24 * time.Hour} }

func (l *Ledger) read(t *table) {
	var words []string
	t.strs("witness", &words)
	t.duration("witness_every", &l.Every, time.Minute, 31*24*time.Hour)
	seen := map[string]bool{}
	for _, w := range words {
		path, isFile := strings.CutPrefix(w, WitnessFile)
		if isFile && path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(t.r.path), path)
			w = WitnessFile + path
		}
		switch {
		case isFile && (path == "" || strings.ContainsRune(path, 0)), !isFile && w != "syslog":
			t.r.add(t.key("witness"), quoted(w)+" is not known", `use "file:/mnt/witness/checkpoints" or "syslog"`)
		case seen[w]:
			t.r.add(t.key("witness"), "names "+quoted(w)+" twice", "leave one of them out")
		default:
			l.Witness = append(l.Witness, w)
		}
		seen[w] = true
	}
	t.done()
}

// checkLedger wants a witness outside of what it is to watch over.
func (c *Config) checkLedger(r *reader) {
	for _, w := range c.Ledger.Witness {
		path, isFile := strings.CutPrefix(w, WitnessFile)
		if rel, err := filepath.Rel(c.DataDir, path); isFile && err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			r.add("ledger.witness", quoted(w)+" lies in data_dir", "choose a place that whoever can write the ledger cannot write, such as a mount of another machine")
		}
	}
}

const ledgerSample = `[ledger]
# Where checkpoints of the ledger are sent, so that nobody can cut it, fork it or put an old copy of it back unseen: files
# that others keep, such as on a mount of another machine ("file:/mnt/witness/checkpoints"), and "syslog". Empty: nowhere.
# "edgelog audit verify --against FILE" compares. Under systemd, give the folder of a file to the unit: ReadWritePaths=.
witness = []
witness_every = "24h"
`
