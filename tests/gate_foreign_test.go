package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/tests/lab"
)

// foreign is the machine of the authority, as far as a process can tell: without a
// network, on a user that nobody else has, with an empty home and an empty
// environment, and with nothing of the gateway's files. What came there is its own
// key, the gateway's public key, a checkpoint that was kept, and the packages.
type foreign struct {
	t   *testing.T
	a   *affair
	in  *lab.Namespace
	dir string
}

const foreignUID = 61009

func newForeign(t *testing.T, a *affair, checkpoint string) *foreign {
	t.Helper()
	in, err := a.Lab.Namespace("foreign")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "edgelog-foreign-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &foreign{t, a, in, dir}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "home"), 0o700), os.Chown(filepath.Join(dir, "home"), foreignUID, foreignUID), os.Chown(dir, foreignUID, foreignUID)); err != nil {
		t.Fatal(err)
	}
	f.brought(a.Office.Authority.Identity, "authority.key")
	f.brought(checkpoint, "checkpoint")
	key := filepath.Join(a.Dir, "ledger.pub")
	if err := os.WriteFile(key, []byte(a.as(a.Office.Auditor, "audit", "key")), 0o600); err != nil {
		t.Fatal(err)
	}
	f.brought(key, "ledger.pub")
	for _, name := range []string{a.Socket(), a.Config, a.Identity} { // all that a program could ask there
		if _, err := f.run("ls", name); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if out := f.must("cat", "/proc/net/dev"); strings.Count(out, ":") != 1 || !strings.Contains(out, "lo:") {
		t.Errorf("it has a network:\n%s", out)
	}
	return f
}

// brought copies a file there.
func (f *foreign) brought(from, name string) {
	f.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		to := filepath.Join(f.dir, name)
		err = errors.Join(os.WriteFile(to, b, 0o600), os.Chown(to, foreignUID, foreignUID))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// foreignScript hides a directory, and becomes somebody else.
const foreignScript = `mount -t tmpfs -o mode=0700 none "$1" && cd "$2" && uid=$3 && shift 3 &&
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
	env -i HOME="$PWD/home" PATH=/usr/bin:/bin TZ=UTC LC_ALL=C.UTF-8 "$@"`

func (f *foreign) run(args ...string) (string, error) {
	var out bytes.Buffer
	_, err := f.in.RunCommand(limited(f.t), lab.Command{
		Path: "unshare", Args: append([]string{"--mount", "sh", "-c", foreignScript, "sh", f.a.Dir, f.dir, strconv.Itoa(foreignUID)}, args...), Stdout: &out,
	})
	return out.String(), err
}

func (f *foreign) must(args ...string) string {
	f.t.Helper()
	out, err := f.run(args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// holds has the package verified there, of so many records, and returns what
// "edgelog package show" says of it.
func (f *foreign) holds(file string, records int) string {
	f.t.Helper()
	f.brought(file, "answer.age")
	with := []string{"answer.age", "--identity", "authority.key", "--public-key", "ledger.pub"}
	var r struct {
		Whole    bool
		Manifest struct {
			Answer struct{ Found, Delivered int }
		}
	}
	verify := append([]string{binary, "package", "verify"}, with...)
	if out := f.must(append(verify, "--against", "checkpoint", "--json")...); json.Unmarshal([]byte(out), &r) != nil || !r.Whole || r.Manifest.Answer.Found != records || r.Manifest.Answer.Delivered != records {
		f.t.Errorf("%d records: %+v\n%s", records, r, out)
	}
	if out := f.must(verify...); strings.Contains(out, "INCOMPLETE") {
		f.t.Errorf("%s", out)
	}
	text := f.must(append([]string{binary, "package", "show"}, with...)...)
	if left, err := os.ReadDir(filepath.Join(f.dir, "home")); err != nil || len(left) > 0 {
		f.t.Errorf("it left in the home %v, %v", left, err)
	}
	if strings.Contains(text, "anna") || strings.Contains(text, "Berg") {
		f.t.Errorf("what is to be shown of it names somebody:\n%s", text)
	}
	return text
}

// opens is holds, and then the same with nothing of edgelog: each form of the answer
// is read by another program, and names anna in each record and nobody else.
func (f *foreign) opens(file, kind string, records int) string {
	f.t.Helper()
	text := f.holds(file, records)
	f.must("age", "-d", "-i", "authority.key", "-o", "answer.zip", "answer.age")
	f.must("unzip", "-q", "-o", "answer.zip", "-d", kind)
	names := func(how, out string) {
		f.t.Helper()
		if got := strings.Fields(out); len(got) != records || strings.Join(got, " ") != strings.TrimSpace(strings.Repeat("anna ", records)) {
			f.t.Errorf("%s of %s names %q, not anna in %d records", how, kind, got, records)
		}
	}
	names("python's csv", f.must("python3", "-c",
		`import csv,sys; [print(r["subscriber"]) for r in csv.DictReader(open(sys.argv[1],encoding="utf-8",newline=""),strict=True)]`, kind+"/"+kind+".csv"))
	names("python's json", f.must("python3", "-c",
		`import json,sys; [print(json.loads(l)["subscriber"]) for l in open(sys.argv[1],encoding="utf-8")]`, kind+"/"+kind+".jsonl"))
	f.must("xmllint", "--noout", "--nonet", kind+"/response.xml")
	xml := f.must("xmllint", "--nonet", "--xpath", `//*[local-name()="subscriberID"]/text()`, kind+"/response.xml")
	if got := strings.Fields(xml); len(got) == 0 || strings.Trim(strings.Join(got, ""), "an") != "" {
		f.t.Errorf("xmllint names %q", got)
	}
	if out := f.must("xmllint", "--nonet", "--xpath", `string(.)`, kind+"/response.xml"); !strings.Contains(out, "Anna Berg") && !strings.Contains(out, "Berg") {
		f.t.Errorf("the register's name is not in the XML:\n%s", out)
	}
	ipfix := f.must("tshark", "-n", "-r", kind+"/"+kind+".ipfix", "-T", "text", "-O", "cflow")
	users := regexp.MustCompile(`User Name: (\S+)`).FindAllStringSubmatch(ipfix, -1)
	for _, u := range users {
		if u[1] != "anna" {
			f.t.Errorf("tshark names %q", u[1])
		}
	}
	if len(users) < records || strings.Contains(ipfix, "Malformed") {
		f.t.Errorf("tshark shows %d names:\n%s", len(users), ipfix)
	}
	if page := f.must("cat", kind+"/summary.html"); !strings.Contains(page, "Anna Berg") {
		f.t.Error("the page for people does not name her")
	}
	f.must("rm", "-r", "answer.age", "answer.zip", kind)
	return text
}
