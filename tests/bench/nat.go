package main

import (
	"context"
	"fmt"
)

// nat takes what follows translations.
func (b *bench) nat(ctx context.Context) (out []Entry, err error) {
	err = goBench(ctx, "KernelEvents", "1x", []string{"./pkg/identity/nat"}, func(_, _ string, m map[string]float64) {
		out = append(out, Entry{
			Name: "nat/events_per_second", Value: m["events/s"], Unit: "events/s", Vs: "reading", Ratio: m["x-read"],
			Note: fmt.Sprintf("of one core, by its CPU time; sent %s a second, overruns %s; only reading them: %s", figure(m["sent/s"]), figure(m["overruns"]), figure(m["read-events/s"])),
		})
	})
	if err != nil {
		return out, err
	}
	err = goBench(ctx, "Take|Find", "1s", []string{"./pkg/identity/nat"}, func(_, name string, m map[string]float64) {
		out = append(out, Entry{Name: "nat/" + name, Value: m["ns/op"], Unit: "ns/op"})
	})
	return out, err
}
