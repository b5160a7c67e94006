package config

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// overflow is the uid and gid that the kernel gives for everybody whom it cannot
// name, as those of another user namespace (user_namespaces(7)).
const overflow = 65534

// highest is the highest uid or gid: the next one stands for "none".
const highest = 1<<32 - 2

// readPersons takes persons and groups from t. The keys of custodians join
// custodians.recipients, which has been read, so that none is listed twice.
func (c *Config) readPersons(t *table) {
	sections := t.subs("person")
	for _, s := range sections {
		c.People.Persons = append(c.People.Persons, s.person(c.Custodians.Recipients))
	}
	for _, key := range c.People.Keys(Custodian) {
		if !slices.Contains(c.Custodians.Recipients, key) {
			c.Custodians.Recipients = append(c.Custodians.Recipients, key)
		}
	}
	ro := t.sub("roles")
	ro.groups("operator_groups", &c.People.OperatorGroups)
	ro.groups("auditor_groups", &c.People.AuditorGroups)
	ro.done()
}

// person reads one section. A key that does not look like one is left out.
func (t *table) person(recipients []string) Person {
	p := Person{}
	t.str("name", &p.Name)
	t.str("account", &p.Account)
	uid, byUID := t.whole("uid", 0, highest)
	var words []string
	t.strs("roles", &words)
	t.str("key", &p.Key)
	t.date("clearance_until", &p.ClearanceUntil)
	t.done()

	if p.Name = strings.TrimSpace(p.Name); p.Name == "" {
		t.add("name", "is missing", "give the person's name, as it is to stand in requests")
	} else if len(p.Name) > maxName || strings.ContainsFunc(p.Name, func(x rune) bool { return !unicode.IsPrint(x) }) {
		t.add("name", "must be at most 64 bytes of letters, digits, signs and single spaces", "shorten it, or write it in one line")
	}
	known := t.account(&p, uint32(uid), byUID)
	for _, w := range words {
		one := parseRole(w)
		if one == 0 {
			t.add("roles", quoted(w)+" is not known", "use "+strings.Join(roleWords, ", "))
		} else if p.Roles.Has(one) {
			t.add("roles", "names "+w+" twice", "leave one of them out")
		}
		p.Roles |= one
	}
	if len(words) == 0 {
		t.add("roles", "is missing: this person may do nothing", `give for example roles = ["officer"]`)
	}
	t.duties(&p, known)
	t.personKey(&p, recipients)
	return p
}

// account finds out the uid, and reports whether it could.
func (t *table) account(p *Person, uid uint32, byUID bool) (known bool) {
	_, named := t.m["account"]
	_, numbered := t.m["uid"]
	switch {
	case named == numbered:
		t.add("account", "or uid is needed, and only one of them", `give the person's user name on this machine, for example account = "anna"`)
		return false
	case numbered && !byUID:
		return false // a problem of its own
	case numbered:
		p.UID = uid
	default:
		u, err := user.Lookup(p.Account)
		if err != nil {
			t.add("account", notFound("user", p.Account, err), "\"adduser "+p.Account+"\" makes one; or give uid = NUMBER")
			return false
		}
		n, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			t.add("account", quoted(p.Account)+" has no number", "give uid = NUMBER")
			return false
		}
		p.UID = uint32(n)
	}
	if p.UID == overflow {
		t.add("account", "is uid 65534, which the kernel gives for everybody whom it cannot name", "give the person a user of their own")
	}
	return true
}

// notFound says why a user or group could not be looked up.
func notFound(what, name string, err error) string {
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &noUser) || errors.As(err, &noGroup) {
		return fmt.Sprintf("%q is no %s of this machine", name, what)
	}
	return fmt.Sprintf("%q cannot be looked up: %v", name, err)
}

// duties checks what the roles of one person ask for, and what they exclude.
func (t *table) duties(p *Person, known bool) {
	switch r := p.Roles; {
	case r.Has(Officer) && r.Has(Custodian):
		t.add("roles", "has officer and custodian: who asks would approve it", "four eyes are two persons: leave one of the roles to somebody else")
	case r.Has(Auditor) && r.Has(Operator|Officer|Custodian):
		t.add("roles", "has auditor beside "+(r&^Auditor).String()+": an auditor would look at their own work", "leave one of the roles to somebody else")
	case r.Has(keyed) && known && p.UID == 0:
		t.add("roles", "gives root "+(r&keyed).String(), "root is whoever runs this machine: give the person a user of their own")
	}
	_, given := t.m["clearance_until"]
	switch {
	case p.Roles.Has(vetted) && !given:
		t.add("clearance_until", "is missing: an officer or custodian has a security clearance (BEK 1144/2006)",
			"give its last day, for example clearance_until = 2027-06-30")
	case !p.Roles.Has(vetted) && given:
		t.add("clearance_until", "is only looked at for officers and custodians", "take it out")
	}
}

