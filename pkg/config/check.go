package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/edgelog/edgelog/pkg/session"
)

// check adds a problem for everything that is wrong although each value by
// itself is well formed.
func (c *Config) check(r *reader) {
	c.checkNames(r)
	c.checkProfile(r)
	c.checkBorder(r)
	c.checkUplinks(r)
	c.checkTable(r)
	c.checkRADIUS(r)
	c.checkNAT(r)
	c.checkDHCP(r)
	c.checkStatic(r)
	c.checkCustodians(r)
	c.checkPersons(r)
	c.checkContacts(r)
	c.checkDisclose(r)
	c.checkMetrics(r)
	c.checkLedger(r)
	c.checkRunDir(r)
}

// maxSocketPath is the longest path that a unix socket can have, in bytes
// (unix(7): sun_path, with a zero at its end).
const maxSocketPath = 107

func (c *Config) checkRunDir(r *reader) {
	if n := len(c.Socket()); n > maxSocketPath {
		r.add("run_dir", fmt.Sprintf("is too long: the path of the control socket would have %d bytes, and the kernel allows %d", n, maxSocketPath),
			`choose a shorter one, for example run_dir = "/run/edgelog"`)
	}
}

// checkMetrics lets no other machine read the metrics by mistake: they name no
// person, but say how much is recorded, and how much is missed.
func (c *Config) checkMetrics(r *reader) {
	if at := c.Metrics.Listen; at.IsValid() && !at.Addr().Unmap().IsLoopback() && !c.Metrics.Expose {
		r.add("metrics.listen", quoted(at.String())+" can be reached from other machines",
			`listen on "127.0.0.1:`+strconv.Itoa(int(at.Port()))+`", or say expose = true if anybody who reaches it may know how much is recorded and missed`)
	}
}

func (c *Config) checkNames(r *reader) {
	switch {
	case c.Gateway == "":
		r.add("gateway", "is missing", `give this machine a name, for example gateway = "gw1"`)
	case len(c.Gateway) > maxName || strings.ContainsFunc(c.Gateway, func(x rune) bool { return unicode.IsSpace(x) || !unicode.IsPrint(x) }):
		r.add("gateway", "must be at most 64 bytes without spaces", `use a short name, for example "gw1"`)
	}
	r.text("provider", c.Provider, `name the provider in whose name is recorded, for example provider = "Example Net ApS"`)
	if c.LegalBasis != "" {
		r.text("legal_basis", c.LegalBasis, "write it in one line")
	}
}

// text adds a problem when s is empty, too long or holds control characters.
func (r *reader) text(key, s, remedy string) {
	switch {
	case strings.TrimSpace(s) == "":
		r.add(key, "is missing", remedy)
	case len(s) > maxText:
		r.add(key, "is longer than 255 bytes", "shorten it")
	case strings.ContainsFunc(s, unicode.IsControl):
		r.add(key, "holds a line break or another control character", "write it in one line")
	}
}

func (c *Config) checkProfile(r *reader) {
	if c.Profile == session.ProfileSample500 {
		r.add("profile", `"sample500" is not available in this version`, `use "access", "source" or "session"`)
	}
	if c.Profile.NeedsLegalBasis() && strings.TrimSpace(c.LegalBasis) == "" {
		r.add("profile", `"`+c.Profile.String()+`" may only be used with a legal basis`,
			`name it, for example legal_basis = "BEK 988/2006 § 5 stk. 1", or use profile = "access"`)
	}
}

func (c *Config) checkBorder(r *reader) {
	if c.Profile != session.ProfileAccess && len(c.Border.Local) == 0 {
		r.add("border.local", "is empty: without it no session has an end user",
			`list the prefixes of your own subscribers, for example local = ["192.0.2.0/24", "2001:db8::/32"]`)
	}
	seen := map[netip.Prefix]string{}
	for key, list := range map[string][]netip.Prefix{"border.local": c.Border.Local, "border.exempt": c.Border.Exempt} {
		for _, p := range list {
			if _, dup := seen[p]; dup {
				r.add(key, "names "+p.String()+" twice", "leave one of them out")
			}
			seen[p] = key
		}
	}
}

func (c *Config) checkUplinks(r *reader) {
	if len(c.Uplinks) == 0 && c.Profile != session.ProfileAccess {
		r.add("uplink", "is missing: there is no interface to record on",
			`add a section [[uplink]] with name = "…" for each interface that faces other networks`)
	}
	seen := map[string]bool{}
	for i, u := range c.Uplinks {
		key := element("uplink", i) + ".name"
		switch {
		case u.Name == "":
			r.add(key, "is missing", `name the interface as "ip link" shows it`)
		case len(u.Name) > 15 || strings.ContainsFunc(u.Name, func(x rune) bool { return x == '/' || unicode.IsSpace(x) || !unicode.IsPrint(x) }):
			r.add(key, quoted(u.Name)+" cannot be the name of an interface", `name the interface as "ip link" shows it`)
		case seen[u.Name]:
			r.add(key, quoted(u.Name)+" is named twice", "leave one of them out")
		}
		seen[u.Name] = true
	}
}

func (c *Config) checkTable(r *reader) {
	if n := c.Table.Slots; n&(n-1) != 0 {
		r.add("table.slots", "must be a power of two", "use 65536, 131072, 262144, 524288, 1048576, …")
	}
	if n := c.Table.RingBytes; n&(n-1) != 0 {
		r.add("table.ring_bytes", "must be a power of two", "use for example 1048576 or 4194304")
	}
	if c.Timeouts.HalfOpen > c.Timeouts.TCP {
		r.add("timeouts.half_open", "is longer than timeouts.tcp", "a half-open session must not outlive an established one: make it shorter")
	}
}

func (c *Config) checkCustodians(r *reader) {
	const key = "custodians.recipients"
	if len(c.Custodians.Recipients) == 0 {
		r.add(key, "is empty: nobody could ever open what is recorded",
			`list the custodians' public keys, age1…; "edgelog init" makes them`)
		return
	}
	seen := map[string]bool{}
	for _, k := range c.Custodians.Recipients {
		if text, remedy := badKey(k); text != "" {
			r.add(key, text, remedy)
		} else if seen[k] {
			r.add(key, "names "+k+" twice", "leave one of them out")
		}
		seen[k] = true
	}
	if c.Custodians.Minimum > len(c.Custodians.Recipients) {
		r.add("custodians.minimum", "is greater than the number of recipients", "add recipients or lower it")
	}
}
