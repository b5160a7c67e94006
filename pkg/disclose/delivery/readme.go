package delivery

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"text/template"
)

//go:embed README.tmpl
var readmeText string

var readme = template.Must(template.New("README.txt").Parse(readmeText))

// writeReadme writes README.txt. It depends on the kind of the answer only.
func writeReadme(w io.Writer, m *Manifest, f *found) error {
	columns := map[string]string{kindSessions: sessionColumns, kindWho: whoColumns, kindAccess: accessColumns, kindCommunications: communicationColumns}[f.kind]
	noun := "session"
	if f.kind == kindCommunications {
		noun = "communication"
	}
	err := readme.Execute(w, map[string]any{
		"Kind": f.kind, "Columns": strings.TrimSpace(columns), "Format": m.Format, "Namespace": xmlSpace, "Noun": noun, "Imported": f.kind == kindCommunications,
	})
	if err != nil {
		return fmt.Errorf("write readme: %w", err)
	}
	return nil
}

const sessionColumns = `
start, end            of the first and the last packet
proto                 IP protocol number (IANA): 6 TCP, 17 UDP, 1 ICMP, ...
initiator, responder  the two end points; empty where it was not recorded
local                 which of them is the end user's
end_reason            fin, rst, idle, half-open, shutdown, evicted, sample, open
flags                 mid-stream, syn-ack-first, fragments, orphan-fragments,
                      sample, open, local-only
subscriber            who held the end user's address, as it is known now
subscriber_stored     who was believed to hold it when the record was sealed
subscriber_from, _to  "inferred": his log-on or log-off was not reported
remarks               what could make the subscriber the wrong one
inside                the end user's own address behind a translation (NAT)
name, address,        what the provider's register of subscribers says of the
services              subscriber at that time; empty where it says nothing`

const whoColumns = `
verdict               certain, likely, uncertain or not known: of the whole
subscriber            who held the address; empty where it is not known
name, address         what the provider's register says of him at that time
identity, line,       as the access records have them
equipment, place
from, to              how long he held it; to is empty while he still does
from_known, to_known  reported, inferred, or none
held, first_port,     what he held: address or prefix, and which ports of it
last_port
source, source_name   which record says so, and of which server
chain                 the steps from the address to the subscriber
sessions              how many sessions of the address he had then
doubts                what could make him the wrong one`

const accessColumns = `
from, to              log-on and log-off; to is empty while it is in force
from_known, to_known  reported, inferred, or none
prefix, first_port,   what was held: address or prefix, and which ports of it
last_port
subscriber            who held it
name, address         what the provider's register says of him at that time
identity, line,       as the source gave them
equipment, place
via                   whoever holds this address holds it: the inside address of
                      a translation, or 100::MAC for equipment
source, _name, _key   which record says so, of which server, and its key there
remarks               what could be wrong with it, and what was believed before`

const communicationColumns = `
kind                  call (short messages too) or mail
service               as the provider names it: voice, sms, mms, voip, smtp
start, end            of the call; or sent and received
from                  the calling number or the sender; empty: withheld
to                    the called number, or the receivers, with ; between
forwarded             where it was forwarded to, in order, with ; between
subscriber            the customer whose record it is; of which side he is, the
                      record does not say
name, address         what the provider's register says of him at that time
user                  the identity that the service assigned to him
imei, imsi            of the equipment and SIM in the record
cell, cell_end        that a mobile was connected to at the start and at the end
place, place_end      where their masts stood
delivered             yes (answered, delivered) or no; empty: not known
record                the provider's own number of the record`
