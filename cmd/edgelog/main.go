// Command edgelog records the sessions that cross a provider's border, keeps
// them sealed, and answers for them.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
}

// run is the whole program but for the exit itself; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &cli.App{
		Name:                      "edgelog",
		Usage:                     "record the sessions that cross the border, sealed, and answer for them",
		Version:                   version(),
		HideVersion:               true, // there is a command for it
		Commands:                  commands(),
		Action:                    unknownCommand,
		OnUsageError:              asUsage,
		ExitErrHandler:            func(*cli.Context, error) {}, // the one place is below
		CommandNotFound:           nil,
		DisableSliceFlagSeparator: true, // a name may hold a comma
		Writer:                    stdout,
		ErrWriter:                 stderr,
	}
	for _, c := range app.Commands {
		c.OnUsageError = asUsage
	}
	return report(stderr, app.RunContext(ctx, flagsFirst(args, app.Commands)))
}

func commands() []*cli.Command {
	return []*cli.Command{
		initCommand(),
		agentCommand(),
		statusCommand(),
		coverageCommand(),
		expireCommand(),
		keysCommand(),
		doctorCommand(),
		accountingCommand(),
		subscribersCommand(),
		requestCommand(),
		readCommand("lookup", "sessions"),
		readCommand("who", "who held an address, or one of its ports, at a time"),
		readCommand("access", "access records: who had which address, when"),
		readCommand("communications", "calls and mail that were imported"),
		importCommand(),
		holdCommand(),
		verifyCommand(),
		reportCommand(),
		breachCommand(),
		auditCommand(),
		packageCommand(),
		backupCommand(),
		restoreCommand(),
		planCommand(),
		replayCommand(),
		dhcpCommand(),
		versionCommand(),
	}
}

func asUsage(_ *cli.Context, err error, _ bool) error { return usage("%w", err) }

func unknownCommand(c *cli.Context) error {
	if c.Args().Len() == 0 {
		return cli.ShowAppHelp(c)
	}
	name := c.Args().First()
	var names []string
	for _, cmd := range c.App.Commands {
		names = append(names, cmd.Name)
	}
	hint := `"edgelog help" lists the commands`
	if near := config.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean \"edgelog %s\"?", near)
	}
	return usage("there is no command %q", name).hint("%s", hint)
}
