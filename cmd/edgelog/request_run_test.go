package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAPackageThatIsNotWholeIsNotThereUnderItsName(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "answer.age")
	full := errors.New("the disk is full")
	out, err := newFile(name)
	if err != nil {
		t.Fatal(err)
	}
	err = out.fill(func(w io.Writer) error {
		_, err := io.WriteString(w, "half of it")
		return errors.Join(err, full)
	})
	out.drop()
	if list, _ := os.ReadDir(dir); !errors.Is(err, full) || len(list) != 0 {
		t.Errorf("%v, left behind: %v", err, list)
	}
	if out, err = newFile(name); err != nil {
		t.Fatal(err)
	}
	err = out.fill(func(w io.Writer) error { _, err := io.WriteString(w, "all of it"); return err })
	out.drop()
	if text, rerr := os.ReadFile(name); err != nil || rerr != nil || string(text) != "all of it" {
		t.Errorf("%v, %v, %q", err, rerr, text)
	}
}
