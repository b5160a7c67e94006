package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
	"github.com/edgelog/edgelog/pkg/session"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func second(s int64) time.Time { return day.Add(time.Duration(s) * time.Second) }

// script is a table with what it said.
type script struct {
	*table
	t     *testing.T
	count counters
}

func newScript(t *testing.T, order ...string) *script {
	s := &script{t: t}
	if order == nil {
		order = DefaultSubscriber
	}
	s.table = newTable("kea", &s.count)
	s.order, s.join = order, JoinWithoutLine
	s.whole = [2]bool{true, true}
	return s
}

// rec is a lease of 10.0.0.1 by the client with this number, heard at that
// second for so many.
func rec(client byte, heard, valid int64) Record {
	r := Record{MAC: [6]byte{2, 0, 0, 0, 0, client}, HasMAC: true, Client: fmt.Sprintf("01:%02x", client), Heard: second(heard).Unix(), Until: second(heard + valid).Unix()}
	r.setPrefix(netip.MustParseAddr("10.0.0.1"), false, 0)
	return r
}

// say takes a record and writes its events down: kind, client, second, "?" for
// an inferred time, and until when.
func (s *script) say(r Record, w way, now int64) string {
	var out []string
	for _, e := range s.take(nil, &r, w, second(now)) {
		if err := e.Validate(); err != nil {
			s.t.Error(err)
		}
		text := fmt.Sprintf("%s %d", e.Kind, (e.At-day.UnixNano())/1e9)
		if e.Doubtful {
			text += "?"
		}
		if e.Until != 0 && e.Kind != identity.Stop {
			text += fmt.Sprintf("-%d", (e.Until-day.UnixNano())/1e9)
		}
		out = append(out, e.Source.String()+" "+text)
	}
	return strings.Join(out, ", ")
}

