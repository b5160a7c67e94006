package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

// walkLate is the age of the last walk through the table from which on it is
// called late, in seconds.
const walkLate = 60

// troubles lists what an operator must look at, the worst first.
func troubles(s *recorder.Status) (out []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	p := s.Probe
	if p != nil {
		for i := range p.Uplinks {
			u := &p.Uplinks[i]
			add(!watched(&u.Ingress) || !watched(&u.Egress), "%s is NOT WATCHED in both directions: its sessions are missed", u.Name)
		}
	}
	add(s.Lately.Refused > 0, "LOSING sessions now: %d packets refused in the last %.0f s", s.Lately.Refused, s.Lately.Seconds)
	if s.Coverage != nil {
		for _, u := range s.Coverage.Uplinks {
			add(u.State != "" && u.State != session.CoverComplete.String(), "the record of %s is %s: %s", u.Uplink, u.State, strings.Join(u.Reasons, ", "))
		}
		add(!s.Coverage.OK, "the record of coverage is NOT KEPT")
	}
	add(!s.Store.OK, "NOT STORING: what is recorded fills the table")
	if b := s.Breaches; b != nil {
		add(b.Overdue > 0, "%s OVERDUE: a breach of personal data was not notified in time; see \"edgelog breach list\"", plural(uint64(b.Overdue), "notification"))
	}
	add(s.Ledger.Doubt != "", "the ledger CANNOT BE TRUSTED: nothing can be read; recording goes on")
	add(!s.Ledger.OK && s.Ledger.Doubt == "", "the ledger CANNOT BE WRITTEN: nothing can be read")
	for _, x := range s.Ledger.Witness {
		add(!x.OK, "the witness %s is NOT REACHED: a ledger that is put back might not be noticed", x.To)
	}
	if q := s.Requests; q != nil {
		add(q.Text != "" && s.Ledger.OK && s.Ledger.Doubt == "", "requests CANNOT BE DEALT WITH: %s", q.Text)
		add(q.Overdue > 0, "%s was read for in an emergency and NO SECOND CUSTODIAN approved it in time; see \"edgelog request list\"", plural(uint64(q.Overdue), "request"))
	}
	add(s.Ledger.Lost > 0, "%s lost for the ledger; the log has them", plural(s.Ledger.Lost, "entry"))
	add(s.Balance() != nil, "counters are NOT BALANCED: a fault of edgelog")
	add(s.Store.OK && s.Store.State == "low", "the disk is nearly full")
	if p != nil {
		add(!p.Clock.Synchronised, "the clock is NOT SYNCHRONISED")
		add(p.Lag.WalkAge > walkLate, "the agent is late: the last walk through the table ended %.0f s ago", p.Lag.WalkAge)
	}
	for _, t := range natTroubles(s) {
		add(true, "%s", t)
	}
	add(s.Register.Old(), "the register of subscribers is %d days old: import it again before its key is destroyed, a year after the import", s.Register.Age/(24*3600))
	out = append(out, dhcpTroubles(s.DHCP)...)
	n := s.Bindings.Book.Contradictions
	add(n > 0, "%s between bindings: an address of two subscribers at once", plural(uint64(n), "contradiction"))
	return out
}

func watched(a *probe.AttachStatus) bool { return a.Mode != "" && a.Mode != "none" }

// printStatus prints one screen: how it is, then each part, then what adds up.
func printStatus(w io.Writer, s *recorder.Status, costs []probe.Cost) {
	since := s.Started
	if !s.Store.OK && !s.Store.Since.IsZero() {
		since = s.Store.Since // it is the trouble that the headline speaks of
	}
	fmt.Fprintf(w, "edgelog %s on %s for %s: %s since %s\n", s.Version, s.Gateway, s.Provider, s.State, stamp(since))
	bad := troubles(s)
	if len(bad) == 0 {
		fmt.Fprintln(w, "verdict    all is well")
	}
	for i, t := range bad {
		fmt.Fprintf(w, "%-10s %s\n", unless(i > 0, "LOOK AT"), t)
	}
	fmt.Fprintf(w, "profile    %s%s\n", s.Profile, basis(s.LegalBasis))
	if s.Probe != nil {
		printProbe(w, s, costs)
	} else {
		fmt.Fprintln(w, "uplinks    none configured: access records only")
	}
	printStore(w, s)
	if s.Coverage != nil {
		printCoverageStatus(w, s.Coverage)
	}
	printSubscribers(w, s)
	printLedger(w, &s.Ledger)
	printBreachStatus(w, s)
	if q := s.Requests; q != nil {
		fmt.Fprintf(w, "requests   %d wait for approval, %d to be run%s%s\n", q.Filed, q.Approved,
			unless(q.Unratified == 0, fmt.Sprintf(", %d emergencies wait for a second custodian", q.Unratified)),
			unless(q.Denied == 0, fmt.Sprintf("; %d attempts not permitted since start", q.Denied)))
	}
	if s.Register.Imported.IsZero() {
		fmt.Fprintln(w, "register   none imported: answers have ids, no names")
	} else {
		fmt.Fprintf(w, "register   imported %s, %d days ago\n", session.FormatTime(s.Register.Imported.UnixNano()), s.Register.Age/(24*3600))
	}
	if i := &s.Imports; !i.Last.IsZero() {
		fmt.Fprintf(w, "imports    %d calls, %d mails since start; the last file %s\n", i.Calls, i.Mail, stamp(i.Last))
	}
	fmt.Fprintf(w, "custodians %s; the agent asks for at least %d\n", plural(uint64(s.Custodians.Keys), "key"), s.Custodians.Minimum)
	if s.Refused.Total > 0 {
		fmt.Fprintf(w, "refused    %s for want of a role since start; who it was stands sealed in the ledger\n", plural(s.Refused.Total, "request"))
	}
	printSums(w, s.Sums)
	if e := s.LastError; e != nil {
		fmt.Fprintf(w, "last error %s %s\n", stamp(e.At), e.Text)
	}
}

