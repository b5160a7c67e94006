package delivery

import (
	"strings"

	"github.com/edgelog/edgelog/pkg/session"
)

// communication writes a call or short message as the use of a telephony service, and
// a mail as that of a message service.
func (x *xmlWriter) communication(c *session.Communication) {
	var p pairs
	p.add("Start", session.FormatTime(c.Start))
	p.add("End", session.FormatTime(c.End))
	p.add("Service", c.Service)
	p.add("From", c.From)
	p.add("To", strings.Join(c.To, ", "))
	p.add("Forwarded", strings.Join(c.Forwarded, ", "))
	p.add("Subscriber", c.Subscriber)
	p.add("User", c.User)
	p.add("IMEI", c.Equipment)
	p.add("IMSI", c.SIM)
	p.add("Cell", c.Cell)
	p.add("CellEnd", c.CellEnd)
	p.add("Place", c.Place)
	p.add("PlaceEnd", c.PlaceEnd)
	p.add("Delivered", c.Delivered.String())
	p.add("Record", c.Record)
	if c.Kind == session.Mail {
		x.record(message, "mail", p, func() { x.mail(c) })
		return
	}
	x.record(telephony, "call", p, func() { x.call(c) })
}

// partyRoles are the roles of who calls and who is called, by service.
func partyRoles(service string) (from, to string) {
	switch strings.ToLower(service) {
	case "sms":
		return "smsOriginator", "smsRecipient"
	case "mms":
		return "mmsOriginator", "mmsRecipient"
	}
	return "originating-Party", "terminating-Party"
}

// call writes one party after the other, each with the time of the call, as real
// exports do. A caller who withheld the number has none.
func (x *xmlWriter) call(c *session.Communication) {
	from, to := partyRoles(c.Service)
	x.raw("<telephonyServiceUsage><partyInformation>")
	x.party(from, c.From, c)
	for _, n := range c.To {
		x.party(to, n, c)
	}
	for _, n := range c.Forwarded {
		x.party("forwarded-to-Party", n, c)
	}
	x.raw("</partyInformation><communicationTime>")
	x.span(c.Start, c.End)
	x.raw("</communicationTime></telephonyServiceUsage>")
}

func (x *xmlWriter) party(role, number string, c *session.Communication) {
	x.raw("<TelephonyPartyInformation><partyRole><" + role + "/></partyRole>")
	x.leaf("partyNumber", number)
	x.raw("<communicationTime>")
	x.span(c.Start, c.End)
	x.raw("</communicationTime></TelephonyPartyInformation>")
}

// mail writes who sent it to whom. Those to whom it was forwarded are receivers.
func (x *xmlWriter) mail(c *session.Communication) {
	x.raw("<messageServiceUsage>")
	x.leaf("senderAddress", c.From)
	x.raw("<recipients>")
	for _, list := range [...][]string{c.To, c.Forwarded} {
		for _, a := range list {
			x.leaf("MessageAddress", a)
		}
	}
	x.raw("</recipients>")
	x.interval(c.Start, c.End)
	x.raw("</messageServiceUsage>")
}