func (s *script) want(what, got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestALeaseIsOneSessionHoweverItIsHeardOf(t *testing.T) {
	s := newScript(t)
	s.want("begin", s.say(rec(1, 0, 60), byReport, 0), "dhcp start 0-60")
	s.want("the same from the file", s.say(rec(1, 0, 60), byTail, 1), "")
	s.want("a renewal", s.say(rec(1, 30, 60), byReport, 30), "dhcp interim 30-90")
	s.want("a renewal that the list tells of", s.say(rec(1, 60, 60), byList, 61), "dhcp interim 60-120")
	s.want("its report, late", s.say(rec(1, 60, 60), byReport, 62), "")
	s.want("an older one, later", s.say(rec(1, 30, 60), byReport, 63), "")
	gone := rec(1, 60, 60)
	gone.State = Released
	s.want("a release", s.say(gone, byReport, 80), "dhcp stop 80")
	s.want("again", s.say(gone, byTail, 81), "")
	s.want("the begin, late", s.say(rec(1, 60, 60), byTail, 81), "")
	s.want("a new lease", s.say(rec(1, 100, 60), byReport, 100), "dhcp start 100-160")
}

func TestAnotherClientEndsALeaseWhoseEndWasNotHeard(t *testing.T) {
	s := newScript(t)
	s.say(rec(1, 0, 60), byReport, 0)
	s.want("before it ran out", s.say(rec(2, 30, 60), byReport, 30), "dhcp stop 30?, dhcp start 30-90")
	s.want("after it ran out", s.say(rec(1, 200, 60), byTail, 200), "dhcp stop 90, leases start 200-260")
	s.want("an old word of a third", s.say(rec(3, 150, 20), byList, 201), "leases interim 150-170, leases stop 170")
	s.want("the same client after a pause", s.say(rec(1, 300, 60), byReport, 300), "leases stop 260, dhcp start 300-360")
}

func TestALeaseThatRanOutEndsThen(t *testing.T) {
	s := newScript(t)
	s.say(rec(1, 0, 60), byReport, 0)
	over := rec(1, 0, 60)
	over.State, over.Ended = Expired, over.Until
	s.want("reclaimed", s.say(over, byTail, 75), "dhcp stop 60")
	s.say(rec(1, 100, 60), byReport, 100)
	declined := Record{State: Declined, Heard: second(110).Unix(), Ended: second(110).Unix()}
	declined.setPrefix(netip.MustParseAddr("10.0.0.1"), false, 0)
	s.want("declined, without a client", s.say(declined, byTail, 111), "dhcp stop 110")
}

func TestAReleaseThatOvertakesItsLeaseEndsIt(t *testing.T) {
	s := newScript(t)
	gone := rec(1, 10, 60)
	gone.State = Released
	s.want("the release", s.say(gone, byReport, 12), "")
	r := rec(1, 10, 60)
	s.want("the lease that it ended", s.say(r, byReport, 11), "")
}

func TestARenewalWithoutTheRelaysWordKeepsTheSubscriber(t *testing.T) {
	s := newScript(t, ByRemoteID, ByMAC)
	r := rec(1, 0, 60)
	r.Remote = "line 7"
	e := s.take(nil, &r, byReport, second(0))
	if len(e) != 1 || e[0].Subscriber != "line 7" || e[0].Leases[0].Via.IsValid() {
		t.Fatalf("%+v", e)
	}
	r = rec(1, 30, 60)
	if e = s.take(nil, &r, byReport, second(30)); len(e) != 1 || e[0].Subscriber != "" {
		t.Fatalf("a lesser word renames the subscriber: %+v", e)
	}
	r.Remote = "line 7"
	if e = s.take(nil, &r, byList, second(31)); len(e) != 0 {
		t.Fatalf("the list says nothing new: %+v", e)
	}
}

func TestAListNamesTheLineThatAReportDidNot(t *testing.T) {
	s := newScript(t)
	r := rec(1, 0, 60)
	if e := s.take(nil, &r, byReport, second(0)); len(e) != 1 || e[0].Leases[0].Via != session.EquipmentAddr(r.MAC) {
		t.Fatalf("no way to join by MAC: %+v", e)
	}
	r.Remote = "line 7"
	e := s.take(nil, &r, byList, second(10))
	if len(e) != 1 || e[0].Subscriber != "line 7" || e[0].Kind != identity.Interim {
		t.Fatalf("%+v", e)
	}
}

func TestARestartGoesOnWithTheSessionsOfTheBook(t *testing.T) {
	s := newScript(t)
	r := rec(1, 0, 60)
	e := s.take(nil, &r, byReport, second(0))
	var b []session.Binding
	for _, x := range e {
		b = append(b, session.Binding{Prefix: x.Leases[0].Prefix, Via: x.Leases[0].Via, From: x.At, To: session.Forever, Source: x.Source, SourceName: x.NAS, SourceKey: x.SourceKey()})
	}
	again := newScript(t)
	again.remember(b)
	again.whole = [2]bool{}
	r = rec(1, 30, 60)
	next := again.take(nil, &r, byList, second(40))
	if len(next) != 1 || next[0].SourceKey() != e[0].SourceKey() || next[0].Kind != identity.Interim || next[0].Leases[0] != e[0].Leases[0] {
		t.Errorf("%+v\nwas %+v", next, e)
	}
	gone := newScript(t)
	gone.remember(b)
	gone.round++
	since := second(50)
	if missing, force := gone.missing(0, since, since); missing != 1 || force != 1 {
		t.Errorf("%d of %d are missing", missing, force)
	}
	end := gone.endMissing(nil, 0, since, second(51))
	if len(end) != 1 || end[0].SourceKey() != e[0].SourceKey() || !end[0].Doubtful {
		t.Errorf("%+v", end)
	}
}

// shelf is a book that fails when it is told to.
type shelf struct {
	mu     sync.Mutex
	events []identity.Event
	fail   error
}

func (b *shelf) Apply(_ context.Context, e []identity.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		b.events = append(b.events, e...)
	}
	return b.fail
}
func (b *shelf) InForce() []session.Binding                                         { return nil }
func (b *shelf) AllOn(session.Addr, uint16, uint16, int64, int64) []session.Binding { return nil }

// reader is a server whose file a test writes.
type reader struct {
	*server
	t    *testing.T
	book *shelf
	path string
}

func newReader(t *testing.T, kind Kind) *reader {
	r := &reader{t: t, book: &shelf{}, path: filepath.Join(t.TempDir(), "leases")}
	o := Options{}.withDefaults()
	r.server = newServer(Server{Name: "x", Kind: kind, Leases4: r.path}, &o, r.book, func(string, string) {})
	t.Cleanup(func() {
		for _, f := range r.files {
			f.close()
		}
	})
	return r
}

