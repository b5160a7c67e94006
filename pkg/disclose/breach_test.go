package disclose

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// registry is a register of breaches in a real ledger, sealed for a real key.
type registry struct {
	*BreachBook
	t      *testing.T
	now    time.Time
	ledger *ledger.Ledger
	ids    *vault.Identities
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{t: t, now: june}
	pair, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if r.ids, err = vault.ParseIdentities(bytes.NewReader(pair.File())); err != nil {
		t.Fatal(err)
	}
	to, err := vault.ParseRecipients([]string{pair.Recipient})
	if err != nil {
		t.Fatal(err)
	}
	r.ledger, err = ledger.Open(filepath.Join(t.TempDir(), "ledger"), ledger.Options{Origin: "test/gw1", Clock: func() time.Time { return r.now }, Seal: to.SealTo})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.ledger.Close() })
	if _, err := r.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Start}); err != nil { // so that no breach has the index 0
		t.Fatal(err)
	}
	r.reopen()
	return r
}

// reopen is what a restart does.
func (r *registry) reopen() {
	r.BreachBook = NewBreachBook(BreachOptions{
		Entries: r.ledger, Ledger: r.ledger, Gateway: "gw1", Now: func() time.Time { return r.now },
		Peer: func(*http.Request) string { return "uid 7 gid 7" },
	})
}

