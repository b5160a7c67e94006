package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAConfigurationThatOthersMayChangeIsNotForAnAgent(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(t *testing.T, dir, file string)
		remedy string // "" when it is in order
	}{
		{"only its owner may write", func(*testing.T, string, string) {}, ""},
		{"its group may write", func(t *testing.T, _, file string) { chmod(t, file, 0o664) }, "chmod go-w FILE"},
		{"everybody may write", func(t *testing.T, _, file string) { chmod(t, file, 0o606) }, "chmod go-w FILE"},
		{"the directory's group may write", func(t *testing.T, dir, _ string) { chmod(t, dir, 0o770) }, "chmod go-w DIR"},
		{"everybody may write into the directory, as into /tmp", func(t *testing.T, dir, _ string) { chmod(t, dir, 0o777|os.ModeSticky) }, "chmod go-w DIR"},
		{"it belongs to somebody else", func(t *testing.T, _, file string) { chown(t, file, 4001) }, "chown root FILE"},
		{"the directory belongs to somebody else", func(t *testing.T, dir, _ string) { chown(t, dir, 4001) }, "chown root DIR"},
		{"it is a link into a directory that others may write", func(t *testing.T, dir, file string) {
			other := filepath.Join(dir, "other")
			if err := errors.Join(os.Mkdir(other, 0o700), os.Rename(file, filepath.Join(other, "real")), os.Symlink(filepath.Join(other, "real"), file)); err != nil {
				t.Fatal(err)
			}
			chmod(t, other, 0o777)
		}, "chmod go-w DIR/other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "edgelog.toml")
			if err := os.WriteFile(file, []byte(good+people), 0o600); err != nil {
				t.Fatal(err)
			}
			chmod(t, dir, 0o750)
			tc.spoil(t, dir, file)
			_, err := LoadGuarded(file)
			want := strings.NewReplacer("FILE", file, "DIR", dir).Replace(tc.remedy)
			switch {
			case tc.remedy == "" && err != nil:
				t.Error(err)
			case tc.remedy != "" && (!errors.Is(err, ErrUnguarded) || !strings.HasSuffix(err.Error(), "run: "+want)):
				t.Errorf("want %q, got %v", want, err)
			}
			if _, err := Load(file); err != nil {
				t.Errorf("who only asks where the socket is may read it: %v", err)
			}
		})
	}
}

func TestTheFilesThatNameUsersAreLookedAtOnlyWhereUsersAreNamed(t *testing.T) {
	guards := func(text string) string {
		return strings.Join(parsePeople(t, text).guards(), " ")
	}
	if got := guards(""); got != "/etc/edgelog/edgelog.toml /etc/edgelog" {
		t.Error(got)
	}
	if got := guards(people); got != "/etc/edgelog/edgelog.toml /etc/edgelog /etc/group /etc/passwd" {
		t.Error(got)
	}
	if got := guards("[agent]\nsocket_group = \"daemon\"\n"); got != "/etc/edgelog/edgelog.toml /etc/edgelog /etc/group" {
		t.Error(got)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// chown needs root, as the tests of the whole agent do.
func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Chown(path, uid, -1); err != nil {
		t.Fatal(err)
	}
}
