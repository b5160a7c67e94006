package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// Identity says how it is found out whose an address was.
type Identity struct {
	// Trust is the order in which sources that contradict each other are
	// believed; nil: the usual one (identity.DefaultTrust). It names all of them.
	Trust []session.Source
}

// trustable are the words of the sources, in the usual order of trust.
var trustable = []session.Source{session.SourceRADIUS, session.SourceDHCP, session.SourceLeases, session.SourceNAT, session.SourceStatic}

func (c *Identity) read(t *table) {
	var words []string
	t.strs("trust", &words)
	for _, w := range words {
		s, ok := session.ParseSource(w)
		switch {
		case !ok || !slices.Contains(trustable, s):
			t.r.add(t.key("trust"), quoted(w)+" is not a source", "use "+sourceWords())
		case slices.Contains(c.Trust, s):
			t.r.add(t.key("trust"), fmt.Sprintf("names %s twice", quoted(w)), "leave one of them out")
		default:
			c.Trust = append(c.Trust, s)
		}
	}
	if c.Trust == nil {
		return
	}
	for _, s := range trustable { // those not named are believed last
		if !slices.Contains(c.Trust, s) {
			c.Trust = append(c.Trust, s)
		}
	}
}

func sourceWords() string {
	var words []string
	for _, s := range trustable {
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}
