package main

import (
	"context"
	"strings"
)

// identity asks a book of a million bindings whose an address was, and tells it
// who logs on. The baseline is a Go map of the same addresses, which knows no
// prefixes, ports or times.
func (b *bench) identity(ctx context.Context) (out []Entry, err error) {
	asked := map[string]string{"at/book": "at", "at/name": "name", "at/names": "names"}
	mapped := 0.0
	err = goBench(ctx, "At|Apply", "1s", []string{"./pkg/identity"}, func(_, name string, m map[string]float64) {
		switch {
		case name == "at/map":
			mapped = m["ns/op"]
		case asked[name] != "":
			out = append(out, Entry{Name: "identity/" + asked[name] + "/bindings=1000000", Value: m["ns/op"], Unit: "ns", Vs: "map"})
		case strings.HasPrefix(name, "apply/"):
			out = append(out, Entry{Name: "identity/events_per_second/" + strings.Fields(strings.ReplaceAll(name[len("apply/"):], "_", " "))[0], Value: m["events/s"], Unit: "events/s",
				Note: "durable; events in each call: as the name says"})
		}
		if v := m["B/binding"]; v != 0 {
			out = append(out, Entry{Name: "identity/bytes_per_binding", Value: v, Unit: "B", Note: "of memory, all that the book keeps of it"})
		}
	})
	for i := range out {
		if e := &out[i]; e.Vs == "map" && mapped > 0 {
			e.Ratio, e.Note = e.Value/mapped, "map: "+figure(mapped)+" ns"
			if strings.HasPrefix(e.Name, "identity/names/") {
				e.Note += "; each of many sessions that are joined at once"
			}
		}
	}
	return out, err
}
