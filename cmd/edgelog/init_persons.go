package main

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/vault"
)

// personFlags say who may do what.
func personFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "person", Usage: "`ROLE:NAME:USER` name a person, with a key pair where the role needs one: ROLE is operator, officer, custodian or auditor, " +
			"several with +; USER is a user of this machine, by name or uid; may be repeated"},
		&cli.StringFlag{Name: "clearance-until", Usage: "last `DAY` of the security clearance of these officers and custodians, as 2027-06-30"},
		&cli.StringFlag{Name: "socket-group", Usage: "`GROUP` that may reach the control socket, by name or gid"},
	}
}

// keyFile is a private key that must leave this machine.
type keyFile struct{ path, whose string }

// newKey makes a key pair, and returns its public half.
func (s *setup) newKey(path, whose string) (string, error) {
	pair, err := vault.GenerateIdentity()
	if err != nil {
		return "", err
	}
	if dir := filepath.Dir(path); !slices.Contains(s.dirs, dir) {
		s.dirs = append(s.dirs, dir)
	}
	s.keys = append(s.keys, keyFile{path, whose})
	s.files = append(s.files, file{path, pair.File()})
	return pair.Recipient, nil
}

// persons takes those of --person. A custodian who is also one of --custodian has
// one key, and is not listed twice.
func (s *setup) persons(c *cli.Context, dir string, v *config.Values) error {
	until, err := time.Parse(time.DateOnly, c.String("clearance-until"))
	if c.IsSet("clearance-until") && err != nil {
		return usage("--clearance-until %q is not a day; write it as 2027-06-30", c.String("clearance-until"))
	}
	for _, text := range c.StringSlice("person") {
		p, err := parsePerson(text)
		if err != nil {
			return err
		}
		custodian := slices.Contains(p.Roles, "custodian")
		if custodian || slices.Contains(p.Roles, "officer") {
			if until.IsZero() {
				return usage("--clearance-until is missing: an officer or custodian has a security clearance (BEK 1144/2006)").
					hint("give its last day, as --clearance-until 2027-06-30")
			}
			p.Until = until
		}
		at := slices.IndexFunc(v.Recipients, func(r config.Recipient) bool { return r.Name == p.Name && custodian })
		switch {
		case at >= 0:
			p.Key = v.Recipients[at].Key
			v.Recipients = slices.Delete(v.Recipients, at, at+1)
		case custodian:
			p.Key, err = s.newKey(filepath.Join(dir, "custodians", p.Name+".key"), "a custodian")
		case !slices.Equal(p.Roles, []string{"operator"}):
			p.Key, err = s.newKey(filepath.Join(dir, "persons", p.Name+".key"), "an "+p.Roles[0])
		}
		if err != nil {
			return err
		}
		v.Persons = append(v.Persons, p)
	}
	return nil
}

// parsePerson reads ROLE[+ROLE]:NAME:USER.
func parsePerson(text string) (config.SamplePerson, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[2] == "" {
		return config.SamplePerson{}, usage("--person %q: write ROLE:NAME:USER, for example officer:olga:1001", text)
	}
	p := config.SamplePerson{Name: parts[1], Roles: strings.Split(parts[0], "+")}
	if !fileName.MatchString(p.Name) {
		return p, usage("--person %q: use letters, digits, dot, dash and underline in the name; the key file is named so", text)
	}
	slices.SortFunc(p.Roles, func(a, b string) int { // operator says least of a key
		return strings.Compare(strings.Replace(a, "operator", "~", 1), strings.Replace(b, "operator", "~", 1))
	})
	if uid, err := strconv.ParseUint(parts[2], 10, 32); err == nil {
		p.UID = uint32(uid)
	} else {
		p.Account = parts[2]
	}
	return p, nil
}
