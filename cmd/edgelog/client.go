package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// agentClient returns a client that reaches the agent on the socket, whatever
// host it is asked for.
func agentClient(socket string) *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
		Proxy:              nil,
	}}
}

// maxSocketPath is the longest path of a unix socket, in bytes (unix(7)).
const maxSocketPath = 107

// agentError says in one sentence why the agent cannot be talked to; other
// errors are returned as they are.
func agentError(socket string, err error) error {
	switch {
	case len(socket) > maxSocketPath:
		return fail(fmt.Errorf("reach the agent on %q: a socket's path has at most %d bytes, not %d", socket, maxSocketPath, len(socket))).
			hint("change to its directory and name it by a short path, or set a shorter run_dir")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fail(fmt.Errorf("reach the agent on %q: it is not running", socket)).
			hint("start it with \"edgelog agent --config FILE\", or name its socket with --socket")
	case errors.Is(err, fs.ErrPermission):
		return fail(fmt.Errorf("reach the agent on %q: permission denied", socket)).
			hint("run this as root or as a member of the socket's group")
	}
	return err
}

// request sends one request to the agent and returns the body of a good answer,
// to be closed.
func request(ctx context.Context, socket, method, path, what string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.Close = true
	resp, err := agentClient(socket).Do(req)
	if err != nil {
		return nil, agentError(socket, fmt.Errorf("%s: %w", what, err))
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12)) // better less than nothing
		if err := notFor(resp.StatusCode, text); err != nil {
			return nil, errors.Join(fail(fmt.Errorf("%s on %q: %w", what, socket, err)), resp.Body.Close())
		}
		return nil, errors.Join(fail(fmt.Errorf("%s on %q: the agent answered %s: %s", what, socket, resp.Status, strings.TrimSpace(string(text)))), resp.Body.Close())
	}
	return resp.Body, nil
}

// errNoRole means that the agent refused because the caller lacks a role.
var errNoRole = errors.New("refused")

// notFor returns what the agent says to somebody without the role, nil for another
// answer.
func notFor(status int, text []byte) error {
	var no struct {
		Error string `json:"error"`
	}
	if status != http.StatusForbidden || json.Unmarshal(text, &no) != nil || no.Error == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", errNoRole, no.Error)
}

// askJSON sends in, or nothing where it is nil, and reads the answer into out.
func askJSON(ctx context.Context, socket, method, path, what string, in, out any) error {
	var sent io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		sent = bytes.NewReader(b)
	}
	body, err := request(ctx, socket, method, path, what, sent)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("%s on %q: the answer is not understood: %w; is the agent of this version?", what, socket, err)
	}
	return nil
}

// printJSON is what --json prints.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// fetchStatus asks the agent for its status.
func fetchStatus(ctx context.Context, socket string) (*recorder.Status, error) {
	s := new(recorder.Status)
	return s, askJSON(ctx, socket, http.MethodGet, "/v1/status", "ask for status", nil, s)
}
