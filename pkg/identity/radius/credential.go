package radius

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Credentials are what both sides of a TLS connection prove.
type Credentials struct {
	Certificate tls.Certificate // the server's own
	CA          *x509.CertPool  // that client certificates must come from
	Clients     []StreamClient  // who may connect; none: whoever has such a certificate
}

// StreamClient is who may connect by TLS.
type StreamClient struct {
	Name string // for statistics; "" is the first of Names

	// Names are those of its certificate: a DNS name, an address or a URI of its
	// subjectAltName, or the common name of one without DNS name (RFC 6614 §2.3).
	// "*.isp.example" stands for one label. None: any.
	Names  []string
	Permit Permit

	RequireMessageAuthenticator bool
}

// credentials are Credentials in use.
type credentials struct {
	config  *tls.Config
	roots   *x509.CertPool
	clients []*client
	names   [][]string
	expires time.Time // of the server's certificate
}

// ErrCredentials is returned for credentials that cannot be used.
var ErrCredentials = errors.New("radius over tls")

// SetCredentials replaces the credentials. Connections whose certificate would
// not be accepted any more are closed. On an error nothing changes.
func (s *Server) SetCredentials(c Credentials) error {
	s.setMu.Lock()
	defer s.setMu.Unlock()
	if c.CA == nil || len(c.Certificate.Certificate) == 0 {
		return fmt.Errorf("%w: a certificate and a CA are needed", ErrCredentials)
	}
	leaf := c.Certificate.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(c.Certificate.Certificate[0]); err != nil {
			return fmt.Errorf("%w: read the own certificate: %w", ErrCredentials, err)
		}
	}
	next := &credentials{roots: c.CA, expires: leaf.NotAfter}
	next.config = &tls.Config{
		Certificates: []tls.Certificate{c.Certificate}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.CA, Time: s.opts.Clock,
		SessionTicketsDisabled: true, // each connection proves its certificate
	}
	list := c.Clients
	if len(list) == 0 {
		list = []StreamClient{{Name: "any certificate"}}
	}
	old := s.streams.credentials.Load()
	for i := range list {
		n := newStreamClient(&list[i])
		if old != nil {
			if k := slices.IndexFunc(old.clients, func(o *client) bool { return o.Name == n.Name }); k >= 0 {
				n.follow(old.clients[k])
			}
		}
		next.clients, next.names = append(next.clients, n), append(next.names, list[i].Names)
	}
	s.streams.credentials.Store(next)
	s.streams.closeUnwanted(s, next)
	return nil
}

func newStreamClient(c *StreamClient) *client {
	n := &client{
		Client: Client{Name: c.Name, Secret: []byte(streamSecret), RequireMessageAuthenticator: c.RequireMessageAuthenticator},
		permit: newPermit(c.Permit),
	}
	if n.Name == "" && len(c.Names) > 0 {
		n.Name = c.Names[0]
	}
	return n
}

// closeUnwanted ends connections that new credentials do not accept.
func (ss *streams) closeUnwanted(s *Server, c *credentials) {
	ss.mu.Lock()
	var open []*stream
	for st := range ss.open {
		open = append(open, st)
	}
	ss.mu.Unlock()
	now := s.opts.Clock()
	for _, st := range open {
		certs := st.certificates()
		if certs == nil { // it still shakes hands
			continue
		}
		if _, why := c.judge(certs, now); why != endNone {
			st.end(endReload)
		}
	}
}

// certificates returns what the client sent, nil during the handshake.
func (st *stream) certificates() []*x509.Certificate {
	if p := st.peer.Load(); p != nil {
		return *p
	}
	return nil
}

// judge verifies the certificates of a client and says who it is.
func (c *credentials) judge(certs []*x509.Certificate, now time.Time) (*client, end) {
	inter := x509.NewCertPool()
	for _, x := range certs[1:] {
		inter.AddCert(x)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, certificateEnd(err)
	}
	for i, names := range c.names {
		if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return isNamed(certs[0], n) }) {
			return c.clients[i], endNone
		}
	}
	return nil, endName
}

// isNamed reports whether a certificate has a name.
func isNamed(x *x509.Certificate, want string) bool {
	for _, a := range x.IPAddresses {
		if a.String() == want {
			return true
		}
	}
	for _, u := range x.URIs {
		if u.String() == want {
			return true
		}
	}
	for _, d := range x.DNSNames {
		if matchName(want, d) {
			return true
		}
	}
	return len(x.DNSNames) == 0 && matchName(want, x.Subject.CommonName)
}

func matchName(want, name string) bool {
	want, name = strings.ToLower(want), strings.ToLower(name)
	if want == name {
		return name != ""
	}
	rest, wild := strings.CutPrefix(want, "*.")
	_, domain, found := strings.Cut(name, ".")
	return wild && found && domain == rest
}

// expired reports whether the client's certificate has run out since the
// connection was made.
func (st *stream) expired(now time.Time) bool {
	certs := st.certificates()
	return len(certs) > 0 && now.After(certs[0].NotAfter)
}

// shake makes the connection a TLS one, and says who the client is.
func (s *Server) shake(ctx context.Context, st *stream) (end, bool) {
	c := s.streams.credentials.Load()
	if c == nil {
		return endStopped, false
	}
	st.conn = tls.Server(st.raw, c.config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	now := s.opts.Clock()
	if err := st.conn.HandshakeContext(ctx); err != nil {
		why := handshakeEnd(ctx, err)
		s.refusal(now, st, why)
		return why, false
	}
	certs := st.conn.ConnectionState().PeerCertificates
	who, why := c.judge(certs, now)
	if why != endNone {
		s.refusal(now, st, why)
		return why, false
	}
	st.client = who
	st.peer.Store(&certs)
	return endNone, true
}

// handshakeEnd says why a handshake failed.
func handshakeEnd(ctx context.Context, err error) end {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &verify):
		return certificateEnd(verify.Err)
	case errors.As(err, &record):
		return endNotTLS
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return endHandshakeTime
	case errors.As(err, &remote) && remote.Op == "remote error": // crypto/tls's word for an alert
		return endAlert
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no error of its own for it
		return endNoCertificate
	case strings.Contains(err.Error(), "unsupported versions"):
		return endVersion
	}
	return endHandshake
}

// certificateEnd says why a certificate was not accepted.
func certificateEnd(err error) end {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return endUnknownCA
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return endExpired
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return endUsage
	}
	return endCertificate
}
