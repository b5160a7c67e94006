package radius

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	codec "layeh.com/radius"
)

// authority is a CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: arrival.Add(-time.Hour), NotAfter: arrival.Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	x, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, x, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate, changed by edit.
func (a *authority) issue(name string, edit func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: arrival.Add(-time.Hour), NotAfter: arrival.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if edit != nil {
		edit(x)
	}
	der, err := x509.CreateCertificate(rand.Reader, x, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secure is a server for RADIUS over TLS.
type secure struct {
	*testServer
	ca   *authority
	addr string
	cert tls.Certificate
}

func serveTLS(t *testing.T, book Book, opts Options, so StreamOptions, clients ...StreamClient) *secure {
	t.Helper()
	if opts.Clock == nil {
		opts.Clock = func() time.Time { return arrival }
	}
	s, err := New(book, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "lab CA")
	x := &secure{testServer: &testServer{Server: s}, ca: ca, cert: ca.issue("radius.isp.example", nil)}
	if err := s.SetCredentials(Credentials{Certificate: x.cert, CA: ca.pool(), Clients: clients}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(ctx, ln, so) }() // ends with cancel, in stop
	x.addr = ln.Addr().String()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		ln.Close()
		x.addsUp(t)
		st := s.Stats().RadSec
		sum := st.Open
		for _, m := range []map[string]uint64{st.Refused, st.Ended} {
			for _, n := range m {
				sum += n
			}
		}
		if sum != st.Accepted || st.Open != 0 {
			t.Errorf("connections do not add up: %+v", st)
		}
	})
	t.Cleanup(x.stop)
	return x
}

// dialTLS connects with a certificate.
func (x *secure) dialTLS(t *testing.T, edit func(*tls.Config), certs ...tls.Certificate) (*tls.Conn, error) {
	t.Helper()
	c := &tls.Config{RootCAs: x.ca.pool(), ServerName: "radius.isp.example", Time: func() time.Time { return arrival }}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever CA is asked for
		if len(certs) == 0 {
			return new(tls.Certificate), nil
		}
		return &certs[0], nil
	}
	if edit != nil {
		edit(c)
	}
	conn, err := tls.Dial("tcp", x.addr, c)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func read(t *testing.T, c io.Reader) []byte {
	t.Helper()
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, int(b[2])<<8+int(b[3])-4)...)
	if _, err := io.ReadFull(c, b[4:]); err != nil {
		t.Fatal(err)
	}
	return b
}

// closed waits until the server has closed the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatal(err)
	}
}

// until waits for something that the server counts.
func until(what func() bool) {
	for !what() {
		runtime.Gosched()
	}
}

