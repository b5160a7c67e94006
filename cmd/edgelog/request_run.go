package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/disclose/delivery"
	"github.com/edgelog/edgelog/pkg/vault"
)

// runRequest is for the officer who filed it: it reads, and writes the package.
func runRequest(c *cli.Context, id int64) error {
	if err := need(c, "out"); err != nil {
		return err
	}
	return withAgent(c, func(client *http.Client, ids *vault.Identities) error {
		p, r, err := runPermit(c, client, ids, id)
		if err != nil {
			return err
		}
		out, err := newFile(c.String("out")) // before anything is read: a request is run once
		if err != nil {
			return err
		}
		defer out.drop()
		var pack *delivery.Package
		p.Pack = func(f *disclose.Found, paper *disclose.Paper) (sum [sha256.Size]byte, err error) {
			if paper == nil {
				return sum, errors.New("the agent does not say what a package must")
			}
			pack, err = delivery.Build(delivery.Input{
				Request: r, Text: p.Text, ID: id, Entries: paper.Entries, LedgerKey: paper.LedgerKey,
				Sessions: f.Sessions, Who: f.Who, Access: f.Access, Communications: f.Communications, Contacts: paper.Contacts, Version: paper.Version, Timeouts: paper.Timeouts,
			})
			if err != nil {
				return sum, err
			}
			return pack.Digest(), nil
		}
		f, receipt, err := disclose.Read(c.Context, client, p)
		if err != nil {
			return err
		}
		if receipt == nil {
			return errors.New("the agent gave no proof that the answer is in its ledger")
		}
		if err := out.fill(func(w io.Writer) error { return pack.Seal(w, receipt, r.Delivery.Recipient) }); err != nil {
			return fmt.Errorf("write package %q: %w", c.String("out"), err)
		}
		return handed(c, id, f, pack)
	})
}

// handed says what was written, and names nobody.
func handed(c *cli.Context, id int64, f *disclose.Found, p *delivery.Package) error {
	m, s := p.Manifest(), f.Summary()
	if c.Bool("json") {
		return printJSON(c.App.Writer, m)
	}
	sum := p.Digest()
	if _, err := fmt.Fprintf(c.App.Writer, "request %d is answered: %d of %s in %q, for %s only\nmanifest %x, ledger entry %d\n", id, m.Answer.Delivered,
		plural(uint64(m.Answer.Found), "record"), c.String("out"), m.Request.Authority, sum, s.LedgerOutcome); err != nil {
		return err
	}
	if why := m.Request.Unratified(); why != "" {
		warn(c, "EMERGENCY: %s", why)
	}
	for _, line := range f.Lines()[1:] {
		warn(c, "%s", line)
	}
	if len(m.Answer.Incomplete) > 0 {
		return fail(errors.New("the answer is incomplete; what it lacks is said with it"))
	}
	return nil
}

// outFile is there under its name only when it is kept.
type outFile struct {
	*os.File
	name string
	done bool
}

// newFile makes a file for this user alone.
func newFile(name string) (*outFile, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, fail(fmt.Errorf("--out: %q is there already", name)).hint("name a file that is not there: nothing is overwritten")
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, fail(fmt.Errorf("--out: %w", err))
	}
	return &outFile{File: f, name: name}, nil
}

// fill has write write the file. It gets its name when all of it is on the disk.
func (f *outFile) fill(write func(io.Writer) error) error {
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	f.done = true
	return os.Rename(f.Name(), f.name)
}

func (f *outFile) drop() {
	if !f.done {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}
