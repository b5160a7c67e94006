package disclose

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Files of the desk: ID.request is a request and ID.grant its grant (grant2 after
// a second approval, and so on), both sealed.
func name(id int64, kind string) string { return strconv.FormatInt(id, 10) + "." + kind }

// put writes a file durably, under a new name first.
func (d *desk) put(name string, b []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep %q of the requests: %w", name, err)
		}
	}()
	path := filepath.Join(d.dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return d.sync()
}

func (d *desk) remove(name string) error {
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %q of the requests: %w", name, err)
	}
	return d.sync()
}

func (d *desk) sync() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Listed is a case with its request, sealed, and where it is asked for alone its grant.
type Listed struct {
	Case
	Text        []byte `json:"text"`
	SealedGrant []byte `json:"sealed_grant,omitempty"`
}

// list returns all cases, the newest first; or one, with its grant.
func (d *desk) list(one *int64) ([]Listed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return nil, d.broken
	}
	out := []Listed{}
	for id, c := range d.cases {
		if one != nil && *one != id {
			continue
		}
		text, err := os.ReadFile(filepath.Join(d.dir, name(id, "request")))
		if err != nil && (one != nil || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("read request %d: %w", id, err)
		}
		l := Listed{Case: *c, Text: text}
		if one != nil && c.Grant != "" && !c.grantOver() {
			if l.SealedGrant, err = d.grant(c); err != nil {
				return nil, err
			}
		}
		out = append(out, l)
	}
	if one != nil && len(out) == 0 {
		return nil, errNoCase
	}
	slices.SortFunc(out, func(a, b Listed) int { return cmp.Compare(b.ID, a.ID) })
	return out, nil
}

// grant reads the grant of a case, and compares it with the ledger.
func (d *desk) grant(c *Case) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, c.grantFile()))
	if err != nil {
		return nil, fmt.Errorf("read the grant of request %d: %w", c.ID, err)
	}
	want, _ := hex.DecodeString(c.Grant) // a grant that is none fits nothing
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], want) {
		return nil, fmt.Errorf("read the grant of request %d: it is not the one of which the ledger has the hash; file another request", c.ID)
	}
	return b, nil
}
