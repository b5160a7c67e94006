package config

import (
	"strings"
	"time"
)

// Roles is a set of roles.
type Roles uint8

// The roles.
const (
	Operator  Roles = 1 << iota // sees health and configuration, never people
	Officer                     // files requests, and runs those that are approved
	Custodian                   // approves, with a key; answers for what is kept
	Auditor                     // reads the ledger and statistics; changes nothing
)

// vetted are the roles that need a security clearance (BEK 1144/2006).
const vetted = Officer | Custodian

// keyed are the roles that need a key of their own.
const keyed = Officer | Custodian | Auditor

// roleWords are the words of the configuration, in the order of their bits.
var roleWords = []string{"operator", "officer", "custodian", "auditor"}

// Has reports whether r holds at least one of the roles of any.
func (r Roles) Has(any Roles) bool { return r&any != 0 }

// String returns the roles as "operator, officer", or "none".
func (r Roles) String() string {
	var out []string
	for i, word := range roleWords {
		if r.Has(1 << i) {
			out = append(out, word)
		}
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}

// parseRole returns the role of a word, 0 when there is none.
func parseRole(word string) Roles {
	for i, w := range roleWords {
		if w == word {
			return 1 << i
		}
	}
	return 0
}

// Caller is who is at the other end of the control socket.
type Caller struct {
	Person   string // "" when the configuration names nobody with this uid
	UID, GID uint32
	Roles    Roles
	Key      string // the person's age recipient; "" when there is none

	// Lapsed: the clearance is over, and so Roles is without officer and custodian.
	Lapsed bool
}

// People are those who may talk to the agent, and as what.
type People struct {
	Persons        []Person
	OperatorGroups []Group
	AuditorGroups  []Group // for the public part of the ledger: without a key nothing sealed is opened
}

// Person is somebody whom the configuration names. No two have the same name,
// uid or key.
type Person struct {
	Name    string
	Account string // user name; "" when the uid is given
	UID     uint32
	Roles   Roles
	Key     string // age recipient; "" only for an operator

	// ClearanceUntil is the last UTC day of the clearance of an officer or
	// custodian, at its midnight; zero for others.
	ClearanceUntil time.Time
}

// Cleared reports whether the clearance holds at the time now.
func (p *Person) Cleared(now time.Time) bool { return now.Before(p.ClearanceUntil.AddDate(0, 0, 1)) }

// Group is a group of users. The zero Group is none: that of root needs no name.
type Group struct {
	Name string // "" when the gid is given
	GID  uint32
}

// Caller says who a process is by its uid, its gid and the gids of its further
// groups, and what it may do at the time now. A person has the roles of the
// section, whatever the groups; groups count for those whom no section names.
// Who is in groups of operators and of auditors is an operator: an auditor
// changes nothing. Root is an operator and nothing else.
func (p *People) Caller(uid, gid uint32, now time.Time, groups ...uint32) Caller {
	c := Caller{UID: uid, GID: gid}
	for i := range p.Persons {
		x := &p.Persons[i]
		if x.UID != uid {
			continue
		}
		c.Person, c.Roles, c.Key = x.Name, x.Roles, x.Key
		if c.Roles.Has(vetted) && !x.Cleared(now) {
			c.Roles, c.Lapsed = c.Roles&^vetted, true
		}
		return c
	}
	in := func(list []Group) bool {
		for _, g := range list {
			if g.GID == gid {
				return true
			}
			for _, have := range groups {
				if g.GID == have {
					return true
				}
			}
		}
		return false
	}
	switch {
	case uid == 0 || in(p.OperatorGroups):
		c.Roles = Operator
	case in(p.AuditorGroups):
		c.Roles = Auditor
	}
	return c
}

// With returns the persons who have at least one of the roles, cleared or not.
func (p *People) With(any Roles) []Person {
	var out []Person
	for _, x := range p.Persons {
		if x.Roles.Has(any) {
			out = append(out, x)
		}
	}
	return out
}

// Keys returns the keys of the persons who have at least one of the roles.
func (p *People) Keys(any Roles) []string {
	var out []string
	for _, x := range p.With(any) {
		if x.Key != "" {
			out = append(out, x.Key)
		}
	}
	return out
}
