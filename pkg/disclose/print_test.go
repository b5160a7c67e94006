package disclose

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/session"
)

func sampleAnswer() *Answer {
	udp := lived(-time.Minute, -time.Minute)
	udp.Proto, udp.EndReason = session.UDP, session.EndIdle
	udp.Flags = session.LocalOnly
	udp.Responder, udp.ResponderPort = session.Addr{}, 0
	ping := lived(-30*time.Second, -29*time.Second)
	ping.Proto, ping.InitiatorPort, ping.ResponderPort = session.ICMP, 0, 0
	ping.Subscriber = "=cmd|' /C calc'!A0"
	first := lived(-2*time.Minute, -time.Minute)
	first.Subscriber = "anna"
	return &Answer{
		Hits: []Hit{{Session: first, Stored: "anna"}, {Session: udp, Stored: "bo"}, {Session: ping, Certainty: session.FromInferred}},
		Summary: Summary{
			Gateway: "gw1", Provider: "Net", Profiles: []string{"session", "source"}, LegalBasis: "BEK",
			From: "2025-03-01T11:00:00.000Z", To: "2025-03-01T12:00:00.000Z", Records: 3, SessionBlocks: 2, BindingBlocks: 1,
			ClockErrorMicro: 1500, LedgerIntent: 7, LedgerOutcome: 8, CheckpointSize: 9, CheckpointRoot: "cm9vdA==",
			Coverage: report(noon.Unix(), covered("eth0", 0, 3600, session.CoverComplete, session.ClockUnsynced)),
		},
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, sampleAnswer(), "table"); err != nil {
		t.Fatal(err)
	}
	want := `START                     END                       PROTO  INITIATOR      RESPONDER      SUBSCRIBER          ENDED  REMARKS
2025-03-01T11:58:00.000Z  2025-03-01T11:59:00.000Z  tcp    10.0.0.1:4000  192.0.2.9:443  anna                fin    -
2025-03-01T11:59:00.000Z  2025-03-01T11:59:00.000Z  udp    10.0.0.1:4000  -              -                   idle   local-only, subscriber when sealed: bo
2025-03-01T11:59:30.000Z  2025-03-01T11:59:31.000Z  icmp   10.0.0.1       192.0.2.9      =cmd|' /C calc'!A0  fin    subscriber when sealed: -, log-on not seen

3 sessions in 2025-03-01T11:00:00.000Z … 2025-03-01T12:00:00.000Z
recorded by gw1 for Net, profile session and source, legal basis now: BEK
read: 2 session blocks and 1 binding block; worst clock error 1.5ms
coverage: complete on eth0
ledger: intent 7, outcome 8; 9 entries, root hash cm9vdA==
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestJSONLinesAreObjectsAndTheLastIsTheSummary(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, sampleAnswer(), "json"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	var got []map[string]any
	for _, l := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		got = append(got, m)
	}
	if _, there := got[0]["subscriber_stored"]; there || got[0]["subscriber"] != "anna" {
		t.Errorf("agreed: %v", got[0])
	}
	if _, there := got[1]["subscriber"]; there || got[1]["subscriber_stored"] != "bo" || got[1]["responder"] != nil {
		t.Errorf("corrected: %v", got[1])
	}
	if got[2]["subscriber_stored"] != "" || got[2]["subscriber_from"] != "inferred" {
		t.Errorf("late: %v", got[2])
	}
	if s, ok := got[3]["summary"].(map[string]any); !ok || s["ledger_outcome"] != 8.0 || s["clock_error_us"] != 1500.0 {
		t.Errorf("summary: %v", got[3])
	}
}

func TestCSVIsHarmlessInASpreadsheet(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, sampleAnswer(), "csv"); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(csvHeader, rows[0]); d != "" {
		t.Error(d)
	}
	if rows[2][5] != "" || rows[2][6] != "" || rows[2][3] != "10.0.0.1" {
		t.Errorf("what was not recorded is empty: %v", rows[2])
	}
	for _, row := range rows[1:] {
		for _, c := range row {
			if c != "" && strings.ContainsAny(c[:1], "=+-@\t\r|%") {
				t.Errorf("cell %q would be taken for a formula", c)
			}
		}
	}
	if rows[3][10] != "'=cmd|' /C calc'!A0" {
		t.Errorf("%q", rows[3][10])
	}
}

func TestTheInsideEndStandsInEveryFormat(t *testing.T) {
	a := sampleAnswer()
	a.Hits[0].Inside, a.Hits[0].InsidePort = addr("100.64.0.5"), 4711
	a.Hits[2].Inside = addr("100.64.0.6")
	for format, want := range map[string][]string{
		"table": {"RESPONDER      INSIDE           SUBSCRIBER", "192.0.2.9:443  100.64.0.5:4711  anna", "-              -                -", "192.0.2.9      100.64.0.6 "},
		"json":  {`"local":"initiator","inside":"100.64.0.5","inside_port":4711`, `"inside":"100.64.0.6"`},
		"csv":   {",inside,inside_port\n", ",100.64.0.5,4711\n", ",,\n", ",100.64.0.6,0\n"},
	} {
		var b bytes.Buffer
		if err := Print(&b, a, format); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s lacks %q:\n%s", format, w, b.String())
			}
		}
	}
}

func TestNothingUnprintableReachesATerminal(t *testing.T) {
	a := sampleAnswer()
	a.Hits[0].Subscriber = "anna\x1b[2J\t\nbo"
	var b bytes.Buffer
	if err := Print(&b, a, "table"); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\t") || !strings.Contains(b.String(), "anna·[2J··bo") {
		t.Errorf("%q", b.String())
	}
}

func TestAnIncompleteAnswerSaysSo(t *testing.T) {
	s := Summary{Failed: 2, Unstored: true, ClockErrorMicro: -1}
	text := strings.Join(s.Lines(), "\n")
	if s.Complete() || strings.Count(text, "INCOMPLETE") != 2 || !strings.Contains(text, "2 blocks could not be opened") {
		t.Error(text)
	}
}

func TestDoubtsStandInEveryFormat(t *testing.T) {
	a := sampleAnswer()
	a.Hits = a.Hits[:1]
	a.Hits[0].Certainty, a.Hits[0].Doubts = session.ToInferred, []string{"address passed to bo\x1b at noon"}
	print := func(format string) string {
		var b bytes.Buffer
		if err := Print(&b, a, format); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if out := print("table"); !strings.Contains(out, "address passed to bo· at noon, log-off not seen\n") {
		t.Error(out)
	}
	var hit struct{ Doubts []string }
	line, _, _ := strings.Cut(print("json"), "\n")
	if err := json.Unmarshal([]byte(line), &hit); err != nil || len(hit.Doubts) != 2 || hit.Doubts[1] != "log-off not seen" {
		t.Errorf("%v, %v in %s", err, hit, line)
	}
	rows, err := csv.NewReader(strings.NewReader(print("csv"))).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[1]) != len(csvHeader) {
		t.Fatalf("%v, %q", err, rows)
	}
	if d := cmp.Diff([]string{"", "inferred", "address passed to bo\x1b at noon; log-off not seen", "", ""}, rows[1][12:]); d != "" {
		t.Error(d)
	}
}
