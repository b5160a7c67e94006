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
	"golang.org/x/sys/unix"

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
			// There must be room for it before the ledger says that it was handed over.
			return pack.Digest(), out.reserve(pack.MostBytes())
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
	name  string
	whole bool // on the disk, under whatever name
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

// reserve has the disk keep room for n bytes, where the file system can.
func (f *outFile) reserve(n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep room for the package: %w", err)
	}
	return nil
}

// fill has write write the file. It gets its name when all of it is on the disk, and
// takes that from no other file.
func (f *outFile) fill(write func(io.Writer) error) error {
	if err := write(f); err != nil {
		return err
	}
	length, err := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, f.Truncate(length), f.Sync(), f.Close()); err != nil { // what was kept and not needed is given back
		return err
	}
	f.whole = true
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, f.name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // this file system cannot say it
		err = os.Rename(f.Name(), f.name)
	}
	if err != nil {
		return fmt.Errorf("it lies whole in %q, and cannot get its name: %w", f.Name(), err)
	}
	return nil
}

func (f *outFile) drop() {
	if !f.whole {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}