// printBreachStatus says what of the register of breaches is not done with.
func printBreachStatus(w io.Writer, s *recorder.Status) {
	b := s.Breaches
	if b == nil || b.Open == 0 {
		return
	}
	next := ""
	if !b.NextDue.IsZero() {
		next = "; the next notification is due at " + stamp(b.NextDue)
	}
	fmt.Fprintf(w, "breaches   %d not completely notified, %d overdue%s\n", b.Open, b.Overdue, next)
}

func printSubscribers(w io.Writer, s *recorder.Status) {
	if r := s.RADIUS; r != nil {
		printRADIUS(w, s, r)
	}
	printNAT(w, s.NAT)
	printDHCP(w, s.DHCP)
	b := &s.Bindings
	fmt.Fprintf(w, "bindings   %d in force, %d not yet sealed%s; %s sealed in %s since start\n", b.Book.InForce, b.Book.NotSealed,
		unless(b.Book.Contradictions == 0, fmt.Sprintf(", %d CONTRADICT others: answers print both", b.Book.Contradictions)),
		plural(b.Records, "record"), plural(b.Blocks, "block"))
}

// printSums prints what must add up, and shouts when it does not.
func printSums(w io.Writer, sums []recorder.Sum) {
	for i := range sums {
		x := &sums[i]
		switch fault := x.Fault(); {
		case fault != "":
			fmt.Fprintf(w, "sum        %s: NOT BALANCED, %s; this is a fault of edgelog: please report it\n", x.Text, fault)
		case x.Left != x.Right:
			fmt.Fprintf(w, "sum        %s: ok, in motion\n", x.Text)
		default:
			fmt.Fprintf(w, "sum        %s: ok\n", x.Text)
		}
	}
}

func printProbe(w io.Writer, s *recorder.Status, costs []probe.Cost) {
	p := s.Probe
	for i := range p.Uplinks {
		u := &p.Uplinks[i]
		fmt.Fprintf(w, "uplink     %s %s: in %s, out %s; %d packets in, %d out%s\n", u.Name, linkState(u),
			attached(&u.Ingress), attached(&u.Egress), u.In.Segments, u.Out.Segments, unless(u.Error == "", "; "+u.Error))
	}
	printCosts(w, p, costs)
	t := &p.Table
	fill := 0.0
	if t.Slots > 0 {
		fill = 100 * float64(t.Open+t.Closed+t.Lingers+t.Negative) / float64(t.Slots)
	}
	fmt.Fprintf(w, "table      %.1f %% of %d slots: %d open, %d to be stored, %d lingering, %d not to be recorded%s\n",
		fill, t.Slots, t.Open, t.Closed, t.Lingers, t.Negative, unless(p.Waiting == 0, fmt.Sprintf("; %d of an older table wait for room", p.Waiting)))
	if t.HalfOpenLimit > 0 {
		fmt.Fprintf(w, "half-open  %d of at most %d (%.1f %%); beyond that they are sampled\n",
			t.HalfOpen, t.HalfOpenLimit, 100*float64(t.HalfOpen)/float64(t.HalfOpenLimit))
	}
	printLosses(w, s)
	fmt.Fprintf(w, "news       %d through the ring%s\n", t.RingSent,
		unless(t.RingFull == 0, fmt.Sprintf(", %d did not fit: harmless, the walk through the table finds their sessions", t.RingFull)))
	if p.Lag.WalkAge > 0 {
		fmt.Fprintf(w, "walk       the last one through the table ended %.1f s ago, one takes %.1f s; news waits %.2f s on average\n",
			p.Lag.WalkAge, p.Lag.Walk.Mean(), p.Lag.News.Mean())
	}
	k := &p.Clock
	state := "synchronised"
	if !k.Synchronised {
		state = "NOT synchronised"
	}
	fmt.Fprintf(w, "clock      %s, error at most %v, %d steps seen\n", state, time.Duration(k.MaxErrorMicro)*time.Microsecond, k.Steps)
}

