package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// opener returns what opens the sealed parts; nil without --identity.
func (a *auditor) opener() (*vault.Identities, error) {
	if !a.c.IsSet("identity") {
		return nil, nil
	}
	return openIdentity(a.c)
}

func (a *auditor) list() error {
	now := time.Now()
	from, to := time.Time{}, time.Time{}
	for _, f := range []struct {
		name string
		into *time.Time
	}{{"from", &from}, {"to", &to}} {
		if !a.c.IsSet(f.name) {
			continue
		}
		ns, err := parseTime(f.name, a.c.String(f.name), now)
		if err != nil {
			return err
		}
		*f.into = time.Unix(0, ns)
	}
	kinds := map[ledger.Kind]bool{}
	for _, k := range a.c.StringSlice("kind") {
		if !ledger.Kind(k).Known() {
			return usage("--kind %q is not one", k).hint("%s", kindsText())
		}
		kinds[ledger.Kind(k)] = true
	}
	ids, err := a.opener()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.c.App.Writer)
	enc := json.NewEncoder(out)
	err = disclose.EachEntry(a.c.Context, a.r, func(e *ledger.Record) error {
		if len(kinds) > 0 && !kinds[e.Kind] || !from.IsZero() && e.Time.Before(from) || !to.IsZero() && !e.Time.Before(to) {
			return nil
		}
		x := disclose.Audit(e, ids)
		if a.c.Bool("json") {
			return enc.Encode(&x)
		}
		_, err := fmt.Fprintf(out, "%d  %s  %-13s %s%s\n", x.Index, x.Time, x.Kind, x.FieldText(), unless(x.Sealed == 0, "  | "+x.SealedText()))
		return err
	})
	if err != nil {
		return auditError(errors.Join(err, out.Flush()))
	}
	return out.Flush()
}

func kindsText() string {
	text := "the kinds are"
	for _, k := range ledger.Kinds() {
		text += " " + string(k)
	}
	return text
}

func (a *auditor) prove(word string) error {
	index, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return usage("%q is not the INDEX of an entry", word).hint("\"edgelog audit list\" shows them")
	}
	p, err := a.r.Prove(index)
	if err != nil {
		return auditError(err)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if name := a.c.String("out"); name != "" {
		if err := writeNew(name, b); err != nil {
			return fail(fmt.Errorf("write %q: %w", name, cause(err)))
		}
		return nil
	}
	_, err = a.c.App.Writer.Write(b)
	return err
}

// checkProof needs nothing but the proof and the key.
func checkProof(c *cli.Context, name string) error {
	key, err := givenKey(c)
	if err != nil {
		return err
	}
	if key == "" {
		return usage("--public-key is missing").hint("\"edgelog audit key\" on the gateway shows it")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return fail(fmt.Errorf("read proof %q: %w", name, cause(err)))
	}
	p := new(ledger.Proof)
	if err := json.Unmarshal(b, p); err != nil {
		return fail(fmt.Errorf("read proof %q: %w", name, err)).hint("it is written by \"edgelog audit prove\"")
	}
	e, err := p.Check(key)
	if err != nil {
		return auditError(fmt.Errorf("proof %q: %w", name, err))
	}
	at, err := ledger.ParseCheckpoint([]byte(p.Checkpoint), key)
	if err != nil {
		return auditError(err)
	}
	x := disclose.Audit(&e, nil)
	_, err = fmt.Fprintf(c.App.Writer, "good: entry %d of the ledger %s, which had %s then\n%s  %-13s %s%s\n", e.Index, at.Origin, plural(uint64(at.Size), "entry"),
		x.Time, x.Kind, x.FieldText(), unless(x.Sealed == 0, "  | "+x.SealedText()))
	return err
}

func (a *auditor) sample() error {
	if err := need(a.c, "quarter"); err != nil {
		return err
	}
	if _, _, err := disclose.Quarter(a.c.String("quarter")); err != nil {
		return usage("--quarter: %w", err)
	}
	if p := a.c.Int("percent"); p < 1 || p > 100 {
		return usage("--percent %d is no share; give 1 to 100", p)
	}
	ids, err := a.opener()
	if err != nil {
		return err
	}
	s, err := disclose.DrawSample(a.c.Context, a.r, a.c.String("quarter"), a.c.Int("percent"), a.c.String("seed"))
	if err != nil {
		return auditError(err)
	}
	if a.c.Bool("csv") {
		for _, line := range s.Lines() {
			warn(a.c, "%s", line)
		}
	}
	out := bufio.NewWriter(a.c.App.Writer)
	if err := disclose.PrintSample(out, s, ids, a.c.Bool("csv")); err != nil {
		return err
	}
	if !a.c.Bool("csv") {
		cp := a.r.Checkpoint()
		if _, err := io.WriteString(out, "\nthe ledger when this was printed:\n"+string(cp.Note)); err != nil {
			return err
		}
	}
	return out.Flush()
}
