package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that all that was stored is there, whole and in its place",
		UsageText: "edgelog verify [--identity KEYFILE]\nedgelog verify --store DIR [--identity KEYFILE] [--ledger DIR --ledger-key KEY]",
		Description: "Without a private key: each block is whole and says that it lies where it lies, no number is missing, each wrapped key\n" +
			"is there, holds, coverage and the ledger are whole and agree. With --identity every block is opened as well, and its rows\n" +
			"compared with what the block says; that is a reading, which the ledger has before and after, and shows no person's data.\n" +
			"--store checks a copy or a backup without an agent; nothing in it is changed.",
		Flags: []cli.Flag{
			identityFlag(),
			&cli.StringFlag{Name: "store", Usage: "check the copy of a store in `DIR`, or a backup"},
			&cli.StringFlag{Name: "ledger", Usage: "with --store: check the copy of a ledger in `DIR`"},
			&cli.StringFlag{Name: "ledger-key", Usage: "with --ledger: its public `KEY`, as \"edgelog expire\" shows it"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON lines"},
			configFlag(), socketFlag(),
		},
		Action: verify,
	}
}

func verify(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if c.IsSet("ledger") != c.IsSet("ledger-key") || c.IsSet("ledger") && !c.IsSet("store") {
		return usage("--ledger and --ledger-key belong together, and to --store")
	}
	v := &verifier{c: c, enc: json.NewEncoder(c.App.Writer), bar: newBar(c.App.ErrWriter)}
	if c.IsSet("store") {
		return v.check(c.String("store"))
	}
	return v.online()
}

// verifier prints what a check finds.
type verifier struct {
	c       *cli.Context
	enc     *json.Encoder
	bar     *bar
	bad     int
	end     recorder.VerifyEnd
	keyless bool
}

func (v *verifier) online() error {
	socket, err := socketPath(v.c)
	if err != nil {
		return err
	}
	body, err := request(v.c.Context, socket, http.MethodPost, recorder.PathVerify, "verify", nil)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read
	if err := v.follow(body); err != nil {
		return err
	}
	if v.c.IsSet("identity") {
		err = withAgent(v.c, func(client *http.Client, ids *vault.Identities) error {
			a, err := disclose.AskVerify(v.c.Context, client, ids, time.Now(), v.opened)
			if err != nil {
				return err
			}
			return v.opening(a)
		})
		if err != nil {
			return err
		}
	}
	return v.verdict()
}

// follow prints the lines of an agent's check.
func (v *verifier) follow(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e recorder.VerifyEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("verify: the answer is not understood: %w; is the agent of this version?", err)
		}
		v.event(e)
		if e.End != nil {
			return nil
		}
	}
	return errors.Join(errors.New("verify: the agent's answer was cut off; nothing is known of what was not checked yet"), lines.Err())
}

func (v *verifier) event(e recorder.VerifyEvent) {
	switch {
	case e.Problem != nil:
		v.problem(*e.Problem)
	case e.End != nil:
		v.bar.clear()
		v.end = *e.End
	default:
		v.bar.show("checked", e.Done, e.All)
	}
}

func (v *verifier) problem(p recorder.VerifyProblem) {
	v.bad++
	v.bar.clear()
	if v.c.Bool("json") {
		_ = v.enc.Encode(map[string]any{"problem": p}) // verdict says it
		return
	}
	when := ""
	if p.Day != "" {
		when = p.Day + " "
	}
	if !p.From.IsZero() {
		to := "no end"
		if !p.To.IsZero() {
			to = p.To.Format(time.RFC3339)
		}
		when += fmt.Sprintf("(%s to %s) ", p.From.Format(time.RFC3339), to)
	}
	fmt.Fprintf(v.c.App.Writer, "BAD   %s%s\n      %s\n", when, p.Text, p.Remedy) //nolint:errcheck // verdict says it
}

func (v *verifier) opened(a *disclose.Verified) { v.bar.show("opened", a.Bytes, int64(v.end.Bytes)) }

// opening prints what was found in blocks that were opened.
func (v *verifier) opening(a *disclose.Verified) error {
	v.bar.clear()
	for _, f := range a.Findings {
		p := recorder.VerifyProblem{Day: f.Day, Text: f.Block + ": " + f.What,
			Remedy: "put the day back from a backup (edgelog restore); if that has the same block, it was written so: keep it and ask the vendor"}
		p.From, _ = time.Parse(time.RFC3339, f.From) // "no end" and what is not known stay zero
		p.To, _ = time.Parse(time.RFC3339, f.To)
		v.problem(p)
	}
	if !a.OK() && len(a.Findings) == 0 {
		v.bad++
	}
	if v.c.Bool("json") {
		return v.enc.Encode(map[string]any{"opened": a})
	}
	for _, line := range a.Lines() {
		if _, err := fmt.Fprintln(v.c.App.Writer, line); err != nil {
			return err
		}
	}
	if a.LedgerOutcome > 0 {
		_, err := fmt.Fprintf(v.c.App.Writer, "ledger: intent %d, outcome %d\n", a.LedgerIntent, a.LedgerOutcome)
		return err
	}
	_, err := fmt.Fprintln(v.c.App.Writer, "no ledger has this reading: it was one of a copy")
	return err
}

