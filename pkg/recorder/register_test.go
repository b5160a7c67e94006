package recorder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lines are n rows of an import, and what ends it.
func lines(n int, end *int) io.Reader {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range n {
		_ = enc.Encode(RegisterRow{ID: fmt.Sprintf("id%06d", i), Name: "Thorvald Hemmelig", Address: fmt.Sprint("Skjult vej ", i)})
	}
	if end != nil {
		_ = enc.Encode(RegisterRow{End: end})
	}
	return &b
}

func (r *room) importRegister(query string, body io.Reader) (code int, answer string) {
	r.t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.Config().Socket())
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Post("http://agent"+PathRegister+"?sha256="+strings.Repeat("ab", 32)+query, "", body)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestARegisterCountsWhenAllOfItIsSealedAndCannotBeReadHere(t *testing.T) {
	r := newRoom(t, "")
	stop := r.start()
	n := 10_000
	if code, text := r.importRegister("", lines(n, &n)); code != http.StatusOK || !strings.Contains(text, "10000") {
		t.Fatalf("%d %s", code, text)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if err := s.Balance(); err != nil || s.Register.Rows != uint64(n) || !s.Register.Imported.Equal(evening) || s.Register.Old() {
		t.Errorf("%v, %+v", err, s.Register)
	}
	directories := func() (count int) {
		t.Helper()
		if _, err := r.Shelf().Registers(t.Context(), evening.AddDate(1, 0, 0).UnixNano(), func([]byte) error { count++; return nil }); err != nil {
			t.Fatal(err)
		}
		return count
	}
	if directories() != 1 {
		t.Errorf("%d imports count", directories())
	}
	more, none := n+1, 0
	for name, body := range map[string]io.Reader{
		"cut off": lines(5000, nil), "another number of rows": lines(n, &more), "no rows": lines(0, &none), "not JSON": strings.NewReader("id,name\n"),
		"out of order": io.MultiReader(lines(2, nil), lines(2, nil)), "something behind the end": io.MultiReader(lines(1, new(int)), lines(1, nil)),
	} {
		if code, text := r.importRegister("", body); code != http.StatusBadRequest || !strings.Contains(text, errRegister.Error()) || strings.Contains(text, "Thorvald") {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	for _, query := range []string{"&from=yesterday", "&from=2999-01-01T00:00:00Z", "&sha256"} {
		if code, _ := r.importRegister(query, lines(1, nil)); code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, code)
		}
	}
	if directories() != 1 {
		t.Errorf("%d imports count, though only one was whole", directories())
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Status().Balance(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.shut()
	nowhere(t, r.dir, "Hemmelig", "Skjult", "id000001")
	r.clock.add(301 * 24 * 3600 * 1e9)
	r.open()
	if s := r.Status().Register; !s.Imported.Equal(evening) || !s.Old() {
		t.Errorf("after a restart and 301 days: %+v", s)
	}
}

// nowhere looks for texts in all files.
func nowhere(t *testing.T, dir string, texts ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%q stands in %s", text, path)
			}
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}
