package delivery

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// xmlSpace is the namespace that readers of TS 102 657 look for.
const xmlSpace = "http://uri.etsi.org/02657/v1.28.1#/RetainedData"

// xmlHeaderID says which keys otherInformation may hold.
const xmlHeaderID = "edgelog-1"

// xmlNote opens the document.
const xmlNote = `Written in the shape of ETSI TS 102 657 (XML of its ASN.1). No conformance is claimed.
Times are UTC in whole seconds, fractions cut off; the exact ones are in otherInformation, as KEY=VALUE pairs in double quotes,
where a double quote and a semicolon of a value are written as ' and a comma. timeStamp is when the request was filed, so that
this file says the same whenever it is made. What has no place in the standard (protocol, ports, the far end; which of two parties
a subscriber, equipment or cell is of, where the record does not say it) is in otherInformation too, and complete in the other files
of the package.`

// xmlWriter writes response.xml, a record at a time.
type xmlWriter struct {
	w       *bufio.Writer
	country string
	n       int // records
	err     error
}

// newXML writes what stands before the records.
func newXML(w io.Writer, r *disclose.Request, provider string, complete bool) *xmlWriter {
	x := &xmlWriter{w: bufio.NewWriterSize(w, 1<<16), country: r.Authorisation.Country}
	x.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<!-- " + xmlNote + " -->\n")
	x.raw(`<RetainedDataMessage xmlns="` + xmlSpace + `">` + "\n")
	x.leaf("rdHeaderId", "0.4.0.2.3.0.28")
	x.raw("<retainedDataHeader><requestID>")
	x.leaf("countryCode", r.Authorisation.Country)
	x.leaf("authorisedOrganisationID", r.Authorisation.Authority)
	x.leaf("requestNumber", r.Authorisation.Number)
	x.raw("</requestID>")
	x.leaf("cSPID", provider)
	x.leaf("timeStamp", generalized(r.Filed.UnixNano()))
	status := "responseComplete"
	if !complete {
		status = "responseIncomplete"
	}
	x.raw("</retainedDataHeader>\n<retainedDataPayload><responseMessage>\n<responseStatus><" + status + "/></responseStatus>\n<responsePayload>\n")
	return x
}

// finish writes what stands behind them.
func (x *xmlWriter) finish() error {
	x.raw("</responsePayload>\n</responseMessage></retainedDataPayload>\n</RetainedDataMessage>\n")
	if err := x.w.Flush(); err != nil && x.err == nil {
		x.err = err
	}
	if x.err != nil {
		return fmt.Errorf("write xml: %w", x.err)
	}
	return nil
}

func (x *xmlWriter) raw(s string) {
	if _, err := x.w.WriteString(s); err != nil && x.err == nil {
		x.err = err
	}
}

// text writes character data; what XML 1.0 cannot hold becomes U+FFFD.
func (x *xmlWriter) text(s string) {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c >= ' ' && c < 0x80 && c != '<' && c != '>' && c != '&'
	}
	if plain {
		x.raw(s)
		return
	}
	from := 0
	for i, r := range s {
		var as string
		switch {
		case r == '<':
			as = "&lt;"
		case r == '>':
			as = "&gt;"
		case r == '&':
			as = "&amp;"
		case r == '\r': // as it is, a reader would take it for a line end
			as = "&#13;"
		case r < ' ' && r != '\t' && r != '\n', r == 0xfffe, r == 0xffff, r == utf8.RuneError:
			as = string(utf8.RuneError)
		default:
			continue
		}
		x.raw(s[from:i])
		x.raw(as)
		_, n := utf8.DecodeRuneInString(s[i:])
		from = i + n
	}
	x.raw(s[from:])
}

// leaf writes an element with a text, and nothing for "".
func (x *xmlWriter) leaf(name, s string) {
	if s == "" {
		return
	}
	x.raw("<")
	x.raw(name)
	x.raw(">")
	x.text(s)
	x.raw("</")
	x.raw(name)
	x.raw(">")
}

