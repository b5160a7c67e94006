package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

func TestOnlyTheFirstHitsAreDeliveredAndItIsSaidLoudly(t *testing.T) {
	few := func(r *disclose.Request) { r.Task.MaxHits = 1 }
	who, access := sampleWho(), sampleAccess()
	who.Candidates[0].Subscriber, who.Candidates[1].Subscriber = "anna", "bo"
	access.Records[1].Subscriber = evil
	hits := sampleHits()
	for kind, d := range map[string]*desk{
		kindSessions: newDesk(t, &disclose.Answer{Hits: hits, Names: sampleNames(), Summary: sampleSummary(len(hits))}, nil, nil, few),
		kindWho:      newDesk(t, nil, who, nil, few),
		kindAccess:   newDesk(t, nil, nil, access, few),

		kindCommunications: exchangeDesk(t, sampleCommunications(), few),
	} {
		t.Run(kind, func(t *testing.T) {
			z := d.zip()
			m := d.build().Manifest()
			if !m.Answer.LimitReached || m.Answer.Delivered != 1 || m.Answer.Found < 2 || len(m.Answer.Incomplete) != 1 {
				t.Errorf("%+v", m.Answer)
			}
			if rows := readCSV(t, put(t, "a.csv", member(t, z, kind+".csv"))); len(rows) != 2 {
				t.Errorf("%d rows", len(rows))
			}
			page := string(member(t, z, summaryName))
			if !strings.Contains(page, "THIS ANSWER IS NOT COMPLETE") || !strings.Contains(page, "the limit was reached") || !strings.Contains(page, "only 1 are delivered") {
				t.Errorf("the page does not say it:\n%s", page)
			}
			names := []string{kind + ".csv", kind + ".jsonl", kind + ".ipfix", "response.xml", summaryName}
			if kind == kindCommunications {
				names = slices.Delete(names, 2, 3) // it has no IPFIX file
			}
			for _, name := range names {
				if b := member(t, z, name); bytes.Contains(b, []byte("@SUM")) || bytes.Contains(b, []byte("HYPERLINK")) {
					t.Errorf("%s names somebody beyond the limit", name)
				}
			}
		})
	}
}

func TestAnAnswerThatIsNotCompleteSaysWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*disclose.Summary)
		want   string
	}{
		{"blocks that did not open", func(s *disclose.Summary) { s.Failed = 2 }, "2 stored blocks"},
		{"records that were not stored", func(s *disclose.Summary) { s.Unstored = true }, "not stored yet"},
		{"more than an answer holds", func(s *disclose.Summary) { s.Limited = true }, "more than the 200000"},
		{"a register that did not open", func(s *disclose.Summary) { s.RegisterFailed = 1 }, "names may be missing"},
		{"a window that is not over", func(s *disclose.Summary) { s.Coverage.Decided = noon.Add(-time.Minute) }, "from 2025-03-01T11:59:00.000Z on"},
		{"a profile without sessions", func(s *disclose.Summary) { s.Profiles = []string{"access"} }, "records no sessions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sampleSummary(0)
			c.change(&s)
			d := newDesk(t, &disclose.Answer{Summary: s}, nil, nil)
			m := d.build().Manifest()
			if len(m.Answer.Incomplete) != 1 || !strings.Contains(m.Answer.Incomplete[0], c.want) {
				t.Errorf("%q", m.Answer.Incomplete)
			}
			if page := string(member(t, d.zip(), summaryName)); !strings.Contains(page, "NOT COMPLETE") || !strings.Contains(page, c.want) {
				t.Error("the page does not say it")
			}
		})
	}
}

func TestWhatDependsOnTheRunIsNotInThePackage(t *testing.T) {
	d := sessionsDesk(t)
	first := d.build().Digest()
	s := &d.in.Sessions.Summary
	s.LedgerIntent, s.LedgerOutcome, s.CheckpointSize, s.CheckpointRoot = 91, 92, 93, "cm9vdA=="
	s.SessionBlocks, s.BindingBlocks = 17, 18 // merges make others of them
	s.Coverage.Decided, s.Coverage.StoredThrough = noon.Add(time.Hour), noon.Add(time.Hour)
	if d.build().Digest() != first {
		t.Error("the same answer, read at another time, makes another package")
	}
	s.ClockErrorMicro++
	if d.build().Digest() == first {
		t.Error("the clock error is not in the manifest")
	}
}

