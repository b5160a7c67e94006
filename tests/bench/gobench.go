package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// goBench runs Go benchmarks of packages and hands over each result: its
// package's last element, its name in lower case without the number of CPUs,
// and its metrics by unit.
func goBench(ctx context.Context, pattern, benchtime string, packages []string, take func(pkg, name string, metrics map[string]float64)) error {
	args := append([]string{"test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-timeout", "60m"}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stderr), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	r := benchfmt.NewReader(&out, "go test")
	for r.Scan() {
		result, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue // what else a test prints
		}
		base, parts := result.Name.Parts()
		name := strings.ToLower(string(base))
		for _, p := range parts {
			if !bytes.HasPrefix(p, []byte("-")) {
				name += string(p)
			}
		}
		metrics := map[string]float64{}
		for _, v := range result.Values {
			unit, value := v.Unit, v.Value
			if v.OrigUnit != "" { // as it was printed
				unit, value = v.OrigUnit, v.OrigValue
			}
			metrics[unit] = value
		}
		take(path.Base(result.GetConfig("pkg")), name, metrics)
	}
	return r.Err()
}

// datapath takes the kernel's side from pkg/probe.
func (b *bench) datapath(ctx context.Context) (out []Entry, err error) {
	err = goBench(ctx, "Established|New", "1x", []string{"./pkg/probe"}, func(_, name string, m map[string]float64) {
		e := Entry{Name: "datapath/" + name, Value: m["ns/packet"], Unit: "ns/packet"}
		e.Vs, e.Ratio, e.Note = "empty", m["x-empty"], "empty: "+figure(m["empty-ns"])+" ns"
		out = append(out, e)
		e.Vs, e.Ratio, e.Note = "hash", m["hash/ours"], "hash: "+figure(m["hash-ns"])+" ns"
		if net := m["hash-net/net"]; net != 0 {
			e.Note += "; " + figure(net) + " x without the empty program"
		}
		out = append(out, e)
	})
	return out, err
}

func (b *bench) sweep(ctx context.Context) (out []Entry, err error) {
	err = goBench(ctx, "Sweep", "10x", []string{"./pkg/probe"}, func(_, name string, m map[string]float64) {
		out = append(out, Entry{Name: name, Value: m["Mslots/s"], Unit: "Mslots/s", Note: "a quarter of the slots in use"})
	})
	return out, err
}

// pieces takes what the agent is made of: one entry for each metric.
func (b *bench) pieces(ctx context.Context) (out []Entry, err error) {
	packages := []string{"./pkg/block", "./pkg/identity", "./pkg/recorder", "./pkg/store", "./pkg/ledger"}
	err = goBench(ctx, ".", "1s", packages, func(pkg, name string, m map[string]float64) {
		for _, unit := range []string{"sessions/s", "entries/s", "events/s", "events/sync", "B/session", "bytes/session", "B/binding", "ns/op"} {
			if v := m[unit]; v != 0 {
				out = append(out, Entry{Name: "parts/" + pkg + "/" + name, Value: v, Unit: unit})
			}
		}
	})
	return out, err
}
