package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/session"
)

// certificate is what is said of one of a day or of a hold, or of a draft.
type certificate struct {
	Of       string    `json:"of"` // a day, or "hold 31"
	Gateway  string    `json:"gateway"`
	Provider string    `json:"provider"`
	Begun    time.Time `json:"begun"`
	Ended    time.Time `json:"ended,omitzero"` // zero: it has begun, and is not finished
	Keys     int       `json:"keys"`
	Records  uint64    `json:"records"` // of a hold: sessions and access records
	Blocks   int       `json:"blocks"`
	Bytes    uint64    `json:"bytes"`
	Entry    int64     `json:"ledger_entry"`
	File     string    `json:"file"`
	Bad      string    `json:"bad,omitempty"` // why it proves nothing
}

func ofDay(c *recorder.Certificate) *certificate {
	return &certificate{
		Of: c.Day, Gateway: c.Gateway, Provider: c.Provider, Begun: c.Begun, Ended: c.Ended, Keys: len(c.Keys), Records: c.Records,
		Blocks: c.Blocks, Bytes: c.Bytes, Entry: c.LedgerEntry,
	}
}

func ofHold(c *recorder.ReleaseCertificate) *certificate {
	out := &certificate{
		Of: fmt.Sprintf("hold %d", c.Hold.ID), Gateway: c.Gateway, Provider: c.Provider, Begun: c.Begun, Ended: c.Ended,
		Records: c.Hold.Sessions + c.Hold.Bindings, Blocks: len(c.Hold.Blocks), Bytes: uint64(max(c.Hold.Bytes, 0)), Entry: c.LedgerEntry,
	}
	if c.Key != "" {
		out.Keys = 1
	}
	return out
}

// readCertificate reads one of either kind, and checks its signature.
func readCertificate(file, key string) (*certificate, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text, err := ledger.OpenStatement(recorder.StatementDestroyed, b, key)
	if err == nil {
		return understood(text, ofDay)
	}
	if text, ok := ledger.OpenStatement(recorder.StatementReleased, b, key); ok == nil {
		return understood(text, ofHold)
	}
	return nil, err
}

func understood[T any](text string, of func(*T) *certificate) (*certificate, error) {
	v := new(T)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return nil, fmt.Errorf("it is not understood: %w", err)
	}
	return of(v), nil
}

// readDraft reads what is known of a destruction that is not finished. Nobody has
// signed it.
func readDraft(file string) (*certificate, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var c *certificate
	if strings.HasPrefix(filepath.Base(file), "hold-") {
		c, err = understood(string(b), ofHold)
	} else {
		c, err = understood(string(b), ofDay)
	}
	if err == nil {
		c.Ended = time.Time{}
	}
	return c, err
}

// certificatesIn reads those that lie in a directory, and drafts.
func certificatesIn(dir, key string) (list []certificate, err error) {
	entries, err := os.ReadDir(dir) // by name
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w; run this where the agent runs, as root", err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		var c *certificate
		switch filepath.Ext(file) {
		case ".note":
			c, err = readCertificate(file, key)
		case recorder.Begun:
			c, err = readDraft(file)
		default:
			continue
		}
		switch {
		case errors.Is(err, os.ErrNotExist): // a draft that was finished just now
			continue
		case err != nil:
			c = &certificate{Bad: err.Error()}
		}
		c.File = file
		list = append(list, *c)
	}
	return list, nil
}

// listCertificates lists those that lie on this machine.
func listCertificates(w io.Writer, e *recorder.Expiry, asJSON bool) error {
	list, err := certificatesIn(e.Certificates, e.PublicKey)
	if err != nil {
		return fail(err)
	}
	bad := 0
	for i := range list {
		if list[i].Bad != "" {
			bad++
		}
	}
	if asJSON {
		err = printJSON(w, append([]certificate{}, list...))
	} else {
		err = printCertificates(w, list)
	}
	if err == nil && bad > 0 {
		return fail(fmt.Errorf("%d of %d certificates are not good", bad, len(list))).
			hint("keep the files as they are, and put them back from a backup; \"edgelog verify\" checks the ledger, which has the hash of each")
	}
	return err
}

func printCertificates(w io.Writer, list []certificate) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "OF\tDESTROYED AT\tKEYS\tRECORDS\tFILE") //nolint:errcheck // Flush says it
	for i := range list {
		c := &list[i]
		switch {
		case c.Bad != "":
			fmt.Fprintf(t, "\t\t\t\t%s: NOT GOOD: %s\n", c.File, c.Bad) //nolint:errcheck // Flush says it
			continue
		case c.Ended.IsZero():
			fmt.Fprintf(t, "%s\tbegun %s, NOT FINISHED", c.Of, session.FormatTime(c.Begun.UnixNano())) //nolint:errcheck // Flush says it
		default:
			fmt.Fprintf(t, "%s\t%s", c.Of, session.FormatTime(c.Ended.UnixNano())) //nolint:errcheck // Flush says it
		}
		fmt.Fprintf(t, "\t%d\t%d\t%s\n", c.Keys, c.Records, c.File) //nolint:errcheck // Flush says it
	}
	return t.Flush()
}

// verifyCertificate needs no agent when the public key is given.
func verifyCertificate(c *cli.Context) error {
	key := c.String("public-key")
	if key == "" {
		e, err := askExpiry(c, http.MethodGet, url.Values{})
		if err != nil {
			return err
		}
		key = e.PublicKey
	}
	cert, err := readCertificate(c.String("verify"), key)
	if err != nil {
		return fail(fmt.Errorf("certificate %q: %w", c.String("verify"), err)).hint("give the file as the gateway wrote it, and the public key that \"edgelog expire --dry-run --json\" shows there")
	}
	if c.Bool("json") {
		cert.File = c.String("verify")
		return printJSON(c.App.Writer, cert)
	}
	_, err = fmt.Fprintf(c.App.Writer, "good: %s of gateway %s (%s) was destroyed between %s and %s:\n%d keys, %s of %s, %d records; ledger entry %d\n",
		cert.Of, cert.Gateway, cert.Provider, session.FormatTime(cert.Begun.UnixNano()), session.FormatTime(cert.Ended.UnixNano()),
		cert.Keys, plural(uint64(cert.Blocks), "block"), bytesText(cert.Bytes), cert.Records, cert.Entry)
	return err
}
