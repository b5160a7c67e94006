package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
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

// fetchStatus asks the agent for its status.
func fetchStatus(ctx context.Context, socket string) (*recorder.Status, error) {
	client := agentClient(socket)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/status", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for status: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, agentError(socket, fmt.Errorf("ask for status: %w", err))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for status on %q: the agent answered %s", socket, resp.Status)
	}
	var s recorder.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&s); err != nil {
		return nil, fmt.Errorf("ask for status on %q: the answer is not understood: %w; is the agent of this version?", socket, err)
	}
	return &s, nil
}