func (r *registry) add(edit func(*Breach)) *BreachFacts {
	r.t.Helper()
	b := stolen()
	edit(b)
	f, err := r.Add(r.t.Context(), b, "uid 7 gid 7")
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// stolen is a first notification with all that it needs.
func stolen() *Breach {
	return &Breach{
		Notification: BreachFirst, Provider: "Net", Contact: "dpo@net.example", Detected: "2025-06-15T10:00:00Z",
		Circumstances: "theft of a laptop\nfrom a car", Data: "names and lines of subscribers", Measures: "the disk was encrypted",
	}
}

func number(n int64) *int64 { return &n }

// whole fills what a complete notification needs more.
func whole(b *Breach) {
	b.Summary, b.Individuals, b.Consequences, b.Mitigation = "a car park in Aarhus", number(1200), "none that are known", "keys were replaced"
}

func TestABreachIsDueUntilItIsNotified(t *testing.T) {
	r := newRegistry(t)
	f := r.add(func(*Breach) {})
	due := func(want string) {
		t.Helper()
		list, err := r.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		now := list.Current()
		if got := now[len(now)-1].DueText(r.now); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if f.Number != 1 || f.Entry != 1 || f.State != BreachUnsent || !f.Due.Equal(time.Date(2025, 6, 16, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", f)
	}
	due("first notification due in 22 h")
	r.now = time.Date(2025, 6, 16, 10, 30, 0, 0, time.UTC)
	due("first notification OVERDUE by 30 min")
	if s, known := r.Standing(); !known || s.Open != 1 || s.Overdue != 1 || !s.Next.IsZero() {
		t.Errorf("%+v %v", s, known)
	}
	first := r.add(func(b *Breach) { b.Number, b.Corrects, b.Sent = 1, 1, "2025-06-16T12:15:00+02:00" }) // 10:15 in UTC
	if first.State != BreachIncomplete || first.Late() != "sent 24 h after the detection" {
		t.Errorf("%+v, %s", first, first.Late())
	}
	due("second notification due in 2 days")
	if s, _ := r.Standing(); s.Overdue != 0 || !s.Next.Equal(time.Date(2025, 6, 19, 10, 15, 0, 0, time.UTC)) {
		t.Errorf("%+v", s)
	}
	r.now = time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)
	r.add(func(b *Breach) { whole(b); b.Notification, b.Number = BreachSecond, 1 })
	due("second notification OVERDUE by 13 h") // it was not sent
	r.add(func(b *Breach) {
		whole(b)
		b.Notification, b.Number, b.Sent, b.Corrects = BreachSecond, 1, "2025-06-19T23:00:00Z", 3
	})
	due("the rest is to follow as soon as it is known")
	r.add(func(b *Breach) {
		whole(b)
		b.Notification, b.Number, b.Sent, b.Complete = BreachSecond, 1, "2025-06-19T23:30:00Z", true
	})
	due("complete")
	r.add(func(b *Breach) { b.Number, b.Corrects, b.Sent = 1, 2, "2025-06-16T09:00:00Z" }) // a slip in the first one
	due("complete")
	if s, _ := r.Standing(); s != (BreachStanding{}) {
		t.Errorf("%+v", s)
	}
}

func TestTheRegisterIsReadAgainFromTheLedger(t *testing.T) {
	r := newRegistry(t)
	r.add(func(b *Breach) { b.Sent = "2025-06-15T11:00:00Z" })
	r.add(func(b *Breach) { whole(b); b.Notification, b.Number = BreachSecond, 1 })
	r.add(func(b *Breach) { b.Number, b.Corrects, b.Sent = 1, 1, "2025-06-15T11:30:00Z" })
	before, _ := r.Load(t.Context())
	r.reopen()
	if _, known := r.Standing(); known {
		t.Error("it is known before the ledger was read")
	}
	after, err := r.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
}

func TestACompleteFirstNotificationNeedsNoSecond(t *testing.T) {
	r := newRegistry(t)
	f := r.add(func(b *Breach) { whole(b); b.Sent, b.Complete = "2025-06-15T11:00:00Z", true })
	if f.State != BreachComplete || !f.Due.IsZero() {
		t.Errorf("%+v", f)
	}
	if g := r.add(func(*Breach) {}); g.Number != 2 || g.State != BreachUnsent { // another breach has nothing to do with it
		t.Errorf("%+v", g)
	}
}

func TestAFormThatIsNotCompleteIsRefusedWithEachField(t *testing.T) {
	long := strings.Repeat("x", maxBreach)
	for _, c := range []struct {
		name string
		edit func(*Breach)
		want []string
	}{
		{"nothing is missing", func(*Breach) {}, nil},
		{"nothing is filled in", func(b *Breach) { *b = Breach{} }, []string{
			"provider is empty; it is field 1 of Annex I", "contact is empty", "detected is empty; it is field 4", "circumstances is empty",
			"data is empty", "measures is empty", `notification is ""; write "first" or "second"`,
		}},
		{"blanks are nothing", func(b *Breach) { b.Data = " \n" }, []string{"data is empty; it is field 6"}},
		{"a second one without its part", func(b *Breach) { b.Notification, b.Number = BreachSecond, 1 }, []string{
			"summary is empty; it is field 9", "individuals is empty; it is field 10", "consequences is empty", "mitigation is empty",
		}},
		{"a complete one without it", func(b *Breach) { b.Complete = true }, []string{"summary is empty", "individuals is empty", "consequences is empty", "mitigation is empty"}},
		{"a second one of nothing", func(b *Breach) { whole(b); b.Notification = BreachSecond }, []string{"number is missing; a second notification refers to the number of the first"}},
		{"a new one with a number", func(b *Breach) { b.Number = 3 }, []string{"number is given; leave it out of a new breach"}},
		{"a correction of nothing", func(b *Breach) { b.Corrects = 3 }, []string{"number is missing; say of which breach"}},
		{"a number below 0", func(b *Breach) { b.Number = -3 }, []string{"number or corrects is less than 0"}},
		{"a time without zone", func(b *Breach) { b.Detected = "2025-06-15 10:00" }, []string{`detected is no time: "2025-06-15 10:00"`}},
		{"a time to come", func(b *Breach) { b.Detected = "2025-06-15T12:00:01Z" }, []string{"detected lies in the future"}},
		{"sent before it was known", func(b *Breach) { b.Sent = "2025-06-15T09:00:00Z" }, []string{"sent is before the detection"}},
		{"fewer than nobody", func(b *Breach) { b.Individuals = number(-1) }, []string{"individuals is less than 0"}},
		{"subscribers were told, but not how", func(b *Breach) { b.Notified = number(4) }, []string{"notice_text, notice_means and notified belong together"}},
		{"nobody was told", func(b *Breach) { b.Notified = number(0) }, nil},
		{"a control character", func(b *Breach) { b.Data = "x\x1b[2J" }, []string{"data holds a control character"}},
		{"no UTF-8", func(b *Breach) { b.Data = "\xff" }, []string{"data holds a control character"}},
		{"too long", func(b *Breach) { b.Data = long }, []string{"at most 40960 fit into an entry"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := stolen()
			c.edit(b)
			err := b.Check(june)
			if err == nil {
				err = errors.New("")
			} else if !errors.Is(err, ErrBreach) {
				t.Error(err)
			}
			if n := len(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })); n != len(c.want) {
				t.Errorf("%d problems instead of %d:\n%v", n, len(c.want), err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in\n%v", w, err)
				}
			}
		})
	}
}