func TestTheManifestTellsNothingToWhoGuesses(t *testing.T) {
	d := sessionsDesk(t)
	first := d.build()
	if bytes.Contains(first.text, []byte(strings.Repeat("07", 32))) {
		t.Error("the nonce is in the manifest")
	}
	for _, name := range []string{"anna", "Anna", "officer", d.to.Recipient().String()} {
		if bytes.Contains(first.text, []byte(name)) {
			t.Errorf("the manifest names %q", name)
		}
	}
	other := newDesk(t, d.in.Sessions, nil, nil, func(r *disclose.Request) { r.Nonce = bytes.Repeat([]byte{8}, 32) }).build()
	if other.Manifest().Salt == first.Manifest().Salt || len(first.Manifest().Salt) != 64 {
		t.Error("another nonce gives the same salt")
	}
}

func TestTheManifestSaysHowItWasRecorded(t *testing.T) {
	d := newDesk(t, nil, sampleWho(), nil)
	var m Manifest
	d.ok(json.Unmarshal(member(t, d.zip(), manifestName), &m))
	r := &m.Recording
	if r.WorstClockErrorMicro != 1500 || !r.ClockSynchronised || r.Gateway != "gw1" || r.Provider != "Net & Co" || len(r.Coverage.Gaps) != 1 || r.Coverage.Gaps[0].Refused != 12 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{" 300 s ", " 30 s ", " 2 s ", " 60 s ", "FIN from both sides", "RST from one"} {
		if !strings.Contains(r.Definition, want) {
			t.Errorf("the definition lacks %q: %s", want, r.Definition)
		}
	}
	if m.Request.Country != "DK" || m.Request.Number != "2025-1234" || m.Request.Identifier != "address of an end user" || m.Request.At == "" || m.Answer.Verdict != "likely" {
		t.Errorf("%+v", m.Request)
	}
	for in, want := range map[string]disclose.Query{
		"subscriber": {Subscriber: "x"}, "line": {Line: "x"}, "equipment": {Equipment: "x"},
		"address of a far end with port": {Remote: netip.MustParseAddr("192.0.2.1"), Port: new(uint16)},
	} {
		if got := identifierKind(&want); got != in {
			t.Errorf("%q, want %q", got, in)
		}
	}
	for want, change := range map[string]func(*disclose.Summary){
		"not known":               func(s *disclose.Summary) { s.Coverage = nil },
		"by the profile in force": func(s *disclose.Summary) { s.Profiles = []string{"sample500"} },
		"3 samples":               func(s *disclose.Summary) { s.Coverage.Totals[0].Sampled, s.Coverage.Totals[0].Samples = 9, 3 },
	} {
		s := sampleSummary(0)
		change(&s)
		if got := recordingOf(&d.in, &s); !strings.Contains(got.Sampling, want) {
			t.Errorf("%q, want %q", got.Sampling, want)
		}
	}
}

var external = regexp.MustCompile(`(?i)<(script|link|img|iframe|object|base)|<[^>]*\s(on[a-z]+|src|href)\s*=|url\s*\(|@import`)

func TestThePageHoldsNothingOfOthersAndRunsNothing(t *testing.T) {
	for kind, d := range kinds(t) {
		d.in.Contacts = append(d.in.Contacts, disclose.Contact{Name: `<script>alert(1)</script>`, Phone: evil})
		page := string(member(t, d.zip(), summaryName))
		if found := external.FindString(page); found != "" {
			t.Errorf("%s: %q", kind, found)
		}
		if strings.Contains(page, "<b>") || strings.ContainsAny(page, "\x07\r") || !strings.Contains(page, "&lt;script&gt;") {
			t.Errorf("%s: a text was not put in quotes", kind)
		}
		if !strings.Contains(page, Fingerprint(d.ledger.VerifierKey())) || !strings.Contains(page, "Vagten") {
			t.Errorf("%s: no fingerprint or contact", kind)
		}
	}
}