func TestRequestsInAStream(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			book := &testBook{}
			x := serveTLS(t, book, Options{}, StreamOptions{}, StreamClient{Names: []string{"*.isp.example"}, Permit: Permit{NAS: []string{"bng"}}})
			conn, err := x.dialTLS(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }, x.ca.issue("nas1.isp.example", nil))
			if err != nil {
				t.Fatal(err)
			}
			var all []byte
			sent := map[byte][]byte{}
			for i := range 40 {
				b := packet(t, codec.CodeAccountingRequest, byte(i), streamSecret, startAttrs(fmt.Sprint(i))...)
				sent[byte(i)], all = b, append(all, b...)
			}
			for len(all) > 0 { // cut anywhere
				n := min(len(all), 33)
				if _, err := conn.Write(all[:n]); err != nil {
					t.Fatal(err)
				}
				all = all[n:]
			}
			for len(sent) > 0 {
				b := read(t, conn)
				if !codec.IsAuthenticResponse(b, sent[b[1]], []byte(streamSecret)) {
					t.Fatalf("the answer to %d is not authentic", b[1])
				}
				delete(sent, b[1])
			}
			st := x.Stats()
			if len(book.got()) != 40 || st.Received != 40 || st.RadSec.Connections[0].Received != 40 || st.RadSec.Connections[0].Client != "*.isp.example" || st.RadSec.Clients[0].Answered != 40 {
				t.Errorf("%d events, %+v", len(book.got()), st.RadSec)
			}
			x.stop()
			closed(t, conn)
			if st := x.Stats().RadSec; st.Ended["agent-stopped"] != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestCertificatesThatAreRefusedAndWhy(t *testing.T) {
	for _, c := range []struct {
		name  string
		certs func(x *secure) []tls.Certificate
		edit  func(*tls.Config)
		why   string
		said  string
	}{
		{"none", func(*secure) []tls.Certificate { return nil }, nil, "no-certificate", "it has no client certificate"},
		{"of another CA", func(x *secure) []tls.Certificate {
			return []tls.Certificate{newAuthority(t, "other CA").issue("nas1.isp.example", nil)}
		}, nil, "unknown-ca", "is not from the CA"},
		{"expired", func(x *secure) []tls.Certificate {
			return []tls.Certificate{x.ca.issue("nas1.isp.example", func(c *x509.Certificate) { c.NotAfter = arrival.Add(-time.Minute) })}
		}, nil, "certificate-expired", "has expired"},
		{"not valid yet", func(x *secure) []tls.Certificate {
			return []tls.Certificate{x.ca.issue("nas1.isp.example", func(c *x509.Certificate) { c.NotBefore = arrival.Add(time.Minute) })}
		}, nil, "certificate-expired", "not valid yet"},
		{"for servers only", func(x *secure) []tls.Certificate {
			return []tls.Certificate{x.ca.issue("nas1.isp.example", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })}
		}, nil, "certificate-not-for-clients", "clientAuth"},
		{"of another name", func(x *secure) []tls.Certificate { return []tls.Certificate{x.ca.issue("nas2.isp.example", nil)} }, nil, "name-not-allowed", "no [[radius.radsec.client]]"},
		{"with the right common name beside another DNS name", func(x *secure) []tls.Certificate {
			return []tls.Certificate{x.ca.issue("nas1.isp.example", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} })}
		}, nil, "name-not-allowed", "no [[radius.radsec.client]]"},
		{"good, by TLS 1.1", func(x *secure) []tls.Certificate { return []tls.Certificate{x.ca.issue("nas1.isp.example", nil)} },
			func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, "tls-too-old", "TLS before 1.2"},
		{"good, but it does not believe ours", func(x *secure) []tls.Certificate { return []tls.Certificate{x.ca.issue("nas1.isp.example", nil)} },
			func(c *tls.Config) { c.ServerName = "another.example" }, "refused-by-client", "does not accept this server's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said []string
			book := &testBook{}
			x := serveTLS(t, book, Options{Trouble: func(text string) { said = append(said, text) }}, StreamOptions{}, StreamClient{Names: []string{"nas1.isp.example"}})
			// In TLS 1.3 the client is done before the server has seen its certificate.
			if conn, err := x.dialTLS(t, c.edit, c.certs(x)...); err == nil {
				_, _ = conn.Write(packet(t, codec.CodeAccountingRequest, 1, streamSecret, startAttrs("a")...))
				closed(t, conn)
			}
			until(func() bool { return x.Stats().RadSec.Accepted == 1 && x.Stats().RadSec.Open == 0 })
			x.stop()
			if st := x.Stats(); st.RadSec.Refused[c.why] != 1 || len(book.got()) != 0 {
				t.Errorf("%+v", st.RadSec)
			}
			if len(said) != 1 || !strings.Contains(said[0], c.said) || !strings.Contains(said[0], "127.0.0.1") {
				t.Errorf("the operator is told %q", said)
			}
		})
	}
}

