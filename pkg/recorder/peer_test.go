package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/vault"
)

// askVariable names the socket for a process that is a peer and nothing else.
const askVariable = "EDGELOG_TEST_ASK"

// ask sends each "METHOD PATH" over one connection and prints what comes back.
// What is read from stdin has it wait before each but the first.
func ask(socket string, requests []string, out io.Writer) int {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for i, r := range requests {
		if i > 0 {
			_, _ = os.Stdin.Read(make([]byte, 1))
		}
		method, path, _ := strings.Cut(r, " ")
		req, err := http.NewRequestWithContext(context.Background(), method, "http://agent"+path, nil)
		if err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
		resp, err := client.Do(req)
		switch {
		case errors.Is(err, os.ErrPermission):
			fmt.Fprintln(out, "not reached")
			continue
		case err != nil:
			fmt.Fprintln(out, err)
			return 1
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		fmt.Fprintln(out, resp.StatusCode)
	}
	return 0
}

// program returns a copy of this program that every user may run.
func (r *room) program() string {
	r.t.Helper()
	if os.Geteuid() != 0 {
		r.t.Skip("to become another user needs root")
	}
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		r.t.Fatal(err)
	}
	path := filepath.Join(r.dir, "peer")
	if err := errors.Join(os.Chmod(r.dir, 0o755), os.WriteFile(path, text, 0o755), os.Chmod(path, 0o755)); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// peer returns the command of a process of another user.
func (r *room) peer(program string, p Peer, requests ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.t.Context(), program, requests...)
	cmd.Dir, cmd.Env = "/", []string{askVariable + "=" + r.Config().Socket()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.UID, Gid: p.GID, Groups: p.Groups}}
	return cmd
}

func TestProcessesOfOtherUsersGetWhatTheirRolesAllow(t *testing.T) {
	s := newStaff(t)
	r := newRoom(t, s.text+"[agent]\nsocket_group = 4700\n")
	program := r.program()
	stop := r.start()
	for _, tc := range []struct {
		name string
		peer Peer
		want string // of status, wrapped keys, holds
	}{
		{"root", Peer{}, "200 403 200"},
		{"an officer in the socket's group", Peer{UID: 4001, GID: 4001, Groups: []uint32{4700}}, "403 403 200"},
		{"a custodian, whose primary group it is", Peer{UID: 4002, GID: 4700}, "403 200 200"},
		{"an auditor with many groups", Peer{UID: 4003, GID: 4003, Groups: many(4700)}, "200 403 200"},
		{"an operator by a group that comes last of many", Peer{UID: 5001, GID: 4700, Groups: many(4500)}, "200 403 200"},
		{"a stranger in the socket's group", Peer{UID: 5003, GID: 4700}, "403 403 403"},
		{"an officer who is not in it", Peer{UID: 4001, GID: 4001}, "not reached not reached not reached"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := r.peer(program, tc.peer, "GET /v1/status", "GET /v1/keys", "GET /v1/holds")
			out, err := cmd.CombinedOutput()
			if got := strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), " "); err != nil || got != tc.want {
				t.Errorf("%v, want %s, got %s", err, tc.want, got)
			}
		})
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, payloads := r.refusedEntries(s.ids["auditor"])
	if text := strings.Join(payloads, "\n"); !strings.Contains(text, `"uid":5003,"gid":4700`) || !strings.Contains(text, `"person":"The officer"`) {
		t.Error(text)
	}
}

// many returns more groups than fit into the first buffer, gid the last of them.
func many(gid uint32) []uint32 {
	var out []uint32
	for n := range uint32(100) {
		out = append(out, 100+n)
	}
	return append(out, gid)
}

