package radius

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	codec "layeh.com/radius"

	"github.com/edgelog/edgelog/pkg/identity"
)

func TestARepetitionGetsTheSameAnswer(t *testing.T) {
	book := &testBook{}
	s := serve(t, book, Options{Workers: 1})
	nas := dial(t, s)
	b := packet(t, codec.CodeAccountingRequest, 7, secret, append(startAttrs("a"), avp(33, []byte("p1")), avp(33, []byte("p2")))...)
	nas.send(b)
	first := nas.receive()
	if !codec.IsAuthenticResponse(first, b, []byte(secret)) {
		t.Error("the answer is not authentic")
	}
	for range 3 {
		nas.send(b)
		if again := nas.receive(); !bytes.Equal(first, again) {
			t.Errorf("another answer: %x, %x", first, again)
		}
	}
	// The same identifier with other contents is another request.
	c := packet(t, codec.CodeAccountingRequest, 7, secret, startAttrs("b")...)
	nas.send(c)
	if answer := nas.receive(); !codec.IsAuthenticResponse(answer, c, []byte(secret)) {
		t.Error("the answer to the second request is not its own")
	}
	// The same datagram from another port is too.
	other := dial(t, s)
	other.send(b)
	other.receive()
	s.stop()
	if c := s.Stats(); c.Answered != 3 || c.Repeated != 3 || len(book.got()) != 3 {
		t.Errorf("%+v, %d events", c, len(book.got()))
	}
}

func TestADuplicateInFlightIsDropped(t *testing.T) {
	book := &testBook{called: make(chan struct{}, 9), wait: make(chan struct{})}
	s := serve(t, book, Options{Workers: 2})
	nas := dial(t, s)
	b := packet(t, codec.CodeAccountingRequest, 7, secret, startAttrs("a")...)
	nas.send(b)
	<-book.called // one worker has it and waits for the disk
	nas.send(b)
	nas.settled() // the other worker has dropped the duplicate
	s.quiet(1)
	if c := s.Stats(); c.Dropped["duplicate-in-flight"] != 1 || c.InFlight != 1 || c.Received != 3 {
		t.Errorf("%+v", c)
	}
	book.wait <- struct{}{}
	nas.receive()
	s.stop()
	if len(book.got()) != 1 {
		t.Errorf("%d events", len(book.got()))
	}
}

func TestAfterAFailureTheSameRequestIsTriedAgain(t *testing.T) {
	book := &testBook{fail: 1}
	s := serve(t, book, Options{Workers: 1})
	nas := dial(t, s)
	b := packet(t, codec.CodeAccountingRequest, 7, secret, startAttrs("a")...)
	nas.send(b)
	nas.settled()
	s.quiet(0)
	if c := s.Stats(); c.Dropped["not-durable"] != 1 || c.Answered != 1 { // the Status-Server
		t.Errorf("%+v", c)
	}
	nas.send(b)
	nas.receive()
	if len(book.got()) != 1 {
		t.Errorf("%d events", len(book.got()))
	}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	book := &testBook{called: make(chan struct{}, 99), wait: make(chan struct{})}
	s := serve(t, book, Options{Workers: 1, Queue: 2})
	nas := dial(t, s)
	send := func(i int) {
		nas.send(packet(t, codec.CodeAccountingRequest, byte(i), secret, startAttrs(fmt.Sprint(i))...))
	}
	send(0)
	<-book.called // the worker is busy now, and the queue empty
	for i := range 5 {
		send(1 + i)
	}
	for s.Stats().Received < 6 { // the reader goes on while the worker waits
		runtime.Gosched()
	}
	for s.Stats().Dropped["queue-full"] < 3 {
		runtime.Gosched()
	}
	close(book.wait)
	for range 3 {
		nas.receive()
	}
	s.stop()
	if c := s.Stats(); c.Dropped["queue-full"] != 3 || c.Answered != 3 {
		t.Errorf("%+v", c)
	}
}

