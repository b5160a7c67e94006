package dhcp

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
)

// option82 finds the relay agent information in a packet or capture.
func option82(t *testing.T, b []byte) *Record {
	t.Helper()
	at := bytes.LastIndex(b, []byte{0x63, 0x82, 0x53, 0x63})
	if at < 0 {
		t.Fatal("there is no DHCP message")
	}
	var r Record
	for o := b[at+4:]; len(o) > 2 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		n := int(o[1])
		if o[0] == 82 {
			r.relayInfo(o[2 : 2+n])
		}
		o = o[2+n:]
	}
	return &r
}

func TestOption82OfACaptureReadsAsZeekReadsIt(t *testing.T) {
	r := option82(t, given(t, "zeek__dhcp-dhcp_ack_subscriber_id_and_agent_remote_id.pcap"))
	// "this is only a test...", \x13, "-subID-" in Zeek's log
	if r.Circuit != "this is only a test..." || r.Remote != "0x13" || r.Subscriber != "-subID-" {
		t.Errorf("%+v", r)
	}
}

func TestRelayOptionsReadAsFreeRADIUSReadsThem(t *testing.T) {
	text := string(given(t, "freeradius__dhcpv6-relay_forward.txt"))
	line := regexp.MustCompile(`(?m)^decode-proto (0c 01 .*)$`).FindStringSubmatch(text)
	if line == nil {
		t.Fatal("there is no Relay-Forward in the file")
	}
	b, err := hex.DecodeString(strings.ReplaceAll(line[1], " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	const head = 34 // type, hops, link and peer address (RFC 8415 §9)
	inner := b[head+4+head:]
	var r Record
	r.relayOptions(inner) // of the relay nearest to the client, then the one behind it
	r.relayOptions(b[head:])
	if r.Circuit != "LABOLT2 eth 1/1/05/01/28/1/1" || r.Remote != "0x0001000126b1b7f1005056a353fe" {
		t.Errorf("%+v", r)
	}
	r.Client = "00:01:00:01:26:b1:b7:f1:00:50:56:a3:53:fe"
	r.macOfDUID(fromHex(r.Client))
	if r.mac() != "00:50:56:a3:53:fe" {
		t.Errorf("the MAC address of the DUID: %q", r.mac())
	}
}
