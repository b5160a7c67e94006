package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show whether the agent records, and what its counters say",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON"},
			&cli.BoolFlag{Name: "cost", Usage: "have the kernel measure for a second what the programs cost a packet; needs root on this machine"},
			&cli.BoolFlag{Name: "watch", Usage: "show it again every second, until Ctrl-C"},
			configFlag(), socketFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("json") && (c.Bool("watch") || c.Bool("cost")) {
				return usage("--json does not go together with --watch or --cost")
			}
			socket, err := socketPath(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") {
				return watch(c, socket)
			}
			s, err := fetchStatus(c.Context, socket)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, s)
			}
			costs, err := costsOf(c, s)
			if err != nil {
				return err
			}
			printStatus(c.App.Writer, s, costs)
			return nil
		},
	}
}

// watch repaints one screen every second.
func watch(c *cli.Context, socket string) error {
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s, err := fetchStatus(ctx, socket)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var b strings.Builder
		costs, err := costsOf(c, s)
		if err != nil {
			return err
		}
		printStatus(&b, s, costs)
		// Home, each line erased to its end, then the rest of the screen: no flicker.
		fmt.Fprint(c.App.Writer, "\x1b[H"+strings.ReplaceAll(b.String(), "\n", "\x1b[K\n")+"\x1b[J")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
