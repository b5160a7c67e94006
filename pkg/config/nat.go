package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// NAT says where translated addresses are learnt from.
type NAT struct {
	Conntrack     bool   // of this machine: the kernel's own translations
	ReceiveBuffer uint64 // bytes for events that wait
	Translations  int    // remembered at once, those that have ended included
	IPFIX         IPFIX
	Rules         []NATRule
}

// IPFIX says from which translators events of RFC 8158 are taken.
type IPFIX struct {
	Listen    []netip.AddrPort // UDP; none: nowhere
	Exporters []netip.Prefix   // that may send
}

// NATRule is a deterministic translation (RFC 7422): no events are needed.
type NATRule struct {
	Public      netip.Prefix // what is translated to
	Rule        string       // which inside address each of its ports is
	From, Until time.Time    // when it is in force; zero: since ever, for ever
}

// DefaultNAT returns what stands where the file is silent.
func DefaultNAT() NAT { return NAT{ReceiveBuffer: 64 << 20, Translations: 1 << 20} }

// Enabled reports whether translations are followed, of any machine.
func (n *NAT) Enabled() bool { return n.Conntrack || len(n.IPFIX.Listen) > 0 }

func (n *NAT) read(t *table) {
	t.flag("conntrack", &n.Conntrack)
	t.size("receive_buffer", &n.ReceiveBuffer, 0)
	t.integer("translations", &n.Translations, 1024, 1<<26)
	x := t.sub("ipfix")
	x.listen("listen", &n.IPFIX.Listen)
	x.hosts("exporters", &n.IPFIX.Exporters)
	x.done()
	for _, r := range t.subs("rule") {
		var rule NATRule
		r.client("public", &rule.Public)
		r.str("rule", &rule.Rule)
		r.moment("from", &rule.From)
		r.moment("until", &rule.Until)
		r.done()
		n.Rules = append(n.Rules, rule)
	}
	t.done()
}

// hosts reads a list of addresses or prefixes.
func (t *table) hosts(key string, into *[]netip.Prefix) {
	var list []string
	t.strs(key, &list)
	for _, s := range list {
		one := t.r.table(t.name, map[string]any{key: s})
		var p netip.Prefix
		if one.client(key, &p); p.IsValid() {
			*into = append(*into, p)
		}
	}
}

// moment reads a time, in quotes or as a date of TOML.
func (t *table) moment(key string, into *time.Time) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	at, isTime := v.(time.Time)
	if s, isString := v.(string); isString {
		var err error
		at, err = time.Parse(time.RFC3339, s)
		isTime = err == nil
	}
	if !isTime || at.Year() < 1970 {
		t.r.add(t.key(key), "must be a time, not "+kind(v), `write for example "2025-03-01T00:00:00Z"`)
		return
	}
	*into = at.UTC()
}

const (
	leastReceive = 64 << 10
	mostReceive  = 1 << 30
)

func (c *Config) checkNAT(r *reader) {
	n := &c.NAT
	if n.ReceiveBuffer < leastReceive || n.ReceiveBuffer > mostReceive {
		r.add("nat.receive_buffer", fmt.Sprintf("is %d bytes", n.ReceiveBuffer), `it must be from "64KiB" to "1GiB"; "64MiB" suits a busy gateway`)
	}
	if len(n.IPFIX.Listen) > 0 && len(n.IPFIX.Exporters) == 0 {
		r.add("nat.ipfix.listen", "is set, but no translator may send to it",
			`list the addresses of those that do, for example exporters = ["192.0.2.5"]`)
	}
	for i := range n.Rules {
		rule, at := &n.Rules[i], element("nat.rule", i)
		if !rule.Public.IsValid() {
			r.add(at+".public", "is missing", `name the addresses that are translated to, for example public = "203.0.113.0/28"`)
		}
		if strings.TrimSpace(rule.Rule) == "" {
			r.add(at+".rule", "is missing", `for example rule = "inside=100.64.0.0/22 outside=203.0.113.0/28 ports=1024-65535 per-host=1008"`)
		}
		if !rule.Until.IsZero() && !rule.From.Before(rule.Until) {
			r.add(at+".until", "is not after from", "a rule holds from one time until a later one")
		}
		for _, other := range n.Rules[:i] {
			if rule.Public.IsValid() && other.Public.IsValid() && rule.Public.Overlaps(other.Public) && rule.meets(&other) {
				r.add(at+".public", "overlaps with another rule at the same time", "give each rule its own addresses, or other times")
			}
		}
	}
}

// meets reports whether both rules are in force at one moment.
func (r *NATRule) meets(o *NATRule) bool {
	return (o.Until.IsZero() || r.From.Before(o.Until)) && (r.Until.IsZero() || o.From.Before(r.Until))
}

const natSample = `[nat]
# Follow what this machine translates (nftables, iptables: masquerade, SNAT), so that sessions say who was behind an
# address. With the profile access each translation becomes an access record. For exact times:
# sysctl net.netfilter.nf_conntrack_timestamp=1, and nf_conntrack_events=1 to hear of the end of each.
conntrack = false
# For events that wait while the agent is busy. When it is full they are lost, which is seen, made good and recorded.
receive_buffer = "64MiB"
# Remembered at once, those that have ended included; about 100 bytes each.
translations = 1048576

[nat.ipfix]
# Where another translator's events arrive (IPFIX or NetFlow 9 with RFC 8158: port blocks, sessions), over UDP. Empty: nowhere.
listen = []
# The addresses that may send. Nobody else must be able to send from them.
exporters = []

# A translator that works by a rule (RFC 7422) needs no records. One section for each pool and time.
# [[nat.rule]]
# public = "203.0.113.0/28"
# rule = "inside=100.64.0.0/22 outside=203.0.113.0/28 ports=1024-65535 per-host=1008"
# from = "2025-03-01T00:00:00Z"
`
