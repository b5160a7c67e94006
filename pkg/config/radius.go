package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// RADIUS configures the accounting server.
type RADIUS struct {
	Listen  []netip.AddrPort // UDP; none: no server for UDP
	Clients []RADIUSClient
	RadSec  RadSec
	Blocks  []PortBlock

	PreferCUI     bool // Chargeable-User-Identity comes before User-Name
	MACSubscriber bool // a User-Name that is a MAC address names a subscriber
}

// RADIUSPermit is what an accounting client may say. Empty: anything.
type RADIUSPermit struct {
	NAS      []string       // names, addresses and prefixes of access servers
	Prefixes []netip.Prefix // masked; that its sessions may hold

	RequireMessageAuthenticator bool
}

// RADIUSClient is a network access server that may send accounting requests.
type RADIUSClient struct {
	Name       string // for status; "" is the address
	Address    netip.Prefix
	SecretFile string
	RADIUSPermit
}

// RadSec configures RADIUS over TLS (RFC 6614).
type RadSec struct {
	Listen           []netip.AddrPort // TCP; none: no server for TLS
	Certificate, Key string           // PEM files: the own chain and its private key
	CA               string           // PEM file: who issues client certificates
	Clients          []RadSecClient   // none: whoever has such a certificate
	Connections      int              // at once
	Idle             time.Duration    // after which a silent connection is closed
}

// RadSecClient is who may connect by TLS.
type RadSecClient struct {
	Names []string // of its certificate
	RADIUSPermit
}

// PortBlock says in which attributes of a vendor a block of ports is reported;
// attribute 0 is none.
type PortBlock struct {
	Vendor, Address, Range, Start, End, Update, Released uint32

	Whole bool
}

// Place is where sessions are that come by this access server, station and
// port; what is "" does not count.
type Place struct {
	NAS, Called, Port, Text string
}

func (c *Config) readRADIUS(t *table) {
	ra := t.sub("radius")
	ra.listen("listen", &c.RADIUS.Listen)
	ra.flag("prefer_cui", &c.RADIUS.PreferCUI)
	ra.flag("mac_is_subscriber", &c.RADIUS.MACSubscriber)
	for _, cl := range ra.subs("client") {
		var client RADIUSClient
		cl.str("name", &client.Name)
		cl.client("address", &client.Address)
		cl.path("secret_file", &client.SecretFile)
		cl.permit(&client.RADIUSPermit)
		cl.done()
		c.RADIUS.Clients = append(c.RADIUS.Clients, client)
	}
	for _, b := range ra.subs("port_block") {
		var p PortBlock
		for key, into := range map[string]*uint32{"address": &p.Address, "range": &p.Range, "start": &p.Start, "end": &p.End, "update": &p.Update} {
			b.number(key, into, 1, 1<<24-1)
		}
		b.number("vendor", &p.Vendor, 1, 1<<24-1)
		b.number("released", &p.Released, 0, 1<<32-1)
		b.flag("whole", &p.Whole)
		b.done()
		c.RADIUS.Blocks = append(c.RADIUS.Blocks, p)
	}
	c.readRadSec(ra.sub("radsec"))
	ra.done()
	for _, p := range t.subs("place") {
		var place Place
		p.str("nas", &place.NAS)
		p.str("called", &place.Called)
		p.str("port", &place.Port)
		p.str("text", &place.Text)
		p.done()
		c.Places = append(c.Places, place)
	}
}

func (c *Config) readRadSec(t *table) {
	r := &c.RADIUS.RadSec
	t.listen("listen", &r.Listen)
	t.path("certificate", &r.Certificate)
	t.path("key", &r.Key)
	t.path("ca", &r.CA)
	t.integer("connections", &r.Connections, 1, 1<<16)
	t.duration("idle", &r.Idle, time.Second, 7*24*time.Hour)
	for _, cl := range t.subs("client") {
		var client RadSecClient
		cl.strs("names", &client.Names)
		cl.permit(&client.RADIUSPermit)
		cl.done()
		r.Clients = append(r.Clients, client)
	}
	t.done()
}

// permit reads what an accounting client may say.
func (t *table) permit(into *RADIUSPermit) {
	t.strs("nas", &into.NAS)
	t.prefixes("prefixes", &into.Prefixes)
	t.flag("require_message_authenticator", &into.RequireMessageAuthenticator)
}