// printLosses says whether anything is lost now, and what ever was.
func printLosses(w io.Writer, s *recorder.Status) {
	now, t := "nothing now", &s.Probe.Table
	if l := &s.Lately; l.Refused > 0 {
		now = fmt.Sprintf("%d PACKETS REFUSED in the last %.0f s, %d of them kept as samples", l.Refused, l.Seconds, l.Sampled)
	}
	ever := counts(t.Refused)
	if ever == "" {
		fmt.Fprintf(w, "losing     %s, nor since the table was made\n", now)
		return
	}
	fmt.Fprintf(w, "losing     %s; packets REFUSED since the table was made: %s; %s, %d lost%s\n", now, ever, plural(t.Sampled, "sample"), t.SamplesLost,
		unless(t.SampleCrowd == 0, fmt.Sprintf("; %d packets of too many end users counted together", t.SampleCrowd)))
}

// printCosts says what the programs cost a packet, as far as it was measured.
func printCosts(w io.Writer, p *probe.Status, costs []probe.Cost) {
	if len(costs) == 0 {
		fmt.Fprintln(w, "cost       not measured; \"edgelog status --cost\" has the kernel measure for a second")
		return
	}
	by := map[uint32]probe.Cost{}
	for _, c := range costs {
		by[c.Program] = c
	}
	text := func(a *probe.AttachStatus) string {
		c, ok := by[a.Program]
		if !ok || c.Runs == 0 {
			return "no packet"
		}
		return fmt.Sprintf("%.0f ns a packet (%d)", c.PerRun(), c.Runs)
	}
	for i := range p.Uplinks {
		u := &p.Uplinks[i]
		fmt.Fprintf(w, "cost       %s: in %s, out %s; some 20 ns of each are the measuring\n", u.Name, text(&u.Ingress), text(&u.Egress))
	}
}

func printStore(w io.Writer, s *recorder.Status) {
	st := &s.Store
	state := "ok"
	if !st.OK {
		state = fmt.Sprintf("NOT STORING since %s: %s", stamp(st.Since), st.Text)
	}
	fmt.Fprintf(w, "store      %s; %s of %s; disk %s, %s free, stops below %s\n", state,
		plural(st.Blocks, "block"), bytesText(st.Bytes), st.State, bytesText(uint64(max(st.Free, 0))), bytesText(uint64(st.Stop)))
	if st.Oldest != "" || st.Expiry.Last != "" {
		fmt.Fprintf(w, "kept       from %s on, each day for %d days%s\n", cmp.Or(st.Oldest, "now"), st.Expiry.RetentionDays,
			unless(st.Expiry.Last == "", "; destroyed last: "+st.Expiry.Last))
	}
	if x := &st.Expiry; x.Text != "" {
		fmt.Fprintf(w, "           %s NOT DESTROYED: %s\n", plural(uint64(max(x.Due, 0)), "day"), x.Text)
	}
	if bad := damage(st); bad != "" {
		fmt.Fprintf(w, "           DAMAGED: %s; all else answers; see \"edgelog verify\"\n", bad)
	}
	n := &s.Sessions
	last := ""
	if !n.Last.IsZero() {
		last = ", last " + stamp(n.Last)
	}
	fmt.Fprintf(w, "sessions   %d stored since start, %d with a subscriber, in %s of %s%s%s\n", n.Stored, n.Named,
		plural(n.Blocks, "block"), bytesText(n.Bytes), last, unless(n.Returned == 0, fmt.Sprintf("; %d given back to the table to be tried again", n.Returned))+
			unless(n.Expired == 0, fmt.Sprintf("; %d not stored, since their day has been destroyed", n.Expired)))
}

// damage says what of the store cannot be read, "" when nothing is known to be
// damaged.
func damage(st *recorder.StoreStatus) string {
	var out []string
	for _, d := range []struct {
		n    int
		what string
	}{
		{st.SetAside, "database that could not be opened, set aside"}, {st.Broken, "run without a list of its contents"},
		{st.Lost, "block that could not be read"},
	} {
		if d.n > 0 {
			out = append(out, fmt.Sprintf("%d x %s", d.n, d.what))
		}
	}
	return strings.Join(out, ", ")
}

func attached(a *probe.AttachStatus) string {
	if a.Mode == "" || a.Mode == "none" {
		return "NOT ATTACHED" + note(a.Note)
	}
	return a.Mode + note(a.Note)
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func linkState(u *probe.UplinkStatus) string {
	switch {
	case u.Ifindex == 0:
		return "MISSING"
	case !u.Up:
		return "DOWN"
	}
	return "up"
}

func basis(s string) string {
	if s == "" {
		return ""
	}
	return ", legal basis: " + s
}

func unless(ok bool, text string) string {
	if ok {
		return ""
	}
	return text
}

// dropped lists the reasons that occurred.
func dropped(m map[string]uint64) string {
	text := counts(m)
	return unless(text == "", "; dropped: "+text)
}

// counts lists what is not 0.
func counts(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	return strings.Join(parts, ", ")
}

func stamp(t time.Time) string { return session.FormatTime(t.UnixNano()) }

func plural(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y") && !strings.HasSuffix(what, "ey") && !strings.HasSuffix(what, "ay"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(what, "y"))
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
