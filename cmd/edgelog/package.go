package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose/delivery"
)

func packageCommand() *cli.Command {
	return &cli.Command{
		Name:      "package",
		Usage:     "check what was handed over, on any machine, or show what it is about",
		ArgsUsage: "verify|show FILE",
		UsageText: "edgelog package verify FILE [--identity KEYFILE] [--public-key KEY] [--against CHECKPOINT]... [--json]\n" +
			"edgelog package show FILE [--identity KEYFILE] [--public-key KEY] [--html]",
		Description: "FILE is a package as it was handed over, opened with the receiver's private key (--identity), or the zip that was in it.\n" +
			"Checked are every byte of it, the signature of the gateway's ledger, and that this ledger has the request, its approvals,\n" +
			"the reading and this very answer. It needs no configuration, no agent and no network.\n" +
			"KEY is the ledger's public key, or a file that holds it; have it from the provider and not from the package. CHECKPOINT is\n" +
			"a file with a checkpoint of that ledger that was kept since.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "identity", Usage: "the receiver's private key, in `KEYFILE`"},
			&cli.StringFlag{Name: "public-key", Usage: "the public `KEY` of the gateway's ledger"},
			&cli.StringSliceFlag{Name: "against", Usage: "hold it against the checkpoint in `CHECKPOINT`"},
			&cli.BoolFlag{Name: "json", Usage: "with verify: print JSON"},
			&cli.BoolFlag{Name: "html", Usage: "with show: print the page for people"},
		},
		Action: packageAction,
	}
}

func packageAction(c *cli.Context) error {
	word := c.Args().First()
	switch {
	case word != "verify" && word != "show":
		return usage("say what to do with the package: verify or show").hint("edgelog package verify FILE --identity KEYFILE")
	case c.Args().Len() < 2:
		return usage("the file is missing").hint("edgelog package %s FILE --identity KEYFILE", word)
	case c.Args().Len() > 2:
		return usage("%q is one word too many", c.Args().Get(2))
	case word == "show" && c.Bool("json"), word == "verify" && c.Bool("html"):
		return usage("--json belongs to verify, and --html to show")
	}
	r, err := verifyPackage(c, c.Args().Get(1))
	if c.Bool("json") {
		out := struct {
			Whole bool   `json:"whole"`
			Error string `json:"error,omitempty"`
			*delivery.Report
		}{Whole: err == nil, Report: r}
		if err != nil {
			out.Error = err.Error()
		}
		return errors.Join(err, printJSON(c.App.Writer, &out))
	}
	if err != nil {
		return err
	}
	switch {
	case c.Bool("html"):
		_, err := c.App.Writer.Write(r.Summary())
		return err
	}
	lines := r.Proof()
	if word == "show" {
		lines = append(r.Lines(), lines...)
	} else {
		for _, why := range r.Manifest.Answer.Incomplete {
			lines = append(lines, "INCOMPLETE: "+why)
		}
	}
	_, err = fmt.Fprintln(c.App.Writer, strings.Join(lines, "\n"))
	return err
}

func verifyPackage(c *cli.Context, file string) (*delivery.Report, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fail(fmt.Errorf("read package: %w", err))
	}
	defer f.Close() //nolint:errcheck // only read
	var o delivery.Options
	if o.PublicKey, err = publicKey(c.String("public-key")); err != nil {
		return nil, err
	}
	for _, name := range c.StringSlice("against") {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fail(fmt.Errorf("read checkpoint: %w", err))
		}
		o.Checkpoints = append(o.Checkpoints, b)
	}
	if c.IsSet("identity") {
		ids, err := openIdentity(c)
		if err != nil {
			return nil, err
		}
		o.Identities = []age.Identity{ids}
	}
	r, err := delivery.Verify(f, o)
	switch {
	case errors.Is(err, delivery.ErrPackage):
		return nil, fail(fmt.Errorf("%s: %w", file, err)).hint("do not rely on it: keep it as it is, and ask the provider for it again")
	case err != nil:
		return nil, fail(fmt.Errorf("%s: %w", file, err))
	}
	return r, nil
}

// publicKey returns the key, or what the file of that name holds.
func publicKey(s string) (string, error) {
	if s == "" || strings.Count(s, "+") >= 2 {
		return s, nil
	}
	b, err := os.ReadFile(s)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usage("--public-key %q is neither a key, NAME+HASH+BASE64, nor a file with one", s)
	}
	if err != nil {
		return "", fail(fmt.Errorf("read public key: %w", err))
	}
	return strings.TrimSpace(string(b)), nil
}
