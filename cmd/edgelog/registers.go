package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// openRegisters puts the yearly statistics and the register of breaches onto the
// control socket, and the standing of the latter into the status.
func openRegisters(rec *recorder.Recorder, log *slog.Logger) {
	rec.Handle("GET "+disclose.PathArt10, config.Operator|config.Auditor, func(w http.ResponseWriter, r *http.Request) {
		year, err := disclose.ParseYear(r.FormValue("year"), rec.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := disclose.CountArt10(r.Context(), rec.Evidence(), year, rec.Now())
		if err != nil {
			log.Error("the statistics of a year were not made", "error", err)
			http.Error(w, fmt.Sprintf("%v; \"edgelog status\" shows the ledger", err), http.StatusServiceUnavailable)
			return
		}
		a.Gateway = rec.Config().Gateway
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a) // the reader may be gone
	})
	book := disclose.NewBreachBook(disclose.BreachOptions{
		Entries: rec.Evidence(), Ledger: rec.Evidence(), Gateway: rec.Config().Gateway, Now: rec.Now, Peer: func(r *http.Request) string { return recorder.WhoAsks(r.Context()) },
	})
	book.Serve(func(pattern string, h http.HandlerFunc) { // who notices a breach registers it; what it says is sealed
		may := config.Operator | config.Custodian
		if strings.HasPrefix(pattern, "GET ") {
			may |= config.Auditor
		}
		rec.Handle(pattern, may, h)
	})
	rec.With("register of breaches", func(ctx context.Context) error {
		_, err := book.Load(ctx)
		return err
	})
	rec.Describe(func(s *recorder.Status) {
		if b, known := book.Standing(); known {
			s.Breaches = &recorder.BreachStatus{Open: b.Open, Overdue: b.Overdue, NextDue: b.Next}
		}
	})
}
