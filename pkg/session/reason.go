package session

import "fmt"

// EndReason says why a session ended. The numbers are stored in blocks: new
// reasons are added at the end, none is ever reused.
type EndReason uint8

// The reasons.
const (
	EndUnknown  EndReason = 0 // not ended, or not known
	EndFIN      EndReason = 1 // FIN from both sides (RFC 9293 §3.6)
	EndRST      EndReason = 2 // RST from one side (RFC 9293 §3.5.2)
	EndIdle     EndReason = 3 // silence longer than the protocol's timeout
	EndHalfOpen EndReason = 4 // TCP that never got beyond SYN and SYN+ACK, given up after its own shorter timeout
	EndShutdown EndReason = 5 // the agent was told to drain the table and stop
	EndEvicted  EndReason = 6 // pushed out of a full table
	EndSample   EndReason = 7 // not an end: a sample record
	EndOpen     EndReason = 8 // not an end: still open when the record was written
)

var endReasons = [...]string{"unknown", "fin", "rst", "idle", "half-open", "shutdown", "evicted", "sample", "open"}

// String returns the word that answers and exports use.
func (r EndReason) String() string {
	if int(r) < len(endReasons) {
		return endReasons[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Valid reports whether r is a reason that this version knows.
func (r EndReason) Valid() bool { return int(r) < len(endReasons) }
