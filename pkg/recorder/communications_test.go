package recorder

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/records"
	"github.com/edgelog/edgelog/pkg/session"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// someCalls are n calls that ended at a time, and each step before it.
func someCalls(n int, end time.Time, step time.Duration) []session.Communication {
	out := make([]session.Communication, n)
	for i := range out {
		at := end.Add(-time.Duration(i) * step).Truncate(time.Millisecond).UnixNano()
		out[i] = session.Communication{
			Kind: session.Call, Service: "voice", From: fmt.Sprintf("+4520%06d", i%4000), To: []string{fmt.Sprintf("+4530%06d", i%7001)}, Start: at - 60e9, End: at,
			Subscriber: fmt.Sprintf("kunde%05d", i%4000), Equipment: fmt.Sprintf("35%013d", i%4000), Cell: fmt.Sprint("238-01-", i%300), Place: "Hemmelig mast", Delivered: session.Delivered,
		}
	}
	return out
}

func someMail(n int, at time.Time) []session.Communication {
	out := make([]session.Communication, n)
	for i := range out {
		out[i] = session.Communication{Kind: session.Mail, From: fmt.Sprintf("afsender%d@hemmelig.example", i), To: []string{"a@b.example", "c@d.example"}, Start: at.UnixNano(), End: at.UnixNano()}
	}
	return out
}

// fileOf is what the importer sends.
func fileOf(t testing.TB, list []session.Communication) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	kind := session.Call
	if len(list) > 0 {
		kind = list[0].Kind
	}
	w := records.NewWriter(&out, kind)
	for i := range list {
		if err := w.Write(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// sendFile imports a file; hash tells it from others.
func (r *room) sendFile(path string, hash byte, lines int, more string, body io.Reader) (code int, answer CommunicationsAnswer, text string) {
	r.t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.Config().Socket())
	}}
	defer tr.CloseIdleConnections()
	url := fmt.Sprintf("http://agent%s?sha256=%s&lines=%d%s", path, strings.Repeat(hex.EncodeToString([]byte{hash}), 32), lines, more)
	resp, err := (&http.Client{Transport: tr}).Post(url, "text/csv", body)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, &answer); err != nil {
			r.t.Fatal(err)
		}
	}
	return resp.StatusCode, answer, string(b)
}

// communications opens all calls or all mail that are kept.
func (r *room) communications(calls bool) (out []session.Communication) {
	r.t.Helper()
	unseal := r.opener()
	ctx, shelf := r.t.Context(), r.Shelf()
	damaged, err := shelf.Communications(ctx, calls, !calls, 0, evening.AddDate(1, 0, 0).UnixNano(), block.CommunicationHeads, func(head []byte) error {
		p, _, err := vault.Layout(head)
		if err != nil {
			return err
		}
		sealed, err := shelf.Block(ctx, p.Kind, session.Day(p.Day), p.Epoch, p.Seq)
		if err != nil {
			return err
		}
		_, list, err := block.DecodeCommunications(unseal(sealed))
		for i := range list {
			if session.DayOf(list[i].End) != session.Day(p.Day) {
				r.t.Errorf("what ended on %v is filed under %v", session.DayOf(list[i].End), session.Day(p.Day))
			}
		}
		out = append(out, list...)
		return err
	})
	if err != nil || damaged > 0 {
		r.t.Fatal(damaged, err)
	}
	return out
}

// sameOnes fails unless got holds exactly want, in any order.
func sameOnes(t *testing.T, want, got []session.Communication) {
	t.Helper()
	count := map[session.CommunicationID]int{}
	for i := range want {
		count[want[i].ID()]++
	}
	for i := range got {
		count[got[i].ID()]--
	}
	for _, n := range count {
		if n != 0 || len(got) != len(want) {
			t.Fatalf("%d communications are kept instead of %d, or others", len(got), len(want))
		}
	}
}

// imported are the ends of imports.
func (r *room) imported() (out []map[string]string) {
	for _, e := range r.entries() {
		if e.Kind == ledger.Import && e.Fields["result"] != importBegun {
			out = append(out, e.Fields)
		}
	}
	return out
}

