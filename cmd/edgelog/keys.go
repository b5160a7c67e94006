package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/vault"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:      "keys",
		Usage:     "show for whom data keys are wrapped, or wrap all for the custodians of now, so that a former custodian's key opens nothing any more",
		ArgsUsage: "list|rotate",
		UsageText: "edgelog keys list [--json]\nedgelog keys rotate --identity KEYFILE",
		Description: "Put the new public keys into custodians.recipients, restart the agent, and rotate with a private key that opens what is there.\n" +
			"The data keys are opened and wrapped in this process only. A copy of the old wrapped keys that somebody made before still\n" +
			"opens with the old private key: destroy that, too.",
		Flags:  []cli.Flag{identityFlag(), &cli.BoolFlag{Name: "json", Usage: "with list: print JSON"}, configFlag(), socketFlag()},
		Action: keys,
	}
}

func keys(c *cli.Context) error {
	if c.Args().Len() == 1 && c.Args().First() == "list" {
		return listKeys(c)
	}
	return rotateKeys(c)
}

func listKeys(c *cli.Context) error {
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	list := new(recorder.KeyFacts)
	if err := askJSON(c.Context, socket, http.MethodGet, recorder.PathKeyFacts, "list wrapped keys", nil, list); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, list)
	}
	return printKeys(c.App.Writer, list)
}

// printKeys shows a line for each day or hold, and kind of recipients.
func printKeys(w io.Writer, list *recorder.KeyFacts) error {
	type line struct{ what, types, whom string }
	var lines []line
	count := map[line]int{}
	others := 0
	for _, k := range list.Keys {
		l := line{k.Day, strings.Join(k.Types, " "), k.For}
		if k.Hold {
			l.what = fmt.Sprintf("hold %d", k.Epoch)
		}
		if count[l]++; count[l] == 1 {
			lines = append(lines, l)
		}
		if k.For != recorder.ForPresent {
			others++
		}
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "DAY\tKEYS\tWRAPPED FOR\tCUSTODIANS") //nolint:errcheck // Flush says it
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", l.what, count[l], l.types, l.whom) //nolint:errcheck // Flush says it
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, %d of them not known to be wrapped for the custodians of now:\n  %s\n",
		plural(uint64(len(list.Keys)), "key"), others, strings.Join(slices.Compact(slices.Sorted(slices.Values(list.Recipients))), "\n  "))
	return err
}

func rotateKeys(c *cli.Context) error {
	if c.Args().Len() != 1 || c.Args().First() != "rotate" {
		return usage("say what to do: list, or rotate").hint("edgelog keys rotate --identity KEYFILE")
	}
	if err := need(c, "identity"); err != nil {
		return err
	}
	ids, err := openIdentity(c)
	if err != nil {
		return err
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	var list recorder.KeyList
	if err := askJSON(c.Context, socket, http.MethodGet, recorder.PathKeys, "ask for the wrapped keys", nil, &list); err != nil {
		return err
	}
	to, err := vault.ParseRecipients(list.Recipients)
	if err != nil {
		return fail(fmt.Errorf("the agent's recipients: %w", err))
	}
	if to.Len() < max(list.Minimum, 1) {
		return fail(fmt.Errorf("%w: %d, and custodians.minimum is %d", vault.ErrTooFewRecipients, to.Len(), list.Minimum))
	}
	anew, foreign, err := rewrapAll(&list, ids, to)
	if err != nil {
		return fail(err)
	}
	if len(anew.Keys) == 0 && foreign > 0 {
		return fail(fmt.Errorf("none of %d data keys: %w", foreign, vault.ErrWrongIdentity)).hint("use a private key that opened them so far; those of a rotation before are wrapped for the new ones")
	}
	var done recorder.Replaced
	if len(anew.Keys) > 0 {
		if err := askJSON(c.Context, socket, http.MethodPost, recorder.PathKeys, "hand back the wrapped keys", anew, &done); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "%d data keys are wrapped for %d custodians now; ledger entry %d; %d were so before\n", done.Keys, to.Len(), done.LedgerEntry, list.Done)
	if foreign > 0 {
		return fail(fmt.Errorf("%d do not open with this key and stay as they are", foreign)).
			hint("\"edgelog keys list\" shows of which days; let another custodian of that time rotate too")
	}
	return nil
}

// rewrapAll wraps what the identities open for others. What they do not open is
// counted: keys change hands in the course of a year.
func rewrapAll(list *recorder.KeyList, ids *vault.Identities, to *vault.Recipients) (*recorder.KeyList, int, error) {
	out, foreign := &recorder.KeyList{}, 0
	for _, k := range list.Keys {
		day, epoch, wrapped, err := vault.Rewrap(k.Wrapped, ids, to)
		switch {
		case errors.Is(err, vault.ErrWrongIdentity):
			foreign++
			continue
		case err != nil:
			return nil, 0, fmt.Errorf("data key of day %d, epoch %d: %w", k.Day, k.Epoch, err)
		case day != k.Day || epoch != k.Epoch:
			return nil, 0, fmt.Errorf("what lies as the data key of day %d, epoch %d is that of day %d, epoch %d; nothing was changed", k.Day, k.Epoch, day, epoch)
		}
		sum := sha256.Sum256(k.Wrapped)
		out.Keys = append(out.Keys, recorder.KeyOfADay{Day: k.Day, Epoch: k.Epoch, Hold: k.Hold, Wrapped: wrapped, Instead: hex.EncodeToString(sum[:])})
	}
	return out, foreign, nil
}
