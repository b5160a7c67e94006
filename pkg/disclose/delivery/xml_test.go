package delivery

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestXmllintFindsTheXMLValid(t *testing.T) {
	lint := program(t, "xmllint")
	for kind, d := range kinds(t) {
		file := put(t, "response.xml", member(t, d.zip(), "response.xml"))
		if text, err := exec.Command(lint, "--noout", "--nonet", "--schema", "testdata/response.xsd", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", kind, err, text)
		}
	}
	bad := put(t, "bad.xml", []byte(`<RetainedDataMessage xmlns="`+xmlSpace+`"><invented/></RetainedDataMessage>`))
	if err := exec.Command(lint, "--noout", "--schema", "testdata/response.xsd", bad).Run(); err == nil {
		t.Error("the schema takes anything")
	}
}

// converter builds what asn1c makes of testdata/response.asn1.
func converter(t *testing.T) string {
	t.Helper()
	asn1c, gcc := program(t, "asn1c"), program(t, "gcc")
	module, err := filepath.Abs("testdata/response.asn1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
	}
	run(asn1c, "-pdu=RetainedDataMessage", module)
	sources, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		t.Fatal(err)
	}
	run(gcc, append([]string{"-w", "-O0", "-I.", "-DPDU=RetainedDataMessage", "-o", "converter"}, sources...)...)
	return filepath.Join(dir, "converter")
}

// TestACompilerOfASN1AcceptsTheXML turns the XML into DER and back. What comes
// back has every value: nothing was passed over as an extension.
func TestACompilerOfASN1AcceptsTheXML(t *testing.T) {
	program := converter(t)
	convert := func(from, to string, b []byte) ([]byte, error) {
		return exec.Command(program, "-c", "-1", from, to, put(t, "in", b)).Output()
	}
	for kind, d := range kinds(t) {
		text := member(t, d.zip(), "response.xml")
		der, err := convert("-ixer", "-oder", text)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		again, err := convert("-iber", "-oxer", der)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if d := cmp.Diff(leaves(t, text), leaves(t, again)); d != "" {
			t.Errorf("%s (-want +got):\n%s", kind, d)
		}
		for _, c := range []struct{ name, old, bad string }{
			{"a country of three letters", "<countryCode>DK<", "<countryCode>DNK<"},
			{"a state that there is not", "<responseComplete/>", "<invented/>"},
			{"a number that is none", "<recordNumber>1<", "<recordNumber>one<"},
			{"an address that is too short", "<iPTextAddress>192.0.2.10<", "<iPTextAddress>::1<"},
			{"a role that there is not", "<partyRole><smsOriginator/>", "<partyRole><invented/>"},
			{"a text that is cut off", "</responsePayload>", ""},
		} {
			if calls := kind == kindCommunications; strings.Contains(c.old, "iPText") && calls || strings.Contains(c.old, "partyRole") && !calls {
				continue
			}
			bad := strings.Replace(string(text), c.old, c.bad, 1)
			if bad == string(text) {
				t.Fatalf("%s: %s: there is no %q", kind, c.name, c.old)
			}
			if _, err := convert("-ixer", "-oder", []byte(bad)); err == nil {
				t.Errorf("%s: %s was accepted", kind, c.name)
			}
		}
	}
}

// leaves returns the path of each element without children, and its text.
func leaves(t *testing.T, b []byte) []string {
	t.Helper()
	var out, path []string
	var text strings.Builder
	leaf := false
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			path, leaf = append(path, x.Name.Local), true
			text.Reset()
		case xml.CharData:
			text.Write(x)
		case xml.EndElement:
			if leaf {
				// asn1c writes a carriage return as it is, and a reader of XML drops it.
				out = append(out, strings.Join(path, "/")+"="+strings.TrimSpace(strings.ReplaceAll(text.String(), "\r", "")))
			}
			path, leaf = path[:len(path)-1], false
		}
	}
}

// node is an element; find and the functions below read it by the rules of a
// program that imports such files from real providers (fqlite, EtsiXmlImporter):
// elements by local name and namespace, children only, the first of a name.
type node struct {
	XMLName  xml.Name
	Text     string `xml:",chardata"`
	Children []node `xml:",any"`
}