func TestAFileOfCallsIsSealedByDayAndKnownAgain(t *testing.T) {
	r := newRoom(t, "")
	stop := r.start()
	calls, mail := someCalls(40_000, evening, 4*time.Second), someMail(10, evening)
	code, a, text := r.sendFile(PathCalls, 1, len(calls), "&rejected=3", fileOf(t, calls))
	if code != http.StatusOK || a.Lines != 40_000 || a.Expired != 0 || a.Blocks < 3 || a.Bytes == 0 || !a.Known.IsZero() {
		t.Fatalf("%d %s", code, text)
	}
	if code, a, text = r.sendFile(PathMail, 1, len(mail), "", fileOf(t, mail)); code != http.StatusOK || a.Lines != 10 || a.Blocks != 1 {
		t.Fatalf("%d %s", code, text)
	}
	sameOnes(t, calls, r.communications(true))
	sameOnes(t, mail, r.communications(false))
	if code, a, text = r.sendFile(PathCalls, 1, 5, "", strings.NewReader("not looked at")); code != http.StatusOK || !a.Known.Equal(evening) || a.Lines != 0 {
		t.Errorf("imported before: %d %s", code, text)
	}
	if code, a, text = r.sendFile(PathCalls, 1, 2, "&again=true", fileOf(t, calls[:2])); code != http.StatusOK || a.Lines != 2 {
		t.Errorf("imported again: %d %s", code, text)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if err := s.Balance(); err != nil || s.Imports.Calls != 40_002 || s.Imports.Mail != 10 || !s.Imports.Last.Equal(evening) {
		t.Errorf("%v, %+v", err, s.Imports)
	}
	entries := r.imported()
	if len(entries) != 3 || entries[0]["of"] != "calls" || entries[0]["entries"] != "40000" || entries[0]["rejected"] != "3" || entries[0]["first_day"] != "2025-02-28" ||
		entries[0]["last_day"] != "2025-03-01" || entries[0]["result"] != "done" || entries[0]["uid"] == "" || len(entries[0]["file_sha256"]) != 64 || entries[1]["of"] != "mail" {
		t.Errorf("%v", entries)
	}
	if err := stop(); err != nil { // what was fresh is merged
		t.Fatal(err)
	}
	r.shut()
	nowhere(t, r.dir, "+4520", "4520000", "+4530", "kunde0", "Hemmelig", "hemmelig.example", "238-01", "350000")
	r.open()
	sameOnes(t, slices.Concat(calls, calls[:2]), r.communications(true))
	sameOnes(t, mail, r.communications(false))
	r.start()
	if _, a, _ = r.sendFile(PathMail, 1, 10, "", fileOf(t, mail)); a.Known.IsZero() {
		t.Error("after a restart an imported file is not known")
	}
}

// sendHalf is an importer that is killed in the middle.
func (r *room) sendHalf(good string) {
	r.t.Helper()
	conn, err := net.Dial("unix", r.Config().Socket())
	if err != nil {
		r.t.Fatal(err)
	}
	part := good[:len(good)/2]
	if _, err := fmt.Fprintf(conn, "POST %s?sha256=%s&lines=20000 HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", PathCalls, strings.Repeat("02", 32), len(good), part); err != nil {
		r.t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func TestNothingOfAFileIsKeptThatIsNotWholeAndGood(t *testing.T) {
	r := newRoom(t, "")
	r.start()
	rows := r.store.Rows()
	calls := someCalls(20_000, evening, time.Second)
	good := fileOf(t, calls).String()
	future := someCalls(1, evening.Add(2*time.Minute), time.Second)
	for name, c := range map[string]struct {
		body  io.Reader
		lines int
		path  string
		want  string
	}{
		"a line too few":        {strings.NewReader(good), 20_001, "", "20000 lines came, 20001 were announced"},
		"a line too many":       {strings.NewReader(good), 19_999, "", "20000 lines came, 19999 were announced"},
		"no lines":              {fileOf(t, nil), 0, "", "0 lines came"},
		"no columns":            {strings.NewReader(""), 0, "", "it is empty"},
		"calls among mail":      {strings.NewReader(good), 20_000, PathMail, "has no name that is known"},
		"a bad line at the end": {strings.NewReader(good + "x\n"), 20_001, "", "line 20002: it has 1 fields"},
		"a national number":     {strings.NewReader("start,end,from,to\n2025-03-01T10:00:00Z,,12345678,112\n"), 1, "", "no country code"},
		"of the future":         {fileOf(t, future), 1, "", "ends in the future"},
		"no hash":               {strings.NewReader(good), 20_000, PathCalls + "?sha256=x&was=", "sha256"},
		"no number of lines":    {strings.NewReader(good), 20_000, PathCalls + "?lines=x&sha256=" + strings.Repeat("02", 32) + "&was=", "lines must say"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, text := r.sendFile(cmp.Or(c.path, PathCalls), 2, c.lines, "", c.body)
			if code != http.StatusBadRequest || !strings.Contains(text, c.want) || strings.Contains(text, "+4520") {
				t.Errorf("%d %s", code, text)
			}
		})
	}
	r.sendHalf(good)
	for n := 0; n < 9; n = len(r.imported()) { // the handler notes its end
		if t.Context().Err() != nil {
			t.Fatal("the end of an import that was cut off is not noted")
		}
	}
	if got := r.store.Rows(); got != rows || len(r.communications(true)) != 0 {
		t.Errorf("%d records are kept, %d were", got, rows)
	}
	for _, f := range r.imported() {
		if f["result"] != "refused" || f["entries"] != "0" {
			t.Errorf("%v", f)
		}
	}
	code, a, text := r.sendFile(PathCalls, 2, len(calls), "", strings.NewReader(good))
	for code == http.StatusConflict { // the one that was cut off is noted, and not over yet
		code, a, text = r.sendFile(PathCalls, 2, len(calls), "", strings.NewReader(good))
	}
	if code != http.StatusOK || a.Lines != 20_000 {
		t.Errorf("after all that a good file is not taken: %d %s", code, text)
	}
	sameOnes(t, calls, r.communications(true))
}

func TestAnImportThatIsBrokenOffSaysWhatOfItIsKept(t *testing.T) {
	r := newRoom(t, "")
	r.start()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent"+PathCalls+"?lines=2&sha256="+strings.Repeat("03", 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	i, err := r.newCommunications(req, store.KindCalls, "calls")
	if err != nil {
		t.Fatal(err)
	}
	if i.spool, err = newSpool(r.Config().DataDir); err != nil {
		t.Fatal(err)
	}
	defer i.spool.close()
	i.load = newFiler(r.sessions.shelf.gateway, r.vault, r.store).load(nil)
	for _, c := range someCalls(2, evening, oneDay) {
		if err := errors.Join(i.add(&c), i.seal(session.DayOf(c.End))); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(l Ledger) {
		if err := r.do(t.Context(), func() error { r.evidence.ledger = l; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	hears(deafLedger{r.ledger})
	if err := i.begin(t.Context()); !errors.Is(err, ledger.ErrNotWritten) {
		t.Errorf("without the ledger: %v", err)
	}
	hears(r.ledger)
	if err := i.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	begun := r.entries()[len(r.entries())-1].Fields
	if begun["result"] != "begun" || begun["entries"] != "0" || begun["first_day"] != "2025-02-28" || begun["last_day"] != "2025-03-01" {
		t.Errorf("%v", begun)
	}
	i.spool.parts = i.spool.parts[:1]
	if err := i.spool.each(func(blocks []store.Sealed, rows uint64) error { return i.put(t.Context(), blocks, rows) }); err != nil {
		t.Fatal(err)
	}
	i.note(t.Context(), i.result(io.ErrUnexpectedEOF))
	f := r.imported()[0]
	if f["result"] != "not to its end" || f["begun"] != begun["begun"] || f["lines"] != "2" || f["entries"] != "1" || f["first_day"] != "2025-03-01" || f["last_day"] != "2025-03-01" {
		t.Errorf("%v", f)
	}
}

func TestLinesOfDaysWhoseTimeIsOverAreLeftOutAndCountedAndTheRestGoesInItsTime(t *testing.T) {
	r := newRoom(t, "retention_days = 3\n")
	stop := r.start()
	calls := someCalls(10, evening, oneDay) // one a day, from 2025-02-20
	code, a, text := r.sendFile(PathCalls, 1, 10, "", fileOf(t, calls))
	if code != http.StatusOK || a.Lines != 4 || a.Expired != 6 {
		t.Fatalf("%d %s", code, text)
	}
	sameOnes(t, calls[:4], r.communications(true))
	if f := r.imported()[0]; f["expired"] != "6" || f["entries"] != "4" || f["first_day"] != "2025-02-26" {
		t.Errorf("%v", f)
	}
	if code, a, _ = r.sendFile(PathCalls, 2, 1, "", fileOf(t, calls[9:])); code != http.StatusOK || a.Lines != 0 || a.Expired != 1 {
		t.Errorf("a file of nothing but old days: %d %+v", code, a)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := r.days(); got != "2025-02-26 2025-02-27 2025-02-28 2025-03-01" {
		t.Fatalf("kept: %s", got)
	}
	r.clock.add(2 * oneDay)
	r.shut()
	r.open()
	if got := r.days(); got != "2025-02-28 2025-03-01" {
		t.Errorf("two days later: %s", got)
	}
	sameOnes(t, calls[:2], r.communications(true))
	if got := r.destructions(); len(got) != 2 || !slices.Equal(got["2025-02-26"], []string{"begun", "destroyed"}) {
		t.Errorf("ledger: %v", got)
	}
	r.start()
	if _, a, text = r.sendFile(PathCalls, 3, 10, "", fileOf(t, calls)); a.Lines != 2 || a.Expired != 8 {
		t.Errorf("what was destroyed comes back: %s", text)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Status().Balance(); err != nil {
		t.Error(err)
	}
}

// aDayOfCalls are n calls and messages of a day, of a million mobiles, in 12,000 cells.
func aDayOfCalls(n int) []session.Communication {
	random := rand.New(rand.NewPCG(1, 2)) // the same each time
	cell := func() int { return random.IntN(12_000) }
	out := make([]session.Communication, n)
	for i := range out {
		mobile, start := random.IntN(1e6), cell()
		end := evening.Add(-22 * time.Hour / time.Duration(n) * time.Duration(n-i)).UnixMilli()
		c := session.Communication{
			Kind: session.Call, Service: "sms", From: fmt.Sprintf("+45%08d", 20_000_000+mobile*17%70_000_000), To: []string{fmt.Sprintf("+45%08d", 20_000_000+random.IntN(1e6)*31%70_000_000)},
			Start: end * 1e6, End: end * 1e6, Subscriber: fmt.Sprintf("k%07d", mobile), Equipment: fmt.Sprintf("35%012d%d", mobile*7919, mobile%10),
			SIM: fmt.Sprintf("23801%010d", mobile*104_729%1e10), Cell: fmt.Sprintf("238-01-%05d", start*7), Place: fmt.Sprintf("%.4f,%.4f", 54.5+float64(start*7919%30_000)/1e4, 8+float64(start*104_729%50_000)/1e4),
			Delivered: session.Delivered,
		}
		if c.CellEnd = c.Cell; random.IntN(10) == 0 {
			c.CellEnd = fmt.Sprintf("238-01-%05d", cell()*7)
		}
		if random.IntN(10) < 4 {
			c.Service, c.Start = "voice", c.Start-int64(random.ExpFloat64()*120)*1e9
		}
		out[i] = c
	}
	return out
}

// BenchmarkImport imports a day of calls in one file, and says how much of it lies on the
// disk.
func BenchmarkImport(b *testing.B) {
	r := newRoom(b, "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	const n = 200_000
	text := fileOf(b, aDayOfCalls(n)).Bytes()
	hash, bytesOf := byte(0), int64(0)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		hash++
		code, a, answer := r.sendFile(PathCalls, hash, n, "&again=true", bytes.NewReader(text))
		if code != http.StatusOK {
			b.Fatal(answer)
		}
		bytesOf = a.Bytes
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(bytesOf)/n, "sealed-bytes/line")
}
