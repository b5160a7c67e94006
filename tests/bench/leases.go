package main

import (
	"context"
	"strings"
)

// leases takes how long a lease file of a million leases takes to be read:
// into the table alone, and into the book, durably.
func (b *bench) leases(ctx context.Context) (out []Entry, err error) {
	err = goBench(ctx, "LeasesRead", "1x", []string{"./pkg/identity/dhcp"}, func(_, name string, m map[string]float64) {
		kind := strings.TrimPrefix(name, "leasesread/")
		vs := "scanner"
		if strings.HasPrefix(kind, "kea") {
			vs = "encoding/csv"
		}
		out = append(out,
			Entry{Name: "dhcp/leases_read_seconds/" + kind, Value: m["s/file"], Unit: "s", Note: "a million leases with option 82; " + figure(m["leases/s"]) + " a second"},
			Entry{Name: "dhcp/leases_read_seconds/" + kind, Value: m["s/file"], Unit: "s", Vs: vs, Ratio: m["x-lines"], Note: "which only cuts the same file: " + figure(m["lines-s"]) + " s"})
	})
	return out, err
}
