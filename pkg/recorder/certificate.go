package recorder

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/session"
)

// sign signs a certificate, keeps it under a name, and returns its hash. One of
// the same name from before, as of a day of which something came late, is kept
// beside it; one of the same destruction, which the ledger has as entry, is the one.
func (x *expiry) sign(statement, of string, c any, entry int64) (hash string, err error) {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write certificate: %w", err)
	}
	name := filepath.Join(x.dir, of+".note")
	for n := 2; ; n++ {
		old, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("keep certificate %q: %w", name, cause(err))
		}
		if x.certifies(statement, old, entry) { // a kill came between it and the end
			return hashOf(old), nil
		}
		name = filepath.Join(x.dir, fmt.Sprintf("%s-%d.note", of, n))
	}
	b, err := x.r.ledger.Statement(statement, string(text)+"\n")
	if err != nil {
		return "", err
	}
	if err := writeDurably(name, b); err != nil {
		return "", fmt.Errorf("keep certificate %q: %w", name, cause(err))
	}
	return hashOf(b), nil
}

// certifies reports whether b is the certificate of what the ledger has as entry.
func (x *expiry) certifies(statement string, b []byte, entry int64) bool {
	text, err := ledger.OpenStatement(statement, b, x.r.ledger.VerifierKey())
	if err != nil {
		return false
	}
	var c struct {
		LedgerEntry *int64 `json:"ledger_entry"`
	}
	return json.Unmarshal([]byte(text), &c) == nil && c.LedgerEntry != nil && *c.LedgerEntry == entry
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Begun is what the names of drafts end with: certificates, not signed yet, of what
// is being destroyed. After a kill nothing else says what there was.
const Begun = ".begun"

func (x *expiry) begin(of string, c any) error {
	text, err := json.Marshal(c)
	if err == nil {
		err = writeDurably(filepath.Join(x.dir, of+Begun), text)
	}
	if err != nil {
		return fmt.Errorf("the certificate cannot be begun, so nothing is destroyed: %w", cause(err))
	}
	return nil
}

func (x *expiry) readBegun(of string, c any) error {
	text, err := os.ReadFile(filepath.Join(x.dir, of+Begun))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, c)
}

// hasBegun reports whether there is a draft.
func (x *expiry) hasBegun(of string) bool {
	_, err := os.Lstat(filepath.Join(x.dir, of+Begun))
	return err == nil
}

func (x *expiry) end(of string) error {
	if err := os.Remove(filepath.Join(x.dir, of+Begun)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the draft of a certificate: %w", cause(err))
	}
	return nil
}

// finishDays completes destructions of days that were broken off.
func (x *expiry) finishDays() error {
	return x.finish("????-??-??", func(of string) error {
		c := new(Certificate)
		if err := x.readBegun(of, c); err != nil {
			return err
		}
		t, err := time.Parse(time.DateOnly, c.Day)
		if err != nil || c.Day != of {
			return fmt.Errorf("it is the draft of %q", c.Day)
		}
		return x.complete(session.DayOf(t.UnixNano()), c)
	})
}

// finishReleases completes releases of holds that were broken off.
func (x *expiry) finishReleases() error {
	if !x.r.releasing.TryLock() {
		return nil // one is under way
	}
	defer x.r.releasing.Unlock()
	return x.finish("hold-*", func(of string) error {
		c := new(ReleaseCertificate)
		if err := x.readBegun(of, c); err != nil {
			return err
		}
		if "hold-"+itoa(c.Hold.ID) != of {
			return fmt.Errorf("it is the draft of hold %d", c.Hold.ID)
		}
		return x.r.completeRelease(c)
	})
}

func (x *expiry) finish(names string, complete func(of string) error) (err error) {
	files, _ := filepath.Glob(filepath.Join(x.dir, names+Begun)) // the pattern is good
	for _, f := range files {
		if e := complete(strings.TrimSuffix(filepath.Base(f), Begun)); e != nil {
			err = cmp.Or(err, fmt.Errorf("go on with %q: %w", filepath.Base(f), e))
		}
	}
	return err
}

// writeDurably writes a file in the place of one that may be there, and its name.
func writeDurably(name string, b []byte) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
