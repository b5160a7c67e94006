package main

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/vault"
)

// soon is how long before its end a clearance is spoken of.
const soon = 30 * 24 * time.Hour

// checkGuards finds out who else may change who may do what. The agent does not
// start then.
func (d *doctor) checkGuards() {
	err := d.conf.Guarded()
	if err == nil {
		d.ok("ownership", "only root and this user may change the configuration")
		return
	}
	for line := range strings.Lines(err.Error()) {
		text, remedy, _ := strings.Cut(strings.TrimSpace(line), "; run: ")
		d.fail("ownership", text, remedy)
	}
}

// checkPersons finds out whether a request could be answered today and soon, as far
// as it takes persons.
func (d *doctor) checkPersons(now time.Time) {
	people := &d.conf.People
	if len(people.Persons) == 0 {
		d.warn("persons", "none is named: no request can be filed and approved by two", "add sections [[person]]; the sample of \"edgelog init\" has one")
		return
	}
	d.ok("persons", fmt.Sprintf("%s: %d officers, %d custodians, %d auditors, %d operators", plural(uint64(len(people.Persons)), "person"),
		len(people.With(config.Officer)), len(people.With(config.Custodian)), len(people.With(config.Auditor)), len(people.With(config.Operator))))
	for i := range people.Persons {
		d.checkPerson(&people.Persons[i], now)
	}
	cleared := func(role config.Roles) int {
		return len(slices.DeleteFunc(people.With(role), func(p config.Person) bool { return !p.Cleared(now) }))
	}
	if have, need := cleared(config.Custodian), d.conf.Disclose.Approvals; have < need {
		d.warn("approvals", fmt.Sprintf("disclose.approvals is %d, and %s with a clearance that holds: nothing can be approved", need, plural(uint64(have), "custodian")),
			"add custodians, or have their clearances renewed")
	} else {
		d.ok("approvals", fmt.Sprintf("%d of %s", need, plural(uint64(have), "custodian")))
	}
	if cleared(config.Officer) == 0 {
		d.warn("officers", "none with a clearance that holds: no request can be filed", `add a section [[person]] with roles = ["officer"]`)
	}
}

func (d *doctor) checkPerson(p *config.Person, now time.Time) {
	what := "person " + strconv.Quote(p.Name)
	if p.Roles.Has(config.Officer | config.Custodian) {
		day, left := p.ClearanceUntil.Format(time.DateOnly), p.ClearanceUntil.AddDate(0, 0, 1).Sub(now)
		switch {
		case left <= 0:
			d.warn(what, "the clearance ended with "+day+": no longer officer or custodian", "have it renewed and set clearance_until, or take the role away")
		case left <= soon:
			d.warn(what, fmt.Sprintf("the clearance ends with %s, in %s", day, plural(uint64(left/(24*time.Hour)), "day")), "have it renewed, and set clearance_until")
		}
	}
	if p.Key != "" {
		if _, err := vault.ParseRecipients([]string{p.Key}); err != nil {
			d.fail(what, err.Error(), "put key right: until then the agent does not start")
		}
	}
	g := d.conf.Agent.SocketGroup
	switch {
	case p.UID == 0:
	case g == (config.Group{}):
		d.warn(what, "does not reach the control socket: agent.socket_group is not set", `"groupadd --system edgelog", put the persons into it, and set socket_group = "edgelog" under [agent]`)
	case !inGroup(p.UID, g.GID):
		d.warn(what, fmt.Sprintf("uid %d is not in the socket's group, gid %d", p.UID, g.GID), "\"gpasswd --add USER GROUP\", or \"usermod --append --groups GROUP USER\"; then a new log-on")
	}
}

// inGroup reports whether the user is in the group; true when that cannot be found
// out, since a user who is not in the files may still get it at log-on.
func inGroup(uid, gid uint32) bool {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return true
	}
	groups, err := u.GroupIds()
	want := strconv.FormatUint(uint64(gid), 10)
	return err != nil || u.Gid == want || slices.Contains(groups, want)
}

// checkRoster finds out whether somebody answers the authorities at each hour of
// the week.
func (d *doctor) checkRoster() {
	const most = 3 // gaps that are named
	gaps := config.Uncovered(d.conf.Contacts)
	switch {
	case len(d.conf.Contacts) == 0:
		d.warn("contact point", "nobody is named, and a provider that records is reached at all hours (BEK 1145/2006)",
			"add sections [[contact]] with name, phone and hours")
	case len(gaps) > 0:
		text := strings.Join(gaps[:min(len(gaps), most)], ", ")
		if len(gaps) > most {
			text += fmt.Sprintf(" and %d more times", len(gaps)-most)
		}
		d.warn("contact point", "nobody answers "+text+" (UTC)", "add a [[contact]] for these hours (BEK 1145/2006)")
	default:
		d.ok("contact point", plural(uint64(len(d.conf.Contacts)), "contact")+", at all hours of the week")
	}
}

// checkRefused says what an agent that answers "not you" still tells.
func (d *doctor) checkRefused(err error) bool {
	if !errors.Is(err, errNoRole) {
		return false
	}
	d.agentRunning = true
	d.warn("agent", "running, but this user may not ask how it is: "+err.Error(), "run this as an operator")
	return true
}
