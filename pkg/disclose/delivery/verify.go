package delivery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// Options say what a package is checked with.
type Options struct {
	// Identities open it; none: it is a zip that somebody has decrypted.
	Identities []age.Identity

	// PublicKey is that of the provider's ledger, from the provider and not from
	// the package. "": the package's own key is used, and the report says so.
	PublicKey string

	// Checkpoints of that ledger that were kept apart: with each the proofs of the
	// package are compared where they are of the same size.
	Checkpoints [][]byte
}

// Errors of Verify.
var (
	// ErrPackage: it is not, or not any more, what was handed over. The message
	// says where.
	ErrPackage = errors.New("the package is not whole")
	// ErrNotOpened: it was encrypted for somebody else, or no identity was given.
	ErrNotOpened = errors.New("the package cannot be opened")
	// ErrOtherKey: it is whole, but of another ledger than the one whose key was given.
	ErrOtherKey = errors.New("the package is of another ledger")
)

// mostPackage is more bytes than any package has.
const mostPackage = 1 << 30

// Report is what Verify found.
type Report struct {
	Encrypted   bool        `json:"encrypted"`
	Digest      string      `json:"manifest_sha256"`
	Key         string      `json:"ledger_key"`
	Fingerprint string      `json:"ledger_key_fingerprint"`
	OwnKey      bool        `json:"key_is_of_the_package"` // nothing but the package says whose it is
	Filed       EntryTime   `json:"filed"`
	Approvals   []EntryTime `json:"approvals"`
	Needed      int         `json:"approvals_needed,omitempty"` // as the ledger says it; 0: it does not
	Emergency   string      `json:"emergency,omitempty"`        // why it did not wait for the usual approvals
	Due         string      `json:"approval_due,omitempty"`     // when another approval must have come after the reading; ask for it
	Intent      EntryTime   `json:"intent"`
	Outcome     EntryTime   `json:"outcome"`
	Checkpoint  int64       `json:"checkpoint_size"`    // the largest in the package
	Compared    []string    `json:"compared,omitempty"` // what the given checkpoints say, in words
	Manifest    *Manifest   `json:"manifest"`

	summary []byte
}

// EntryTime is a ledger entry and when the ledger took it.
type EntryTime struct {
	Index int64  `json:"index"`
	Time  string `json:"time"`
}

// Summary returns summary.html of the package that was verified.
func (r *Report) Summary() []byte { return r.summary }

// receiptFile is receipt.json: what belongs to one run.
type receiptFile struct {
	Entries []*ledger.Proof `json:"entries"` // of the request, as the manifest names them
	Intent  *ledger.Proof   `json:"intent"`
	Outcome *ledger.Proof   `json:"outcome"`

	// Packed has the hash of each member as it lies in the zip, so that not one bit
	// of the zip may change, be it one that unpacking passes over.
	Packed []packedMember `json:"packed"`
}

type packedMember struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Verify checks all of a package: that nothing in it was changed, is missing or
// was added; that the ledger's key signed it; and that its ledger has the
// request, the approvals before the reading, and the outcome with the hash of
// this very manifest.
//
// Errors: ErrPackage, ErrNotOpened, ErrOtherKey, ledger.ErrKey of a key that was
// given and is none, or that of r. The report is nil with any error.
func Verify(r io.Reader, o Options) (*Report, error) {
	b, encrypted, err := open(r, o.Identities)
	if err != nil {
		return nil, err
	}
	members, err := readZip(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPackage, err)
	}
	c := checker{report: &Report{Encrypted: encrypted}, opt: o, members: members}
	if err := c.run(); err != nil {
		return nil, err
	}
	return c.report, nil
}

// ageHead begins every age file.
const ageHead = "age-encryption.org/v1\n"

// open returns the zip.
func open(r io.Reader, ids []age.Identity) (b []byte, encrypted bool, err error) {
	head := make([]byte, len(ageHead))
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	all := io.MultiReader(bytes.NewReader(head[:n]), r)
	encrypted = string(head[:n]) == ageHead
	in := all
	if encrypted {
		if len(ids) == 0 {
			return nil, true, fmt.Errorf("%w: it is encrypted and no private key was given; use --identity", ErrNotOpened)
		}
		in, err = age.Decrypt(all, ids...)
		var none *age.NoIdentityMatchError
		switch {
		case errors.As(err, &none):
			return nil, true, fmt.Errorf("%w: it was not encrypted for this private key; use the one whose public key stands in the request", ErrNotOpened)
		case err != nil:
			return nil, true, fmt.Errorf("%w: its encryption: %w", ErrPackage, err)
		}
	}
	b, err = io.ReadAll(io.LimitReader(in, mostPackage+1))
	switch {
	case err != nil && encrypted:
		return nil, true, fmt.Errorf("%w: its encryption, behind byte %d of what is in it: %w", ErrPackage, len(b), err)
	case err != nil:
		return nil, false, err
	case len(b) > mostPackage:
		return nil, encrypted, fmt.Errorf("%w: it is longer than %d bytes", ErrPackage, int64(mostPackage))
	}
	return b, encrypted, nil
}