func (n *node) find(path string) *node {
	for name := range strings.SplitSeq(path, "/") {
		if n == nil {
			return nil
		}
		var next *node
		for i := range n.Children {
			if c := &n.Children[i]; c.XMLName.Local == name && c.XMLName.Space == "http://uri.etsi.org/02657/v1.28.1#/RetainedData" {
				next = c
				break
			}
		}
		n = next
	}
	return n
}

func (n *node) text(path string) string {
	if f := n.find(path); f != nil {
		return strings.TrimSpace(f.Text)
	}
	return ""
}

func (n *node) first(path string) string {
	if f := n.find(path); f != nil && len(f.Children) > 0 {
		return f.Children[0].XMLName.Local
	}
	return ""
}

// all returns the descendants of a name.
func (n *node) all(name string) []*node {
	var out []*node
	for i := range n.Children {
		c := &n.Children[i]
		if c.XMLName.Local == name {
			out = append(out, c)
		}
		out = append(out, c.all(name)...)
	}
	return out
}

var (
	etsiTime = regexp.MustCompile(`^(\d{14})(Z|[+-]\d{4})$`)
	etsiPair = regexp.MustCompile(`^"([^"]+)"\s*=\s*"([^"]*)"`)
)

// when reads a time, "" when it is not one to that reader.
func when(s string) string {
	m := etsiTime.FindStringSubmatch(s)
	if m == nil || m[2] != "Z" {
		return ""
	}
	at, err := time.Parse("20060102150405", m[1])
	if err != nil {
		return ""
	}
	return at.Format("2006-01-02 15:04:05")
}

func information(s string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(s, ";") {
		if m := etsiPair.FindStringSubmatch(strings.TrimSpace(pair)); m != nil {
			out[m[1]] = m[2]
		}
	}
	return out
}

