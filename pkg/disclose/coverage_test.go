package disclose

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/session"
)

// covered is a span of seconds counted from an hour before noon.
func covered(uplink string, from, to int64, state session.Cover, why session.CoverReasons) session.Span {
	base := noon.Unix() - 3600
	return session.Span{Uplink: uplink, From: base + from, To: base + to, State: state, Reasons: why}
}

// report is what is known of the hour before noon.
func report(decided int64, spans ...session.Span) *session.CoverageReport {
	lines := map[string]session.Timeline{}
	for _, s := range spans {
		lines[s.Uplink] = lines[s.Uplink].Add(s)
	}
	r := session.Report("gw1", noon.Unix()-3600, noon.Unix(), decided, lines)
	r.Brief(maxSpans)
	return r
}

func TestAnAnswerSaysWhatWasNotRecorded(t *testing.T) {
	whole := covered("eth0", 0, 3600, session.CoverComplete, 0)
	gap := covered("eth1", 60, 70, session.CoverSampled, session.TableFull)
	gap.Refused, gap.Sampled = 1500, 3
	var many []session.Span
	for i := range int64(15) {
		many = append(many, covered("eth0", 10*i, 10*i+1, session.CoverMissing, session.Contended))
	}
	damaged := report(noon.Unix(), whole)
	damaged.Damaged = []string{"2025-03-01.coverage: checksum"}
	for _, c := range []struct {
		name   string
		report *session.CoverageReport
		want   []string
	}{
		{"nothing could be read", nil, []string{"coverage: NOT KNOWN; that something is not found means nothing"}},
		{"nothing was ever recorded", report(0), []string{
			"coverage of -: complete 0 s (0.00 %), unknown 3600 s (100.00 %)",
			"  - 2025-03-01T11:00:00.000Z … 2025-03-01T12:00:00.000Z unknown"}},
		{"all is complete", report(noon.Unix(), whole), []string{"coverage: complete on eth0"}},
		{"the end is not decided", report(noon.Unix()-2, covered("eth0", 0, 3598, session.CoverComplete, 0)),
			[]string{"coverage: complete on eth0, as far as decided, until 2025-03-01T11:59:58.000Z"}},
		{"nothing is decided", report(noon.Unix() - 3600), []string{"coverage: nothing is decided about this window yet; ask again in some seconds"}},
		{"two uplinks, one with a gap", report(noon.Unix(), whole, covered("eth1", 0, 3600, session.CoverComplete, 0), gap), []string{
			"coverage of eth0: complete 3600 s (100.00 %)",
			"coverage of eth1: complete 3590 s (99.72 %), sampled 10 s (0.27 %); 1500 packets refused, 3 samples",
			"  eth1 2025-03-01T11:01:00.000Z … 2025-03-01T11:01:10.000Z sampled: table full; 1500 packets refused, 3 samples"}},
		{"open sessions were lost", report(noon.Unix(), covered("eth0", 0, 3600, session.CoverComplete, session.OpenLost)), []string{
			"coverage of eth0: complete 3600 s (100.00 %); in 3600 s of the complete ones sessions that were open when the table was lost have no record",
			"  eth0 2025-03-01T11:00:00.000Z … 2025-03-01T12:00:00.000Z complete: sessions open when the table was lost have no record"}},
		{"the record is damaged", damaged, []string{"coverage of eth0: complete 3600 s (100.00 %)",
			"  a part of the record of coverage is damaged: 2025-03-01.coverage: checksum"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, (&Summary{Coverage: c.report}).coverage()); d != "" {
				t.Error(d)
			}
		})
	}
	lines := (&Summary{Coverage: report(noon.Unix(), append(many, whole)...)}).coverage()
	if len(lines) != shownSpans+2 || !strings.Contains(lines[len(lines)-1], "and 5 intervals more") {
		t.Errorf("%q", lines)
	}
}

func TestAQuestionIsToldTheCoverageOfItsWindow(t *testing.T) {
	r := newGateRoom(t, nil)
	r.shelf.addSessions(lived(-time.Minute, 0))
	var asked [2]int64
	r.gate.o.Coverage = func(from, to int64) (*session.CoverageReport, error) {
		asked = [2]int64{from, to}
		return report(noon.Unix(), covered("eth0", 0, 3600, session.CoverComplete, 0), covered("eth0", 5, 6, session.CoverMissing, session.AttachUnsure)), nil
	}
	q := askAnna()
	a, err := r.ask(t, q)
	if err != nil {
		t.Fatal(err)
	}
	c := a.Summary.Coverage
	if asked != [2]int64{q.From, q.To} || c == nil || len(c.Spans) != 1 || c.Spans[0].Reasons != session.AttachUnsure || c.Totals[0].Complete != 3599 {
		t.Errorf("asked for %v, got %+v", asked, c)
	}
	r.gate.o.Coverage = func(int64, int64) (*session.CoverageReport, error) { return nil, errors.New("no") }
	if a, err = r.ask(t, q); err != nil || a.Summary.Coverage != nil || a.Summary.SessionBlocks != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if text := strings.Join(a.Summary.Lines(), "\n"); !strings.Contains(text, "coverage: NOT KNOWN") {
		t.Error(text)
	}
}