// TestThePageIsOneSheetOfPaper prints it, with the loudest remarks there are.
func TestThePageIsOneSheetOfPaper(t *testing.T) {
	printer, info := program(t, "weasyprint"), program(t, "pdfinfo")
	desks := kinds(t)
	desks["loud"] = newDesk(t, many(500), nil, nil, func(r *disclose.Request) {
		r.Task.MaxHits, r.Emergency = 100, "a child is missing and may be in danger; the line is the last trace of it that there is"
	})
	desks["loud"].in.Sessions.Summary.Failed, desks["loud"].in.Sessions.Summary.Unstored = 3, true
	desks["loud"].in.Sessions.Summary.AsOf, desks["loud"].in.Sessions.Summary.Newer = session.FormatTime(at(time.Hour)), 4
	calls := sampleCommunications()
	calls.Summary.Failed, calls.Summary.AsOf, calls.Summary.Newer, calls.Imports.Left = 2, session.FormatTime(at(time.Hour)), 4, 77
	for range 4 {
		calls.Communications = append(calls.Communications, calls.Communications...)
		calls.Imports.Files = append(calls.Imports.Files, calls.Imports.Files...)
	}
	desks["loud calls"] = exchangeDesk(t, calls, func(r *disclose.Request) {
		r.Task.MaxHits, r.Emergency = 20, "a child is missing and may be in danger; the line is the last trace of it that there is"
		r.Task.Query.Number, r.Task.Query.Subscriber = "", "anna"
	})
	for kind, d := range desks {
		page := put(t, summaryName, member(t, d.zip(), summaryName))
		if text, err := exec.Command(printer, page, page+".pdf").CombinedOutput(); err != nil || len(text) > 0 {
			t.Fatalf("%s: %v\n%s", kind, err, text)
		}
		text, err := exec.Command(info, page+".pdf").Output()
		if err != nil || !regexp.MustCompile(`Pages: +1\n`).Match(text) || !bytes.Contains(text, []byte("(A4)")) {
			t.Errorf("%s: %v\n%s", kind, err, text)
		}
	}
}

// many returns an answer as of a day of one subscriber.
func many(n int) *disclose.Answer {
	a := &disclose.Answer{Hits: make([]disclose.Hit, n), Names: sampleNames()[:1], Summary: sampleSummary(n)}
	base := sampleHits()
	for i := range a.Hits {
		h := base[i%2]
		h.Start += int64(i) * 3e8
		h.End = h.Start + int64(i%1000)*1e6
		h.InitiatorPort, h.ResponderPort = uint16(1024+i%60000), []uint16{443, 53, 80, 8080}[i%4]
		h.Responder = session.AddrFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}))
		a.Hits[i] = h
	}
	return a
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPackage(b *testing.B) {
	for _, n := range []int{1000, 10_000, disclose.MostHits} {
		d := newDesk(b, many(n), nil, nil, func(r *disclose.Request) { r.Task.MaxHits = disclose.MostHits })
		p := d.build()
		receipt := d.receipt(p)
		b.Run(fmt.Sprintf("build and seal %d sessions", n), func(b *testing.B) {
			b.ReportAllocs()
			size := counter(0)
			before := processorTime(b)
			for b.Loop() {
				size = 0
				d.ok(d.build().Seal(&size, receipt, d.in.Request.Delivery.Recipient))
			}
			b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op") // others share the machine
			b.ReportMetric(float64(size)/float64(n), "bytes/session")
		})
		var z bytes.Buffer
		d.ok(p.write(&z, receipt))
		b.Run(fmt.Sprintf("verify %d sessions", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Verify(bytes.NewReader(z.Bytes()), Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, m := range p.members {
			b.Run(fmt.Sprintf("%s of %d sessions", m.name, n), func(b *testing.B) {
				for b.Loop() {
					d.ok(m.unpack(io.Discard))
				}
				b.ReportMetric(float64(m.size)/float64(n), "bytes/session")
			})
		}
	}
}

func TestNoPackageIsLongerThanThereIsRoomKeptFor(t *testing.T) {
	for kind, d := range kinds(t) {
		p := d.build()
		var b bytes.Buffer
		d.ok(p.Seal(&b, d.receipt(p), d.in.Request.Delivery.Recipient))
		if most := p.MostBytes(); int64(b.Len()) > most || most > int64(b.Len())+2<<20 {
			t.Errorf("%s: %d bytes, room for %d", kind, b.Len(), most)
		}
	}
}
