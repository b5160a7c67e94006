package recorder

import (
	"context"
	"fmt"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

// ruleSource is the name of the configuration as a source of bindings.
const ruleSource = "nat.rule"

// openRules brings the deterministic translations of the configuration into the
// book, and ends those that it has no more.
func (r *Recorder) openRules() error {
	if err := CheckRules(r.o.Config.NAT.Rules); err != nil {
		return err
	}
	events := ruleEvents(r.o.Config.NAT.Rules, r.book.InForce(), r.o.Now())
	if len(events) == 0 {
		return nil
	}
	if err := r.book.Apply(context.Background(), events); err != nil {
		return fmt.Errorf("keep the rules of [[nat.rule]]: %w", err)
	}
	return nil
}

// CheckRules reports the first rule that is none, or is about other addresses
// than it stands for.
func CheckRules(rules []config.NATRule) error {
	for i := range rules {
		rule, err := identity.ParseRule(rules[i].Rule)
		switch {
		case err != nil:
			return fmt.Errorf("nat.rule %d: %w", i+1, err)
		case rule.OutsidePrefix != rules[i].Public:
			return fmt.Errorf("nat.rule %d: public = %q, and the rule says outside=%s: they must be the same", i+1, rules[i].Public, rule.OutsidePrefix)
		}
	}
	return nil
}

// ruleEvents returns what is new about rules at the time now, when the book has
// those bindings in force.
func ruleEvents(rules []config.NATRule, inForce []session.Binding, now time.Time) (events []identity.Event) {
	known := map[string]session.Binding{}
	for _, b := range inForce {
		if b.Source == session.SourceNAT && b.SourceName == ruleSource {
			known[b.SourceKey] = b
		}
	}
	for i := range rules {
		rule := &rules[i]
		e := identity.Event{
			Kind: identity.Interim, At: now.UnixNano(), Source: session.SourceNAT, NAS: ruleSource,
			Session: rule.Public.String() + " " + rule.Rule,
			Leases:  []identity.Lease{{Kind: identity.Translation, Prefix: rule.Public, Rule: rule.Rule}},
		}
		if now.Before(rule.From) || !rule.Until.IsZero() && !now.Before(rule.Until) {
			continue // not in force: it takes a start of the agent for it to be
		}
		if !rule.Until.IsZero() {
			e.Until = rule.Until.UnixNano()
		}
		if _, goesOn := known[e.SourceKey()]; goesOn {
			delete(known, e.SourceKey())
			continue
		}
		if rule.From.IsZero() {
			e.Kind = identity.Start
		} else {
			e.Held, e.HasHeld = now.Sub(rule.From), true // since then, says the configuration
		}
		events = append(events, e)
	}
	for _, b := range known {
		events = append(events, identity.Event{
			Kind: identity.Stop, At: now.UnixNano(), Source: session.SourceNAT, NAS: ruleSource,
			Session: b.SourceKey[len(ruleKeyPrefix):],
			Leases:  []identity.Lease{{Kind: identity.Translation, Prefix: b.Prefix, Rule: b.Rule}},
		})
	}
	return events
}

// ruleKeyPrefix stands before the session in the key of a rule.
var ruleKeyPrefix = (&identity.Event{Source: session.SourceNAT, NAS: ruleSource}).SourceKey()
