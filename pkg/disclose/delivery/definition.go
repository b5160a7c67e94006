package delivery

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgelog/edgelog/pkg/disclose"
)

// Definition says what edgelog takes for a session: the law has no technical
// definition of it.
func Definition(t disclose.Timeouts) string {
	return fmt.Sprintf("A session is all packets of one transport protocol between two end points (address and port; for protocols without ports, address), "+
		"in both directions, that cross the border between the provider's network and others, from the initiating to the terminating packet. "+
		"TCP: it ends with a FIN from both sides, a RST from one, or %s without a packet; a connection that never got beyond SYN and SYN+ACK ends after %s without a packet; "+
		"stragglers that come within %s of its end still belong to it. UDP ends after %s without a packet, ICMP after %s, other protocols after %s. "+
		"A later packet between the same end points begins another session. Start and end are the times of the first and of the last packet seen, "+
		"not of the silence after it. Every packet is looked at; none of its content is recorded.",
		seconds(t.TCP), seconds(t.HalfOpen), seconds(t.Linger), seconds(t.UDP), seconds(t.ICMP), seconds(t.Other))
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s" }

const timeFormat = "RFC 3339, UTC, milliseconds, the same for start and end; fractions of a millisecond are cut off; intervals of coverage in whole seconds. IPFIX: milliseconds since 1970-01-01 UTC."

// cut returns s as UTF-8 of at most n bytes.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