// pairs are the keys and values of otherInformation.
type pairs []string

func (p *pairs) add(key, value string) {
	if value != "" {
		*p = append(*p, `"`+key+`"="`+pairSafe.Replace(value)+`"`)
	}
}

// pairSafe takes out of a value what its readers split at.
var pairSafe = strings.NewReplacer(`"`, "'", ";", ",")

// xmlService is one of the services of the standard.
type xmlService struct{ record, subscriber string } // elements

var (
	networkAccess = xmlService{"networkAccessRecord", "naSubscriber"}
	telephony     = xmlService{"telephonyRecord", "telephonySubscriber"}
	message       = xmlService{"messageRecord", "messageSubscriber"}
)

// record writes one ResponseRecord around what body writes.
func (x *xmlWriter) record(of xmlService, kind string, p pairs, body func()) {
	x.n++
	x.raw("<ResponseRecord>")
	x.leaf("recordNumber", strconv.Itoa(x.n))
	x.raw("<recordPayload><" + of.record + ">")
	body()
	x.raw("</" + of.record + "></recordPayload>")
	if len(p) > 0 {
		x.raw("<additionalInformation>")
		x.leaf("otherInformation", strings.Join(p, ";"))
		x.raw("</additionalInformation>")
	}
	x.raw("<nationalRecordPayload>")
	x.leaf("countryCode", x.country)
	x.leaf("headerID", xmlHeaderID)
	x.raw("<typeOfData><" + kind + "/></typeOfData></nationalRecordPayload></ResponseRecord>\n")
}

// session writes a session as the use of an address.
func (x *xmlWriter) session(s *session.Session, more func(*pairs)) {
	var p pairs
	p.add("Start", session.FormatTime(s.Start))
	p.add("End", session.FormatTime(s.End))
	p.add("Protocol", strconv.Itoa(int(s.Proto)))
	p.add("Initiator", known(s.Endpoint(session.SideInitiator)))
	p.add("Responder", known(s.Endpoint(session.SideResponder)))
	switch s.Local {
	case session.SideInitiator:
		p.add("EndUser", "initiator")
	case session.SideResponder:
		p.add("EndUser", "responder")
	}
	p.add("Inside", s.InsideEnd())
	p.add("EndReason", s.EndReason.String())
	p.add("Flags", strings.Join(s.Flags.Words(), " "))
	more(&p)
	x.record(networkAccess, "internetSession", p, func() {
		x.raw("<naServiceUsage>")
		x.leaf("naAccessTime", generalized(s.Start))
		x.leaf("naAuthID", s.Subscriber)
		x.interval(s.Start, s.End)
		if a, _, ok := s.UserEnd(); ok {
			x.address(a.Netip())
		}
		if s.Inside != (session.Addr{}) {
			a, port, _ := s.LocalEnd()
			x.translation(s, a.Netip(), port)
		}
		x.raw("</naServiceUsage>")
	})
}

// translation writes the outside of a session's translation.
func (x *xmlWriter) translation(s *session.Session, outside netip.Addr, port uint16) {
	x.raw("<natInformation><NATInformation><addressSetOrRangeOrMask>")
	x.ip(outside)
	x.raw("</addressSetOrRangeOrMask>")
	if session.HasPorts(s.Proto) {
		x.leaf("portNumber", strconv.Itoa(int(port)))
	}
	x.raw("<addressType><external/></addressType><assignedTime>")
	x.leaf("startTime", generalized(s.Start))
	x.leaf("endTime", generalized(s.End))
	x.raw("</assignedTime>")
	if far, farPort, ok := s.RemoteEnd(); ok && s.Flags&session.LocalOnly == 0 {
		x.raw("<destinationAddress>")
		x.ip(far.Netip())
		x.raw("</destinationAddress>")
		if session.HasPorts(s.Proto) {
			x.leaf("destinationPort", strconv.Itoa(int(farPort)))
		}
	}
	x.raw("</NATInformation></natInformation>")
}