func TestANotificationIsRefusedThatDoesNotFitTheRegister(t *testing.T) {
	r := newRegistry(t)
	r.add(func(*Breach) {})
	for _, c := range []struct {
		name string
		edit func(*Breach)
		want string
	}{
		{"a second one before the first is sent", func(b *Breach) { b.Notification, b.Number = BreachSecond, 1 }, "the first notification of breach number 1 is not said to be sent"},
		{"of a breach that is not there", func(b *Breach) { b.Notification, b.Number = BreachSecond, 2 }, "there is no breach number 2"},
		{"a correction of an entry that is not there", func(b *Breach) { b.Number, b.Corrects = 1, 9 }, "entry 9 is no first notification of breach number 1"},
		{"a correction of an entry of another kind", func(b *Breach) { b.Notification, b.Number, b.Corrects = BreachSecond, 1, 1 }, "entry 1 is no second notification"},
	} {
		b := stolen()
		whole(b)
		c.edit(b)
		if _, err := r.Add(t.Context(), b, "x"); !errors.Is(err, ErrBreach) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := r.ledger.Size(); n != 2 {
		t.Errorf("%d entries", n)
	}
}

func TestTheLedgerHasTheFormSealedAndNobodyInTheClear(t *testing.T) {
	r := newRegistry(t)
	f := r.add(whole)
	records, err := r.ledger.Entries(t.Context(), f.Entry, f.Entry+1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"number": "1", "notification": "first", "detected": "2025-06-15T10:00:00.000Z", "complete": "false", "state": "unsent", "due": "2025-06-16T10:00:00.000Z",
	}
	if d := cmp.Diff(want, records[0].Fields); d != "" || records[0].Kind != ledger.Breach {
		t.Error(d)
	}
	if bytes.Contains(records[0].Sealed, []byte("laptop")) {
		t.Error("the form is in the clear")
	}
	list, _ := r.Load(t.Context())
	opened, err := OpenBreaches(list, 0, r.ids)
	if err != nil {
		t.Fatal(err)
	}
	form := stolen()
	whole(form)
	form.Number = 1
	if d := cmp.Diff(form, opened[0].Form); d != "" || opened[0].By != "uid 7 gid 7" {
		t.Error(d)
	}
	other, err := vault.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := vault.ParseIdentities(bytes.NewReader(other.File()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBreaches(list, 1, ids); !errors.Is(err, vault.ErrWrongIdentity) {
		t.Error(err)
	}
	list.Entries[0].Sealed[len(list.Entries[0].Sealed)-1] ^= 1
	if _, err := OpenBreaches(list, 1, r.ids); !errors.Is(err, vault.ErrDamaged) || !strings.Contains(err.Error(), "entry 1") {
		t.Error(err)
	}
}

func TestAFormThatFitsUnsealedButNotSealedIsSaidToBeTooLong(t *testing.T) {
	r := newRegistry(t)
	r.o.Ledger = tooLarge{r.ledger}
	if _, err := r.Add(t.Context(), stolen(), "x"); !errors.Is(err, ErrBreach) || !strings.Contains(err.Error(), "shorten it") {
		t.Error(err)
	}
	r.reopen()
	f := r.add(func(b *Breach) { b.Data = strings.Repeat("ø", maxBreach/2-300) }) // as long as one may be
	list, _ := r.Load(t.Context())
	if opened, err := OpenBreaches(list, f.Number, r.ids); err != nil || len(opened) != 1 {
		t.Error(err)
	}
}

type tooLarge struct{ *ledger.Ledger }

func (tooLarge) Append(context.Context, ledger.Entry) (int64, error) { return 0, ledger.ErrTooLarge }

func TestAnEntryThatIsNotUnderstoodIsCountedAndTheOthersAreShown(t *testing.T) {
	r := newRegistry(t)
	if _, err := r.ledger.Append(t.Context(), ledger.Entry{Kind: ledger.Breach, Fields: map[string]string{"number": "one"}}); err != nil {
		t.Fatal(err)
	}
	r.add(func(*Breach) {})
	list, err := r.Load(t.Context())
	if err != nil || list.Unread != 1 || len(list.Entries) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTheRegisterAnswersOnTheSocket(t *testing.T) {
	r := newRegistry(t)
	mux := http.NewServeMux()
	r.Serve(func(pattern string, h http.HandlerFunc) { mux.HandleFunc(pattern, h) })
	send := func(method string, body any) *httptest.ResponseRecorder {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, PathBreach, bytes.NewReader(b)))
		return w
	}
	if w := send(http.MethodPost, stolen()); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(http.MethodPost, &Breach{}); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "provider is empty") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(http.MethodPost, map[string]string{"weather": "fine"}); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "weather") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(http.MethodPost, map[string]string{"data": strings.Repeat("x", maxRequest)}); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "longer than 64 KiB") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var list BreachList
	if err := json.Unmarshal(send(http.MethodGet, nil).Body.Bytes(), &list); err != nil || len(list.Entries) != 1 || list.Gateway != "gw1" {
		t.Errorf("%v %+v", err, list)
	}
	r.o.Peer = func(*http.Request) string { return "" }
	if w := send(http.MethodPost, stolen()); w.Code != http.StatusForbidden {
		t.Errorf("somebody whom nobody knows has registered: %d", w.Code)
	}
	r.o.Peer = func(*http.Request) string { return "uid 7 gid 7" }
	if err := r.ledger.Close(); err != nil {
		t.Fatal(err)
	}
	if w := send(http.MethodPost, stolen()); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAFormComesBackFromItsTextAsItWas(t *testing.T) {
	b := stolen()
	whole(b)
	b.Number, b.Corrects, b.Sent, b.Complete = 4, 17, "2025-06-15T11:00:00Z", true
	b.NoticeText, b.NoticeMeans, b.Notified = "it's \"us\" \\ '''\n\n\tøæå", "mail", number(0)
	back, err := ParseBreachForm([]byte(BreachForm(b)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b, back); d != "" {
		t.Error(d)
	}
	empty, err := ParseBreachForm([]byte(BreachForm(&Breach{})))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Breach{Notification: BreachFirst}, empty); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]string{
		"provider = Net":                           "line 1 of the form",
		"individuals = \"many\"":                   "numbers do not",
		"provder = \"Net\"\nweather = 1":           "did you mean \"provider\"?\n",
		"weather = 1":                              "\"edgelog breach form\" shows all keys",
		"detected = 2025-06-15T10:00:00Z":          "times stand in quotes",
		"complete = \"yes\"":                       "not understood",
		"individuals = 99999999999999999999999999": "line 1",
		"data = \"\"\"\nan unfinished text":        "of the form",
		"[section]\nprovider = \"Net\"":            "section is not a key",
		"provider = \"a\"\nprovider = \"b\"":       "line 2",
		"provider = \"\xff\"":                      "of the form",
	} {
		if _, err := ParseBreachForm([]byte(text)); !errors.Is(err, ErrBreach) || !strings.Contains(err.Error()+"\n", want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestABreachIsExportedForTheAuthorityInEachFormat(t *testing.T) {
	r := newRegistry(t)
	r.add(func(b *Breach) { b.Data = `=cmd|' /C calc'!A0 <script>alert(1)</script>` })
	r.add(func(b *Breach) { b.Number, b.Corrects, b.Sent = 1, 1, "2025-06-15T11:00:00Z" })
	list, _ := r.Load(t.Context())
	opened, err := OpenBreaches(list, 1, r.ids)
	if err != nil {
		t.Fatal(err)
	}
	export := func(format string) string {
		t.Helper()
		var out bytes.Buffer
		if err := ExportBreach(&out, opened, "gw1", format); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	text := export("text")
	for _, want := range []string{
		"breach 1, first notification: entry 1 of the ledger, 2025-06-15T12:00:00.000Z; corrected by entry 2; not sent yet\n",
		"breach 1, first notification: entry 2 of the ledger, 2025-06-15T12:00:00.000Z; corrects entry 1; sent 2025-06-15T11:00:00.000Z\n",
		" 3  first or second notification\n      first\n", " 5  circumstances\n      theft of a laptop\n      from a car\n", "17  notification of other competent authorities\n      -\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if page := export("html"); strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;") || strings.Count(page, "<section>") != 2 {
		t.Error(page)
	}
	rows, err := csv.NewReader(strings.NewReader(export("csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1+2*(len(breachFields)+1) || rows[7][6] != "data" || !strings.HasPrefix(rows[7][8], "'=cmd") {
		t.Errorf("%d rows: %q", len(rows), rows[7])
	}
	var back struct {
		Entries []OpenedBreach `json:"entries"`
	}
	if err := json.Unmarshal([]byte(export("json")), &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(opened, back.Entries); d != "" {
		t.Error(d)
	}
	if err := ExportBreach(&bytes.Buffer{}, opened, "gw1", "xml"); err == nil {
		t.Error("xml is known")
	}
}
