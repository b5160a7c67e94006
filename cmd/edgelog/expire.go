package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

func expireCommand() *cli.Command {
	return &cli.Command{
		Name:      "expire",
		Usage:     "show what is destroyed when, destroy at once what is due, or check a certificate",
		UsageText: "edgelog expire [--dry-run | --certificates | --verify FILE]",
		Description: "The agent destroys each day by itself when its time is over, within a minute; this command is for looking, and for the day on\n" +
			"which it did not, because the clock could not be believed or the ledger could not be written. It names no person.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "destroy nothing: list what is kept, and until when"},
			&cli.BoolFlag{Name: "clock-is-right", Usage: "although it is not synchronised, and far ahead of what happened last"},
			&cli.BoolFlag{Name: "certificates", Usage: "list the certificates of destruction, of days and of holds"},
			&cli.StringFlag{Name: "verify", Usage: "check the certificate in `FILE`"},
			&cli.StringFlag{Name: "public-key", Usage: "with --verify: the gateway's public `KEY`; the running agent's when it is not given"},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON"},
			configFlag(), socketFlag(),
		},
		Action: expire,
	}
}

func expire(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if n := slices.DeleteFunc([]bool{c.Bool("dry-run"), c.Bool("certificates"), c.String("verify") != ""}, func(b bool) bool { return !b }); len(n) > 1 {
		return usage("give one of --dry-run, --certificates, --verify")
	}
	if c.String("verify") != "" {
		return verifyCertificate(c)
	}
	method, form := http.MethodGet, url.Values{}
	if !c.Bool("dry-run") && !c.Bool("certificates") {
		method = http.MethodPost
		if c.Bool("clock-is-right") {
			form.Set("clock_is_right", "1")
		}
	}
	e, err := askExpiry(c, method, form)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("certificates"):
		err = listCertificates(c.App.Writer, e, c.Bool("json"))
	case c.Bool("json"):
		err = printJSON(c.App.Writer, e)
	default:
		err = printExpiry(c.App.Writer, e, c.Bool("dry-run"))
	}
	if err == nil && e.Status.Text != "" {
		return fail(errors.New(e.Status.Text))
	}
	return err
}

// askExpiry asks the agent what is kept.
func askExpiry(c *cli.Context, method string, form url.Values) (*recorder.Expiry, error) {
	socket, err := socketPath(c)
	if err != nil {
		return nil, err
	}
	e := new(recorder.Expiry)
	return e, askJSON(c.Context, socket, method, recorder.PathExpiry+"?"+form.Encode(), "ask what is kept", nil, e)
}

func printExpiry(w io.Writer, e *recorder.Expiry, dry bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "DAY\tDESTROYED AT\tKEYS\tBLOCKS\tRECORDS\tBYTES\t")
	due := 0
	for _, d := range e.Days {
		state := ""
		if d.Due {
			state, due = "due", due+1
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", d.Day, session.FormatTime(d.Until.UnixNano()), d.Keys, d.Blocks, d.Records, bytesText(d.Bytes), state)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s kept for %d days after the day of its end; %d due", plural(uint64(len(e.Days)), "day"), e.RetentionDays, due)
	switch {
	case dry:
		fmt.Fprintln(w, "; nothing was destroyed now")
	case e.Status.Last != "":
		fmt.Fprintf(w, "; destroyed last: %s, at %s\n", e.Status.Last, session.FormatTime(e.Status.At.UnixNano()))
	default:
		fmt.Fprintln(w)
	}
	return nil
}
