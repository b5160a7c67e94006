package dhcp

import (
	"bytes"
	"encoding/json"
	"slices"
)

// keaRelay is one relay in a user context. Kea 2.2 writes the options as they
// came; later versions take some of them out as well.
type keaRelay struct {
	Hop     int    `json:"hop"`
	Options string `json:"options"`
}

// keaContext takes what store-extended-info keeps in a user context:
// {"ISC":{"relay-agent-info":"0x…"}} with DHCPv4, an object with sub-options in
// later versions, and a list of relays with DHCPv6. Anything else is left
// alone.
func (r *Record) keaContext(text []byte) {
	if !bytes.Contains(text, []byte(`"ISC"`)) {
		return
	}
	if h := quoted(text, `"relay-agent-info": "0x`, `"relay-agent-info":"0x`); h != nil { // the common form, a million times
		r.relayInfo(fromHex(string(h)))
		return
	}
	var c struct {
		ISC struct {
			Info   json.RawMessage `json:"relay-agent-info"`
			Relays []keaRelay      `json:"relays"`
			Relay  []keaRelay      `json:"relay-info"`
		}
	}
	if json.Unmarshal(text, &c) != nil {
		return
	}
	var s string
	var o struct {
		Sub string `json:"sub-options"`
	}
	switch {
	case len(c.ISC.Info) == 0:
	case json.Unmarshal(c.ISC.Info, &s) == nil:
		r.relayInfo(fromHex(s))
	case json.Unmarshal(c.ISC.Info, &o) == nil:
		r.relayInfo(fromHex(o.Sub))
	}
	relays := append(c.ISC.Relays, c.ISC.Relay...)
	slices.SortStableFunc(relays, func(a, b keaRelay) int { return a.Hop - b.Hop }) // the one nearest to the client first
	for _, x := range relays {
		r.relayOptions(fromHex(x.Options))
	}
}

// quoted returns what stands after one of the beginnings up to the next
// quotation mark.
func quoted(text []byte, begins ...string) []byte {
	for _, b := range begins {
		if i := bytes.Index(text, []byte(b)); i >= 0 {
			rest := text[i+len(b):]
			if end := bytes.IndexByte(rest, '"'); end >= 0 {
				return rest[:end]
			}
		}
	}
	return nil
}
