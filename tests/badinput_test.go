package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/office"
)

// nobody is a user without any rights.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// result is what a program said, and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// edgelog runs the program as a user; nil is the user of the test.
func edgelog(ctx context.Context, t *testing.T, as *syscall.Credential, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// refuses checks that a program ended because of an error that it told in one
// sentence, and its remedy with it or in a line of its own.
func (r result) refuses(t *testing.T, cause, remedy string) {
	t.Helper()
	if r.code != 1 && r.code != 2 || r.stdout != "" {
		t.Errorf("exit code %d, output %q", r.code, r.stdout)
	}
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if !strings.HasPrefix(lines[0], "edgelog: ") || !strings.Contains(lines[0], cause) {
		t.Errorf("the first line does not say %q: %s", cause, r.stderr)
	}
	if !strings.Contains(r.stderr, remedy) {
		t.Errorf("the remedy %q is not named: %s", remedy, r.stderr)
	}
	if len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "edgelog: hint: ") {
		t.Errorf("more than a sentence and a hint: %s", r.stderr)
	}
}

// place makes a directory that everybody can enter, with a configuration that
// is edited by replacing old with new.
func place(t *testing.T, old, new string) (dir, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgelog-place-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := edgelog(limited(t), t, nil, "init", "--dir", filepath.Join(dir, "gw"), "--gateway", "lab", "--provider", "Example Internet",
		"--uplink", "lo", "--profile", "session", "--legal-basis", "a test", "--local", "192.0.2.0/24"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	conf = filepath.Join(dir, "gw", "edgelog.toml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 && old != "" {
		t.Fatalf("%q is not once in the configuration", old)
	}
	if err := os.WriteFile(conf, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, conf
}

func TestAConfigurationThatIsWrongStopsTheStart(t *testing.T) {
	for _, c := range []struct{ name, old, new, cause, remedy string }{
		{"a text that is not closed", `profile = "session"`, `profile = "session`, "is not valid TOML", `texts stand in "quotes"`},
		{"a key that nobody knows", `half_open = "30s"`, `halfopen = "30s"`, "timeouts.halfopen is not a known key", `did you mean "half_open"?`},
		{"a profile that nobody knows", `profile = "session"`, `profile = "sessions"`, `"sessions"`, "session"},
		{"sessions without a legal basis", `legal_basis = "a test"`, `legal_basis = ""`, "legal_basis", "session"},
		{"a table that is no power of two", `slots = 1048576`, `slots = 1000000`, "slots", "power of two"},
		{"an attachment that nobody knows", `attach = "auto"`, `attach = "ebpf"`, `"ebpf"`, "tcx"},
		{"a private key among the public ones", `recipients = [`, `recipients = ["AGE-SECRET-KEY-1QQQQ",`, "recipients", "private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, conf := place(t, c.old, c.new)
			r := edgelog(limited(t), t, nil, "agent", "--config", conf)
			r.refuses(t, c.cause, c.remedy)
			if strings.Contains(r.stderr, "AGE-SECRET-KEY-1QQQQ") {
				t.Error("the message repeats a private key")
			}
		})
	}
}

func TestACaptureThatCannotBeReadIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct{ name, file, cause, remedy string }{
		{"a text", write("text", "this is a text and not a capture of anything"), "not a pcap or pcapng capture", "tcpdump"},
		{"an empty file", write("empty", ""), "shorter than a file header", "tcpdump"},
		{"a pcap without frames but with a foreign link type", write("wifi", "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x69\x00\x00\x00"+strings.Repeat("\x00", 12)+"\x04\x00\x00\x00abcd"), "link type", "Ethernet"},
		{"a directory", dir, "is a directory", ""},
		{"a file that is not there", filepath.Join(dir, "none"), "no such file", "name a capture"},
	} {
		t.Run(c.name, func(t *testing.T) {
			edgelog(limited(t), t, nil, "replay", "--json", c.file).refuses(t, c.cause, c.remedy)
		})
	}
}

func TestWithoutPrivilegesEachCommandSaysWhatIsMissing(t *testing.T) {
	_, names := captures(t, "open/arkime__pppoe.pcap")
	capture, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, conf := place(t, `bpf_dir = "/sys/fs/bpf/edgelog"`, `bpf_dir = "bpf"`)
	open, closed := filepath.Join(dir, "open.pcap"), filepath.Join(dir, "closed.pcap")
	if err := errors.Join(os.WriteFile(open, capture, 0o644), os.WriteFile(closed, capture, 0o600), os.Chmod(open, 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Run("a capture of somebody else", func(t *testing.T) {
		edgelog(limited(t), t, nobody, "replay", closed).refuses(t, "permission denied", "a user who may read")
	})
	t.Run("programs may not be loaded for a replay", func(t *testing.T) {
		edgelog(limited(t), t, nobody, "replay", open).refuses(t, "not permitted", "CAP_BPF")
	})
	t.Run("the named capabilities are enough for a replay", func(t *testing.T) {
		const caps = "-all,+bpf,+net_admin,+perfmon"
		out, err := exec.CommandContext(limited(t), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
			"--inh-caps="+caps, "--ambient-caps="+caps, "--bounding-set="+caps, binary, "replay", open).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a configuration of somebody else", func(t *testing.T) {
		edgelog(limited(t), t, nobody, "agent", "--config", conf).refuses(t, "permission denied", "run it as root")
	})
	t.Run("an agent that owns its files but nothing else", func(t *testing.T) {
		err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(name, int(nobody.Uid), int(nobody.Gid)))
		})
		if err != nil {
			t.Fatal(err)
		}
		ready := filepath.Join(dir, "ready")
		edgelog(limited(t), t, nobody, "agent", "--config", conf, "--log-level", "error", "--ready-file", ready).refuses(t, "not permitted", "CAP_NET_ADMIN")
		if _, err := os.Stat(ready); err == nil {
			t.Error("it says that it is ready")
		}
	})
}

func TestOnlyACustodiansKeyOpensAnAnswer(t *testing.T) {
	g := start(t, gateway.Options{Edit: quickEnds()})
	ctx := limited(t)
	w := newCrowd(t, g, 8080)
	if err := w.call(ctx, 8)(); err != nil {
		t.Fatal(err)
	}
	if _, err := allStored(ctx, g, 8); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stranger := filepath.Join(dir, "stranger.key")
	if out, err := exec.CommandContext(ctx, "age-keygen", "-o", stranger).CombinedOutput(); err != nil {
		t.Fatalf("age-keygen: %v: %s", err, out)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(office.Passable(dir), os.Chown(stranger, int(g.Office.Officer.UID), 0), os.Chmod(text, 0o644)); err != nil {
		t.Fatal(err)
	}
	id, _, err := g.Office.Approve(ctx, g.RunAs, "lookup", "--address", g.Subscribers[0].Addr4.String(), "--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "--to", "now")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, key, cause, remedy string }{
		{"the key of a stranger", stranger, "none of the data keys opens", "a request opens with the key of its officer"},
		{"a file that is no key", text, "--identity", "AGE-SECRET-KEY-1"},
		{"a file that is not there", filepath.Join(dir, "none"), "no such file", "the private key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := g.RunAs(ctx, g.Office.Officer, "lookup", "--request", fmt.Sprint(id), "--identity", c.key); err == nil ||
				!strings.Contains(err.Error(), c.cause) || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	storedOnce(t, g, w) // the custodian's own does
}
