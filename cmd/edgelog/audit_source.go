package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// auditor has a ledger open: a copy, or that of the running agent.
type auditor struct {
	c      *cli.Context
	r      *ledger.Reader
	files  ledger.Files
	socket string // "" for a copy
	own    bool   // the public key came from the agent itself
}

func openAudit(c *cli.Context) (*auditor, error) {
	a := &auditor{c: c}
	key, err := givenKey(c)
	if err != nil {
		return nil, err
	}
	if name := c.String("ledger"); name != "" {
		if key == "" {
			return nil, usage("--public-key is missing").hint("a copy is verified with a key that came another way: \"edgelog audit key\" on the gateway shows it")
		}
		if a.files, err = filesOf(name); err != nil {
			return nil, err
		}
	} else {
		if a.socket, err = socketPath(c); err != nil {
			return nil, err
		}
		a.files = &agentFiles{c.Context, agentClient(a.socket), a.socket}
		if key == "" {
			b, err := a.files.ReadFile(ledger.PublicKeyName)
			if err != nil {
				return nil, err
			}
			key, a.own = strings.TrimSpace(string(b)), true
		}
	}
	if a.r, err = ledger.NewReader(a.files, key); err != nil {
		return nil, auditError(err)
	}
	return a, nil
}

// givenKey returns the key of --public-key, "" when there is none.
func givenKey(c *cli.Context) (string, error) {
	text := c.String("public-key")
	if text == "" || strings.Contains(text, "+") {
		return text, nil
	}
	b, err := os.ReadFile(text)
	if err != nil {
		return "", fail(fmt.Errorf("read public key %q: %w", text, cause(err))).hint("give the key itself, name+hash+key, or a file that holds it")
	}
	return strings.TrimSpace(string(b)), nil
}

// filesOf returns the files of a copy: a directory or a tar archive.
func filesOf(name string) (ledger.Files, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, fail(fmt.Errorf("read ledger %q: %w", name, cause(err))).hint("name the directory \"ledger\" of a data directory, a copy of it, or what \"edgelog audit export\" wrote")
	case info.IsDir():
		return ledger.Dir(name), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fail(fmt.Errorf("read ledger %q: %w", name, cause(err)))
	}
	defer f.Close() //nolint:errcheck // only read
	return readTar(name, f)
}

// tarFiles are the files of an archive, in memory.
type tarFiles map[string][]byte

func (t tarFiles) ReadFile(name string) ([]byte, error) {
	b, ok := t[name]
	if !ok {
		return nil, fmt.Errorf("%q: %w in the archive", name, fs.ErrNotExist)
	}
	return b, nil
}

// maxTarFile is more than a bundle of 256 entries can have.
const maxTarFile = 256 * (ledger.MaxEntry + 2)

func readTar(name string, r io.Reader) (tarFiles, error) {
	out := tarFiles{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fail(fmt.Errorf("read archive %q: %w", name, err)).hint("is it what \"edgelog audit export\" wrote, whole?")
		}
		file := strings.TrimPrefix(h.Name, "./")
		switch _, twice := out[file]; {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || !ledger.Public(file) || twice || h.Size > maxTarFile:
			return nil, fail(fmt.Errorf("read archive %q: %q does not belong into a copy of a ledger", name, h.Name))
		}
		if out[file], err = io.ReadAll(t); err != nil {
			return nil, fail(fmt.Errorf("read archive %q: %q: %w", name, h.Name, err))
		}
	}
}

// agentFiles are the files of the agent's ledger.
type agentFiles struct {
	ctx    context.Context
	client *http.Client
	socket string
}

func (f *agentFiles) ReadFile(name string) ([]byte, error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, "http://agent"+recorder.PathLedger+name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, agentError(f.socket, fmt.Errorf("read the ledger: %w", err))
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read %q of the ledger: %w", name, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusNotFound:
		return nil, fmt.Errorf("%q: %w in the agent's ledger", name, fs.ErrNotExist)
	}
	if err := notFor(resp.StatusCode, b); err != nil {
		return nil, fail(fmt.Errorf("read the ledger on %q: %w", f.socket, err))
	}
	return nil, fail(fmt.Errorf("read %q of the ledger: the agent answered %s: %s", name, resp.Status, strings.TrimSpace(string(b))))
}

// auditKey prints the public key: of a directory, or of the running agent.
func auditKey(c *cli.Context) error {
	if c.IsSet("public-key") {
		return usage("--public-key says nothing to \"audit key\"")
	}
	var files ledger.Files
	var err error
	if name := c.String("ledger"); name != "" {
		files, err = filesOf(name)
	} else {
		var socket string
		if socket, err = socketPath(c); err == nil {
			files = &agentFiles{c.Context, agentClient(socket), socket}
		}
	}
	if err != nil {
		return err
	}
	b, err := files.ReadFile(ledger.PublicKeyName)
	if err != nil {
		return auditError(err)
	}
	_, err = c.App.Writer.Write(b)
	return err
}
