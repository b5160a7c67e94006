package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/vault"
)

func breachCommand() *cli.Command {
	return &cli.Command{
		Name:      "breach",
		Usage:     "keep the register of breaches of personal data, and export it for the authority",
		ArgsUsage: "form|add|list|show NUMBER|export NUMBER",
		UsageText: "edgelog breach form [--number N --identity KEYFILE]\nedgelog breach add --file FORM [--json]\n" +
			"edgelog breach list [--identity KEYFILE] [--json]\nedgelog breach show NUMBER --identity KEYFILE\n" +
			"edgelog breach export NUMBER --identity KEYFILE [--format text|json|csv|html]",
		Description: "form prints an empty form with the fields of Annex I of regulation (EU) 611/2013; with --number it holds what was given so far,\n" +
			"for the second notification. add puts a form into the ledger, sealed; the numbers and times of a breach stand in the clear.\n" +
			"The first notification is due 24 hours after the detection, the second 3 days after the first. Nothing is sent by this command.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "with add: the form that was filled in, in `FORM`"},
			&cli.IntFlag{Name: "number", Usage: "with form: the breach `N` that it is about"},
			&cli.StringFlag{Name: "format", Usage: "with export: " + strings.Join(disclose.BreachFormats, ", "), Value: "text"},
			identityFlag(), &cli.BoolFlag{Name: "json", Usage: "with add and list: print JSON"}, configFlag(), socketFlag(),
		},
		Action: breach,
	}
}

func breach(c *cli.Context) error {
	args := c.Args().Slice()
	switch {
	case len(args) == 1 && args[0] == "form":
		return breachForm(c)
	case len(args) == 1 && args[0] == "add":
		return addBreach(c)
	case len(args) == 1 && args[0] == "list":
		return listBreaches(c)
	case len(args) == 2 && args[0] == "show":
		return exportBreach(c, args[1], "text")
	case len(args) == 2 && args[0] == "export":
		return exportBreach(c, args[1], c.String("format"))
	}
	return usage("say what to do: form, add, list, show NUMBER or export NUMBER").hint("\"edgelog breach --help\" shows the flags")
}

func breachForm(c *cli.Context) error {
	form := &disclose.Breach{}
	if n := c.Int("number"); n != 0 {
		opened, _, err := openBreach(c, n)
		if err != nil {
			return err
		}
		*form = *opened[len(opened)-1].Form
		form.Notification, form.Number, form.Corrects, form.Sent = disclose.BreachSecond, n, 0, ""
	}
	_, err := io.WriteString(c.App.Writer, disclose.BreachForm(form))
	return err
}

func addBreach(c *cli.Context) error {
	if err := need(c, "file"); err != nil {
		return err
	}
	text, err := os.ReadFile(c.String("file"))
	if err != nil {
		return fail(fmt.Errorf("read the form: %w", err)).hint("\"edgelog breach form\" prints an empty one")
	}
	form, err := disclose.ParseBreachForm(text)
	if err == nil {
		err = form.Check(time.Now())
	}
	if err != nil {
		return fail(err).hint("put it right in %q; nothing was registered", c.String("file"))
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	var f disclose.BreachFacts
	if err := askJSON(c.Context, socket, http.MethodPost, disclose.PathBreach, "register the breach", form, &f); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, f)
	}
	_, err = fmt.Fprintf(c.App.Writer, "breach %d, %s notification: ledger entry %d; %s\n", f.Number, f.Notification, f.Entry, f.DueText(time.Now()))
	return err
}

// fetchBreaches asks the agent for the register.
func fetchBreaches(c *cli.Context) (*disclose.BreachList, error) {
	socket, err := socketPath(c)
	if err != nil {
		return nil, err
	}
	list := new(disclose.BreachList)
	if err := askJSON(c.Context, socket, http.MethodGet, disclose.PathBreach, "list breaches", nil, list); err != nil {
		return nil, err
	}
	if list.Unread > 0 {
		warn(c, "%s of the register not understood: was it written by a later version?", plural(uint64(list.Unread), "entry"))
	}
	return list, nil
}

