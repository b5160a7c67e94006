// Command matrix runs all steps on each kernel and prints a table of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"

	"github.com/edgelog/edgelog/tests/kernels"
)

func main() {
	only := flag.String("kernel", "", "run this series only, such as 6.1")
	short := flag.Bool("short", false, "load, attach and record only")
	named := flag.String("steps", "", "take these steps only, such as attach,load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	steps := kernels.Full()
	if *short {
		steps = kernels.Short()
	}
	if *named != "" {
		names := strings.Split(*named, ",")
		steps = slices.DeleteFunc(steps, func(s kernels.Step) bool { return !slices.Contains(names, s.Name) })
	}
	if err := run(ctx, *only, steps); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, steps []kernels.Step) error {
	all, err := kernels.Fetch(ctx, ".")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgelog-kernels-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	programs, err := kernels.Build(ctx, ".", dir, steps)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(k kernels.Kernel) bool { return only != "" && k.Series != only })
	if len(all) == 0 {
		return fmt.Errorf("no kernel of series %q is served", only)
	}
	runs, err := boot(ctx, dir, all, programs, steps)
	if err != nil {
		return err
	}
	print(runs, steps)
	var errs []error
	for _, r := range runs {
		errs = append(errs, r.Failed())
	}
	return errors.Join(errs...)
}

// boot runs all guests at once: a step keeps one processor busy, seldom two.
func boot(ctx context.Context, dir string, all []kernels.Kernel, p *kernels.Programs, steps []kernels.Step) ([]*kernels.Run, error) {
	runs, errs := make([]*kernels.Run, len(all)), make([]error, len(all))
	var guests sync.WaitGroup
	for i, k := range all {
		guests.Go(func() { // ends with the guest
			runs[i], errs[i] = kernels.Boot(ctx, dir, k, p, steps, func(e kernels.Event) {
				fmt.Fprintf(os.Stderr, "%-5s %-9s %-5s %5.0f s  %s\n", k.Series, e.Step, e.Verdict, e.Seconds, e.Detail)
			})
		})
	}
	guests.Wait()
	return runs, errors.Join(errs...)
}

// print prints kernel by step, and what the verifiers said.
func print(runs []*kernels.Run, steps []kernels.Step) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "KERNEL")
	for _, s := range steps {
		fmt.Fprint(w, "\t", s.Name)
	}
	fmt.Fprintln(w)
	for _, r := range runs {
		fmt.Fprint(w, r.Kernel.Release)
		for _, s := range steps {
			fmt.Fprint(w, "\t", r.Verdict(s.Name))
		}
		fmt.Fprintln(w)
	}
	for _, r := range runs {
		for _, e := range r.Events {
			if e.Verdict == kernels.Skip || strings.Contains(e.Detail, "skipped") {
				fmt.Fprintf(w, "%s, %s: %s\n", r.Kernel.Release, e.Step, e.Detail)
			}
		}
	}
	if err := w.Flush(); err != nil || len(runs[0].Costs()) == 0 {
		return
	}
	fmt.Fprintln(w, "\nKERNEL\tPROGRAM\tINSTRUCTIONS\tOF 1,000,000\tSTATES\tAT ONCE\tSTACK OF 512")
	for _, r := range runs {
		for _, c := range r.Costs() {
			fmt.Fprintf(w, "%s\t%s\t%d\t%.1f %%\t%d\t%d\t%d\n", r.Kernel.Release, c.Program,
				c.Instructions, float64(c.Instructions)/10000, c.States, c.Peak, c.Stack)
		}
	}
	_ = w.Flush()
}
