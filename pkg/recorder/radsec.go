package recorder

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/radius"
)

// ReadRadSec reads the certificate, its key and the CA of RADIUS over TLS. The
// key file must be one that no other user may read.
func ReadRadSec(c *config.RadSec) (out radius.Credentials, err error) {
	key, err := config.ReadKey(c.Key)
	if err != nil {
		return out, fmt.Errorf("radius.radsec.key: %w", err)
	}
	chain, err := readPEM(c.Certificate)
	if err != nil {
		return out, fmt.Errorf("radius.radsec.certificate: %w", err)
	}
	if out.Certificate, err = tls.X509KeyPair(chain, key); err != nil {
		return out, fmt.Errorf("radius.radsec: certificate %q and key %q: %w", c.Certificate, c.Key, err)
	}
	ca, err := readPEM(c.CA)
	if err != nil {
		return out, fmt.Errorf("radius.radsec.ca: %w", err)
	}
	out.CA = x509.NewCertPool()
	if !out.CA.AppendCertsFromPEM(ca) {
		return out, fmt.Errorf("radius.radsec.ca: %q holds no certificate; it must be a PEM file", c.CA)
	}
	for _, cl := range c.Clients {
		out.Clients = append(out.Clients, radius.StreamClient{
			Names: cl.Names, Permit: radius.Permit{NAS: cl.NAS, Prefixes: cl.Prefixes},
			RequireMessageAuthenticator: cl.RequireMessageAuthenticator,
		})
	}
	return out, nil
}

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 1 << 20

func readPEM(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w; make it, or correct the path", path, cause(err))
	}
	if !st.Mode().IsRegular() || st.Size() > maxPEM {
		return nil, fmt.Errorf("read %q: it is no file of certificates", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w; the agent's user must be able to read it", path, cause(err))
	}
	return b, nil
}
