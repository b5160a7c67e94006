package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/metrics"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent",
		Usage: "record: attach to the uplinks, take accounting, seal and store",
		Description: "SIGTERM and SIGINT stop it in good order; SIGHUP makes it read its configuration again,\n" +
			"and it says what changed and what needs a restart.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "ready-file", Usage: "write `FILE` when everything is attached and listening"},
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error", Value: "info"},
			&cli.BoolFlag{Name: "log-json", Usage: "log as JSON"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			log, err := logger(c)
			if err != nil {
				return err
			}
			unix.Umask(0o077) // whatever is made is for this user alone, unless it says otherwise
			if err := keepMemory(); err != nil {
				return fail(err)
			}
			conf, err := config.LoadGuarded(c.String("config"))
			if err != nil {
				return err
			}
			return runAgent(c, conf, log)
		},
	}
}

func logger(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usage("--log-level %q is not known; use debug, info, warn or error", c.String("log-level"))
	}
	return newLogger(c.App.ErrWriter, level, c.Bool("log-json")), nil
}

// newLogger logs to w; under a service manager, which stamps each line itself,
// without times.
func newLogger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func runAgent(c *cli.Context, conf *config.Config, log *slog.Logger) error {
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2) // on one processor, too, work goes on while a thread waits for the disk
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // from here on it does not kill
	defer signal.Stop(hup)

	o := recorder.DefaultOptions()
	o.Config, o.Version, o.Logger, o.ReadyFile = conf, version(), log, c.String("ready-file")
	o.Hangup, o.Load = hup, func() (*config.Config, error) { return config.LoadGuarded(conf.Path) }
	var scrapes *metrics.Server
	if at := conf.Metrics.Listen; at.IsValid() { // before anything is attached: an address that is wrong stops the start
		s, err := metrics.Listen(at, metrics.Options{Logger: log})
		if err != nil {
			return agentFailure(err)
		}
		defer s.Close() //nolint:errcheck // Serve has closed it
		scrapes = s
	}
	rec, err := recorder.Open(ctx, o)
	if err != nil {
		return agentFailure(err)
	}
	if scrapes != nil {
		rec.With("metrics", func(ctx context.Context) error { return scrapes.Serve(ctx, rec.Status) })
	}
	openGate(rec, log)
	openRegisters(rec, log)
	return agentFailure(errors.Join(rec.Run(ctx), rec.Close()))
}

// agentFailure adds advice to the usual reasons why an agent does not start.
func agentFailure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, probe.ErrPrivilege) || errors.Is(err, os.ErrPermission):
		return fail(err).hint("run the agent as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; \"edgelog doctor\" says what is missing")
	case errors.Is(err, recorder.ErrRunning):
		return fail(err)
	case errors.Is(err, store.ErrNoSpace):
		return fail(err).hint("\"df -h\" on data_dir shows the disk; store.min_free and store.ballast say how much edgelog leaves alone")
	case errors.Is(err, store.ErrInUse):
		return fail(err).hint("is another agent, or a copy of the store being made, at work on this data_dir? \"fuser -v\" on its store shows who")
	case errors.Is(err, vault.ErrTooFewRecipients):
		return fail(err).hint("\"edgelog init --custodian NAME\" into another directory makes a key pair; list its public key in custodians.recipients")
	case errors.Is(err, probe.ErrKernel):
		return fail(err).hint("\"edgelog doctor\" lists what this kernel lacks; with attach = \"tcx\" or \"clsact\" less is needed")
	case errors.Is(err, store.ErrFailed), errors.Is(err, ledger.ErrFailed):
		return fail(err).hint("the programs in the kernel go on recording; start the agent again, as systemd does, and it takes over from them")
	}
	return fail(err).hint("\"edgelog doctor\" checks this machine and the configuration")
}
