package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// export writes a copy that "audit verify" takes elsewhere, and verifies it.
func (a *auditor) export() error {
	name := a.c.String("out")
	if err := need(a.c, "out"); err != nil {
		return err
	}
	write := a.exportDir
	if strings.HasSuffix(name, ".tar") {
		write = a.exportTar
	}
	if err := write(name); err != nil {
		var f *failure
		if errors.As(err, &f) {
			return err
		}
		return fail(fmt.Errorf("write the copy %q: %w", name, cause(err)))
	}
	files, err := filesOf(name)
	if err != nil {
		return err
	}
	r, err := ledger.NewReader(files, a.r.VerifierKey())
	if err != nil {
		return auditError(fmt.Errorf("the copy %q is not good: %w", name, err))
	}
	if _, err := r.Verify(a.c.Context); err != nil {
		return auditError(fmt.Errorf("the copy %q is not good, and so is the ledger: %w", name, err))
	}
	_, err = fmt.Fprintf(a.c.App.Writer, "%s: %s, verified\nedgelog audit verify --ledger %s --public-key '%s'\n", name, plural(uint64(r.Size()), "entry"), name, r.VerifierKey())
	return err
}

func (a *auditor) exportDir(name string) error {
	if list, err := os.ReadDir(name); err == nil && len(list) > 0 {
		return fail(fmt.Errorf("write the copy %q: it is there and not empty", name)).hint("name a new directory")
	}
	return a.r.Export(a.c.Context, func(file string, data []byte) error {
		path := filepath.Join(name, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	})
}

func (a *auditor) exportTar(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(f)
	t := tar.NewWriter(buf)
	err = a.r.Export(a.c.Context, func(file string, data []byte) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: file, Size: int64(len(data)), Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	})
	return errors.Join(err, t.Close(), buf.Flush(), f.Sync(), f.Close())
}

// witness sends the present checkpoint out, and has the ledger say so.
func (a *auditor) witness() error {
	to, c := a.c.String("to"), a.r.Checkpoint()
	n := 0
	for _, set := range []bool{to != "", a.c.Bool("mail"), a.c.Bool("syslog")} {
		if set {
			n++
		}
	}
	if n > 1 {
		return usage("give one of --to, --mail, --syslog")
	}
	kind, err := "print", error(nil)
	switch {
	case a.c.Bool("mail"):
		kind = "mail"
		_, err = io.WriteString(a.c.App.Writer, a.mail(c))
	case a.c.Bool("syslog"):
		kind, err = "syslog", recorder.SendCheckpoint("syslog", c)
	case to != "":
		kind = "file"
		if !strings.HasPrefix(to, config.WitnessFile) || to == config.WitnessFile {
			return usage("--to %q is not known", to).hint("write --to file:PATH")
		}
		err = recorder.SendCheckpoint(to, c)
	default:
		_, err = a.c.App.Writer.Write(c.Note)
	}
	if err != nil {
		return fail(fmt.Errorf("send the checkpoint: %w", err))
	}
	if a.socket == "" {
		warn(a.c, "it is the checkpoint of a copy: the ledger does not know that it was sent")
		return nil
	}
	var done recorder.Witnessed
	if err := askJSON(a.c.Context, a.socket, http.MethodPost, recorder.PathWitness, "have it recorded", recorder.Sent{To: kind, Note: string(c.Note)}, &done); err != nil {
		return err
	}
	warn(a.c, "the checkpoint of %s was sent; ledger entry %d", plural(uint64(c.Size), "entry"), done.LedgerEntry)
	return nil
}

// mail is the text of an e-mail (RFC 5322), with the line ends of this machine, as
// sendmail takes it; whom it goes to is said there.
func (a *auditor) mail(c ledger.Checkpoint) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return strings.Join([]string{
		"Date: " + time.Now().UTC().Format(time.RFC1123Z),
		"From: edgelog <edgelog@" + host + ">",
		"To: undisclosed-recipients:;",
		fmt.Sprintf("Subject: checkpoint of the ledger %s: %s", c.Origin, plural(uint64(c.Size), "entry")),
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
		"Please keep this message. It says how far the ledger had come, and is signed.",
		"With it, \"edgelog audit verify --against FILE\" finds out whether the ledger",
		"was cut, forked or put back since; FILE may hold many such messages.",
		"",
		string(c.Note),
	}, "\n")
}