func TestWhatIsDroppedAndWhy(t *testing.T) {
	good := packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...)
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	signed := func(attrs ...*codec.AVP) []byte { return packet(t, codec.CodeAccountingRequest, 1, secret, attrs...) }
	for _, c := range []struct {
		name string
		data []byte
		why  string
	}{
		{"nothing at all", []byte{}, "too-short"},
		{"nineteen bytes", good[:19], "too-short"},
		{"a length beyond the datagram", good[:len(good)-1], "bad-length"},
		{"a length under twenty", change(func(b []byte) []byte { b[2], b[3] = 0, 19; return b }), "bad-length"},
		{"more than 4096 bytes", change(func(b []byte) []byte {
			b = append(b, make([]byte, 4097-len(b))...)
			binary.BigEndian.PutUint16(b[2:], 4097)
			return b
		}), "bad-length"},
		{"an access request", packet(t, codec.CodeAccessRequest, 1, secret, str(1, "anna")), "not-accounting"},
		{"an answer", change(func(b []byte) []byte { b[0] = 5; return b }), "not-accounting"},
		{"an attribute of length one", change(func(b []byte) []byte { b[21] = 1; return b }), "malformed-attributes"},
		{"an attribute that runs over the end", change(func(b []byte) []byte { b[21] = 255; return b }), "malformed-attributes"},
		{"one bit changed", change(func(b []byte) []byte { b[25] ^= 1; return b }), "bad-authenticator"},
		{"an authenticator of zeros", change(func(b []byte) []byte { copy(b[4:20], make([]byte, 16)); return b }), "bad-authenticator"},
		{"a Message-Authenticator of zeros", signed(append(startAttrs("a"), avp(80, make([]byte, 16)))...), "bad-message-authenticator"},
		{"a Message-Authenticator that is too short", signed(append(startAttrs("a"), avp(80, make([]byte, 15)))...), "bad-message-authenticator"},
		{"no Acct-Status-Type", signed(startAttrs("a")[1:]...), "no-acct-status-type"},
		{"an Acct-Status-Type of three bytes", signed(avp(40, []byte{0, 0, 1}), str(44, "a")), "no-acct-status-type"},
		{"no Acct-Session-Id", signed(num(40, 1), str(1, "anna")), "no-acct-session-id"},
		{"an empty Acct-Session-Id", signed(num(40, 1), avp(44, nil)), "no-acct-session-id"},
		{"a Status-Server without Message-Authenticator", packet(t, codec.CodeStatusServer, 1, secret), "missing-message-authenticator"},
		{"a Status-Server with a wrong one", packet(t, codec.CodeStatusServer, 1, secret, avp(80, make([]byte, 16))), "bad-message-authenticator"},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := &testBook{}
			s := serve(t, book, Options{Workers: 1})
			nas := dial(t, s)
			nas.send(c.data)
			nas.settled()
			s.stop()
			st := s.Stats()
			if st.Dropped[c.why] != 1 || st.Answered != 1 || len(book.got()) != 0 {
				t.Errorf("%+v, %d events", st, len(book.got()))
			}
		})
	}
}

func TestAnUnknownClientIsDropped(t *testing.T) {
	s := serve(t, &testBook{}, Options{Workers: 1}, Client{Prefix: netip.MustParsePrefix("127.0.0.2/32"), Secret: []byte(secret)})
	nas := dial(t, s) // from 127.0.0.1
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...))
	for s.Stats().Dropped["unknown-client"] == 0 {
		runtime.Gosched()
	}
	// The client becomes known while the server runs.
	if err := s.SetClients([]Client{{Prefix: netip.MustParsePrefix("127.0.0.1/32"), Secret: []byte(secret)}}); err != nil {
		t.Fatal(err)
	}
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...))
	nas.receive()
}

func TestTheLongestPrefixGivesTheSecret(t *testing.T) {
	s := serve(t, &testBook{}, Options{Workers: 1},
		Client{Name: "all", Prefix: netip.MustParsePrefix("0.0.0.0/0"), Secret: []byte("everybody")},
		Client{Name: "one", Prefix: netip.MustParsePrefix("::ffff:127.0.0.1/128"), Secret: []byte(secret)},
		Client{Name: "net", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Secret: []byte("network")})
	nas := dial(t, s)
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...))
	nas.receive()
	s.stop()
	if c := s.Stats().Clients; c[0].Received != 0 || c[1].Answered != 1 || c[2].Received != 0 {
		t.Errorf("%+v", c)
	}
}

func TestClientsThatCannotBe(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.1/32")
	for name, list := range map[string][]Client{
		"without secret": {{Name: "nas-7", Prefix: p}},
		"without prefix": {{Name: "nas-7", Secret: []byte("hush")}},
		"twice":          {{Name: "nas-6", Prefix: p, Secret: []byte("hush")}, {Name: "nas-7", Prefix: p, Secret: []byte("hush")}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(&testBook{}, []Client{{Prefix: p, Secret: []byte("old")}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = s.SetClients(list)
			if !errors.Is(err, ErrClient) || !strings.Contains(err.Error(), `"nas-7"`) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v", err)
			}
			if c := s.client(p.Addr()); c == nil || string(c.Secret) != "old" {
				t.Error("the clients from before are gone")
			}
		})
	}
}

