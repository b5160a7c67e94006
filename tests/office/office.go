package office

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/edgelog/edgelog/pkg/vault"
)

// Person is one of them.
type Person struct {
	Name     string
	UID      uint32 // 0: whoever runs the test
	Identity string // file of the private key
	Key      string // age recipient
}

// Group is the one whose members may use the socket.
const Group = 61000

// Credential is what a process of the person runs as.
func (p Person) Credential() *syscall.SysProcAttr {
	if p.UID == 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.UID, Gid: Group}}
}

// Office is all of them, and the authority that asks.
type Office struct {
	Officer, Custodian, Auditor, Authority Person
}

// Open makes keys in dir. The custodian has one already: the identity file that
// "edgelog init" wrote. Every directory above is opened for passing through.
func Open(dir, custodian string) (*Office, error) {
	o := &Office{
		Officer:   Person{Name: "Olga Officer", UID: 61001, Identity: filepath.Join(dir, "officer.key")},
		Custodian: Person{Name: "Carl Custodian", UID: 61002, Identity: filepath.Join(dir, "custodian.key")},
		Auditor:   Person{Name: "Aud Auditor", UID: 61003, Identity: filepath.Join(dir, "auditor.key")},
		Authority: Person{Name: "Police", Identity: filepath.Join(dir, "authority.key")},
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	if err := Passable(dir); err != nil {
		return nil, err
	}
	for _, p := range []*Person{&o.Officer, &o.Custodian, &o.Auditor, &o.Authority} {
		var text []byte
		if p == &o.Custodian {
			b, err := os.ReadFile(custodian)
			if err != nil {
				return nil, err
			}
			_, rest, _ := strings.Cut(string(b), "public key: ")
			p.Key, _, _ = strings.Cut(rest, "\n")
			text = b
		} else {
			pair, err := vault.GenerateIdentity()
			if err != nil {
				return nil, err
			}
			p.Key, text = pair.Recipient, pair.File()
		}
		if err := errors.Join(os.WriteFile(p.Identity, text, 0o600), os.Chown(p.Identity, int(p.UID), 0)); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// Passable opens temporary directories, and those that they lie in, for passing
// through.
func Passable(dirs ...string) error {
	for _, dir := range dirs {
		for d := dir; len(d) > len(os.TempDir()) && strings.HasPrefix(d, os.TempDir()); d = filepath.Dir(d) {
			st, err := os.Stat(d)
			if err != nil {
				return err
			}
			if err := os.Chmod(d, st.Mode().Perm()|0o011); err != nil {
				return err
			}
		}
	}
	return nil
}

// Hire has a configuration say who they are, and let them ask for all there is.
func (o *Office) Hire(config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "max_window ="):
			lines[i] = `max_window = "400d"`
		case strings.HasPrefix(line, "max_hits ="):
			lines[i] = "max_hits = 200000"
		case strings.HasPrefix(line, "# socket_group ="):
			lines[i] = fmt.Sprintf("socket_group = %d", Group)
		}
	}
	for _, p := range []struct {
		Person
		role, clearance string
	}{{o.Officer, "officer", "clearance_until = 2999-12-31\n"}, {o.Custodian, "custodian", "clearance_until = 2999-12-31\n"}, {o.Auditor, "auditor", ""}} {
		lines = append(lines, fmt.Sprintf("\n[[person]]\nname = %q\nuid = %d\nroles = [%q]\nkey = %q\n%s", p.Name, p.UID, p.role, p.Key, p.clearance))
	}
	return os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600)
}

// Run runs a command of edgelog as a person, and returns what it printed; the error
// has what it complained of.
type Run func(ctx context.Context, p Person, args ...string) (stdout string, err error)

// Answer is the way of a question: filed, approved, and read by "edgelog kind" on
// the terminal. Of args, --format is for the reading and --identity for the
// approval; all others are the question's.
func (o *Office) Answer(ctx context.Context, run Run, kind string, args ...string) (string, error) {
	id, format, err := o.Approve(ctx, run, kind, args...)
	if err != nil {
		return "", err
	}
	return run(ctx, o.Officer, append([]string{kind, "--request", strconv.FormatInt(id, 10), "--identity", o.Officer.Identity}, format...)...)
}

// Approve is Answer but for the reading: it returns the request that may be run now,
// and the flags for reading.
func (o *Office) Approve(ctx context.Context, run Run, kind string, args ...string) (id int64, reading []string, err error) {
	var question []string
	custodian := o.Custodian
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--format" && i+1 < len(args):
			reading, i = args[i:i+2], i+1
		case args[i] == "--identity" && i+1 < len(args):
			custodian.Identity, i = args[i+1], i+1
		default:
			question = append(question, args[i])
		}
	}
	if id, err = o.File(ctx, run, kind, question...); err != nil {
		return 0, nil, err
	}
	if _, err := run(ctx, custodian, "request", "approve", strconv.FormatInt(id, 10), "--yes", "--identity", custodian.Identity); err != nil {
		return 0, nil, err
	}
	return id, reading, nil
}

// File has the officer file a request, and returns its number.
func (o *Office) File(ctx context.Context, run Run, kind string, args ...string) (int64, error) {
	file := append([]string{"request", "new", kind}, args...)
	if !strings.Contains(" "+strings.Join(args, " "), " --reference") {
		file = append(file, "--reference", "case 7")
	}
	file = append(file, "--authority", "Police", "--legal-basis", "an order of the court", "--recipient", o.Authority.Key, "--max-hits", "200000", "--json")
	out, err := run(ctx, o.Officer, file...)
	if err != nil {
		return 0, err
	}
	var c struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		return 0, fmt.Errorf("read what was filed %q: %w", out, err)
	}
	return c.ID, nil
}
