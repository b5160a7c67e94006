package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Usage:     "verify the ledger, read it, prove an entry, draw a sample, send a checkpoint to a witness",
		ArgsUsage: "verify|list|prove INDEX|check-proof FILE|export|sample|witness|key",
		UsageText: "edgelog audit verify [--against FILE…] [--json]\n" +
			"edgelog audit list [--kind KIND…] [--from TIME] [--to TIME] [--identity KEYFILE] [--json]\n" +
			"edgelog audit prove INDEX [--out FILE]\n" +
			"edgelog audit check-proof FILE --public-key KEY\n" +
			"edgelog audit export --out DIR|FILE.tar\n" +
			"edgelog audit sample --quarter 2026Q3 [--percent 20] [--seed TEXT] [--identity KEYFILE] [--csv]\n" +
			"edgelog audit witness [--to file:PATH | --mail | --syslog]\n" +
			"edgelog audit key\n" +
			"   each of the running agent's ledger, or with --ledger DIR|FILE.tar --public-key KEY of a copy, on any machine",
		Description: "verify recomputes the whole tree and compares it with its signature, and with checkpoints that were kept elsewhere: mail, logs,\n" +
			"files of a witness. It says what is wrong and where, and ends with 1. The ledger names nobody in the clear: with the private key\n" +
			"of a custodian or an auditor, list and sample open what is sealed. sample draws the share of a quarter's accesses that is to be\n" +
			"compared with the orders (TKÜV § 17), so that nobody can know it before, and anyone draws the same.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ledger", Usage: "the copy of a ledger in `DIR`, or in FILE.tar"},
			&cli.StringFlag{Name: "public-key", Usage: "the ledger's public `KEY`, or a file that holds it; \"edgelog audit key\" on the gateway shows it"},
			&cli.StringSliceFlag{Name: "against", Usage: "verify: compare with the checkpoints in `FILE`; may be repeated"},
			&cli.StringSliceFlag{Name: "kind", Usage: "list: only entries of this `KIND`; may be repeated"},
			&cli.StringFlag{Name: "from", Usage: "list: entries from `TIME`"},
			&cli.StringFlag{Name: "to", Usage: "list: entries until before `TIME`; witness: send to file:PATH"},
			&cli.StringFlag{Name: "identity", Usage: "list, sample: open what is sealed with the private key in `KEYFILE`"},
			&cli.StringFlag{Name: "out", Usage: "prove: write to `FILE`; export: into a new directory, or FILE.tar"},
			&cli.StringFlag{Name: "quarter", Usage: "sample: of this `QUARTER`, as 2026Q3"},
			&cli.IntFlag{Name: "percent", Usage: "sample: at least this share", Value: disclose.LeastShare},
			&cli.StringFlag{Name: "seed", Usage: "sample: draw with this `TEXT` of the auditor's own too"},
			&cli.BoolFlag{Name: "csv", Usage: "sample: print CSV"},
			&cli.BoolFlag{Name: "mail", Usage: "witness: print an e-mail with the checkpoint, for sendmail"},
			&cli.BoolFlag{Name: "syslog", Usage: "witness: send the checkpoint to syslog"},
			&cli.BoolFlag{Name: "json", Usage: "verify, list: print JSON"},
			configFlag(), socketFlag(),
		},
		Action: audit,
	}
}

// auditFlags are the flags of each word, beside those that say which ledger is meant.
var auditFlags = map[string][]string{
	"verify": {"against", "json"}, "list": {"kind", "from", "to", "identity", "json"}, "prove": {"out"}, "check-proof": {}, "export": {"out"},
	"sample": {"quarter", "percent", "seed", "identity", "csv"}, "witness": {"to", "mail", "syslog"}, "key": {},
}

func audit(c *cli.Context) error {
	args := c.Args().Slice()
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	words := map[string]int{"verify": 1, "list": 1, "prove": 2, "check-proof": 2, "export": 1, "sample": 1, "witness": 1, "key": 1}
	if n, ok := words[word]; !ok || n != len(args) {
		return usage("say what to do: verify, list, prove INDEX, check-proof FILE, export, sample, witness or key").hint("\"edgelog audit --help\" shows the flags")
	}
	if err := auditFlagsOf(c, word); err != nil {
		return err
	}
	if word == "check-proof" {
		return checkProof(c, args[1])
	}
	if word == "key" {
		return auditKey(c)
	}
	a, err := openAudit(c)
	if err != nil {
		return err
	}
	switch word {
	case "verify":
		return a.verify()
	case "list":
		return a.list()
	case "prove":
		return a.prove(args[1])
	case "export":
		return a.export()
	case "sample":
		return a.sample()
	}
	return a.witness()
}

// auditFlagsOf refuses a flag that this word has no use for.
func auditFlagsOf(c *cli.Context, word string) error {
	mine := map[string]bool{}
	for _, f := range auditFlags[word] {
		mine[f] = true
	}
	for other, flags := range auditFlags {
		for _, f := range flags {
			if c.IsSet(f) && !mine[f] {
				return usage("--%s says nothing to \"audit %s\"", f, word).hint("it belongs to \"edgelog audit %s\"", other)
			}
		}
	}
	if c.IsSet("ledger") && c.IsSet("socket") {
		return usage("give --ledger for a copy, or --socket for the agent's")
	}
	return nil
}

// auditError says what a fault of a ledger means to who found it.
func auditError(err error) error {
	var b *ledger.BrokenError
	var h *ledger.HistoryError
	var f *failure
	switch {
	case errors.As(err, &f):
		return err
	case errors.As(err, &h):
		return fail(err).hint("keep the ledger and the checkpoint as they are; ask who could write its directory")
	case errors.As(err, &b) && b.File == ledger.CheckpointName:
		return fail(err).hint("is it the right public key? a copy that was made by hand while the agent wrote may not fit together: use \"edgelog audit export\"")
	case errors.As(err, &b):
		return fail(err).hint("keep it as it is: it shows what was changed; ask who had access")
	case errors.Is(err, ledger.ErrKey):
		return fail(err).hint("give the key as \"edgelog audit key\" shows it on the gateway, or a file that holds it")
	case errors.Is(err, ledger.ErrRange):
		return fail(err).hint("\"edgelog audit list\" shows the entries")
	}
	return fail(fmt.Errorf("audit: %w", err))
}
