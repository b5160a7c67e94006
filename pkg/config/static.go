package config

import (
	"net/netip"
	"strings"
	"time"
)

// StaticPrefix says that a subscriber has a prefix, or ports of an address, for
// good.
type StaticPrefix struct {
	Prefix      netip.Prefix
	Ports       string // "1024-2047"; "" for all
	Subscriber  string
	Line, Place string
	From, Until time.Time // zero: not known since when; for good
}

func (c *Config) readStatic(t *table) {
	t.path("static_file", &c.StaticFile)
	for _, s := range t.subs("static") {
		var p StaticPrefix
		s.client("prefix", &p.Prefix)
		s.str("ports", &p.Ports)
		s.str("subscriber", &p.Subscriber)
		s.str("line", &p.Line)
		s.str("place", &p.Place)
		s.moment("from", &p.From)
		s.moment("until", &p.Until)
		s.done()
		c.Static = append(c.Static, p)
	}
}

func (c *Config) checkStatic(r *reader) {
	for i := range c.Static {
		s, at := &c.Static[i], element("static", i)
		if !s.Prefix.IsValid() {
			r.add(at+".prefix", "is missing", `name the subscriber's addresses, for example prefix = "192.0.2.8/29"`)
		}
		if strings.TrimSpace(s.Subscriber) == "" {
			r.add(at+".subscriber", "is missing", "give the id that the subscriber has in your records")
		}
		for key, text := range map[string]string{"subscriber": s.Subscriber, "line": s.Line, "place": s.Place} {
			if len(text) > maxText {
				r.add(at+"."+key, "is longer than 255 bytes", "shorten it")
			}
		}
	}
}

const staticSample = `# Subscribers who have an address or a prefix for good. Many are better kept in a file: CSV with the columns
# prefix, subscriber, ports, line, place, from, until. Both are read again on reload; rows may not overlap at one time.
# static_file = "static.csv"
# [[static]]
# prefix = "192.0.2.8/29"
# subscriber = "shop-17"
# ports = "1024-2047"            # of one shared address; else all
# from = "2025-03-01T00:00:00Z"  # else from when it is first read
`