// check checks a copy, or a store that no agent has open.
func (v *verifier) check(dir string) error {
	s, err := store.OpenCopy(dir, store.Options{Log: slog.New(slog.DiscardHandler)})
	switch {
	case errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrNotStore):
		return fail(err).hint("name the directory \"store\" of a data directory, a copy of it, or a backup")
	case err != nil:
		return fail(err)
	}
	defer s.Close() //nolint:errcheck // only a copy of a copy was written to
	end, err := recorder.Count(s)
	if err != nil {
		return fail(err)
	}
	v.end, v.keyless = end, s.Keyless()
	tell := func(p recorder.VerifyProblem) {
		if !v.keyless || !strings.Contains(p.Text, store.ErrNoKey.Error()) {
			v.problem(p)
		}
	}
	if err := recorder.CheckStore(v.c.Context, s, v.event, tell); err != nil {
		return fail(err)
	}
	v.bar.clear()
	if dir := v.c.String("ledger"); dir != "" {
		at, err := ledger.VerifyDir(v.c.Context, dir, v.c.String("ledger-key"))
		var broken *ledger.BrokenError
		switch {
		case errors.As(err, &broken):
			v.problem(recorder.VerifyProblem{Text: broken.Error(), Remedy: "keep the copy as it is: it shows what was changed"})
		case err != nil:
			return fail(err)
		}
		v.end.Ledger = at.Size
	}
	if v.c.IsSet("identity") {
		if err := v.openCopy(s); err != nil {
			return err
		}
	}
	return v.verdict()
}

// openCopy opens every block of a copy.
func (v *verifier) openCopy(s *store.Store) error {
	if v.keyless {
		return fail(errors.New("there are no wrapped keys in this copy, so nothing can be opened")).hint("they are kept apart: \"edgelog backup --keys\"")
	}
	ids, err := vault.OpenIdentitiesWith(v.c.String("identity"), askPassphrase, tokenUI(v.c))
	if err != nil {
		return identityError(v.c.String("identity"), err)
	}
	shelf := recorder.ShelfOf(s)
	damaged := 0
	a, err := disclose.VerifyCopy(ids,
		func(fn func([]byte) error) error { return shelf.AllKeys(v.c.Context, fn) },
		func(fn func([]byte) error) (err error) { damaged, err = shelf.All(v.c.Context, fn); return err }, v.opened)
	if errors.Is(err, disclose.ErrWrongIdentity) {
		return fail(fmt.Errorf("open the copy: %w", err)).hint("use the key of a custodian who was configured when it was recorded")
	}
	if err != nil {
		return fail(err)
	}
	a.Damaged = damaged
	return v.opening(a)
}

// verdict says what was looked at, and whether all is well.
func (v *verifier) verdict() error {
	e := &v.end
	if v.c.Bool("json") {
		if err := v.enc.Encode(map[string]any{"end": e}); err != nil {
			return err
		}
	} else {
		var text bytes.Buffer
		fmt.Fprintf(&text, "checked %s, %s in %s of %s, %d bytes, %s, %s", plural(e.Records, "record"), plural(uint64(e.Blocks), "block"),
			plural(uint64(e.Runs), "run"), plural(uint64(e.Days), "day"), e.Bytes, plural(uint64(e.Keys), "wrapped key"), plural(uint64(e.Holds), "hold"))
		if e.Ledger >= 0 {
			fmt.Fprintf(&text, ", %s", plural(uint64(e.Ledger), "ledger entry"))
		}
		if e.Unnamed > 0 {
			fmt.Fprintf(&text, "\nof the runs and holds, %d are not in the ledger: the agent was killed between the two", e.Unnamed)
		}
		if v.keyless {
			fmt.Fprintf(&text, "\nthere are no wrapped keys here, as in a backup of blocks: they are kept apart")
		}
		if _, err := fmt.Fprintln(v.c.App.Writer, text.String()); err != nil {
			return err
		}
	}
	switch {
	case e.Failed != "":
		return fail(fmt.Errorf("verify: not all could be looked at: %s", e.Failed))
	case v.bad > 0:
		return fail(fmt.Errorf("verify: %s", plural(uint64(v.bad), "problem")))
	}
	if v.c.Bool("json") {
		return nil
	}
	_, err := fmt.Fprintln(v.c.App.Writer, "all is well")
	return err
}

// bar is a line of progress on a terminal; elsewhere it is nothing.
type bar struct {
	w     io.Writer
	shown int
}

func newBar(w io.Writer) *bar {
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &bar{w: w}
		}
	}
	return &bar{}
}

func (b *bar) show(what string, done, all int64) {
	if b.w == nil || all <= 0 {
		return
	}
	const width = 40
	done = min(done, all)
	line := fmt.Sprintf("%s %s%s %3d %%", what, strings.Repeat("#", int(done*width/all)), strings.Repeat(".", width-int(done*width/all)), done*100/all)
	fmt.Fprintf(b.w, "\r%s", line) //nolint:errcheck // a terminal that is gone reads nothing
	b.shown = len(line)
}

func (b *bar) clear() {
	if b.w != nil && b.shown > 0 {
		fmt.Fprintf(b.w, "\r%s\r", strings.Repeat(" ", b.shown)) //nolint:errcheck // a terminal that is gone reads nothing
		b.shown = 0
	}
}