// checker goes through a package.
type checker struct {
	opt      Options
	members  []stored
	manifest *Manifest
	digest   [sha256.Size]byte
	key      string // that all is checked with
	report   *Report
}

func (c *checker) run() error {
	if err := c.readManifest(); err != nil {
		return fmt.Errorf("%w: member %q: %w", ErrPackage, manifestName, err)
	}
	if err := c.chooseKey(); err != nil {
		return err
	}
	signature, receipt, err := c.contents()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPackage, err)
	}
	if err := c.signature(signature); err != nil {
		return fmt.Errorf("%w: member %q: %w", ErrPackage, signatureName, err)
	}
	if err := c.receipt(receipt); err != nil {
		return fmt.Errorf("%w: member %q: %w", ErrPackage, receiptName, err)
	}
	m := c.manifest
	c.report.Manifest, c.report.Digest = m, hex.EncodeToString(c.digest[:])
	c.report.Key, c.report.Fingerprint = c.key, Fingerprint(c.key)
	return nil
}

// mostPlain bounds the members that are kept in memory, bytes.
const mostPlain = 16 << 20

// plain returns a member that lies in the zip as it is.
func (c *checker) plain(name string) ([]byte, error) {
	i := slices.IndexFunc(c.members, func(s stored) bool { return s.name == name })
	if i < 0 {
		return nil, errors.New("it is missing")
	}
	s := &c.members[i]
	if s.method != methodStored || s.size > mostPlain {
		return nil, errors.New("it is compressed, or too long")
	}
	if err := s.unpack(io.Discard); err != nil {
		return nil, err
	}
	return s.data, nil
}

func (c *checker) readManifest() error {
	b, err := c.plain(manifestName)
	if err != nil {
		return err
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return fmt.Errorf("it is not understood: %w", err)
	}
	if m.Format != manifestFormat {
		return fmt.Errorf("it has format %d, and this version knows %d; use a newer edgelog", m.Format, manifestFormat)
	}
	c.manifest, c.digest = m, sha256.Sum256(b)
	return nil
}

// chooseKey prefers the key that did not come with the package.
func (c *checker) chooseKey() error {
	c.key = c.manifest.Ledger.Key
	if c.opt.PublicKey == "" {
		c.report.OwnKey = true
		return nil
	}
	if _, err := note.NewVerifier(c.opt.PublicKey); err != nil {
		return fmt.Errorf("%w: %q: %w", ledger.ErrKey, c.opt.PublicKey, err)
	}
	if c.key != c.opt.PublicKey {
		return fmt.Errorf("%w: it says that its ledger's key is %q (fingerprint %s), and %q was given; ask the provider which is right",
			ErrOtherKey, cut(c.key, 200), Fingerprint(c.key), c.opt.PublicKey)
	}
	return nil
}

// contents compares every member with the manifest: the same ones, in the same
// order, with the same bytes.
func (c *checker) contents() (signature, receipt []byte, err error) {
	want := make([]string, 0, mostMembers)
	for i := range c.manifest.Members {
		if want = append(want, c.manifest.Members[i].Name); i == 0 {
			want = append(want, manifestName)
		}
	}
	want = append(want, signatureName, receiptName)
	for i := range c.members {
		if i >= len(want) || c.members[i].name != want[i] {
			return nil, nil, fmt.Errorf("member %q: the manifest does not name it, or not in this place", c.members[i].name)
		}
	}
	if len(c.members) < len(want) {
		return nil, nil, fmt.Errorf("member %q: it is missing", want[len(c.members)])
	}
	for i := range c.manifest.Members {
		m := &c.manifest.Members[i]
		s := &c.members[i+min(i, 1)]
		var out io.Writer = io.Discard
		var page bytes.Buffer
		if m.Name == summaryName && m.Size <= mostPlain {
			out = &page
		}
		if err := s.unpack(out); err != nil {
			return nil, nil, fmt.Errorf("member %q: %w", m.Name, err)
		}
		if hex.EncodeToString(s.sum[:]) != m.SHA256 || uint64(m.Size) != s.size {
			return nil, nil, fmt.Errorf("member %q: its content is not that of the manifest", m.Name)
		}
		if m.Name == summaryName {
			c.report.summary = page.Bytes()
		}
	}
	if signature, err = c.plain(signatureName); err != nil {
		return nil, nil, fmt.Errorf("member %q: %w", signatureName, err)
	}
	if receipt, err = c.plain(receiptName); err != nil {
		return nil, nil, fmt.Errorf("member %q: %w", receiptName, err)
	}
	return signature, receipt, nil
}

const summaryName = "summary.html"
