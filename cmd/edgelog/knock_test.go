package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/vault"
	"github.com/edgelog/edgelog/tests/office"
)

func (h *house) socket() string { return filepath.Join(h.dir, "run", "edgelog.sock") }

// connect connects to the socket as a person: the kernel vouches for the user that
// the thread has at that moment (SO_PEERCRED).
func (h *house) connect(p office.Person) (net.Conn, error) {
	runtime.LockOSThread()
	const same = ^uintptr(0)
	become := func(uid, gid uintptr) {
		call := func(trap, id uintptr) {
			if _, _, err := syscall.RawSyscall(trap, same, id, same); err != 0 { // of this thread alone
				panic(err)
			}
		}
		if uid == 0 {
			call(syscall.SYS_SETRESUID, uid)
		}
		call(syscall.SYS_SETRESGID, gid)
		if uid != 0 {
			call(syscall.SYS_SETRESUID, uid)
		}
	}
	if p.UID != 0 {
		become(uintptr(p.UID), office.Group)
	}
	conn, err := net.Dial("unix", h.socket())
	if p.UID != 0 {
		become(0, 0)
	}
	runtime.UnlockOSThread()
	return conn, err
}

// client reaches the agent as a person.
func (h *house) client(p office.Person) *http.Client {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return h.connect(p) }}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// knock is what is sent to the socket, byte for byte: no client has put it right.
type knock struct{ method, path, body string }

// knock sends it, and returns what came. What stays open is read as far as it came.
func (h *house) knock(p office.Person, k knock) (code int, body string) {
	h.t.Helper()
	conn, err := h.connect(p)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // all was read that is wanted
	return h.say(conn, k)
}

func (h *house) say(conn net.Conn, k knock) (code int, body string) {
	h.t.Helper()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", k.method, k.path, len(k.body), k.body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		h.t.Fatalf("%s %s: %v", k.method, k.path, err)
	}
	var b strings.Builder
	if resp.Header.Get("Content-Type") == "application/octet-stream" && strings.HasPrefix(k.path, "/v1/lookup") {
		err = readFrames(&b, resp.Body)
	} else {
		_, err = io.Copy(&b, resp.Body)
	}
	if err != nil {
		h.t.Fatalf("%s %s: %v", k.method, k.path, err)
	}
	return resp.StatusCode, b.String()
}

// Kinds of frames after which nothing comes.
const (
	lastFrame  = 5
	errorFrame = 6
)

func readFrames(w io.Writer, r io.Reader) error {
	for r = io.TeeReader(r, w); ; {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil // it was cut off between two
		} else if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
			return err
		}
		if head[0] == lastFrame || head[0] == errorFrame {
			return nil
		}
	}
}

// sealedFrames counts frames that carry a key or a block.
func sealedFrames(frames string) (n int) {
	for b := []byte(frames); len(b) >= 5; b = b[5+binary.BigEndian.Uint32(b[1:]):] {
		switch b[0] {
		case 1, lastFrame, errorFrame, 7: // begin, coverage
		default:
			n++
		}
	}
	return n
}

var base64Text = regexp.MustCompile(`[A-Za-z0-9+/]{16,}={0,2}`)

// leaks returns those of the words that a text has, in the clear or in base64.
func leaks(text string, words []string) (found []string) {
	for _, b := range base64Text.FindAllString(text, -1) {
		for ; len(b) >= 16; b = b[:len(b)-1] { // what follows may look like more of it
			if plain, err := base64.StdEncoding.DecodeString(b); err == nil {
				text += "\n" + string(plain)
				break
			}
		}
	}
	for _, w := range words {
		if strings.Contains(text, w) {
			found = append(found, w)
		}
	}
	return found
}

func TestLeaksAreSeenInTheClearAndInBase64(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte(`{"subscriber":"anna"}`))
	for text, want := range map[string]int{"it is anna": 1, `{"text":"` + secret + `"}`: 1, secret + secret: 1, "nobody": 0} {
		if got := leaks(text, []string{"anna", "bo-"}); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// keys opens the private key of a person.
func (h *house) keys(p office.Person) *vault.Identities {
	h.t.Helper()
	ids, err := vault.OpenIdentities(p.Identity, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return ids
}

// text returns the text of a request, as a person who may open it.
func (h *house) text(p office.Person, id int64) (*disclose.Request, []byte) {
	h.t.Helper()
	l, err := disclose.GetRequest(h.t.Context(), h.client(p), id)
	if err != nil {
		h.t.Fatal(err)
	}
	r, text, err := l.Cases[0].Open(h.keys(p))
	if err != nil {
		h.t.Fatal(err)
	}
	return r, text
}

// edit changes the configuration, and reload puts it into force.
func (h *house) edit(change func(string) string) {
	h.t.Helper()
	b, err := os.ReadFile(h.config)
	if err == nil {
		err = os.WriteFile(h.config, []byte(change(string(b))), 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) reload() {
	h.t.Helper()
	c, err := config.Load(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.rec.Reload(h.t.Context(), c); err != nil {
		h.t.Fatal(err)
	}
}

// hire takes somebody on who is not of the office, with a new key.
func (h *house) hire(name, role string, uid uint32) office.Person {
	h.t.Helper()
	p := h.stranger(name, uid)
	h.edit(func(text string) string {
		return text + fmt.Sprintf("\n[[person]]\nname = %q\nuid = %d\nroles = [%q]\nkey = %q\nclearance_until = 2999-12-31\n", p.Name, p.UID, role, p.Key)
	})
	h.reload()
	return p
}

// stranger is a user with a key whom the configuration does not name.
func (h *house) stranger(name string, uid uint32) office.Person {
	h.t.Helper()
	pair, err := vault.GenerateIdentity()
	if err != nil {
		h.t.Fatal(err)
	}
	p := office.Person{Name: name, UID: uid, Key: pair.Recipient, Identity: filepath.Join(h.dir, "office", fmt.Sprint(uid, ".key"))}
	if err := os.WriteFile(p.Identity, pair.File(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chown(p.Identity, int(uid), 0); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// opened is a reading that somebody has begun.
type opened struct {
	id   string
	conn net.Conn
}

// open begins a reading for a request, as a program of its own would.
func (h *house) open(p office.Person, act, request string) *opened {
	h.t.Helper()
	id, err := strconv.ParseInt(request, 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	_, text := h.text(p, id)
	body, err := json.Marshal(map[string]any{"act": act, "request": id, "text": text})
	if err != nil {
		h.t.Fatal(err)
	}
	o := new(opened)
	if o.conn, err = h.connect(p); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = o.conn.Close() })
	code, got := h.say(o.conn, knock{"POST", "/v1/lookup", string(body)})
	var begin struct {
		ID string `json:"id"`
	}
	if code != http.StatusOK || len(got) < 5 {
		h.t.Fatalf("%d %q", code, got)
	}
	n := binary.BigEndian.Uint32([]byte(got[1:5]))
	if err := json.Unmarshal([]byte(got[5:5+n]), &begin); err != nil || begin.ID == "" {
		h.t.Fatalf("%v: %q", err, got)
	}
	o.id = begin.ID
	return o
}