func (r *reader) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reader) add(text string) {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// look reads what is new and returns how many events that gave.
func (r *reader) look() int {
	r.t.Helper()
	before := len(r.book.events)
	if r.deliver(r.t.Context()) {
		r.follow(r.t.Context(), time.Now())
	}
	r.publish(time.Now())
	f := r.stats().Files[0]
	var faulty uint64
	for _, n := range f.Faulty {
		faulty += n
	}
	if f.Read != f.Used+f.Skipped+faulty {
		r.t.Errorf("lines do not add up: %+v", f)
	}
	return len(r.book.events) - before
}

func (r *reader) wantEvents(what string, want int) {
	r.t.Helper()
	if got := r.look(); got != want {
		r.t.Errorf("%s: %d events, want %d", what, got, want)
	}
}

const keaHead = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n"

func keaLine(host int, state int) string {
	return fmt.Sprintf("10.0.0.%d,02:00:00:00:00:%02x,,3600,%d,1,0,0,,%d,\n", host, host, time.Now().Unix()+3000, state)
}

func TestAFileIsFollowedThroughHalfLinesTruncationAndReplacement(t *testing.T) {
	r := newReader(t, Kea)
	r.wantEvents("no file", 0)
	r.write(r.path+".2", keaHead+keaLine(1, 0))
	line := keaLine(2, 0)
	r.write(r.path, keaHead[:20])
	r.wantEvents("half a head, and an older file", 1)
	r.write(r.path, keaHead+line[:30])
	r.wantEvents("half a line", 0)
	r.add(line[30:])
	r.wantEvents("the rest", 1)
	if !r.t0().whole[0] {
		t.Error("the file has been read, and not all is known")
	}
	r.add(keaLine(3, 0))
	if err := os.Rename(r.path, r.path+".1"); err != nil {
		t.Fatal(err)
	}
	r.write(r.path, keaHead+keaLine(4, 0))
	r.wantEvents("replaced, with a line that was not read yet", 2)
	r.write(r.path, keaHead)
	r.wantEvents("truncated: what it does not name any more has ended", 1)
	r.add(keaLine(5, 0) + "10.0.0.6,rubbish\n" + keaLine(7, 0))
	r.wantEvents("a broken line between others", 2)
	if s := r.stats(); s.Files[0].Replaced != 1 || s.Files[0].Truncated != 1 || s.Files[0].Faulty["columns"] != 1 {
		t.Errorf("%+v", s.Files[0])
	}
}

func (s *server) t0() *table { return s.t }

func TestAFileOfAnotherProgramIsReadAsSoonAsItIsTheRightOne(t *testing.T) {
	r := newReader(t, ISC)
	r.write(r.path, keaHead+keaLine(1, 0))
	r.wantEvents("Kea's", 0)
	r.wantEvents("Kea's, again", 0)
	if s := r.stats(); s.OK || s.Files[0].Faulty["foreign"] != 1 || !strings.Contains(s.Trouble, "line 1 column") || strings.Contains(s.Trouble, "10.0.0") {
		t.Errorf("trouble: %q", s.Trouble)
	}
	r.write(r.path, "lease 10.0.0.1 {\n  starts epoch 1772366400;\n  ends never;\n  binding state active;\n  hardware ethernet 02:00:00:00:00:01;\n}\n")
	r.wantEvents("dhcpd's", 1)
	if s := r.stats(); !s.OK {
		t.Errorf("trouble: %q", s.Trouble)
	}
}

func TestEventsThatTheBookCannotTakeWaitAndAreNotLost(t *testing.T) {
	r := newReader(t, Kea)
	r.book.fail = errors.New("the disk is full")
	r.write(r.path, keaHead+keaLine(1, 0)+keaLine(2, 0))
	r.wantEvents("a full disk", 0)
	if s := r.stats(); s.Waiting != 2 || s.Events != 2 {
		t.Errorf("%+v", s)
	}
	r.wantEvents("still full", 0)
	if s := r.stats(); s.OK {
		t.Error("nobody is told")
	}
	r.book.fail = nil
	r.wantEvents("room again", 2)
	if s := r.stats(); s.Waiting != 0 || s.Applied != 2 || !s.OK {
		t.Errorf("%+v", s)
	}
}

func TestAShrunkenFileEndsManyLeasesOnlyWhenItSaysSoTwice(t *testing.T) {
	r := newReader(t, ISC)
	lease := func(i int) string {
		return fmt.Sprintf("lease 10.0.0.%d {\n  starts epoch %d;\n  ends never;\n  binding state active;\n  hardware ethernet 02:00:00:00:00:%02x;\n}\n", i, time.Now().Unix()-10, i)
	}
	var all strings.Builder
	for i := range 200 {
		all.WriteString(lease(i + 1))
	}
	r.write(r.path, all.String())
	r.wantEvents("200 leases", 200)
	replace := func(text string) {
		t.Helper()
		r.write(r.path+".new", text)
		if err := os.Rename(r.path+".new", r.path); err != nil {
			t.Fatal(err)
		}
	}
	replace(lease(1))
	r.wantEvents("one is left", 0)
	replace(lease(1))
	r.wantEvents("one is left, again", 199)
}