func TestWhatIsAcknowledgedWithARemark(t *testing.T) {
	stamp := func(d time.Duration) *codec.AVP { return num(55, uint32(arrival.Add(d).Unix())) }
	wide := append([]byte{0, 20}, make([]byte, 16)...)
	for _, c := range []struct {
		name   string
		attrs  []*codec.AVP
		remark string
		events int
	}{
		{"no address", []*codec.AVP{num(40, 1), str(44, "a")}, "no-address", 1},
		{"the address that lets the NAS choose", []*codec.AVP{num(40, 1), str(44, "a"), avp(8, []byte{255, 255, 255, 254})}, "no-address", 1},
		{"the address 0.0.0.0", []*codec.AVP{num(40, 1), str(44, "a"), avp(8, make([]byte, 4))}, "no-address", 1},
		{"an hour in the future", append(startAttrs("a"), stamp(time.Hour)), "time-in-future", 1},
		{"the NAS thinks it is 1970", append(startAttrs("a"), num(55, 42)), "time-too-old", 1},
		{"Tunnel-Start", []*codec.AVP{num(40, 9), str(44, "a")}, "other-status", 0},
		{"an address of five bytes", append(startAttrs("a"), avp(8, make([]byte, 5))), "ignored-attribute", 1},
		{"an IPv6 address of four bytes", append(startAttrs("a"), avp(168, make([]byte, 4))), "ignored-attribute", 1},
		{"a prefix that would be half the internet", append(startAttrs("a"), avp(97, wide)), "ignored-attribute", 1},
		{"a prefix shorter than its length", append(startAttrs("a"), avp(123, []byte{0, 64, 0x20, 1})), "ignored-attribute", 1},
		{"a prefix longer than an address", append(startAttrs("a"), avp(97, append([]byte{0, 129}, make([]byte, 16)...))), "ignored-attribute", 1},
		{"a vendor attribute without vendor", append(startAttrs("a"), avp(26, []byte{0, 0})), "ignored-attribute", 1},
		{"an ADSL attribute that runs over its end", append(startAttrs("a"), avp(26, []byte{0, 0, 0x0d, 0xe9, 1, 9, 'x'})), "ignored-attribute", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := &testBook{}
			s := serve(t, book, Options{Workers: 1})
			nas := dial(t, s)
			nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, c.attrs...))
			nas.receive()
			s.stop()
			if st := s.Stats(); st.Remarks[c.remark] != 1 || st.Answered != 1 || len(book.got()) != c.events {
				t.Errorf("%+v, %d events", st, len(book.got()))
			}
		})
	}
}

func TestTimesOfEvents(t *testing.T) {
	for _, c := range []struct {
		name     string
		attrs    []*codec.AVP
		want     time.Time
		doubtful bool
	}{
		{"Event-Timestamp", []*codec.AVP{num(55, uint32(arrival.Unix()-100)), num(41, 60)}, arrival.Truncate(time.Second).Add(-100 * time.Second), false},
		{"arrival less delay", []*codec.AVP{num(41, 60)}, arrival.Add(-time.Minute), false},
		{"arrival", nil, arrival, false},
		{"an impossible stamp and a delay", []*codec.AVP{num(55, 5), num(41, 60)}, arrival.Add(-time.Minute), true},
		{"an impossible delay", []*codec.AVP{num(41, 4_000_000_000)}, arrival, false},
		{"a little in the future", []*codec.AVP{num(55, uint32(arrival.Unix()+60))}, arrival.Truncate(time.Second).Add(time.Minute), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := DefaultOptions()
			r := reader{opts: &opts, attrs: append(startAttrs("a"), c.attrs...)}
			e, v, _ := r.event(netip.MustParseAddr("192.0.2.9"), arrival)
			if v != use || e.At != c.want.UnixNano() || e.Doubtful != c.doubtful {
				t.Errorf("%v, doubtful %v; want %v", time.Unix(0, e.At).UTC(), e.Doubtful, c.want)
			}
		})
	}
}

