package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func calls() Options {
	return Options{Kind: session.Call, Numbering: session.Numbering{Country: "45"}, Now: noon}
}

func mail() Options { return Options{Kind: session.Mail, Now: noon} }

// read reads all lines, and says what is wrong with the bad ones.
func read(t testing.TB, text string, o Options) (list []session.Communication, faults []string) {
	t.Helper()
	r, err := NewReader(strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var c session.Communication
		var bad *LineError
		switch err := r.Next(&c); {
		case errors.Is(err, io.EOF):
			return list, faults
		case errors.As(err, &bad):
			faults = append(faults, err.Error())
		case err != nil:
			t.Fatal(err)
		default:
			list = append(list, c)
		}
	}
}

const someFile = "\ufeffStart;End;Service;From;To;Forwarded;IMEI;IMSI;Cell;Cell_End;Place;Delivered;Subscriber;User;Record\r\n" +
	"2025-03-01T10:00:00Z;2025-03-01T11:02:30.5+01:00;Voice;12 34 56 78;+46 8 123456;\"87654321; 112\";35-123456-789012-3;238010123456789;17;18;\"Gade 1; \"\"tårn\"\"\";yes;4711;;r1\r\n\r\n" +
	"2025-03-01T10:00:00Z;;sms;DSB;87654321;;;;;;;NO;;sip:x;"

func TestALineBecomesACommunicationInItsOneForm(t *testing.T) {
	list, faults := read(t, someFile, calls())
	at := time.Date(2025, 3, 1, 10, 0, 0, 0, time.UTC).UnixNano()
	want := []session.Communication{
		{Kind: session.Call, Service: "voice", From: "+4512345678", To: []string{"+468123456"}, Forwarded: []string{"+4587654321", "112"}, Start: at, End: at + 150.5e9,
			Subscriber: "4711", Equipment: "351234567890123", SIM: "238010123456789", Cell: "17", CellEnd: "18", Place: `Gade 1; "tårn"`, Delivered: session.Delivered, Record: "r1"},
		{Kind: session.Call, Service: "sms", From: "DSB", To: []string{"+4587654321"}, Start: at, End: at, User: "sip:x", Delivered: session.NotDelivered},
	}
	if len(faults) > 0 || !reflect.DeepEqual(list, want) {
		t.Errorf("%+v\n%v", list, faults)
	}
	list, faults = read(t, "start,end,from,to\n2025-03-01T10:00:00Z,2025-03-01T10:00:01Z,<Anna@Example.NET>,b@example.net;C@EXAMPLE.net\n2025-03-01T10:00:00Z,,<>,b@example.net", mail())
	if len(faults) > 0 || len(list) != 2 || list[0].From != "Anna@example.net" || list[0].To[1] != "C@example.net" || list[1].From != "" || list[1].Kind != session.Mail {
		t.Errorf("%+v\n%v", list, faults)
	}
}