func parse(t *testing.T, b []byte) *node {
	t.Helper()
	root := new(node)
	if err := xml.Unmarshal(b, root); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAReaderOfRealExportsFindsTheFields(t *testing.T) {
	root := parse(t, member(t, sessionsDesk(t).zip(), "response.xml"))
	head := root.find("retainedDataHeader")
	for path, want := range map[string]string{
		"requestID/countryCode": "DK", "requestID/authorisedOrganisationID": "Politi & Co", "requestID/requestNumber": "2025-1234", "cSPID": "Net & Co",
	} {
		if got := head.text(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := when(head.text("timeStamp")); got != "2025-03-01 12:30:00" {
		t.Errorf("timeStamp: %q", got)
	}
	records := root.all("ResponseRecord")
	hits := sampleHits()
	if len(records) != 2+len(hits) {
		t.Fatalf("%d records", len(records))
	}
	for i, r := range records {
		if n, err := strconv.Atoi(r.text("recordNumber")); err != nil || n != i+1 {
			t.Errorf("record %d has number %q", i+1, r.text("recordNumber"))
		}
		if r.text("nationalRecordPayload/countryCode") != "DK" || r.text("nationalRecordPayload/headerID") != xmlHeaderID {
			t.Errorf("record %d: %+v", i+1, r.find("nationalRecordPayload"))
		}
	}
	if n := information(records[0].text("additionalInformation/otherInformation")); n["Name"] != "Anna Ærø" || n["Address"] != "Gade 1, 8000 Århus" {
		t.Errorf("the register: %v", n)
	}
	usage := records[3].find("recordPayload/networkAccessRecord/naServiceUsage")
	if when(usage.text("interval/startTime")) != "2025-03-01 11:10:01" || when(usage.text("interval/endTime")) != "2025-03-01 11:11:00" ||
		usage.text("interval/durationTime") != "59" || usage.text("naAuthID") != "anna" || usage.text("naAssignedAddress/iPTextAddress") != "100.64.0.5" {
		t.Errorf("%+v", usage)
	}
	if got := records[3].first("nationalRecordPayload/typeOfData"); got != "internetSession" {
		t.Errorf("typeOfData: %q", got)
	}
	more := information(records[3].text("additionalInformation/otherInformation"))
	want := map[string]string{
		"Start": "2025-03-01T11:10:01.000Z", "End": "2025-03-01T11:11:00.007Z", "Protocol": "6", "Initiator": "192.0.2.10:4000",
		"Responder": "198.51.100.9:443", "EndUser": "initiator", "Inside": "100.64.0.5:51000", "EndReason": "rst",
	}
	if d := cmp.Diff(want, more); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	doubts := information(records[5].text("additionalInformation/otherInformation"))
	if doubts["Doubts"] != "also held by 'carl', perhaps" || doubts["SubscriberWhenSealed"] != "bo" || doubts["SubscriberToInferred"] != "yes" {
		t.Errorf("a value with quotes and semicolons: %v", doubts)
	}
}

// TestAReaderOfRealExportsFindsThePartiesOfCalls: that reader makes a row of each party.
func TestAReaderOfRealExportsFindsThePartiesOfCalls(t *testing.T) {
	root := parse(t, member(t, exchangeDesk(t, sampleCommunications()).zip(), "response.xml"))
	records := root.all("ResponseRecord")
	var rows [][]string
	for _, r := range records {
		list := r.find("recordPayload/telephonyRecord/telephonyServiceUsage/partyInformation")
		if list == nil {
			continue
		}
		for i := range list.Children {
			p := &list.Children[i]
			rows = append(rows, []string{
				r.text("recordNumber"), p.first("partyRole"), p.text("partyNumber"), when(p.text("communicationTime/startTime")), when(p.text("communicationTime/endTime")),
				p.text("communicationTime/durationTime"),
			})
		}
	}
	start, end := "2025-03-01 11:10:00", "2025-03-01 11:11:00"
	want := [][]string{
		{"3", "originating-Party", "+4511111111", start, end, "60"}, {"3", "terminating-Party", "+4522222222", start, end, "60"},
		{"4", "originating-Party", "", "2025-03-01 11:10:01", end, "59"}, {"4", "terminating-Party", "+4522222222", "2025-03-01 11:10:01", end, "59"},
		{"4", "forwarded-to-Party", "112", "2025-03-01 11:10:01", end, "59"}, {"4", "forwarded-to-Party", "+4533333333", "2025-03-01 11:10:01", end, "59"},
	}
	if len(records) != 7 || len(rows) != 13 {
		t.Fatalf("%d records, %d parties", len(records), len(rows))
	}
	if d := cmp.Diff(want, rows[:6]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if rows[6][1] != "smsOriginator" || rows[6][2] != "DSB" || rows[10][1] != "smsRecipient" || rows[11][1] != "mmsOriginator" || rows[12][1] != "mmsRecipient" {
		t.Errorf("%v", rows[6:])
	}
	if got := records[0].text("recordPayload/telephonyRecord/telephonySubscriber/subscriberID"); got != "anna" {
		t.Errorf("the register: %q", got)
	}
	more := information(records[2].text("additionalInformation/otherInformation"))
	pairs := map[string]string{
		"Start": "2025-03-01T11:10:00.000Z", "End": "2025-03-01T11:11:00.007Z", "Service": "voice", "From": "+4511111111", "To": "+4522222222", "Subscriber": "anna", "User": "anna@voip",
		"IMEI": "351234567890123", "IMSI": "238010123456789", "Cell": "17", "CellEnd": "18", "Place": "55.6761,12.5683", "PlaceEnd": "Gade 1, 8000 Århus", "Delivered": "yes", "Record": "=r-1",
	}
	if d := cmp.Diff(pairs, more); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	mail := records[6].find("recordPayload/messageRecord/messageServiceUsage")
	if records[6].first("nationalRecordPayload/typeOfData") != "mail" || mail.text("senderAddress") != "Anna.Berg@example.net" || len(mail.all("MessageAddress")) != 3 || mail.text("interval/durationTime") != "2" {
		t.Errorf("%+v", mail)
	}
}

func TestAnIncompleteAnswerSaysSoInTheXML(t *testing.T) {
	d := sessionsDesk(t)
	d.in.Sessions.Summary.Failed = 1
	if got := parse(t, member(t, d.zip(), "response.xml")).first("retainedDataPayload/responseMessage/responseStatus"); got != "responseIncomplete" {
		t.Errorf("%q", got)
	}
}