func (c *Config) checkRADIUS(r *reader) {
	if len(c.RADIUS.Listen) > 0 && len(c.RADIUS.Clients) == 0 {
		r.add("radius.listen", "is set, but no client may send to it",
			"add a section [[radius.client]] with address and secret_file for each access server")
	}
	seen, names := map[netip.Prefix]bool{}, map[string]bool{}
	for i, cl := range c.RADIUS.Clients {
		at := element("radius.client", i)
		if !cl.Address.IsValid() {
			r.add(at+".address", "is missing", `give the address of the access server, for example address = "192.0.2.1"`)
		} else if seen[cl.Address] {
			r.add(at+".address", cl.Address.String()+" is named twice", "leave one of them out")
		}
		seen[cl.Address] = true
		if cl.SecretFile == "" {
			r.add(at+".secret_file", "is missing", "write the shared secret into a file of mode 0600 and name the file")
		}
		if cl.Name != "" {
			r.label(at+".name", cl.Name)
			if names[cl.Name] {
				r.add(at+".name", quoted(cl.Name)+" is named twice", "leave one of them out")
			}
		}
		names[cl.Name] = true
		r.permit(at, &cl.RADIUSPermit)
	}
	c.checkRadSec(r)
	for i := range c.RADIUS.Blocks {
		if text := c.RADIUS.Blocks[i].fault(); text != "" {
			r.add(element("radius.port_block", i), text, `write for example vendor = 2011, address = 161, start = 162, end = 163; or vendor = 6527, address = 141, range = 121`)
		}
	}
	for i, p := range c.Places {
		at := element("place", i)
		r.text(at+".text", p.Text, "say where it is")
		if p.NAS == "" && p.Called == "" && p.Port == "" {
			r.add(at, "fits every session", "name its nas, called or port")
		}
	}
}

// label adds a problem for a name that does not print on one line.
func (r *reader) label(key, s string) {
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, func(x rune) bool { return !unicode.IsPrint(x) }) {
		r.add(key, "must be from 1 to 64 bytes that can be printed", "use a short name")
	}
}

func (r *reader) permit(at string, p *RADIUSPermit) {
	for _, s := range p.NAS {
		r.label(at+".nas", s)
	}
}

func (c *Config) checkRadSec(r *reader) {
	x := &c.RADIUS.RadSec
	if len(x.Listen) == 0 {
		return
	}
	for _, f := range [...]struct{ key, path, remedy string }{
		{"certificate", x.Certificate, "name the PEM file of this server's certificate, with the chain behind it"},
		{"key", x.Key, "name the PEM file of its private key, mode 0600"},
		{"ca", x.CA, "name the PEM file of the CA that client certificates come from"},
	} {
		if f.path == "" {
			r.add("radius.radsec."+f.key, "is missing", f.remedy)
		}
	}
	seen := map[string]bool{}
	for i, cl := range x.Clients {
		at := element("radius.radsec.client", i)
		if len(cl.Names) == 0 {
			r.add(at+".names", "is missing", `list the names of its certificate, for example names = ["radius1.isp.example"]`)
		}
		for _, n := range cl.Names {
			r.label(at+".names", n)
			if seen[n] {
				r.add(at+".names", "names "+quoted(n)+" twice", "leave one of them out")
			}
			seen[n] = true
		}
		r.permit(at, &cl.RADIUSPermit)
	}
}

// fault says why no block could ever be read by p.
func (p *PortBlock) fault() string {
	switch {
	case p.Vendor == 0:
		return "has no vendor"
	case p.Address == 0 && p.Range == 0:
		return "says in no attribute where the public address stands"
	case p.Whole && (p.Range != 0 || p.Start != 0 || p.End != 0):
		return "is for a whole address, and for a range of ports"
	case p.Range != 0 && (p.Start != 0 || p.End != 0):
		return "has both range, and start and end"
	case !p.Whole && p.Range == 0 && (p.Start == 0 || p.End == 0):
		return "says in no attribute where the ports stand, without which nobody is told from those who share the address"
	case p.Released != 0 && p.Update == 0:
		return fmt.Sprintf("has released = %d, but no update attribute that could say so", p.Released)
	}
	return ""
}