func TestNamesOfACertificateByAddressURIAndCommonName(t *testing.T) {
	ca := newAuthority(t, "CA")
	parse := func(edit func(*x509.Certificate)) *x509.Certificate {
		c, err := x509.ParseCertificate(ca.issue("nas1.isp.example", edit).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	plain := parse(func(c *x509.Certificate) { c.DNSNames = nil; c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })
	for want, is := range map[string]bool{
		"nas1.isp.example": true, "NAS1.ISP.example": true, "192.0.2.1": true, "*.isp.example": true, "*.example": false, "isp.example": false, "": false, "192.0.2.2": false,
	} {
		if isNamed(plain, want) != is {
			t.Errorf("%q: want %v", want, is)
		}
	}
}

func TestAStreamThatIsNoRadiusIsClosed(t *testing.T) {
	good := packet(t, codec.CodeAccountingRequest, 1, streamSecret, startAttrs("a")...)
	changed := bytes.Clone(good)
	changed[25] ^= 1
	for _, c := range []struct {
		name    string
		data    []byte
		dropped string
	}{
		{"a length of nothing", []byte{4, 1, 0, 0}, "bad-length"},
		{"a length beyond all packets", []byte{4, 1, 0xff, 0xff}, "bad-length"},
		{"another secret", packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...), "bad-authenticator"},
		{"a packet that was changed", changed, "bad-authenticator"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := serveTLS(t, &testBook{}, Options{}, StreamOptions{})
			conn, err := x.dialTLS(t, nil, x.ca.issue("any", nil))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(c.data); err != nil {
				t.Fatal(err)
			}
			closed(t, conn)
			x.stop()
			if st := x.Stats(); st.Dropped[c.dropped] != 1 || st.RadSec.Ended["not-radius"] != 1 {
				t.Errorf("%+v %+v", st.Dropped, st.RadSec)
			}
		})
	}
	t.Run("an access request is left unanswered, and the connection open", func(t *testing.T) {
		x := serveTLS(t, &testBook{}, Options{}, StreamOptions{})
		conn, err := x.dialTLS(t, nil, x.ca.issue("any", nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(append(packet(t, codec.CodeAccessRequest, 1, streamSecret, str(1, "anna")), good...)); err != nil {
			t.Fatal(err)
		}
		read(t, conn)
		if st := x.Stats(); st.Dropped["not-accounting"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAStreamWithoutTLSIsRefused(t *testing.T) {
	x := serveTLS(t, &testBook{}, Options{}, StreamOptions{})
	conn, err := net.Dial("tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(packet(t, codec.CodeAccountingRequest, 1, streamSecret, startAttrs("a")...)); err != nil {
		t.Fatal(err)
	}
	closed(t, conn)
	x.stop()
	if st := x.Stats().RadSec; st.Refused["not-tls"] != 1 {
		t.Errorf("%+v", st)
	}
}

func TestConnectionsAreBoundedAndIdleOnesClosed(t *testing.T) {
	x := serveTLS(t, &testBook{}, Options{}, StreamOptions{Connections: 2, Idle: 200 * time.Millisecond})
	cert := x.ca.issue("any", nil)
	var conns []*tls.Conn
	for range 2 {
		conn, err := x.dialTLS(t, nil, cert)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if conn, err := x.dialTLS(t, nil, cert); err == nil {
		closed(t, conn)
	}
	for _, c := range conns {
		closed(t, c)
	}
	until(func() bool { return x.Stats().RadSec.Open == 0 })
	if st := x.Stats().RadSec; st.Refused["too-many-connections"] != 1 || st.Ended["idle"] != 2 {
		t.Errorf("%+v", st)
	}
}

func TestNewCredentialsEndConnectionsThatTheyDoNotAccept(t *testing.T) {
	x := serveTLS(t, &testBook{}, Options{}, StreamOptions{}, StreamClient{Names: []string{"nas1"}}, StreamClient{Names: []string{"nas2"}})
	var conns []*tls.Conn
	for _, name := range []string{"nas1", "nas2"} {
		conn, err := x.dialTLS(t, nil, x.ca.issue(name, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(packet(t, codec.CodeAccountingRequest, 1, streamSecret, startAttrs(name)...)); err != nil {
			t.Fatal(err)
		}
		read(t, conn)
		conns = append(conns, conn)
	}
	if err := x.SetCredentials(Credentials{Certificate: x.cert, CA: x.ca.pool(), Clients: []StreamClient{{Names: []string{"nas2"}}}}); err != nil {
		t.Fatal(err)
	}
	closed(t, conns[0])
	if _, err := conns[1].Write(packet(t, codec.CodeAccountingRequest, 2, streamSecret, startAttrs("c")...)); err != nil {
		t.Fatal(err)
	}
	read(t, conns[1])
	until(func() bool { return x.Stats().RadSec.Open == 1 }) // it is counted after the client has seen it
	if st := x.Stats().RadSec; st.Ended["no-longer-allowed"] != 1 {
		t.Errorf("%+v", st)
	}
	if err := x.SetCredentials(Credentials{}); err == nil {
		t.Error("credentials without a certificate are accepted")
	}
}

// A disk that fails: the client in the stream gets no answer, and gets one when
// it sends the request again.
func TestInAStreamNothingIsAnsweredThatIsNotDurable(t *testing.T) {
	book := &testBook{fail: 1}
	x := serveTLS(t, book, Options{Workers: 1}, StreamOptions{})
	conn, err := x.dialTLS(t, nil, x.ca.issue("any", nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := conn.Write(packet(t, codec.CodeAccountingRequest, 7, streamSecret, startAttrs("a")...)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			until(func() bool { return x.Stats().Dropped["not-durable"] == 1 })
		}
	}
	read(t, conn)
	if len(book.got()) != 1 {
		t.Errorf("%d events", len(book.got()))
	}
}

func TestTheSameEventByUDPAndTLSIsOneBinding(t *testing.T) {
	book := openBook(t)
	u := serve(t, book, Options{})
	x := serveTLS(t, book, Options{}, StreamOptions{})
	conn, err := x.dialTLS(t, nil, x.ca.issue("any", nil))
	if err != nil {
		t.Fatal(err)
	}
	stamp := num(55, uint32(arrival.Unix())-60)
	nas := dial(t, u)
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, append(startAttrs("a"), stamp, num(41, 0))...))
	nas.receive()
	if _, err := conn.Write(packet(t, codec.CodeAccountingRequest, 9, streamSecret, append(startAttrs("a"), stamp, num(41, 5), str(33, "proxy"))...)); err != nil {
		t.Fatal(err)
	}
	read(t, conn)
	if n := len(book.AllOn(addrOf("192.0.2.1"), 0, 0, 0, arrival.Add(time.Hour).UnixNano())); n != 1 {
		t.Errorf("%d bindings", n)
	}
}

func FuzzStream(f *testing.F) {
	good := packet(f, codec.CodeAccountingRequest, 1, streamSecret, startAttrs("a")...)
	f.Add(good)
	f.Add(append(bytes.Clone(good), 4, 1, 0, 19, 0))
	f.Add([]byte{4, 1, 0xff})
	s, err := New(&testBook{}, nil, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		queue := make(chan *job, 1000)
		client, server := net.Pipe()
		go func() { // ends when all is written or the other end is closed
			_, _ = client.Write(b)
			client.Close()
		}()
		st := &stream{server: s, raw: server, conn: tls.Server(server, &tls.Config{}), from: netip.MustParseAddrPort("192.0.2.1:99"), gone: make(chan struct{}), client: newStreamClient(&StreamClient{})}
		why := s.readStream(st, server, queue, time.Minute)
		if why == endNone {
			t.Fatal("it ended for no reason")
		}
		st.end(why)
		close(queue)
		for j := range queue {
			if j.n < headerLen || j.n > codec.MaxPacketLength {
				t.Fatalf("a packet of %d bytes", j.n)
			}
			s.drop(j, dropCode)
		}
		client.Close()
	})
}
