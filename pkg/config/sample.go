package config

import (
	"fmt"
	"strconv"
	"strings"
	"text/template"
)

// Values fill a sample configuration.
type Values struct {
	Gateway, Provider string
	DataDir, RunDir   string
	Profile           string
	LegalBasis        string
	Local             []string
	Uplinks           []string
	RADIUSListen      []string
	RADIUSClient      string // address or prefix; "" leaves the section as a comment
	SecretFile        string
	Recipients        []Recipient // keys of custodians who are none of Persons
	Persons           []SamplePerson
	SocketGroup       string // name or gid; "" leaves the line as a comment
}

// Recipient is a public key and the word that stands beside it as a comment.
type Recipient struct {
	Name, Key string
}

// Sample returns a commented configuration with these values. It is not
// checked: Parse does that.
func Sample(v Values) ([]byte, error) {
	var b strings.Builder
	if err := sample.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("write sample configuration: %w", err)
	}
	return []byte(b.String()), nil
}

// tomlString quotes s as a TOML basic string; Go's escapes \x, \a and \v are
// not TOML's.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlGroup writes a gid as a number, and a name as a text.
func tomlGroup(s string) string {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return tomlString(s)
}

func tomlList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = tomlString(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// comment makes s fit behind a # sign.
func comment(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

var sample = template.Must(template.New("sample").Funcs(template.FuncMap{
	"q": tomlString, "list": tomlList, "comment": comment, "group": tomlGroup,
}).Parse(`# edgelog.toml: what this gateway records, and where it keeps it.
# Paths count from the folder of this file. "edgelog doctor --config FILE" checks it.

# The name of this machine, and in whose name it records. Both stand on every block.
gateway = {{q .Gateway}}
provider = {{q .Provider}}

# Sealed records, the ledger and the agent's own state. Give it a file system of its own if you can.
data_dir = {{q .DataDir}}
# Holds the control socket, edgelog.sock.
run_dir = {{q .RunDir}}
# Session table and attached programs; must lie in a BPF file system.
bpf_dir = "/sys/fs/bpf/edgelog"

# How much is recorded. Record no more than the duty in force:
#   access   access records only (who had which address, when); no sessions
#   source   sessions without the far end: use of an own address and port
#   session  both ends of each session; needs a legal_basis
profile = {{q .Profile}}
# The rule or order that permits this profile. It is printed with every answer.
legal_basis = {{q .LegalBasis}}

` + staticSample + `
[border]
# The prefixes of your own subscribers. A packet with exactly one end in them crosses the border.
local = {{list .Local}}
# Never recorded, for example broadcasting.
exempt = ["224.0.0.0/4", "ff00::/8"]
{{range .Uplinks}}
# An interface that faces other networks. attach = auto, xdp, tcx or clsact.
[[uplink]]
name = {{q .}}
attach = "auto"
{{else}}
# An interface that faces other networks. attach = auto, xdp, tcx or clsact.
# [[uplink]]
# name = "eth0"
# attach = "auto"
{{end}}
[table]
# Sessions that may be open at once should fill no more than half of it. 64 bytes each.
slots = 1048576
ring_bytes = 4194304
# Half-open TCP sessions, as a flood of SYNs leaves them, may have this share of it: the rest is sampled. 1.0: all.
half_open_share = 0.5

[timeouts]
# A session has ended after such a silence.
udp = "60s"
icmp = "60s"
tcp = "300s"
other = "60s"
# A connection that never got beyond its SYN and SYN+ACK.
half_open = "30s"
# How long a closed TCP session waits for late packets.
linger = "2s"

[identity]
# Sources that contradict each other about whose an address was are all kept; the first of these is believed.
# radius: accounting. dhcp: a DHCP server's own reports. leases: its lease files. nat: translators. static: tables.
trust = ["radius", "dhcp", "leases", "nat", "static"]

[radius]
# Where the accounting server listens (UDP). Empty: no server.
listen = {{list .RADIUSListen}}
# A Chargeable-User-Identity names the subscriber even where there is a User-Name.
prefer_cui = false
# A User-Name that is a MAC address names a subscriber, where access is sold by equipment. Otherwise it names nobody.
mac_is_subscriber = false
{{if .RADIUSClient}}
[[radius.client]]
address = {{q .RADIUSClient}}
secret_file = {{q .SecretFile}}
{{else}}
# One section for each access server, or proxy, that sends accounting.
# [[radius.client]]
# address = "192.0.2.1"
# secret_file = {{q .SecretFile}}
{{end -}}
# What a client may say; without these lines whoever knows its secret may speak for any access server, about any address.
# nas = ["bng1", "192.0.2.1"]                      # NAS-Identifier, NAS address or prefix; others get no answer
# prefixes = ["198.51.100.0/24", "2001:db8::/32"]  # that its sessions may hold; other addresses are left out
# require_message_authenticator = true

# RADIUS over TLS (RadSec, RFC 6614). The files are read again on reload.
# [radius.radsec]
# listen = ["192.0.2.7:2083"]
# certificate = "radsec.crt"
# key = "radsec.key"
# ca = "radsec-clients.crt"   # client certificates must come from it
# connections = 256
# idle = "1h"
# Without a section, any certificate of the CA will do. The lines on what a client may say belong here too.
# [[radius.radsec.client]]
# names = ["radius1.isp.example"]

# Blocks of ports of a shared address: RFC 8045 is understood without a line here. For vendors, the numbers of their
# attributes (Vendor-Specific): range is a text such as "203.0.113.7 1024-2047", with or without the address.
# [[radius.port_block]]   # Nokia (Alcatel) 7750: Alc-Nat-Outside-Ip-Addr, Alc-Nat-Port-Range
# vendor = 6527
# address = 141
# range = 121
# [[radius.port_block]]   # Huawei; with update = 165, released = N where the box says that a block went
# vendor = 2011
# address = 161
# start = 162
# end = 163
# [[radius.port_block]]   # H3C
# vendor = 25506
# address = 32
# start = 33
# end = 34
# [[radius.port_block]]   # netElastic
# vendor = 54268
# address = 161
# start = 162
# end = 163
# [[radius.port_block]]   # Travelping
# vendor = 18681
# address = 16
# start = 28
# end = 29
# [[radius.port_block]]   # VasExperts: one to one, so that the address is one subscriber's alone
# vendor = 43823
# address = 21
# whole = true

# Where hot spots and ports are. All that is named must fit: the NAS (identifier or address), what Called-Station-Id
# begins with, what NAS-Port-Id begins with.
# [[place]]
# called = "00-19-06-EA-B8-8C"
# text = "Central station, hall 2, 56.1502 N 10.2045 E"

` + natSample + `
[dhcp]
# The socket on which DHCP servers' hooks report ("edgelog dhcp report"), for example "/run/edgelog-dhcp/report.sock". Empty: none.
# listen = "/run/edgelog-dhcp/report.sock"
# What names the subscriber of a lease, the first that it has: subscriber-id, remote-id and circuit-id are what relays say of
# the line (option 82); client-id, duid, mac and hostname are what the client says of itself.
subscriber = ["subscriber-id", "remote-id", "circuit-id"]
# A RADIUS log-on with the same MAC address names the subscriber: of leases without-line, always, or never.
join_by_mac = "without-line"

# One section for each DHCP server: kea, isc (dhcpd) or dnsmasq. Kea's files need "SupplementaryGroups=_kea" in the unit.
# [[dhcp.server]]
# name = "kea"
# kind = "kea"
# leases4 = "/var/lib/kea/kea-leases4.csv"
# leases6 = "/var/lib/kea/kea-leases6.csv"
# Kea's control sockets or its control agent, asked for all leases at the start and from time to time: heals lost reports.
# control4 = "http://127.0.0.1:8000"
# control6 = "http://127.0.0.1:8000"
# login_file = "kea.login"
# reconcile = "5m"
# The user whose reports are believed, or "none".
# report_user = "_kea"

[custodians]
# The public keys of those who can open what is recorded. Private keys never belong on this machine.
recipients = [
{{- range .Recipients}}
  {{q .Key}}, # {{comment .Name}}
{{- end}}
]
# Refuse to run with fewer keys than this.
minimum = {{.Minimum}}

` + personsSample + `
[store]
# Below so much free space nothing more is written; recording goes on in the table.
min_free = "1GiB"
# Kept aside, to be given back when the disk is full all the same.
ballast = "256MiB"
# At most so many sessions in one sealed block, and at most so long before one is written.
block_sessions = 65536
flush = "1s"
# Records are destroyed so many whole UTC days after the day of their end, and that is certified (BEK 988/2006 § 9: a year).
retention_days = 365

` + ledgerSample + `
[metrics]
# Where Prometheus may scrape counters, for example "127.0.0.1:9477", under /metrics. They name no person. Empty: nowhere.
listen = ""
# Let other machines read them too, when listen is not a loopback address.
expose = false

[statistics]
# "edgelog report volume" has no figures of an hour in which fewer than k sessions began in one direction of an uplink;
# they are not kept either. At least 10.
k = 20

[agent]
# keep:  stopping the agent leaves the programs recording into the table; the next start goes on from there.
# drain: stopping stores everything, open sessions too, and removes the programs.
on_stop = "keep"
# The group that may reach the control socket, by name or gid, for persons who are not root. Under systemd the unit needs
# SupplementaryGroups= with this group, so that the agent may hand the socket to it.
{{if .SocketGroup}}socket_group = {{group .SocketGroup}}{{else}}# socket_group = "edgelog"{{end}}
`))