func TestAReloadTakesARoleFromAConnectionThatIsOpen(t *testing.T) {
	s := newStaff(t)
	r := newRoom(t, s.text+"[agent]\nsocket_group = 4700\n")
	program := r.program()
	stop := r.start()
	cmd := r.peer(program, Peer{UID: 4002, GID: 4700}, "GET /v1/keys", "GET /v1/keys")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var first, second int
	if _, err := fmt.Fscan(out, &first); err != nil {
		t.Fatal(err)
	}
	// The custodian becomes an operator and nothing else.
	text := replaceOnce(t, r.text, `roles = ["custodian"]`, `roles = ["operator"]`)
	cut := strings.Index(text, `roles = ["operator"]`)
	end := cut + strings.Index(text[cut:], "[[person]]")
	text = text[:cut] + "roles = [\"operator\"]\n" + text[end:]
	if _, err := r.Reload(t.Context(), r.config(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(out, &second); err != nil || first != http.StatusOK || second != http.StatusForbidden {
		t.Errorf("%v: %d, then %d", err, first, second)
	}
	if err := errors.Join(cmd.Wait(), stop()); err != nil {
		t.Error(err)
	}
}

// opens returns for each refusal in the ledger whether these keys open it.
func (r *room) opens(ids *vault.Identities) (out []bool) {
	for _, e := range r.entries() {
		if e.Kind == ledger.Refused {
			_, err := vault.OpenSealed(e.Sealed, ids)
			out = append(out, err == nil)
		}
	}
	return out
}

func TestAReloadOfPersonsNeedsNoRestartAndTheLedgerNamesNobody(t *testing.T) {
	s, next := newStaff(t), newStaff(t)
	r := newRoom(t, "")
	before := r.text
	beRefused := func() {
		r.clock.add(refusedEvery)
		r.send("stranger", "POST", "/v1/backup")
	}
	reload := func(text string) Reloaded {
		t.Helper()
		done, err := r.Reload(t.Context(), r.config(text))
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	beRefused()
	done := reload(before + s.text + "[[contact]]\nname = \"Desk\"\nphone = \"+45 1\"\nhours = \"00:00-24:00\"\n[disclose]\nmax_hits = 7\n")
	if d := cmp.Diff(Reloaded{Changed: []string{"person", "roles", "contact", "disclose"}, NeedsRestart: []string{"custodians"}}, done); d != "" {
		t.Error(d)
	}
	if got := r.Config(); len(got.People.Persons) != 4 || got.Disclose.MaxHits != 7 || len(got.Contacts) != 1 || len(got.Custodians.Recipients) != 1 {
		t.Errorf("in force: %+v", got)
	}
	beRefused()
	reload(before + next.text)
	beRefused()

	for who, want := range map[*vault.Identities][]bool{
		r.ids: {true, true, true}, s.ids["auditor"]: {false, true, false}, s.ids["custodian"]: {false, true, false},
		next.ids["auditor"]: {false, false, true}, next.ids["custodian"]: {false, false, true}, next.ids["officer"]: {false, false, false},
	} {
		if d := cmp.Diff(want, r.opens(who)); d != "" {
			t.Error(d)
		}
	}
	var hashes []string
	for _, e := range r.entries() {
		for name, value := range e.Fields {
			if strings.Contains(value, "The ") || strings.Contains(value, "age1") || strings.Contains(value, "Desk") {
				t.Errorf("the ledger says in the clear %s = %s", name, value)
			}
		}
		if e.Kind == ledger.Configuration {
			f := e.Fields
			if f["persons"] != "4" || f["officers"] != "1" || f["custodian_persons"] != "1" || f["auditors"] != "1" || f["operators"] != "1" || f["approvals"] != "1" {
				t.Errorf("%v", f)
			}
			hashes = append(hashes, f["people"])
		}
	}
	if len(hashes) != 2 || len(hashes[0]) != 64 || hashes[0] == hashes[1] {
		t.Error(hashes)
	}
}

func TestPersonsWhoCannotBeWhatTheySayChangeNothing(t *testing.T) {
	r := newRoom(t, "")
	for _, tc := range []struct {
		name  string
		spoil func(*config.Person)
		want  string
	}{
		{"a key that is none", func(p *config.Person) { p.Key = "age1nobody" }, `key of person "The officer"`},
		{"the user that the agent runs as", func(p *config.Person) { p.UID = uint32(os.Geteuid()) }, "that the agent runs as"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := r.config(r.text + newStaff(t).text)
			tc.spoil(&c.People.Persons[0])
			done, err := r.Reload(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "the old configuration stays in force") || len(done.Changed) != 0 {
				t.Errorf("%+v, %v", done, err)
			}
			if len(r.Config().People.Persons) != 0 {
				t.Error("they are in force")
			}
			if err := r.refused(func(o *Options) { o.Config.People = c.People }); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Error(err)
			}
		})
	}
}

func TestTheSocketGoesToItsGroupAndBack(t *testing.T) {
	r := newRoom(t, "")
	gids := func() (out [2]int) {
		for i, path := range []string{r.Config().RunDir, r.Config().Socket()} {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = int(st.Sys().(*syscall.Stat_t).Gid)
			if want := []os.FileMode{0o750, 0o660}[i]; st.Mode().Perm() != want {
				t.Errorf("%s has mode %v", path, st.Mode())
			}
		}
		return out
	}
	own := os.Getegid()
	if gids() != [2]int{own, own} {
		t.Error(gids())
	}
	if err := os.Chmod(r.Config().RunDir, 0o700); err != nil { // as init makes it
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("to hand a file to any group needs root")
	}
	done, err := r.Reload(t.Context(), r.config(r.text+"[agent]\nsocket_group = 4700\n"))
	if err != nil || !cmp.Equal(done.Changed, []string{"agent.socket_group"}) || gids() != [2]int{4700, 4700} {
		t.Errorf("%+v, %v, %v", done, err, gids())
	}
	if _, err := r.Reload(t.Context(), r.config(r.text)); err != nil || gids() != [2]int{own, own} {
		t.Errorf("%v, %v", err, gids())
	}
	open := filepath.Join(r.dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.WriteFile(filepath.Join(open, "s"), nil, 0o600), share(filepath.Join(open, "s"), config.Group{GID: 4700})); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(open); err != nil || int(st.Sys().(*syscall.Stat_t).Gid) != own {
		t.Errorf("a directory for everybody was handed over: %v", err)
	}
}
