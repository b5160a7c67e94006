package config

import "time"

// SamplePerson is a person of a sample.
type SamplePerson struct {
	Name    string
	Account string // user name; "" for UID
	UID     uint32
	Roles   []string
	Key     string    // "" for an operator
	Until   time.Time // last day of the clearance; zero: none is asked for
}

// Clearance returns the last day of the clearance, "" for none.
func (p SamplePerson) Clearance() string {
	if p.Until.IsZero() {
		return ""
	}
	return p.Until.Format(time.DateOnly)
}

// Minimum returns how many different custodians there are.
func (v Values) Minimum() int {
	keys := map[string]bool{}
	for _, r := range v.Recipients {
		keys[r.Key] = true
	}
	for _, p := range v.Persons {
		for _, role := range p.Roles {
			if role == "custodian" {
				keys[p.Key] = true
			}
		}
	}
	return len(keys)
}

const personsSample = `# Who may do what. The agent knows a person by the user that they are on this machine; who is not named here, and in no
# group below, gets nothing. Root is an operator and nothing else. A reload puts changes into force at once.
#   operator   sees health and configuration, never people
#   officer    files requests of authorities, and runs those that are approved
#   custodian  approves requests, releases holds, rotates keys; another person than the officer
#   auditor    reads the ledger and statistics, and changes nothing
# A custodian's key belongs to custodians.recipients by itself: list there only keys of nobody named here. A custodian who
# comes or goes needs a restart until new records are sealed for them or not; so do keys of days past "edgelog keys rotate".
# Officers and custodians have a security clearance (BEK 1144/2006); on the day after its last one they lose the roles.
{{range .Persons}}
[[person]]
name = {{q .Name}}
{{if .Account}}account = {{q .Account}}{{else}}uid = {{.UID}}{{end}}
roles = {{list .Roles}}
{{- if .Key}}
key = {{q .Key}}
{{- end}}
{{- if .Clearance}}
clearance_until = {{.Clearance}}
{{- end}}
{{else}}
# [[person]]
# name = "Olga Officer"
# account = "olga"               # user name, or uid = 1001
# roles = ["officer"]
# key = "age1…"                  # public; "age-keygen" makes a pair, its private half stays with the person
# clearance_until = 2027-06-30   # the last day
{{end}}
[roles]
# Groups of this machine, by name or gid. For persons who are not named above.
operator_groups = []
auditor_groups = []

# The 24-hour contact point of the provider (BEK 1145/2006): who answers when, in UTC. Printed in every package.
# [[contact]]
# name = "Duty desk"
# phone = "+45 12 34 56 78"
# mail = "duty@example.net"
# hours = "00:00-24:00"          # or "Mon-Fri 08:00-16:00; Sat,Sun 10:00-14:00"

[disclose]
# What may be asked for in one request, and how it is decided.
country = "DK"
# So many custodians must approve.
approvals = 1
max_window = "31d"
max_hits = 10000
# An approved request may be run for so long; a filed one waits so long; an emergency is to be approved within so long.
grant_hours = 72
file_days = 14
emergency_hours = 24
`