func TestNamesOfSubscribersLinesAndNAS(t *testing.T) {
	from := netip.MustParseAddr("203.0.113.5")
	ip6 := netip.MustParseAddr("2001:db8::9").As16()
	for _, c := range []struct {
		name  string
		attrs []*codec.AVP
		cui   bool
		want  string // subscriber, line, equipment, place, NAS
	}{
		{"user name first", []*codec.AVP{str(1, "anna"), str(89, "c1")}, false, "anna||||203.0.113.5"},
		{"identity preferred", []*codec.AVP{str(1, "anna"), str(89, "c1")}, true, "c1||||203.0.113.5"},
		{"an anonymous user name", []*codec.AVP{str(1, "Anonymous@isp.example"), str(89, "c1")}, false, "c1||||203.0.113.5"},
		{"an anonymous user name and nothing else", []*codec.AVP{str(1, "@isp.example")}, false, "@isp.example||||203.0.113.5"},
		{"an identity of one zero byte asks for one", []*codec.AVP{str(1, "@x"), avp(89, []byte{0})}, false, "@x||||203.0.113.5"},
		{"a telephone number", []*codec.AVP{str(31, "004512345678")}, false, "|004512345678|||203.0.113.5"},
		{"a MAC", []*codec.AVP{str(31, "e6fb.df05.7a88")}, false, "||e6:fb:df:05:7a:88||203.0.113.5"},
		{"number and line", []*codec.AVP{str(31, "4512345678"), avp(26, []byte("\x00\x00\x0d\xe9\x01\x04c1\x02\x04\x00\xff"))}, false, "|4512345678; c1; 0x00ff|||203.0.113.5"},
		{"the port when there is no called station", []*codec.AVP{str(87, "ge-0/0/1")}, false, "|||ge-0/0/1|203.0.113.5"},
		{"identifier and address of the NAS", []*codec.AVP{str(32, "MikroTik"), avp(4, []byte{10, 0, 0, 1})}, false, "||||MikroTik@10.0.0.1"},
		{"address of the NAS", []*codec.AVP{avp(95, ip6[:])}, false, "||||2001:db8::9"},
		{"identifier of the NAS", []*codec.AVP{str(32, "bng\x00")}, false, "||||bng"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := DefaultOptions()
			opts.PreferCUI = c.cui
			r := reader{opts: &opts, attrs: append(c.attrs, num(40, 3), str(44, "a"))}
			e, _, _ := r.event(from, arrival)
			if got := strings.Join([]string{e.Subscriber, e.Line, e.Equipment, e.Place, e.NAS}, "|"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	c := newCache(100, 30*time.Second)
	key := func(i int) (k requestKey) { binary.BigEndian.PutUint32(k[:], uint32(i)); return k }
	for i := range 10_000 {
		if _, known := c.begin(key(i), arrival); known {
			t.Fatalf("%d is known", i)
		}
		switch i % 3 {
		case 0:
			c.answered(key(i))
		case 1:
			c.failed(key(i))
		}
		if len(c.m) > 100 || len(c.queue)-c.head > 200 {
			t.Fatalf("%d entries, queue of %d", len(c.m), len(c.queue)-c.head)
		}
	}
	c = newCache(100, 30*time.Second)
	c.begin(key(20_000), arrival)
	c.answered(key(20_000))
	if answered, known := c.begin(key(20_000), arrival.Add(29*time.Second)); !known || !answered {
		t.Error("forgotten too early")
	}
	if _, known := c.begin(key(20_000), arrival.Add(31*time.Second)); known {
		t.Error("remembered too long")
	}
	c.answered(key(20_000))
	if _, known := c.begin(key(20_001), arrival.Add(62*time.Second)); known || len(c.m) != 1 {
		t.Errorf("%d entries after a long time, want the new one alone", len(c.m))
	}
}

func TestStopAnswersWhatItHasTaken(t *testing.T) {
	book := &testBook{called: make(chan struct{}, 9), wait: make(chan struct{})}
	s := serve(t, book, Options{Workers: 1})
	nas := dial(t, s)
	nas.send(packet(t, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...))
	<-book.called
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }() // ends when the worker is done
	close(book.wait)
	nas.receive()
	<-stopped
}

func TestServeSaysWhenItsSocketFails(t *testing.T) {
	s, err := New(&testBook{}, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := s.Serve(context.Background(), conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Many NAS at once, each of which repeats what is not answered, while the book
// fails now and then: at the end the book has exactly what was answered.
func TestManyNASAtOnce(t *testing.T) {
	book := openBook(t)
	flaky := &flakyBook{Book: book}
	s := serve(t, flaky, Options{})
	const nases, each = 8, 40
	var wg sync.WaitGroup
	for n := range nases {
		nas := dial(t, s)
		wg.Go(func() {
			for i := range each {
				ip := []byte{10, 9, byte(n), byte(i)}
				b := packet(t, codec.CodeAccountingRequest, byte(i), secret,
					num(40, 1), str(44, fmt.Sprint(i)), str(32, fmt.Sprint("bng", n)), str(1, fmt.Sprintf("sub-%d-%d", n, i)), avp(8, ip))
				for answered := false; !answered; {
					nas.send(b)
					nas.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // the NAS's own patience
					buf := make([]byte, 100)
					k, err := nas.Read(buf)
					answered = err == nil && codec.IsAuthenticResponse(buf[:k], b, []byte(secret))
				}
				if x, ok := at(book, netip.AddrFrom4([4]byte(ip)).String(), arrival); !ok || x.Subscriber != fmt.Sprintf("sub-%d-%d", n, i) {
					t.Errorf("answered, but the book has %v", ok)
				}
			}
		})
	}
	wg.Wait()
	s.stop()
	if n := len(book.InForce()); n != nases*each {
		t.Errorf("%d in force, want %d", n, nases*each)
	}
	if s.Stats().Dropped["not-durable"] == 0 {
		t.Error("the book never failed: nothing was tried")
	}
}

// flakyBook fails every fifth call.
type flakyBook struct {
	Book
	mu sync.Mutex
	n  int
}

func (f *flakyBook) Apply(ctx context.Context, e []identity.Event) error {
	f.mu.Lock()
	f.n++
	fail := f.n%5 == 1
	f.mu.Unlock()
	if fail {
		return errDisk
	}
	return f.Book.Apply(ctx, e)
}

func FuzzDatagram(f *testing.F) {
	f.Add(packet(f, codec.CodeAccountingRequest, 1, secret, startAttrs("a")...), true)
	f.Add(packet(f, codec.CodeAccountingRequest, 1, secret, avp(97, []byte{0, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1}), avp(96, make([]byte, 8)),
		avp(26, []byte{0, 0, 0x0d, 0xe9, 1, 4, 'c', '1'}), num(55, 5), num(40, 2), str(44, "x"), num(46, 77)), true)
	f.Add(statusServer(f, 3), false)
	f.Add([]byte{4, 1, 0, 20}, true)
	opts := DefaultOptions()
	c := &client{Client: Client{Secret: []byte(secret)}}
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if _, ok := form(b); !ok {
			return
		}
		if sign && b[0] == codeAccountingRequest { // so that the fuzzer gets past the check
			n := binary.BigEndian.Uint16(b[2:])
			p := &codec.Packet{Code: codec.CodeAccountingRequest, Identifier: b[1], Secret: []byte(secret)}
			attrs, err := codec.ParseAttributes(b[20:n])
			if err != nil {
				return
			}
			p.Attributes = attrs
			if b, err = p.Encode(); err != nil {
				return
			}
		}
		req, _, ok := open(b, c)
		if !ok {
			return
		}
		if answer := response(b, &req, c.Secret); len(answer) > 4096 || !codec.IsAuthenticResponse(answer, b[:binary.BigEndian.Uint16(b[2:])], c.Secret) {
			t.Fatalf("answer of %d bytes is not authentic", len(answer))
		}
		r := reader{opts: &opts, attrs: req.attrs}
		e, v, _ := r.event(netip.MustParseAddr("192.0.2.1"), arrival)
		if v == use {
			if err := e.Validate(); err != nil {
				t.Fatalf("%v: %+v", err, e)
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	opts := DefaultOptions()
	c := &client{Client: Client{Secret: []byte(secret)}}
	data := packet(b, codec.CodeAccountingRequest, 1, secret, append(startAttrs("8F3A-0001"), num(55, uint32(arrival.Unix())), str(31, "E6-FB-DF-05-7A-88"))...)
	b.ReportAllocs()
	for b.Loop() {
		req, _, ok := open(data, c)
		if !ok {
			b.Fatal("dropped")
		}
		r := reader{opts: &opts, attrs: req.attrs}
		if _, v, _ := r.event(netip.MustParseAddr("192.0.2.1"), arrival); v != use {
			b.Fatal("not used")
		}
		response(data, &req, c.Secret)
	}
}
