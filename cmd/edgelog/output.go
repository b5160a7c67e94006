// The rules of output:
//
//   - stdout carries what was asked for, and nothing else; it may be a pipe.
//   - Everything else goes to stderr, each line beginning with "edgelog: ".
//   - An error is one sentence for each cause: what was tried, on what, why it
//     failed, what to do. Further advice follows as lines with "hint: ".
//   - Exit code 0: done. 1: it failed. 2: the command line was wrong.
//   - Nothing but the answer to a question names a person.
package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/config"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// failure is an error with advice for the one who typed the command.
type failure struct {
	err   error
	hints []string
	code  int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// hint adds a line of advice.
func (f *failure) hint(format string, args ...any) *failure {
	f.hints = append(f.hints, fmt.Sprintf(format, args...))
	return f
}

// usage returns an error about the command line.
func usage(format string, args ...any) *failure {
	return &failure{err: fmt.Errorf(format, args...), code: exitUsage}
}

// fail returns an error of the work itself.
func fail(err error) *failure { return &failure{err: err, code: exitFailure} }

// errSilent ends with exit code 1 when everything was already said on stdout.
var errSilent = errors.New("")

// report prints err as the rules say and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errSilent) {
		return exitFailure
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "edgelog: %s\n", strings.TrimRight(line, "\n"))
	}
	var f *failure
	if !errors.As(err, &f) {
		var coded cli.ExitCoder
		if errors.As(err, &coded) {
			return coded.ExitCode()
		}
		return exitFailure
	}
	for _, h := range f.hints {
		fmt.Fprintf(stderr, "edgelog: hint: %s\n", h)
	}
	return f.code
}

// warn prints a line about something that does not stop the command.
func warn(c *cli.Context, format string, args ...any) {
	fmt.Fprintf(c.App.ErrWriter, "edgelog: "+format+"\n", args...)
}

// noArgs refuses words behind the flags.
func noArgs(c *cli.Context) error {
	if c.Args().Len() > 0 {
		return usage("%q is one word too many", c.Args().First()).hint("\"edgelog %s --help\" shows its flags", c.Command.Name)
	}
	return nil
}

// need refuses a command without one of these flags.
func need(c *cli.Context, flags ...string) error {
	for _, name := range flags {
		if c.String(name) == "" {
			return usage("--%s is missing", name).hint("\"edgelog %s --help\" shows its flags", c.Command.Name)
		}
	}
	return nil
}

const defaultConfig = "/etc/edgelog/edgelog.toml"

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read the configuration from `FILE`", Value: defaultConfig}
}

func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", Usage: "talk to the agent on this unix `SOCKET` instead of the one in the configuration"}
}

// socketPath returns where the agent listens: --socket, else what --config
// says. Somebody who may not read the default configuration is given the
// default socket.
func socketPath(c *cli.Context) (string, error) {
	if c.IsSet("socket") {
		return c.String("socket"), nil
	}
	conf, err := config.Load(c.String("config"))
	if err == nil {
		return conf.Socket(), nil
	}
	if c.IsSet("config") {
		return "", err
	}
	d := config.Default()
	return d.Socket(), nil
}
