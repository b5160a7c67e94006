package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

func holdCommand() *cli.Command {
	return &cli.Command{
		Name:      "hold",
		Usage:     "keep the sessions of a case beyond the destruction of their days",
		ArgsUsage: "add|list|release ID",
		UsageText: "edgelog hold add --request N --identity KEYFILE\n" +
			"edgelog hold list [--json]\nedgelog hold release ID [--reference TEXT]",
		Description: "add is for a custodian: it finds the sessions that an approved request asks for, and keeps these rows alone, with the access\n" +
			"records that name them, sealed under a key of their own for all custodians. Answers find them there when their day has been destroyed. release destroys a\n" +
			"hold at once: its key, then all else. The ledger has all of it; only a custodian can read in it whose case it is.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "request", Usage: "the request `N`, as \"edgelog request list\" shows it"}, identityFlag(),
			&cli.StringFlag{Name: "reference", Usage: "with release: the case, as `TEXT`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"}, configFlag(), socketFlag(),
		},
		Action: hold,
	}
}

func hold(c *cli.Context) error {
	args := c.Args().Slice()
	switch {
	case len(args) == 1 && args[0] == "add":
		return addHold(c)
	case len(args) == 1 && args[0] == "list":
		return listHolds(c)
	case len(args) == 2 && args[0] == "release":
		return releaseHold(c, args[1])
	}
	return usage("say what to do: add, list, or release ID").hint("\"edgelog hold --help\" shows the flags")
}

func addHold(c *cli.Context) error {
	if err := need(c, "request", "identity"); err != nil {
		return err
	}
	id, err := parseRequest(c.String("request"))
	if err != nil {
		return err
	}
	var a *disclose.HoldAnswer
	err = withAgent(c, func(client *http.Client, ids *vault.Identities) error {
		l, err := disclose.GetRequest(c.Context, client, id)
		if err != nil {
			return err
		}
		p, _, err := disclose.HoldPermit(l, ids)
		if err != nil {
			return err
		}
		a, err = disclose.MakeHold(c.Context, client, p)
		return err
	})
	if err != nil {
		return err
	}
	var h store.Hold
	if err := json.Unmarshal(a.Facts, &h); err != nil {
		return fmt.Errorf("read what the agent says of the hold: %w; \"edgelog hold list\" shows it", err)
	}
	if c.Bool("json") {
		_, err = fmt.Fprintf(c.App.Writer, "%s\n", strings.TrimSpace(string(a.Facts)))
	} else {
		_, err = fmt.Fprintf(c.App.Writer, "hold %d: %s and %s of %s to %s are kept until it is released\n%s\n", h.ID,
			plural(h.Sessions, "session"), plural(h.Bindings, "access record"), h.First, h.Last, strings.Join(a.Summary.Lines(), "\n"))
	}
	if err != nil {
		return err
	}
	if !a.Summary.Complete() {
		return fail(errors.New("not all that was recorded could be read, so the hold may lack something")).
			hint("what it lacks is said above; put it right, make another hold, and release this one")
	}
	return nil
}

func listHolds(c *cli.Context) error {
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	var list recorder.HoldList
	if err := askJSON(c.Context, socket, http.MethodGet, recorder.PathHolds, "list holds", nil, &list); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, list)
	}
	if len(list.Holds) == 0 {
		_, err = fmt.Fprintln(c.App.Writer, "there are no holds")
	} else {
		w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tMADE\tFIRST DAY\tLAST DAY\tSESSIONS\tACCESS RECORDS\tBYTES") //nolint:errcheck // Flush says it
		for _, h := range list.Holds {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%d\n", h.ID, h.Made.Format(time.RFC3339), h.First, h.Last, h.Sessions, h.Bindings, h.Bytes) //nolint:errcheck // Flush says it
		}
		err = w.Flush()
	}
	for _, d := range list.Damaged {
		warn(c, "%s", d)
	}
	if len(list.Damaged) > 0 {
		return fail(errors.New("some holds cannot be read")).hint("put their files back from a backup (edgelog restore), or release them")
	}
	return err
}

func releaseHold(c *cli.Context, word string) error {
	id, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return usage("%q is not the ID of a hold", word).hint("\"edgelog hold list\" shows them")
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	path := strings.Replace(recorder.PathRelease, "{id}", strconv.FormatUint(id, 10), 1)
	var cert recorder.ReleaseCertificate
	if err := askJSON(c.Context, socket, http.MethodPost, path, "release the hold", recorder.Release{Reference: c.String("reference")}, &cert); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, cert)
	}
	_, err = fmt.Fprintf(c.App.Writer, "hold %d is destroyed: its key, %s and %s; ledger entry %d\n", id,
		plural(cert.Hold.Sessions, "session"), plural(cert.Hold.Bindings, "access record"), cert.LedgerEntry)
	return err
}
