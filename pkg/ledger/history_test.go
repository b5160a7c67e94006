package ledger

import (
	"errors"
	"fmt"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// grown returns a ledger of size entries and the notes of all its checkpoints on
// the way, one after each step.
func grown(t *testing.T, dir string, steps ...int) (l *Ledger, notes [][]byte) {
	t.Helper()
	l = mustOpen(t, dir)
	for _, n := range steps {
		fill(t, l, n)
		notes = append(notes, l.Checkpoint().Note)
	}
	return l, notes
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := memoryDir(t)
	must(t, os.CopyFS(to, os.DirFS(from)))
	must(t, os.Chmod(filepath.Join(to, KeyName), 0o600))
	return to
}

func TestALedgerGoesOnFromEachOfItsCheckpoints(t *testing.T) {
	dir := memoryDir(t)
	l, notes := grown(t, dir, 0, 1, 1, 5, 248, 1, 1, 256, 100)
	r := mustRead(t, dir, l.VerifierKey())
	for i, n := range notes {
		if err := r.Consistent(n); err != nil {
			t.Errorf("checkpoint %d: %v", i, err)
		}
		if err := l.Consistent(n); err != nil {
			t.Errorf("checkpoint %d, the owner: %v", i, err)
		}
	}
	for i, c := range r.Against(notes) {
		if c.Err != nil || c.Size < 0 {
			t.Errorf("checkpoint %d: %+v", i, c)
		}
	}
}

func TestACutAnOldCopyAndAForkAreToldApartWithTheirNumbers(t *testing.T) {
	dir := memoryDir(t)
	l, notes := grown(t, dir, 10, 290)
	must(t, l.Close())
	old := copyDir(t, dir) // of 300 entries
	l, later := grown(t, dir, 50, 250)
	must(t, l.Close())
	key := l.VerifierKey()
	fork := copyDir(t, old)
	f, forked := grown(t, fork, 400)
	must(t, f.Close())
	foreign, foreignKey := closedLedger(t, 5)

	cases := []struct {
		name  string
		dir   string
		notes [][]byte
		want  []string // of each note: what is told, "" for nothing
	}{
		{"what it is", dir, [][]byte{notes[0], notes[1], later[0], later[1]}, []string{"", "", "", ""}},
		{"fewer entries than one checkpoint", old, [][]byte{later[1]},
			[]string{"cut: it has 300 entries, and a checkpoint of 600 was signed: the last 300 were cut off, or an older copy"}},
		{"with one that agrees", old, [][]byte{notes[0], later[0]}, []string{"", "cut: it has 300 entries, and a checkpoint of 350 was signed: the last 50 were cut off, or an older copy of it was put back; up to 10 entries it agrees"}},
		{"one checkpoint is just where it stands", old, [][]byte{notes[1], later[1]},
			[]string{"", "older copy restored: it stands where its checkpoint of 300 entries left it, and one of 600 was signed: 300 entries are missing"}},
		{"others where signed ones were", fork, [][]byte{notes[0], notes[1], later[0]},
			[]string{"", "", "forked: of its 700 entries the first 350 are not those that were signed; up to 300 entries it agrees"}},
		{"the other branch", dir, [][]byte{forked[0]}, []string{"cut: it has 600 entries, and a checkpoint of 700 was signed"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := mustRead(t, c.dir, key)
			for i, got := range r.Against(c.notes) {
				switch {
				case c.want[i] == "" && got.Err != nil, c.want[i] != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), c.want[i])):
					t.Errorf("note %d: got %v, want %q", i, got.Err, c.want[i])
				case got.Err != nil && !errors.Is(got.Err, ErrHistory):
					t.Errorf("note %d: %v is no fault of its history", i, got.Err)
				}
			}
		})
	}
	r := mustRead(t, foreign, foreignKey)
	if got := r.Against(notes); got[0].Size != -1 || !errors.Is(got[0].Err, ErrBroken) {
		t.Errorf("of another ledger: %+v", got)
	}
	same := copyDir(t, old)
	l, _ = grown(t, same, 50)
	must(t, l.Close())
	if err := mustRead(t, same, key).Consistent(later[0]); err == nil || !strings.Contains(err.Error(), "forked: of its 350 entries the first 350") {
		t.Errorf("as many entries, and others: %v", err)
	}
}

func TestCheckpointsAreFoundInWhateverTheyWereKept(t *testing.T) {
	dir := memoryDir(t)
	l, notes := grown(t, dir, 0, 3, 300)
	c := l.Checkpoint()
	other, _ := closedLedger(t, 2)
	foreign, err := os.ReadFile(filepath.Join(other, CheckpointName))
	must(t, err)
	quoted := "> " + strings.ReplaceAll(strings.TrimSuffix(string(notes[1]), "\n"), "\n", "\n> ")
	cases := []struct {
		name string
		text string
		want int
	}{
		{"nothing", "", 0},
		{"one", string(notes[0]), 1},
		{"one behind the other", string(notes[0]) + string(notes[1]) + string(notes[2]), 3},
		{"with empty lines between", string(notes[0]) + "\n\n" + string(notes[1]), 2},
		{"the lines of mail", "From: a@example.net\nSubject: checkpoint\n\nHello,\n\n" + string(notes[1]) + "\n-- \nthe gateway\n", 1},
		{"line ends of mail", strings.ReplaceAll(string(notes[1]), "\n", "\r\n"), 1},
		{"quoted", quoted, 1},
		{"mail that a server wrote anew", "Content-Transfer-Encoding: Quoted-Printable\n\n" + printableMail(t, string(notes[1])+"\n"+string(notes[2])), 2},
		{"a log", "<86>Jan  2 03:04:05 gw1 edgelog[7]: " + c.Line() + "\nJan  2 03:04:06 gw1 other\n", 1},
		{"a log in JSON", `{"message":"` + c.Line() + `"}`, 1},
		{"cut off before its end", string(notes[1][:len(notes[1])-130]), 0},
	}
	r := mustRead(t, dir, l.VerifierKey())
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			found, others := FindCheckpoints([]byte(k.text), c.Origin)
			if len(found) != k.want || others != 0 {
				t.Fatalf("%d found, %d of others: %q", len(found), others, found)
			}
			for _, n := range found {
				if err := r.Consistent(n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if found, others := FindCheckpoints(foreign, "another"); len(found) != 0 || others != 1 {
		t.Errorf("of another ledger: %q, %d", found, others)
	}
	if origin, err := OriginOf(l.VerifierKey()); err != nil || origin != c.Origin {
		t.Errorf("%q, %v", origin, err)
	}
	if _, err := OriginOf("x"); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

func printableMail(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, err := w.Write([]byte(text))
	must(t, errors.Join(err, w.Close()))
	return b.String()
}

func TestEveryKindIsKept(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	for _, k := range []Kind{"request", "breach", "witness"} {
		i, err := l.Append(t.Context(), Entry{Kind: k, Fields: map[string]string{"state": "filed"}})
		must(t, err)
		if got, err := l.Entries(t.Context(), i, i+1); err != nil || got[0].Kind != k {
			t.Errorf("%s: %v, %v", k, got, err)
		}
	}
	text, err := os.ReadFile("FORMAT.md")
	must(t, err)
	for k := range kinds {
		if !strings.Contains(string(text), fmt.Sprintf("`%s`", k)) {
			t.Errorf("FORMAT.md does not name the kind %q", k)
		}
	}
}
