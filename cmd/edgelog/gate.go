package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/vault"
)

// requestsEach is how often it is looked for requests that were not dealt with in
// time.
const requestsEach = time.Minute

// openGate puts the one way to read onto the control socket.
func openGate(rec *recorder.Recorder, log *slog.Logger) {
	g := disclose.NewGate(disclose.GateOptions{
		Shelf: rec.Shelf(), Ledger: rec.Evidence(), Flush: rec.Flush, Now: rec.Now, Logger: log,
		Dir: filepath.Join(rec.Config().DataDir, "requests"), Policy: func() disclose.Policy { return policyOf(rec.Config()) },
		Kept:  rec.KeptFrom,
		Paper: func() disclose.Paper { return paperOf(rec) },
		Origin: func() disclose.Origin {
			c := rec.Config()
			o := disclose.Origin{Gateway: c.Gateway, Provider: c.Provider, Profile: c.Profile.String(), LegalBasis: c.LegalBasis}
			for _, s := range c.Identity.Trust {
				o.Trust = append(o.Trust, s.String())
			}
			return o
		},
		Coverage: func(from, to int64) (*session.CoverageReport, error) {
			return rec.Coverage(time.Unix(0, from), time.Unix(0, to), "")
		},
		Custodians: func() disclose.Custodians {
			c := &rec.Config().Custodians
			return disclose.Custodians{Recipients: c.Recipients, Minimum: c.Minimum}
		},
		Hold: rec.KeepHold, All: rec.Shelf().All,
		Caller: func(r *http.Request) (disclose.Caller, bool) {
			c, ok := recorder.CallerOf(r.Context())
			return callerOf(&c), ok
		},
	})
	g.Serve(func(pattern string, h http.HandlerFunc) { // which of them may do what depends on the request: the gate says it
		rec.Handle(pattern, config.Officer|config.Custodian|config.Auditor, h)
	})
	rec.Describe(func(s *recorder.Status) { r := recorder.RequestStatus(g.Status()); s.Requests = &r })
	rec.With("requests", func(ctx context.Context) error {
		for tick := time.NewTicker(requestsEach); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return nil
			case <-tick.C:
				if err := g.Tick(ctx); err != nil {
					log.Error("requests are not dealt with as they should be", "error", err)
				}
			}
		}
	})
}

// paperOf is what a package says of this gateway.
func paperOf(rec *recorder.Recorder) disclose.Paper {
	c := rec.Config()
	t := &c.Timeouts
	p := disclose.Paper{LedgerKey: rec.Evidence().VerifierKey(), Version: version(), Timeouts: disclose.Timeouts{
		TCP: t.TCP, UDP: t.UDP, ICMP: t.ICMP, Other: t.Other, HalfOpen: t.HalfOpen, Linger: t.Linger,
	}}
	for _, x := range c.Contacts {
		p.Contacts = append(p.Contacts, disclose.Contact(x))
	}
	return p
}

func callerOf(c *config.Caller) disclose.Caller {
	return disclose.Caller{
		Person: c.Person, Key: c.Key, UID: c.UID, GID: c.GID, Lapsed: c.Lapsed,
		Officer: c.Roles.Has(config.Officer), Custodian: c.Roles.Has(config.Custodian), Auditor: c.Roles.Has(config.Auditor), Operator: c.Roles.Has(config.Operator),
	}
}

func policyOf(c *config.Config) disclose.Policy {
	d := &c.Disclose
	p := disclose.Policy{
		Limits: disclose.Limits{Window: d.MaxWindow, MaxHits: d.MaxHits}, Country: d.Country, Approvals: d.Approvals,
		Wait: d.File, Run: d.Grant, Ratify: d.Emergency, Readers: c.People.Keys(config.Auditor), Seal: vault.SealTo,
	}
	for _, x := range c.People.With(config.Custodian) {
		p.Custodians = append(p.Custodians, disclose.Holder{Person: x.Name, Key: x.Key})
	}
	return p
}
