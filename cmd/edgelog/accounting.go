package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/recorder"
)

func accountingCommand() *cli.Command {
	return &cli.Command{
		Name:      "accounting",
		Usage:     "take accounting into the agent that FreeRADIUS has kept in files",
		ArgsUsage: "import FILE...",
		UsageText: "edgelog accounting import [--json] FILE...",
		Description: "FILE is what the detail module of FreeRADIUS writes; - is the standard input. What it says becomes\n" +
			"access records, each once, however often and by whichever way it comes. \"Done\" means that it is on the disk.\n" +
			"Entries that cannot be read are counted and named by their line; the others are taken. The ledger has the numbers.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print what became of each file as JSON, one line each"},
			configFlag(), socketFlag(),
		},
		Action: importAccounting,
	}
}

func importAccounting(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) < 2 || args[0] != "import" {
		return usage("name what to do and the files").hint("edgelog accounting import FILE...")
	}
	socket, err := socketPath(c)
	if err != nil {
		return err
	}
	var failed error
	for _, name := range args[1:] {
		a, err := importFile(c.Context, socket, name)
		if err != nil {
			return errors.Join(failed, err)
		}
		if c.Bool("json") {
			err = json.NewEncoder(c.App.Writer).Encode(struct {
				File string `json:"file"`
				*recorder.ImportAnswer
			}{name, a})
		} else {
			err = printImport(c.App.Writer, c.App.ErrWriter, name, a)
		}
		if err != nil {
			return err
		}
		if a.Error != "" {
			failed = errors.Join(failed, importError(name, a))
		}
	}
	return failed
}

func importError(name string, a *recorder.ImportAnswer) error {
	err := fail(fmt.Errorf("import %q: %s", name, a.Error))
	if a.Foreign {
		return err.hint("nothing of it was taken; name a file that FreeRADIUS's detail module wrote")
	}
	return err.hint("what is counted as taken is kept; import the whole file again when the cause is gone")
}

// importFile sends one file to the agent.
func importFile(ctx context.Context, socket, name string) (*recorder.ImportAnswer, error) {
	var f io.ReadCloser = io.NopCloser(os.Stdin)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			var cause *os.PathError
			if errors.As(err, &cause) {
				err = cause.Err
			}
			return nil, fail(fmt.Errorf("import %q: %w", name, err)).hint("name a detail file of FreeRADIUS that you may read")
		}
		defer file.Close() //nolint:errcheck // only read
		if st, err := file.Stat(); err == nil && st.IsDir() {
			return nil, fail(fmt.Errorf("import %q: it is a directory", name)).hint("name the files in it")
		}
		f = file
	}
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+recorder.PathImport, f)
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", name, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, agentError(socket, fmt.Errorf("import %q: %w", name, err))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // better less than nothing
		return nil, fmt.Errorf("import %q: the agent answered %s: %s", name, resp.Status, strings.TrimSpace(string(text)))
	}
	a := new(recorder.ImportAnswer)
	if err := json.NewDecoder(resp.Body).Decode(a); err != nil {
		return nil, fmt.Errorf("import %q: the answer is not understood: %w; is the agent of this version?", name, err)
	}
	return a, nil
}

func printImport(w, problems io.Writer, name string, a *recorder.ImportAnswer) error {
	for _, p := range a.Problems {
		fmt.Fprintf(problems, "edgelog: %q: %s\n", name, p)
	}
	if more := a.Broken - uint64(len(a.Problems)); more > 0 {
		fmt.Fprintf(problems, "edgelog: %q: and %d more that cannot be read\n", name, more)
	}
	if a.Error != "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s: done: %s, %d taken, %d not about sessions, %d that cannot be read\n",
		name, plural(a.Entries, "entry"), a.Taken, a.Ignored, a.Broken)
	return err
}
