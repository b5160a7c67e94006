package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// printLedger says how the ledger fares, and those outside who know it.
func printLedger(w io.Writer, l *recorder.LedgerStatus) {
	bad := ""
	switch {
	case l.Doubt != "":
		bad = ", CANNOT BE TRUSTED"
	case !l.OK:
		bad = ", CANNOT BE WRITTEN"
	}
	fmt.Fprintf(w, "ledger     %s%s%s\n", plural(uint64(l.Entries), "entry"), bad, unless(l.Waiting == 0, fmt.Sprintf(", %d wait", l.Waiting)))
	if l.Doubt != "" {
		fmt.Fprintf(w, "           %s\n", l.Doubt)
	}
	for _, x := range l.Witness {
		state := "not yet sent"
		if !x.Last.IsZero() {
			state = fmt.Sprintf("%s, sent %s", plural(uint64(x.Size), "entry"), stamp(x.Last))
		}
		fmt.Fprintf(w, "witness    %s: %s%s\n", x.To, state, unless(x.OK, "; NOT REACHED: "+x.Text))
	}
}

// checkWitness finds out whether anybody outside the gateway knows the ledger.
func (d *doctor) checkWitness(l *recorder.LedgerStatus) {
	if len(d.conf.Ledger.Witness) == 0 {
		d.warn("ledger witness", "none: whoever can write data_dir could put an older ledger back unseen",
			"set ledger.witness, or send checkpoints yourself: edgelog audit witness")
		return
	}
	if l == nil {
		d.ok("ledger witness", strings.Join(d.conf.Ledger.Witness, ", "))
		return
	}
	for _, x := range l.Witness {
		switch {
		case !x.OK:
			d.fail("ledger witness", x.To+": "+x.Text, "put it right: until then a ledger that is put back might not be noticed")
		case x.Last.IsZero():
			d.ok("ledger witness", x.To+": not yet sent by this agent")
		default:
			d.ok("ledger witness", fmt.Sprintf("%s: %s, sent %s", x.To, plural(uint64(x.Size), "entry"), stamp(x.Last)))
		}
	}
}