func listBreaches(c *cli.Context) error {
	list, err := fetchBreaches(c)
	if err != nil {
		return err
	}
	var opened []disclose.OpenedBreach
	if c.String("identity") != "" && len(list.Entries) > 0 {
		if opened, err = openEntries(c, list, 0); err != nil {
			return err
		}
	}
	switch {
	case c.Bool("json") && opened != nil:
		return printJSON(c.App.Writer, opened)
	case c.Bool("json"):
		return printJSON(c.App.Writer, list)
	case len(list.Entries) == 0:
		_, err := fmt.Fprintln(c.App.Writer, "no breach is registered")
		return err
	}
	return printBreaches(c.App.Writer, list, opened, time.Now())
}

func printBreaches(w io.Writer, list *disclose.BreachList, opened []disclose.OpenedBreach, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	last := map[int]int64{}
	for _, e := range list.Current() {
		last[e.Number] = e.Entry
	}
	what := ""
	if opened != nil {
		what = "\tCIRCUMSTANCES"
	}
	fmt.Fprintln(t, "NUMBER\tENTRY\tNOTIFICATION\tDETECTED\tSENT\tSTANDING"+what) //nolint:errcheck // Flush says it
	for i := range list.Entries {
		e := &list.Entries[i]
		standing := "" // is said where the breach stands now
		if last[e.Number] == e.Entry {
			standing = e.DueText(now)
		}
		notification := e.Notification
		if e.Corrects > 0 {
			notification += fmt.Sprintf(", corrects %d", e.Corrects)
		}
		if opened != nil {
			what = "\t" + inOneLine(opened[i].Form.Circumstances)
		}
		sent := "-"
		if !e.Sent.IsZero() {
			sent = stamp(e.Sent)
		}
		if late := e.Late(); late != "" {
			sent += " (LATE: " + late + ")"
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%s%s\n", e.Number, e.Entry, notification, stamp(e.Detected), sent, standing, what) //nolint:errcheck // Flush says it
	}
	return t.Flush()
}

// inOneLine is the beginning of a text, for a column of a table.
func inOneLine(s string) string {
	const most = 60
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return string(r)
}

func openEntries(c *cli.Context, list *disclose.BreachList, number int) ([]disclose.OpenedBreach, error) {
	ids, err := openIdentity(c)
	if err != nil {
		return nil, err
	}
	opened, err := disclose.OpenBreaches(list, number, ids)
	if errors.Is(err, vault.ErrWrongIdentity) {
		return nil, fail(err).hint("use the key of somebody who was a custodian or an auditor when it was registered")
	}
	if err != nil {
		return nil, fail(err)
	}
	return opened, nil
}

// openBreach opens all entries of one breach.
func openBreach(c *cli.Context, number int) ([]disclose.OpenedBreach, *disclose.BreachList, error) {
	if err := need(c, "identity"); err != nil {
		return nil, nil, err
	}
	list, err := fetchBreaches(c)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(list.Entries, func(e disclose.BreachFacts) bool { return e.Number == number }) {
		return nil, nil, fail(fmt.Errorf("there is no breach number %d", number)).hint("\"edgelog breach list\" shows them")
	}
	opened, err := openEntries(c, list, number)
	return opened, list, err
}

func exportBreach(c *cli.Context, word, format string) error {
	number, err := strconv.Atoi(word)
	if err != nil || number < 1 {
		return usage("%q is not the number of a breach", word).hint("\"edgelog breach list\" shows them")
	}
	if !slices.Contains(disclose.BreachFormats, format) {
		return usage("--format %q is not known; use %s", format, strings.Join(disclose.BreachFormats, ", "))
	}
	opened, list, err := openBreach(c, number)
	if err != nil {
		return err
	}
	var out bytes.Buffer // all of it, or nothing
	if err := disclose.ExportBreach(&out, opened, list.Gateway, format); err != nil {
		return err
	}
	_, err = c.App.Writer.Write(out.Bytes())
	return err
}
