package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/identity/radius"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// expiresSoon is when an operator is told of a certificate that runs out.
const expiresSoon = 30 * 24 * time.Hour

// printRADIUS prints how accounting comes in.
func printRADIUS(w io.Writer, s *recorder.Status, r *recorder.RADIUSStatus) {
	where := slices.Clone(r.Listen)
	for _, at := range r.ListenTLS {
		where = append(where, at+" (TLS)")
	}
	fmt.Fprintf(w, "radius     on %s: %d received, %d answered%s\n", strings.Join(where, ", "), r.Received, r.Answered, dropped(r.Dropped))
	printClients(w, r.Clients)
	x := r.RadSec
	if x == nil {
		return
	}
	fmt.Fprintf(w, "           by TLS: %s, %d open%s\n", plural(x.Accepted, "connection"), x.Open, dropped(x.Refused))
	printClients(w, x.Clients)
	if at := time.Unix(x.Expires, 0); at.Sub(s.Now) < expiresSoon {
		fmt.Fprintf(w, "           its certificate EXPIRES %s; renew it, then reload\n", stamp(at))
	}
}

func printClients(w io.Writer, list []radius.ClientStats) {
	for _, c := range list {
		if c.BadAuthenticator > 0 {
			fmt.Fprintf(w, "           client %s: %d REFUSED, its secret is most likely another one\n", c.Name, c.BadAuthenticator)
		}
		if c.ForeignNAS > 0 {
			fmt.Fprintf(w, "           client %s: %d REFUSED, for access servers that its nas = [...] does not name\n", c.Name, c.ForeignNAS)
		}
		if c.ForeignPrefix > 0 {
			fmt.Fprintf(w, "           client %s: an address LEFT OUT of %d, it is outside its prefixes = [...]\n", c.Name, c.ForeignPrefix)
		}
		if off := time.Duration(c.ClockBehind).Round(time.Second); off > 0 {
			fmt.Fprintf(w, "           client %s: its clock is %v behind\n", c.Name, off)
		} else if off < 0 {
			fmt.Fprintf(w, "           client %s: its clock is %v ahead\n", c.Name, -off)
		}
	}
}