// personKey checks the key; what is no public key is forgotten.
func (t *table) personKey(p *Person, recipients []string) {
	p.Key = strings.TrimSpace(p.Key)
	text, remedy := badKey(p.Key)
	switch {
	case p.Key == "" && p.Roles.Has(keyed):
		t.add("key", "is missing", `give the person's public key, key = "age1…"; "age-keygen" makes one`)
	case p.Key == "":
	case p.Roles == Operator:
		t.add("key", "is of no use: an operator opens nothing", "take it out")
		p.Key = ""
	case text != "":
		t.add("key", text, remedy)
		p.Key = ""
	case !p.Roles.Has(Custodian) && slices.Contains(recipients, p.Key):
		t.add("key", "is also in custodians.recipients: this person could open everything alone", "take it out there, or give the person another key")
	}
}

// badKey says what is wrong with a public key and what to do; "" when nothing is.
func badKey(k string) (text, remedy string) {
	switch {
	case strings.HasPrefix(strings.ToUpper(k), "AGE-SECRET-KEY-") || strings.HasPrefix(strings.ToUpper(k), "AGE-PLUGIN-"):
		return "holds a private key", "only public keys, age1…, may be on the gateway: take it out, and treat that key as exposed"
	case !strings.HasPrefix(k, "age1"):
		return quoted(k) + " is not an age public key", "it begins with age1; the identity file holds it in its comment"
	}
	return "", ""
}

// checkPersons finds persons who are named twice: one of the two sections would
// escape what the other one excludes.
func (c *Config) checkPersons(r *reader) {
	names, uids, keys := map[string]int{}, map[uint32]int{}, map[string]int{}
	for i := range c.People.Persons {
		p, at := &c.People.Persons[i], element("person", i)
		earlier := func(n int) string { return element("person", n) + " " + quoted(c.People.Persons[n].Name) }
		if n, again := names[fold(p.Name)]; again && p.Name != "" {
			r.add(at+".name", quoted(p.Name)+" is the name of "+earlier(n)+", however it is written", "give each person one section, and two persons names that tell them apart")
		} else {
			names[fold(p.Name)] = i
		}
		by := ".uid"
		if p.Account != "" {
			by = ".account"
		}
		if !r.unread[at+".account"] && !r.unread[at+".uid"] {
			if n, again := uids[p.UID]; again {
				r.add(at+by, fmt.Sprintf("is uid %d, as that of %s: two names of the same person", p.UID, earlier(n)), "give each person one section, and a user of their own")
			} else {
				uids[p.UID] = i
			}
		}
		if n, again := keys[p.Key]; again && p.Key != "" {
			r.add(at+".key", "is that of "+earlier(n)+": two names of the same person", "give each person one section, and a key of their own")
		} else {
			keys[p.Key] = i
		}
	}
}

// fold returns what two names have in common that a reader takes for the same
// one: case, width, accents written apart, spaces and signs that do not show.
func fold(name string) string {
	name = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name)))
	name = strings.Map(func(x rune) rune {
		if unicode.In(x, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, unicode.Cf) {
			return -1
		}
		return x
	}, name)
	return strings.Join(strings.Fields(name), " ")
}

// add notes a problem with a key of this section.
func (t *table) add(key, text, remedy string) { t.r.add(t.key(key), text, remedy) }

// date reads a day as TOML writes it, without time and zone.
func (t *table) date(key string, into *time.Time) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	d, isTime := v.(time.Time)
	if !isTime || d.Location().String() != "date-local" { // as the TOML parser marks a local date
		t.add(key, "must be a day, not "+kind(v), "write it without quotes and time, for example 2027-06-30")
		return
	}
	*into = time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, time.UTC)
}

// groups reads a list of names and gids.
func (t *table) groups(key string, into *[]Group) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	list, isList := v.([]any)
	if !isList {
		t.add(key, "must be a list of groups, not "+kind(v), `write for example ["edgelog", 990]`)
		return
	}
	for _, e := range list {
		g, ok := t.groupOf(key, e)
		if ok && slices.ContainsFunc(*into, func(h Group) bool { return h.GID == g.GID }) {
			t.add(key, fmt.Sprintf("names the group %d twice", g.GID), "leave one of them out")
		} else if ok {
			*into = append(*into, g)
		}
	}
}

// group reads one name or gid.
func (t *table) group(key string, into *Group) {
	if v, ok := t.get(key); ok && v != "" {
		if g, ok := t.groupOf(key, v); ok {
			*into = g
		}
	}
}

func (t *table) groupOf(key string, v any) (Group, bool) {
	var g Group
	switch v := v.(type) {
	case int64:
		if v < 0 || v > highest {
			t.add(key, fmt.Sprintf("is %d", v), fmt.Sprintf("a gid is from 1 to %d", highest))
			return g, false
		}
		g.GID = uint32(v)
	case string:
		found, err := user.LookupGroup(v)
		if err != nil {
			t.add(key, notFound("group", v, err), "\"groupadd --system "+v+"\" makes one; a number stands without quotes")
			return g, false
		}
		n, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			t.add(key, quoted(v)+" has no number", "give its gid")
			return g, false
		}
		g.Name, g.GID = v, uint32(n)
	default:
		t.add(key, "must be a group, not "+kind(v), `write its name in quotes, or its gid`)
		return g, false
	}
	switch g.GID {
	case 0:
		t.add(key, "names the group of root, in which many programs run", "make a group for this: groupadd --system edgelog")
		return g, false
	case overflow:
		t.add(key, "names gid 65534, which the kernel gives for every group that it cannot name", "make a group for this: groupadd --system edgelog")
		return g, false
	}
	return g, true
}
