package main

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/recorder"
)

func (d *doctor) checkRADIUS() {
	c := &d.conf.RADIUS
	for _, cl := range c.Clients {
		if _, err := config.ReadSecret(cl.SecretFile); err != nil {
			d.fail("radius", err.Error(), "")
		} else {
			d.ok("radius", "client "+cl.Address.String()+" has a secret")
		}
		if cl.Address.Bits() < cl.Address.Addr().BitLen() && len(cl.NAS) == 0 {
			d.warn("radius", "client "+cl.Address.String()+" is a whole network, and may speak for any access server",
				"say in its nas = [...] which")
		}
	}
	if len(c.RadSec.Listen) > 0 {
		d.checkCertificates(&c.RadSec)
	}
	if d.agentRunning {
		return // it holds the ports
	}
	for _, at := range c.Listen {
		conn, err := recorder.ListenAccounting(at)
		d.listened(at, "", err, func() { _ = conn.Close() })
	}
	for _, at := range c.RadSec.Listen {
		ln, err := recorder.ListenRadSec(at)
		d.listened(at, " for TLS", err, func() { _ = ln.Close() })
	}
}

func (d *doctor) listened(at netip.AddrPort, what string, err error, close func()) {
	if err != nil {
		d.fail("radius", "cannot listen on "+at.String()+what+": "+recorder.ListenError(err).Error(), "")
		return
	}
	close()
	d.ok("radius", "can listen on "+at.String()+what)
}

// checkCertificates looks at what RADIUS over TLS needs.
func (d *doctor) checkCertificates(c *config.RadSec) {
	credentials, err := recorder.ReadRadSec(c)
	if err != nil {
		d.fail("radius", err.Error(), "")
		return
	}
	leaf, err := x509.ParseCertificate(credentials.Certificate.Certificate[0])
	if err != nil {
		d.fail("radius", fmt.Sprintf("the certificate %q cannot be read: %v", c.Certificate, err), "")
		return
	}
	switch left := time.Until(leaf.NotAfter); {
	case left <= 0 || time.Now().Before(leaf.NotBefore):
		d.fail("radius", fmt.Sprintf("the certificate %q is not valid now: from %s until %s", c.Certificate, stamp(leaf.NotBefore), stamp(leaf.NotAfter)), "renew it, and check the clock")
	case left < expiresSoon:
		d.warn("radius", fmt.Sprintf("the certificate %q expires %s", c.Certificate, stamp(leaf.NotAfter)), "renew it, then reload the agent")
	default:
		d.ok("radius", fmt.Sprintf("the certificate %q is valid until %s", c.Certificate, stamp(leaf.NotAfter)))
	}
	if len(c.Clients) == 0 {
		d.warn("radius", "whoever has a certificate of the CA in radius.radsec.ca may send accounting", "name them in sections [[radius.radsec.client]]")
	}
}
