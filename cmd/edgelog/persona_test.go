package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edgelog/edgelog/tests/office"
)

// foreign is a user who has nothing to do with the gateway.
const foreign = 61050

// as is a program of the scripts: it runs edgelog as one of the persons.
func as() {
	who := map[string][2]int{"officer": {61001, office.Group}, "custodian": {61002, office.Group}, "auditor": {61003, office.Group}, "foreign": {foreign, foreign}}[os.Args[1]]
	if who[0] == 0 || os.Args[2] != "edgelog" {
		panic("as officer|custodian|auditor|foreign edgelog …")
	}
	must(errors.Join(syscall.Setgroups(nil), syscall.Setgid(who[1]), syscall.Setuid(who[0])))
	must(syscall.Exec("/proc/self/exe", os.Args[2:], os.Environ()))
}

// let is a command of the scripts: it gives a variable what the first group of a
// pattern matches in the last output.
func let(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: let NAME PATTERN")
	}
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%q is not in the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// TestPersonas runs a day of each of those who have to do with a gateway, against an
// agent that is a process of its own. Each has a user, a key and a directory.
func TestPersonas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("processes of other users are started by root")
	}
	mask := syscall.Umask(0o022) // an agent that ran in this process has set another
	defer syscall.Umask(mask)
	files, err := filepath.Glob("testdata/persona/*.txtar")
	if err != nil || len(files) != 5 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			h, kill := ownProcess(t)
			h.must("subscribers", "import", h.write("people.csv", "id,name,address,valid_from\n"+subscriber+",Anna Berg,Gade 1,2020-01-01\n"))
			h.loggedOn()
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Setup: func(e *testscript.Env) error { return h.furnish(e) },
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"let":     let,
					"kill-it": func(*testscript.TestScript, bool, []string) { kill() },
					"start":   func(*testscript.TestScript, bool, []string) { kill = h.agentProcess() },
				},
			})
		})
	}
}

// furnish gives a script what its persons know, and directories of their own.
func (h *house) furnish(e *testscript.Env) error {
	e.Setenv("GORACE", atOnce)
	now := time.Now().UTC()
	o := h.office
	for name, value := range map[string]string{
		"S": "--socket=" + h.socket(), "C": "--config=" + h.config, "OFFICER": o.Officer.Identity, "CUSTODIAN": o.Custodian.Identity, "AUDITOR": o.Auditor.Identity,
		"POLICE": o.Authority.Key, "AT": minutesAgo(5), "FROM": hourAgo(), "YEAR": now.Format("2006"), "QUARTER": fmt.Sprintf("%dQ%d", now.Year(), (now.Month()-1)/3+1),
		"DATA": filepath.Join(h.dir, "data"),
	} {
		e.Setenv(name, value)
	}
	key, err := os.ReadFile(o.Authority.Identity)
	if err != nil {
		return err
	}
	for name, uid := range map[string]int{"officer": int(o.Officer.UID), "custodian": int(o.Custodian.UID), "auditor": int(o.Auditor.UID), "foreign": foreign} {
		dir := filepath.Join(e.WorkDir, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, uid, -1)); err != nil {
			return err
		}
	}
	file := filepath.Join(e.WorkDir, "foreign", "police.key")
	return errors.Join(os.WriteFile(file, key, 0o600), os.Chown(file, foreign, -1), office.Passable(e.WorkDir))
}