// binding writes an access record.
func (x *xmlWriter) binding(b *session.Binding, subscriber string, more func(*pairs)) {
	var p pairs
	if b.From > 0 {
		p.add("From", session.FormatTime(b.From))
	}
	if b.To != session.Forever {
		p.add("To", session.FormatTime(b.To))
	}
	p.add("FromInferred", yes(b.Certainty&session.FromInferred != 0))
	p.add("ToInferred", yes(b.Certainty&session.ToInferred != 0))
	p.add("Prefix", b.Prefix.String())
	if b.FirstPort > 0 || b.LastPort < 65535 {
		p.add("FirstPort", strconv.Itoa(int(b.FirstPort)))
		p.add("LastPort", strconv.Itoa(int(b.LastPort)))
	}
	if b.Via.IsValid() {
		p.add("Via", b.Via.String())
	}
	p.add("Identity", b.Identity)
	p.add("Line", b.Line)
	p.add("Equipment", b.Equipment)
	p.add("Place", b.Place)
	p.add("Source", b.Source.String())
	p.add("SourceName", b.SourceName)
	p.add("SourceKey", b.SourceKey)
	more(&p)
	x.record(networkAccess, "networkAccess", p, func() {
		x.raw("<naServiceUsage>")
		if b.From > 0 {
			x.leaf("naAccessTime", generalized(b.From))
		}
		x.leaf("naAuthID", subscriber)
		x.raw("<naStatus><succeeded/></naStatus>")
		x.interval(b.From, b.To)
		x.leaf("naDeviceId", b.Equipment)
		x.leaf("naNwElementID", b.SourceName)
		if b.Prefix.IsValid() && !session.IsEquipment(b.Prefix.Addr()) {
			x.address(b.Prefix.Addr())
		}
		x.raw("</naServiceUsage>")
	})
}

// subscriber writes what the register says of one.
func (x *xmlWriter) subscriber(n *disclose.Name, of xmlService) {
	var p pairs
	p.add("Name", n.Name)
	p.add("Address", n.Address)
	p.add("Services", n.Services)
	if n.From > 0 {
		p.add("From", session.FormatTime(n.From))
	}
	if n.To != session.Forever {
		p.add("To", session.FormatTime(n.To))
	}
	x.record(of, "subscriber", p, func() {
		x.raw("<" + of.subscriber + ">")
		x.leaf("subscriberID", n.Subscriber)
		x.raw("</" + of.subscriber + ">")
	})
}

// interval writes what is known of an interval, and how long it was in seconds.
func (x *xmlWriter) interval(from, to int64) {
	if from <= 0 && to == session.Forever {
		return
	}
	x.raw("<interval>")
	x.span(from, to)
	x.raw("</interval>")
}

// span is the inside of an interval.
func (x *xmlWriter) span(from, to int64) {
	if from > 0 {
		x.leaf("startTime", generalized(from))
	}
	if to != session.Forever {
		x.leaf("endTime", generalized(to))
	}
	if from > 0 && to != session.Forever {
		x.leaf("durationTime", strconv.FormatInt(max(to-from, 0)/1e9, 10))
	}
}

func (x *xmlWriter) address(a netip.Addr) {
	x.raw("<naAssignedAddress>")
	x.ip(a)
	x.raw("</naAssignedAddress>")
}

// ip writes an address as iPTextAddress, of 7 to 45 characters.
func (x *xmlWriter) ip(a netip.Addr) {
	text := a.String()
	if len(text) < 7 {
		text = a.StringExpanded()
	}
	x.leaf("iPTextAddress", text)
}

// generalized prints a time as GeneralizedTime: UTC, whole seconds.
func generalized(ns int64) string { return time.Unix(0, ns).UTC().Format("20060102150405Z") }

func known(end string) string {
	if end == "-" {
		return ""
	}
	return end
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
