package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// auditReport is what "audit verify --json" prints.
type auditReport struct {
	Origin  string  `json:"origin"`
	Entries int64   `json:"entries"`
	Root    string  `json:"root"`
	Key     string  `json:"public_key"`
	OwnKey  bool    `json:"public_key_from_agent"` // and not from whoever verifies
	First   string  `json:"first,omitempty"`
	Last    string  `json:"last,omitempty"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	PerSec  float64 `json:"entries_per_second"`

	Back     []auditBack     `json:"time_goes_back"`
	Against  []auditCompared `json:"against"`
	Faults   []string        `json:"faults"`
	Witness  int             `json:"checkpoints_compared"`
	OfOthers int             `json:"checkpoints_of_other_ledgers"`
}

type auditBack struct {
	Entry     int64  `json:"entry"`
	From      string `json:"from"`
	To        string `json:"to"`
	Explained bool   `json:"explained"`
}

type auditCompared struct {
	File    string `json:"file"`
	Number  int    `json:"number"` // of the checkpoint in it, 1 for the first
	Entries int64  `json:"entries"`
	Fault   string `json:"fault,omitempty"`
}

func (a *auditor) verify() error {
	begin := time.Now()
	found, err := a.r.Verify(a.c.Context)
	took := time.Since(begin)
	cp := a.r.Checkpoint()
	out := &auditReport{
		Origin: cp.Origin, Entries: cp.Size, Root: base64.StdEncoding.EncodeToString(cp.Root[:]), Key: a.r.VerifierKey(), OwnKey: a.own,
		Seconds: took.Seconds(), PerSec: float64(cp.Size) / took.Seconds(), Back: []auditBack{}, Against: []auditCompared{}, Faults: []string{},
	}
	var first error
	fault := func(err error) {
		if first == nil {
			first = err
		}
		out.Faults = append(out.Faults, err.Error())
	}
	if err != nil {
		if a.c.Context.Err() != nil {
			return a.c.Context.Err()
		}
		fault(auditError(err))
	} else {
		out.tell(found, fault)
	}
	for _, file := range a.c.StringSlice("against") {
		if err := a.against(file, out, fault); err != nil {
			return err
		}
	}
	if a.c.Bool("json") {
		if err := printJSON(a.c.App.Writer, out); err != nil {
			return err
		}
	} else if err := a.printReport(out, found); err != nil {
		return err
	}
	if len(out.Faults) > 1 && !a.c.Bool("json") {
		for _, f := range out.Faults[1:] {
			warn(a.c, "%s", f)
		}
	}
	return first
}

// tell takes over what was found in a ledger that is whole.
func (out *auditReport) tell(found *ledger.Report, fault func(error)) {
	out.Bytes = found.Bytes
	if found.Checkpoint.Size > 0 {
		out.First, out.Last = stamp(found.First), stamp(found.Last)
	}
	for _, b := range found.Back {
		out.Back = append(out.Back, auditBack{b.Index, stamp(b.From), stamp(b.To), b.Explained})
		if !b.Explained {
			fault(fail(fmt.Errorf("entry %d: its time %s is before that of the entry before it, %s, and no entry says that the clock was set", b.Index, stamp(b.To), stamp(b.From))).
				hint("ask what happened to the gateway's clock then"))
		}
	}
}

// against compares the ledger with the checkpoints in a file.
func (a *auditor) against(file string, out *auditReport, fault func(error)) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fail(fmt.Errorf("read checkpoints %q: %w", file, cause(err)))
	}
	notes, others := ledger.FindCheckpoints(text, a.r.Checkpoint().Origin)
	out.OfOthers += others
	if len(notes) == 0 {
		fault(fail(fmt.Errorf("%q holds no checkpoint of the ledger %q", file, a.r.Checkpoint().Origin)).
			hint("of other ledgers it holds %d; it may be mail, a log, or checkpoints one behind the other", others))
	}
	for i, c := range a.r.Against(notes) {
		x := auditCompared{File: file, Number: i + 1, Entries: c.Size}
		if c.Err != nil {
			x.Fault = c.Err.Error()
			fault(auditError(fmt.Errorf("%s, checkpoint %d: %w", file, i+1, c.Err)))
		}
		out.Against = append(out.Against, x)
	}
	out.Witness += len(notes)
	return nil
}

func (a *auditor) printReport(out *auditReport, found *ledger.Report) error {
	w := new(strings.Builder)
	fmt.Fprintf(w, "ledger     %s: %s", out.Origin, plural(uint64(out.Entries), "entry"))
	if out.First != "" {
		fmt.Fprintf(w, ", %s to %s", out.First, out.Last)
	}
	fmt.Fprintf(w, "\nroot hash  %s\n", out.Root)
	from := "as you gave it"
	if out.OwnKey {
		from = "as the agent itself gave it; with --public-key it is checked against the one that you hold"
	}
	fmt.Fprintf(w, "key        %s, %s\n", out.Key, from)
	if found != nil {
		fmt.Fprintf(w, "verified   %s of %s in %.3f s: %.0f a second; signature, tree and tiles agree\n", plural(uint64(out.Entries), "entry"),
			bytesText(uint64(out.Bytes)), out.Seconds, out.PerSec)
	}
	for _, b := range out.Back {
		if b.Explained {
			fmt.Fprintf(w, "clock      set back at entry %d, from %s to %s, as the ledger says itself\n", b.Entry, b.From, b.To)
		}
	}
	good := map[string]int{}
	for _, x := range out.Against {
		if x.Fault == "" {
			good[x.File]++
		}
	}
	for _, file := range a.c.StringSlice("against") {
		fmt.Fprintf(w, "against    %s: the ledger goes on from %s\n", file, plural(uint64(good[file]), "checkpoint"))
	}
	if len(out.Faults) == 0 {
		fmt.Fprintln(w, "all is well")
	} else {
		fmt.Fprintf(w, "NOT GOOD   %s\n", plural(uint64(len(out.Faults)), "fault"))
	}
	_, err := io.WriteString(a.c.App.Writer, w.String())
	return err
}
