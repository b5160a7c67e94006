package tests

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// authority is a CA whose files lie in a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.issue("ca", a.cert)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.crt and name.key.
func (a *authority) issue(name string, x *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.key == nil {
		a.key = key
	}
	a.last++
	x.SerialNumber = big.NewInt(a.last)
	der, err := x509.CreateCertificate(rand.Reader, x, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	err = errors.Join(err,
		os.WriteFile(a.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	if err != nil {
		a.t.Fatal(err)
	}
}

// member is a certificate of a machine, valid until then.
func (a *authority) member(name string, until time.Duration) {
	a.t.Helper()
	a.issue(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until),
	})
}

// radsecproxy runs the real one with a client certificate.
func radsecproxy(ctx context.Context, t *testing.T, g *gateway.Gateway, ca *authority, from *authority, name string) *lab.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "radsecproxy.conf")
	conf := fmt.Sprintf(`
ListenUDP %s
LogLevel 2
tls default {
	CACertificateFile %s
	CertificateFile %s
	CertificateKeyFile %s
}
client 127.0.0.1 {
	type udp
	secret %q
	duplicateInterval 1
}
server agent {
	host 127.0.0.1
	port 2083
	type tls
	secret radsec
	certificateNameCheck off
}
realm * {
	server agent
	accountingServer agent
}
`, strings.Replace(proxyAt.String(), "/", ":", 1), ca.path("ca.crt"), from.path(name+".crt"), from.path(name+".key"), nasSecret)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := g.Gateway().Start(lab.Command{Path: "radsecproxy", Args: []string{"-f", "-c", file}})
	if err == nil {
		err = p.WaitListening(ctx, "udp", proxyAt.Port())
	}
	if err != nil {
		t.Fatalf("radsecproxy: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("radsecproxy said:\n%s", p.Output())
		}
	})
	return p
}

// secured opens a gateway that takes accounting by TLS from radius1.
func secured(ctx context.Context, t *testing.T) (*gateway.Gateway, *authority) {
	t.Helper()
	ca := newAuthority(t, "lab CA")
	ca.member("edgelog", time.Hour)
	ca.member("radius1", time.Hour)
	g := open(t, 0, gateway.Options{})
	configure(t, g, fmt.Sprintf("[radius.radsec]\nlisten = [\"127.0.0.1:2083\"]\ncertificate = %q\nkey = %q\nca = %q\n[[radius.radsec.client]]\nnames = [\"radius1\"]\nnas = [\"bng\"]\n",
		ca.path("edgelog.crt"), ca.path("edgelog.key"), ca.path("ca.crt")))
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return g, ca
}

func TestRadsecproxyBringsAccountingByTLS(t *testing.T) {
	ctx := limited(t)
	g, ca := secured(ctx, t)
	proxy := radsecproxy(ctx, t, g, ca, ca, "radius1")
	const n = 100
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Start"))
	s := until(ctx, t, g, "all are logged on", inForce(2*n))
	if x := s.RADIUS.RadSec; x.Open != 1 || x.Connections[0].Client != "radius1" || x.Connections[0].Received < n || x.Clients[0].Answered < n {
		t.Errorf("%+v", x)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	proxy.Kill() // it would wait for half a minute and more before it connects again
	radsecproxy(ctx, t, g, ca, ca, "radius1")
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(n, "Stop"))
	until(ctx, t, g, "all are logged off", inForce(0))
	if out, err := g.Run(ctx, "status"); err != nil || !strings.Contains(out, "127.0.0.1:2083 (TLS)") || !strings.Contains(out, "by TLS: 1 connection, 1 open") || !strings.Contains(out, "radius over tls: connections 1 = open 1 + refused 0 + ended 0: ok") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCertificatesOfRadsecproxyThatAreRefused(t *testing.T) {
	ctx := limited(t)
	g, ca := secured(ctx, t)
	other := newAuthority(t, "other CA")
	other.member("radius1", time.Hour)
	ca.member("expired", -time.Minute)
	ca.member("stranger", time.Hour)
	for _, c := range []struct {
		name, why, said string
		from            *authority
		certificate     string
	}{
		{"of another CA", "unknown-ca", "its certificate is not from the CA in radius.radsec.ca", other, "radius1"},
		{"expired", "certificate-expired", "its certificate has expired", ca, "expired"},
		{"of a stranger", "name-not-allowed", "no [[radius.radsec.client]] has a name of its certificate", ca, "stranger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := radsecproxy(ctx, t, g, ca, c.from, c.certificate)
			out, err := radclientTries(ctx, t, g, proxyAt, nasSecret, crowdOf(1, "Start"), "2")
			if err == nil {
				t.Errorf("it was answered: %s", out)
			}
			until(ctx, t, g, "it is refused", func(s *recorder.Status) bool { return s.RADIUS.RadSec.Refused[c.why] > 0 })
			if err := p.Stop(); err != nil && !strings.Contains(err.Error(), "exit status") && !strings.Contains(err.Error(), "signal") {
				t.Error(err)
			}
			out, err = g.Run(ctx, "status")
			if err != nil || !strings.Contains(out, c.said) || !strings.Contains(out, "bindings   0 in force") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	// The same proxy with a good certificate, of an authority that is added while
	// the agent runs.
	both, err := os.ReadFile(ca.path("ca.crt"))
	more, err2 := os.ReadFile(other.path("ca.crt"))
	if err := errors.Join(err, err2, os.WriteFile(ca.path("ca.crt"), append(both, more...), 0o600), g.Reconfigure(nil)); err != nil {
		t.Fatal(err)
	}
	// It would not try again for a long time if it came before the agent knew it.
	until(ctx, t, g, "the file was read again", func(*recorder.Status) bool {
		return strings.Contains(g.Agent().Output(), "the configuration says what it said before")
	})
	radsecproxy(ctx, t, g, ca, other, "radius1")
	radclient(ctx, t, g, proxyAt, nasSecret, crowdOf(1, "Start"))
	until(ctx, t, g, "it is logged on", inForce(2))
}
