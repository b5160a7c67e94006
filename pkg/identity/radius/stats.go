package radius

import (
	"sync/atomic"

	"github.com/edgelog/edgelog/pkg/measure"
)

// reason says why a datagram got no answer. The words are printed in status
// and stay what they are.
type reason uint8

const (
	dropUnknownClient reason = iota
	dropShort
	dropLength
	dropCode
	dropQueue
	dropAttributes
	dropAuthenticator
	dropMessageAuth
	dropNoMessageAuth
	dropInFlight
	dropNoStatus
	dropNoSession
	dropNotDurable
	dropSend
	dropNAS
	reasons
)

var reasonWords = [reasons]string{
	dropUnknownClient: "unknown-client",                // no client has this source address
	dropShort:         "too-short",                     // under 20 bytes
	dropLength:        "bad-length",                    // the length field does not fit
	dropCode:          "not-accounting",                // another code than 4 and 12
	dropQueue:         "queue-full",                    // the NAS sends it again
	dropAttributes:    "malformed-attributes",          // the lengths of the attributes do not fit
	dropAuthenticator: "bad-authenticator",             // wrong secret, or changed on the way
	dropMessageAuth:   "bad-message-authenticator",     // the same
	dropNoMessageAuth: "missing-message-authenticator", // Status-Server, or a client that must send one
	dropInFlight:      "duplicate-in-flight",           // it is being worked on
	dropNoStatus:      "no-acct-status-type",           // RFC 2866 §5.1: it must have one
	dropNoSession:     "no-acct-session-id",            // RFC 2866 §5.5: it must have one
	dropNotDurable:    "not-durable",                   // the book could not keep it; the NAS sends it again
	dropSend:          "send-failed",                   // the answer could not be sent
	dropNAS:           "nas-not-allowed",               // the client may not speak for this access server
}

// remark counts something about requests that were acknowledged.
type remark uint8

const (
	noteNoAddress remark = iota
	noteFuture
	noteOld
	noteOtherStatus
	noteBadAttribute
	notePrefix
	noteManyBlocks
	noteMACName
	remarks
)

var remarkWords = [remarks]string{
	noteNoAddress:    "no-address",         // names no address or prefix
	noteFuture:       "time-in-future",     // its Event-Timestamp was replaced by the time of arrival
	noteOld:          "time-too-old",       // the same
	noteOtherStatus:  "other-status",       // an Acct-Status-Type that is not about a session
	noteBadAttribute: "ignored-attribute",  // one attribute had an impossible value, the others were used
	notePrefix:       "prefix-not-allowed", // an address that the client's sessions may not hold was left out
	noteManyBlocks:   "too-many-blocks",    // a block of ports will not end with its session, but with the next one's claim
	noteMACName:      "mac-as-user-name",   // it names equipment and no subscriber
}

type counters struct {
	received, answered, status, repeated atomic.Uint64
	inFlight                             atomic.Int64
	dropped                              [reasons]atomic.Uint64
	remarks                              [remarks]atomic.Uint64
	delay                                *measure.Histogram
}

// Stats counts datagrams since New. At any moment when nothing moves
// Received = Answered + Repeated + the sum of Dropped + InFlight.
type Stats struct {
	Received uint64            `json:"received"`
	Answered uint64            `json:"answered"`      // the first answer to a request
	Repeated uint64            `json:"repeated"`      // the same answer once more
	Dropped  map[string]uint64 `json:"dropped"`       // by reason
	InFlight int64             `json:"in_flight"`     // waiting or being worked on
	Status   uint64            `json:"status_server"` // of Answered, to Status-Server
	Remarks  map[string]uint64 `json:"remarks"`       // about requests that were answered
	Clients  []ClientStats     `json:"clients"`
	RadSec   *StreamStats      `json:"radsec,omitempty"` // nil: not served
	Delay    measure.Reading   `json:"delay_s"`          // seconds from the arrival of a request to its first answer: its event is durable
}

// ClientStats counts datagrams of one client.
type ClientStats struct {
	Name             string `json:"name"`
	Received         uint64 `json:"received"`
	Answered         uint64 `json:"answered"`           // repetitions included
	BadAuthenticator uint64 `json:"bad_authenticator"`  // most likely a wrong secret
	ForeignNAS       uint64 `json:"nas_not_allowed"`    // dropped
	ForeignPrefix    uint64 `json:"prefix_not_allowed"` // requests of which an address was left out
	ClockBehind      int64  `json:"clock_behind_ns"`    // of the client; negative: ahead; 0: within 5 s
}

// Stats returns the counters. It holds no data of subscribers.
func (s *Server) Stats() Stats {
	c := &s.count
	out := Stats{
		Received: c.received.Load(), Answered: c.answered.Load(), Repeated: c.repeated.Load(),
		InFlight: c.inFlight.Load(), Status: c.status.Load(),
		Dropped: make(map[string]uint64), Remarks: make(map[string]uint64), Delay: c.delay.Read(),
	}
	for i := range c.dropped {
		out.Dropped[reasonWords[i]] = c.dropped[i].Load()
	}
	for i := range c.remarks {
		out.Remarks[remarkWords[i]] = c.remarks[i].Load()
	}
	for _, x := range s.clients.Load().list {
		out.Clients = append(out.Clients, x.stats())
	}
	s.streams.stats(&out)
	return out
}

func (c *client) stats() ClientStats {
	return ClientStats{
		Name: c.Name, Received: c.received.Load(), Answered: c.answered.Load(), BadAuthenticator: c.badAuthenticator.Load(),
		ForeignNAS: c.refused.Load(), ForeignPrefix: c.foreign.Load(), ClockBehind: c.clock.off.Load(),
	}
}
