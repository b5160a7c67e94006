package delivery

import (
	"fmt"
	"strings"
	"unicode"
)

// Proof says, as lines for people, what was checked.
func (r *Report) Proof() []string {
	m := r.Manifest
	lines := []string{
		fmt.Sprintf("whole: %d files as manifest.json names them, and it has the SHA-256 %s", len(m.Members), r.Digest),
		fmt.Sprintf("signed by the ledger %q, whose key has the fingerprint %s", strings.SplitN(r.Key, "+", 2)[0], r.Fingerprint),
		fmt.Sprintf("in the ledger: request filed as entry %d at %s", r.Filed.Index, r.Filed.Time),
	}
	for _, a := range r.Approvals {
		lines = append(lines, fmt.Sprintf("in the ledger: approved as entry %d at %s", a.Index, a.Time))
	}
	lines = append(lines,
		fmt.Sprintf("in the ledger: read as entry %d at %s, and the outcome with this manifest as entry %d at %s", r.Intent.Index, r.Intent.Time, r.Outcome.Index, r.Outcome.Time))
	switch why := m.Request.Unratified(); {
	case len(r.Approvals) == 0:
		lines = append(lines, "NOT APPROVED when it was read: it was an emergency")
	case why != "":
		lines = append(lines, "EMERGENCY: "+why)
	case r.Needed > 0:
		lines = append(lines, m.Request.ApprovalText())
	}
	for _, c := range r.Compared {
		lines = append(lines, "held against what was kept: "+c)
	}
	if r.OwnKey {
		lines = append(lines, "THE KEY IS THE PACKAGE'S OWN: compare it with what the provider published: "+r.Fingerprint)
	}
	return printable(lines)
}

// Lines says, for people, what the package is the answer to, and what may be
// concluded from it. They name no end user.
func (r *Report) Lines() []string {
	m := r.Manifest
	q, a := &m.Request, &m.Answer
	lines := []string{
		fmt.Sprintf("request %s of %s (%s), legal basis: %s", q.Number, q.Authority, q.Country, q.LegalBasis),
		fmt.Sprintf("asked: %s of one %s, %s … %s", q.Asked, q.Identifier, q.From, q.To),
	}
	if q.At != "" {
		lines = append(lines, fmt.Sprintf("asked: who held it at %s ± %d ms", q.At, q.ErrorMilli))
	}
	found := fmt.Sprint(a.Found)
	if a.MoreThanFound {
		found = "more than " + found
	}
	lines = append(lines, fmt.Sprintf("found: %s; delivered: %d; the request allows %d", found, a.Delivered, a.MaxHits))
	if a.Verdict != "" {
		lines = append(lines, a.Verdict+": "+a.Reason)
	}
	if a.AsOf != "" {
		lines = append(lines, "as of the approval, "+a.AsOf)
	}
	if a.Later != "" {
		lines = append(lines, "STORED LATER: "+a.Later)
	}
	for _, why := range a.Incomplete {
		lines = append(lines, "INCOMPLETE: "+why)
	}
	for _, h := range a.Holds {
		lines = append(lines, fmt.Sprintf("from hold %d: a part was found there alone; its day was destroyed", h))
	}
	if q.Emergency != "" {
		lines = append(lines, "EMERGENCY: "+q.Emergency)
	}
	rec := &m.Recording
	if rec.Source != "" {
		lines = append(lines, fmt.Sprintf("imported at %s: %s, of %s", rec.Gateway, rec.Source, rec.Provider))
	} else {
		lines = append(lines, fmt.Sprintf("recorded by %s for %s, profile %s, legal basis: %s", rec.Gateway, rec.Provider, orDash(strings.Join(rec.Profiles, " and ")), rec.LegalBasis))
	}
	lines = append(lines, "clock: "+rec.clock(), "sampling: "+rec.Sampling)
	for _, c := range rec.coverageLines(10) {
		lines = append(lines, "coverage: "+c)
	}
	for _, c := range m.Contacts {
		lines = append(lines, "contact: "+strings.Join(nonEmpty(c.Name, c.Phone, c.Mail, c.Hours), ", "))
	}
	what := "a session: " + rec.Definition
	if rec.DefinitionOfCommunication != "" {
		what = "a communication: " + rec.DefinitionOfCommunication
	}
	return printable(append(lines, what, "made by "+m.Software))
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// printable makes lines harmless for a terminal: a package may be of anybody.
func printable(lines []string) []string {
	for i, s := range lines {
		lines[i] = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '·'
			}
			return r
		}, s)
	}
	return lines
}