func TestABadLineIsNamedByNumberAndReasonWithoutItsContent(t *testing.T) {
	head := "start,end,service,from,to,imei,imsi,delivered,place\n"
	good := "2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,\n"
	for name, c := range map[string]struct{ line, want string }{
		"no start":                     {",,voice,12345678,87654321,,,,", "start: it is missing"},
		"no zone":                      {"2025-03-01T10:00:00,,voice,12345678,87654321,,,,", "start: it is not a time with its zone"},
		"another format of time":       {"01-03-2025 10:00,,voice,12345678,87654321,,,,", "start: it is not a time with its zone"},
		"a year nobody called in":      {"1900-03-01T10:00:00Z,,voice,12345678,87654321,,,,", "start: its year"},
		"ends before it begins":        {"2025-03-01T10:00:00Z,2025-03-01T09:59:59Z,voice,12345678,87654321,,,,", "it ends before it begins"},
		"ends in the future":           {"2025-03-01T10:00:00Z,2025-03-01T12:01:01Z,voice,12345678,87654321,,,,", "it ends in the future"},
		"a zone that hides the future": {"2025-03-01T13:00:00+00:30,,voice,12345678,87654321,,,,", "it ends in the future"},
		"nobody called":                {"2025-03-01T10:00:00Z,,voice,12345678,,,,,", "to: it is missing"},
		"one of the called is empty":   {"2025-03-01T10:00:00Z,,voice,12345678,87654321;,,,,", "to: one of them is empty"},
		"a number with a letter":       {"2025-03-01T10:00:00Z,,voice,12345678,8765432O,,,,", "to: it is not a telephone number"},
		"a long sender":                {"2025-03-01T10:00:00Z,,voice,A name of a sender,87654321,,,,", "from: it is not a number, nor the name"},
		"a short IMEI":                 {"2025-03-01T10:00:00Z,,voice,12345678,87654321,3512,,,", "imei: it has 4 digits, and not 14 to 16"},
		"an IMSI that is none":         {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,x,,", "imsi: it is not a row of digits"},
		"a receipt that is none":       {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,maybe,", "delivered: it is neither yes nor no"},
		"a service of two words":       {"2025-03-01T10:00:00Z,,voice call,12345678,87654321,,,,", "service: it is not one word"},
		"a long service":               {"2025-03-01T10:00:00Z,," + strings.Repeat("x", 33) + ",12345678,87654321,,,,", "service: it is longer"},
		"a long text":                  {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,," + strings.Repeat("x", 1025), "place: it is longer"},
		"a field too few":              {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,", "it has 8 fields, and the first line names 9"},
		"a field too many":             {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,,", "it has 10 fields"},
		"a quote without end":          {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,\"Gade", "a quote is not closed"},
		"something behind a quote":     {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,\"Gade\" 1", "a quote is not closed"},
		"a control character":          {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,Gade\x00", "it holds control characters"},
		"no UTF-8":                     {"2025-03-01T10:00:00Z,,voice,12345678,87654321,,,,t\xe5rn", "it is not UTF-8"},
		"a line without end":           {strings.Repeat("2025-03-01", MaxLine), "it is longer than 65536 bytes"},
		"too many called":              {"2025-03-01T10:00:00Z,,voice,12345678," + strings.TrimSuffix(strings.Repeat("12345678;", session.MaxReceivers+1), ";") + ",,,,", "to: they are more than 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			var rejected bytes.Buffer
			o := calls()
			o.Reject = &rejected
			list, faults := read(t, head+good+c.line+"\n"+good, o)
			if len(list) != 2 || len(faults) != 1 || !strings.HasPrefix(faults[0], "line 3") || !strings.Contains(faults[0], c.want) {
				t.Errorf("%d good, %q", len(list), faults)
			}
			if rejected.String() != head+c.line+"\n" {
				t.Errorf("rejected as %.300q", rejected.String())
			}
			for _, secret := range []string{"8765432", "voice call", "Gade", "maybe"} {
				if len(faults) > 0 && strings.Contains(faults[0], secret) {
					t.Errorf("it repeats the line: %q", faults[0])
				}
			}
		})
	}
	if _, faults := read(t, head+strings.Replace(good, "12345678", "23456789", 1), Options{Kind: session.Call, Now: noon}); len(faults) != 1 || !strings.Contains(faults[0], "no country code was given") {
		t.Errorf("%q", faults)
	}
}

func TestAFileThatCannotBeReadIsRefusedWhole(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "it is empty; the first line names the columns: start, end, service, from, to",
		"\n\n":                          "it is empty",
		"start,end,from\n":              `column "to" is missing`,
		"start,end,from,to,price\n":     "column 5 has no name that is known",
		"start,end,from,to,to\n":        `column "to" is there twice`,
		"start,end,from,\"to\n":         "a quote is not closed",
		strings.Repeat("x", MaxLine+1):  "it is longer than 65536 bytes",
		"s\x00t\x00a\x00r\x00t\x00\n":   "it holds control characters",
		"2025-03-01T10:00:00Z,,a,b,c\n": "column 1 has no name that is known",
	} {
		if _, err := NewReader(strings.NewReader(text), calls()); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := NewReader(strings.NewReader("start,end,from,to,imei\n"), mail()); !errors.Is(err, ErrFile) {
		t.Errorf("a mail with an IMEI: %v", err)
	}
	if _, err := NewReader(strings.NewReader("start,end,from,to\n"), Options{Now: noon}); !errors.Is(err, ErrFile) {
		t.Errorf("of no kind: %v", err)
	}
}

func TestWhatCannotBeReadOrRejectedEndsTheReading(t *testing.T) {
	broken := errors.New("the disk")
	text := "start,end,from,to\n2025-03-01T10:00:00Z,,a@b,c@d\n"
	r, err := NewReader(io.MultiReader(strings.NewReader(text), &failing{broken}), mail())
	if err != nil {
		t.Fatal(err)
	}
	var c session.Communication
	if err := errors.Join(r.Next(&c)); err != nil {
		t.Fatal(err)
	}
	if err := r.Next(&c); !errors.Is(err, broken) {
		t.Error(err)
	}
	for _, bad := range []string{"x\n", strings.Repeat("x", MaxLine+1)} {
		o := mail()
		full := &failing{}
		o.Reject = full
		if r, err = NewReader(strings.NewReader(text[:18]+bad), o); err != nil {
			t.Fatal(err)
		}
		full.err = broken
		if err := r.Next(&c); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
}

// failing is a file on a disk that has gone, once it has an error.
type failing struct{ err error }

func (f *failing) Read([]byte) (int, error)    { return 0, f.err }
func (f *failing) Write(b []byte) (int, error) { return len(b), f.err }

func TestWhatIsWrittenIsReadAsItWas(t *testing.T) {
	list, _ := read(t, someFile, calls())
	list[1].Place, list[1].Record = `a "quoted", line`, " "
	list[1].Record = ""
	var out bytes.Buffer
	w := NewWriter(&out, session.Call)
	for i := range list {
		if err := w.Write(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, faults := read(t, out.String(), Options{Kind: session.Call, Now: noon})
	if len(faults) > 0 || !reflect.DeepEqual(got, list) {
		t.Errorf("%s\n%+v\n%q", out.String(), got, faults)
	}
}

// FuzzReader reads any bytes; what can be read must survive another turn.
func FuzzReader(f *testing.F) {
	f.Add(someFile, true)
	f.Add("start,end,from,to\n2025-03-01T10:00:00Z,,\"\"\"a;b\"\"@c\",b@example.net;C@EXAMPLE.net\n", false)
	f.Add("start\tend\tfrom\tto\n2025-03-01T10:00:00Z\t\tMy, Bank\t112\n", true)
	f.Fuzz(func(t *testing.T, text string, isCall bool) {
		o := mail()
		if isCall {
			o = calls()
		}
		var rejected, out bytes.Buffer
		o.Reject = &rejected
		r, err := NewReader(strings.NewReader(text), o)
		if err != nil {
			return
		}
		w := NewWriter(&out, o.Kind)
		var want []session.Communication
		bad := 0
		for {
			var c session.Communication
			var fault *LineError
			err := r.Next(&c)
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.As(err, &fault) {
				bad++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, c)
			if err := w.Write(&c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, faults := read(t, out.String(), Options{Kind: o.Kind, Now: o.Now})
		if len(faults) > 0 || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v\ncame back as\n%+v, %q", want, got, faults)
		}
		o.Reject = nil
		if good, faults := read(t, rejected.String(), o); len(good) > 0 || len(faults) != bad {
			t.Fatalf("of %d rejected lines %d are good, and %d bad", bad, len(good), len(faults))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	var text bytes.Buffer
	w := NewWriter(&text, session.Call)
	const n = 100_000
	for i := range n {
		at := noon.Add(-time.Duration(i) * time.Second).UnixNano()
		c := session.Communication{Kind: session.Call, Service: "voice", From: fmt.Sprintf("+45%08d", 20000000+i*7%50000), To: []string{fmt.Sprintf("+45%08d", 30000000+i*13%90000)},
			Start: at - 60e9, End: at, Subscriber: fmt.Sprint("c", i*7%50000), Equipment: fmt.Sprintf("35%013d", i*7%50000), SIM: fmt.Sprintf("23801%010d", i*7%50000),
			Cell: fmt.Sprint("238-01-", i%900), Place: "55.6761,12.5683", Delivered: session.Delivered}
		if err := w.Write(&c); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(text.Bytes()), Options{Kind: session.Call, Now: noon})
		if err != nil {
			b.Fatal(err)
		}
		var c session.Communication
		for err == nil {
			err = r.Next(&c)
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
