package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// openRegisters puts the yearly statistics and the register of breaches onto the
// control socket, and the standing of the latter into the status.
func openRegisters(rec *recorder.Recorder, log *slog.Logger) {
	rec.Handle("GET "+disclose.PathArt10, func(w http.ResponseWriter, r *http.Request) {
		year, err := disclose.ParseYear(r.FormValue("year"), time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := disclose.CountArt10(r.Context(), rec.Ledger(), year, time.Now())
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
		Entries: rec.Ledger(), Ledger: rec.Evidence(), Gateway: rec.Config().Gateway, Now: time.Now, Peer: peerText,
	})
	book.Serve(rec.Handle)
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

// peerText describes who asks, as the kernel vouches for him; "" when that is not
// known.
func peerText(r *http.Request) string {
	if p, ok := recorder.PeerOf(r.Context()); ok {
		return fmt.Sprintf("uid %d gid %d", p.UID, p.GID)
	}
	return ""
}
