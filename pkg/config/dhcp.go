package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// DHCP configures what is heard of DHCP servers.
type DHCP struct {
	Listen     string   // path of the socket for reports; "": none
	Subscriber []string // what names the subscriber of a lease, the first that there is
	JoinByMAC  string   // without-line, always or never
	Servers    []DHCPServer
}

// DHCPServer is a DHCP server.
type DHCPServer struct {
	Name       string
	Kind       string // kea, isc or dnsmasq
	Leases4    string // path of the lease file; "": none
	Leases6    string
	Control4   string // path of Kea's control socket, or http:// address of its control agent; "": none
	Control6   string
	LoginFile  string // holds "user:password" for the control agent; "": none
	ReportUser string // whose reports are believed; "none": nobody's
	Reconcile  time.Duration
}

// dhcpWords are what may name a subscriber.
var dhcpWords = []string{"subscriber-id", "remote-id", "circuit-id", "client-id", "duid", "mac", "hostname"}

func defaultDHCP() DHCP {
	return DHCP{Subscriber: []string{"subscriber-id", "remote-id", "circuit-id"}, JoinByMAC: "without-line"}
}

// reportUsers are who runs the hook or script of a program on Debian.
var reportUsers = map[string]string{"kea": "_kea", "dnsmasq": "root", "isc": "none"}

func (c *DHCP) read(t *table) {
	t.path("listen", &c.Listen)
	t.strs("subscriber", &c.Subscriber)
	t.word("join_by_mac", &c.JoinByMAC, "without-line", "always", "never")
	for _, s := range t.subs("server") {
		x := DHCPServer{Kind: "kea", Reconcile: 5 * time.Minute}
		s.str("name", &x.Name)
		s.word("kind", &x.Kind, "kea", "isc", "dnsmasq")
		s.path("leases4", &x.Leases4)
		s.path("leases6", &x.Leases6)
		s.control("control4", &x.Control4)
		s.control("control6", &x.Control6)
		s.path("login_file", &x.LoginFile)
		x.ReportUser = reportUsers[x.Kind]
		s.str("report_user", &x.ReportUser)
		s.duration("reconcile", &x.Reconcile, 100*time.Millisecond, 24*time.Hour)
		s.done()
		c.Servers = append(c.Servers, x)
	}
	t.done()
}

// control reads a path, or a web address.
func (t *table) control(key string, into *string) {
	if s, ok := t.m[key].(string); ok && strings.HasPrefix(s, "http://") {
		t.str(key, into)
		return
	}
	t.path(key, into)
}

func (c *Config) checkDHCP(r *reader) {
	d := &c.DHCP
	if n := len(d.Listen); n > maxSocketPath {
		r.add("dhcp.listen", fmt.Sprintf("is too long: it has %d bytes, and the kernel allows %d", n, maxSocketPath), `choose a shorter one, for example "/run/edgelog-dhcp/report.sock"`)
	}
	for _, w := range d.Subscriber {
		if !slices.Contains(dhcpWords, w) {
			r.add("dhcp.subscriber", quoted(w)+" is not known", "use "+strings.Join(dhcpWords, ", "))
		}
	}
	seen, paths := map[string]bool{}, map[string]bool{}
	for i := range d.Servers {
		s := &d.Servers[i]
		at := element("dhcp.server", i)
		switch {
		case s.Name == "":
			r.add(at+".name", "is missing", `give the server a name, for example name = "kea"; it stands on every access record`)
		case len(s.Name) > maxName || strings.ContainsFunc(s.Name, func(x rune) bool { return unicode.IsSpace(x) || !unicode.IsPrint(x) || x == '~' }):
			r.add(at+".name", "must be at most 64 bytes without spaces and ~", `use a short name, for example "kea"`)
		case seen[s.Name]:
			r.add(at+".name", quoted(s.Name)+" is named twice", "leave one of them out")
		}
		seen[s.Name] = true
		for _, p := range []string{s.Leases4, s.Leases6} {
			if p != "" && paths[p] {
				r.add(at, "reads "+quoted(p)+", which is read already", "leave one of them out")
			}
			paths[p] = true
		}
		s.check(r, at, d.Listen != "")
	}
}

// check adds what is wrong with one server.
func (s *DHCPServer) check(r *reader, at string, reports bool) {
	switch {
	case s.Leases4+s.Leases6+s.Control4+s.Control6 == "" && (!reports || s.ReportUser == "none"):
		r.add(at, "says nothing that could be heard of it", "give leases4 or leases6, for Kea control4 or control6, or set dhcp.listen and have its hook report")
	case s.Kind != "kea" && s.Control4+s.Control6 != "":
		r.add(at+".control4", "is set, but only Kea has a control socket", "take it out")
	case s.Kind == "dnsmasq" && s.Leases6 != "":
		r.add(at+".leases6", "is set, but dnsmasq keeps all its leases in one file", "name that in leases4")
	}
}
