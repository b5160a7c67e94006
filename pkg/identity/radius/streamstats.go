package radius

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// end says why a connection ended. The words are printed in status and stay
// what they are.
type end uint8

const (
	endNone end = iota
	endCrowded
	endNotTLS
	endVersion
	endHandshakeTime
	endHandshake
	endAlert
	endNoCertificate
	endUnknownCA
	endExpired
	endUsage
	endCertificate
	endName
	firstServed // those from here on had been accepted
	endClosed
	endFailed
	endIdle
	endHalf
	endProtocol
	endSlow
	endReload
	endStopped
	ends
)

var endWords = [ends]string{
	endCrowded:       "too-many-connections",
	endNotTLS:        "not-tls",
	endVersion:       "tls-too-old", // before 1.2
	endHandshakeTime: "handshake-too-slow",
	endHandshake:     "handshake-failed",
	endAlert:         "refused-by-client", // it does not accept our certificate
	endNoCertificate: "no-certificate",
	endUnknownCA:     "unknown-ca",
	endExpired:       "certificate-expired", // or not valid yet; at the handshake or later
	endUsage:         "certificate-not-for-clients",
	endCertificate:   "certificate-not-valid",
	endName:          "name-not-allowed",
	endClosed:        "closed-by-client",
	endFailed:        "connection-failed",
	endIdle:          "idle",
	endHalf:          "half-a-packet", // its rest did not come
	endProtocol:      "not-radius",    // a packet that RFC 6613 §2.6.4 has a connection closed for
	endSlow:          "answers-not-taken",
	endReload:        "no-longer-allowed", // by the configuration read again
	endStopped:       "agent-stopped",
}

// endRemedies complete "radius over tls from ADDRESS is refused: ".
var endRemedies = [ends]string{
	endNotTLS:        "it does not speak TLS; is it a client for plain RADIUS?",
	endVersion:       "it offers only TLS before 1.2; update it",
	endAlert:         "it does not accept this server's certificate; give it the CA of radius.radsec.certificate, and the name in it",
	endNoCertificate: "it has no client certificate; give it one from the CA in radius.radsec.ca",
	endUnknownCA:     "its certificate is not from the CA in radius.radsec.ca; give it one from there, or add its CA to that file",
	endExpired:       "its certificate has expired or is not valid yet; renew it, and check both clocks",
	endUsage:         "its certificate is not for clients; make one with extendedKeyUsage clientAuth",
	endCertificate:   "its certificate is not valid",
	endName:          "no [[radius.radsec.client]] has a name of its certificate; add one, or stop that device from connecting here",
}

// StreamStats counts connections since New: Accepted = Open + the sum of
// Refused + the sum of Ended.
type StreamStats struct {
	Accepted    uint64            `json:"accepted"`
	Open        uint64            `json:"open"`
	Refused     map[string]uint64 `json:"refused"` // before a client was known, by reason
	Ended       map[string]uint64 `json:"ended"`   // after, by reason
	Connections []ConnectionStats `json:"connections"`
	Clients     []ClientStats     `json:"clients"`
	Expires     int64             `json:"certificate_expires_s"` // of the own certificate, seconds since 1970
}

// ConnectionStats counts requests of one open connection.
type ConnectionStats struct {
	Client   string    `json:"client"` // "" during the handshake
	From     string    `json:"from"`   // address and port of the device that sends accounting
	Since    time.Time `json:"since"`
	Received uint64    `json:"received"`
	Answered uint64    `json:"answered"`
}

// stats adds what is known of connections.
func (ss *streams) stats(out *Stats) {
	c := ss.credentials.Load()
	if c == nil {
		return
	}
	s := &StreamStats{Refused: map[string]uint64{}, Ended: map[string]uint64{}, Expires: c.expires.Unix(), Connections: []ConnectionStats{}}
	for _, x := range c.clients {
		s.Clients = append(s.Clients, x.stats())
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.Accepted, s.Open = ss.accepted, uint64(len(ss.open))
	for e := endCrowded; e < ends; e++ {
		switch n := ss.ended[e]; {
		case e == firstServed:
		case e < firstServed:
			s.Refused[endWords[e]] = n
		default:
			s.Ended[endWords[e]] = n
		}
	}
	for st := range ss.open {
		x := ConnectionStats{From: st.from.String(), Since: st.since.UTC(), Received: st.received.Load(), Answered: st.answered.Load()}
		if st.peer.Load() != nil {
			x.Client = st.client.Name
		}
		s.Connections = append(s.Connections, x)
	}
	slices.SortFunc(s.Connections, func(a, b ConnectionStats) int { return strings.Compare(a.From, b.From) })
	out.RadSec = s
}

// refusal tells the operator why a connection was refused.
func (s *Server) refusal(now time.Time, st *stream, why end) {
	if endRemedies[why] == "" {
		return
	}
	from := st.from.Addr()
	s.trouble(now, endWords[why]+" "+from.String(), func() string {
		return fmt.Sprintf("radius over tls from %s is refused: %s", from, endRemedies[why])
	})
}
