package ledger

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says how many entries there are and what the root of their tree
// is, signed.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   [32]byte // RFC 6962 §2.1
	Note   []byte   // the signed text, as it stands in the file: C2SP tlog-checkpoint
}

// signer makes checkpoints and checks them.
type signer struct {
	key      string // as it stands in the key file, without the line end
	sign     note.Signer
	verify   note.Verifier
	verifier string // the public key as text
}

// parseSigner reads the text of a key file: "PRIVATE+KEY+name+hash+key" and a
// line end, as golang.org/x/mod/sumdb/note writes it, in exactly that form.
func parseSigner(text string) (*signer, error) {
	key, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, errors.New("it does not end in a line end")
	}
	s, err := note.NewSigner(key)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(key, "+", 5) // checked by NewSigner
	if fmt.Sprintf("%08x", s.KeyHash()) != parts[3] {
		return nil, errors.New("the hash is not in lower case")
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(parts[4])
	if err != nil {
		return nil, errors.New("the key is not in strict base64")
	}
	pub, err := note.NewEd25519VerifierKey(s.Name(), publicKey(seed[1:]))
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(pub)
	if err != nil {
		return nil, err
	}
	return &signer{key: key, sign: s, verify: v, verifier: pub}, nil
}

// loadSigner reads the key file; it refuses one that others can read or that
// belongs to another origin.
func loadSigner(file, origin string) (*signer, error) {
	text, err := readPrivate(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: read %q: it is needed to continue this ledger; restore it from a backup", ErrNoKey, file)
	}
	if err != nil {
		return nil, err
	}
	s, err := parseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("%w: read %q: %w; restore it from a backup", ErrKey, file, err)
	}
	if s.sign.Name() != origin {
		return nil, fmt.Errorf("%w: %w: %q belongs to the ledger %q, not to %q", ErrKey, ErrOrigin, file, s.sign.Name(), origin)
	}
	return s, nil
}

func readPrivate(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("read signer key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: %q can be used by others (mode %04o); run chmod 600 on it", ErrKey, file, info.Mode().Perm())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read signer key: %w", err)
	}
	return string(b), nil
}

// createSigner makes a key and writes its file, mode 0600.
func createSigner(d *disk, file, origin string) error {
	key, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return fmt.Errorf("make signer key for %q: %w", origin, err)
	}
	if _, err := note.NewSigner(key); err != nil {
		return fmt.Errorf("%w: the origin %q cannot name a key: it may hold neither spaces nor '+'", ErrKey, origin)
	}
	return d.replace(file, []byte(key+"\n"))
}

// checkpoint signs the tree.
func (s *signer) checkpoint(size int64, root tlog.Hash) (Checkpoint, error) {
	origin := s.sign.Name()
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	msg, err := note.Sign(&note.Note{Text: text}, s.sign)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint: %w", err)
	}
	return Checkpoint{Origin: origin, Size: size, Root: root, Note: msg}, nil
}

// parseCheckpoint reads and checks a checkpoint with exactly one signature, by
// v. There is one way to write a checkpoint: any other spelling of the same
// signature is refused too, so that no bit of the file goes unchecked.
func parseCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, broken(CheckpointName, "%v", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, broken(CheckpointName, "it has a signature that is not the ledger's own")
	}
	sig := n.Sigs[0]
	raw, err := base64.StdEncoding.Strict().DecodeString(sig.Base64)
	again := n.Text + "\n— " + sig.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	if err != nil || again != string(msg) {
		return Checkpoint{}, broken(CheckpointName, "the signature is not written in its one form")
	}
	c := Checkpoint{Note: msg}
	var root string
	// Text that was signed was written by checkpoint above; Sscanf is enough to
	// take it apart, and writing it again tells whether it was.
	if _, err := fmt.Sscanf(n.Text, "%s\n%d\n%s\n", &c.Origin, &c.Size, &root); err != nil {
		return Checkpoint{}, broken(CheckpointName, "its text has not the lines of a checkpoint")
	}
	h, err := tlog.ParseHash(root)
	if err != nil || c.Size < 0 || fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, h) != n.Text {
		return Checkpoint{}, broken(CheckpointName, "its text has not the lines of a checkpoint")
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, broken(CheckpointName, "it is of the ledger %q, not of %q", c.Origin, v.Name())
	}
	c.Root = h
	return c, nil
}

// Statement returns text as a signed note of this ledger (C2SP signed-note),
// under the key of its checkpoints. The text gets a first line that says what it
// is, which no checkpoint has.
func (l *Ledger) Statement(what, text string) ([]byte, error) {
	b, err := note.Sign(&note.Note{Text: statementHead(what) + text}, l.signer.sign)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return b, nil
}

func statementHead(what string) string { return "edgelog statement: " + what + "\n\n" }

// OpenStatement checks a statement with a ledger's public key (VerifierKey), and
// returns its text. The error wraps ErrSignature.
func OpenStatement(what string, statement []byte, verifierKey string) (text string, err error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return "", fmt.Errorf("read public key of a ledger: %w", err)
	}
	n, err := note.Open(statement, note.VerifierList(v))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	text, ok := strings.CutPrefix(n.Text, statementHead(what))
	if !ok {
		return "", fmt.Errorf("%w: it is signed, but is no statement of %q", ErrSignature, what)
	}
	return text, nil
}

// ParseCheckpoint reads a signed checkpoint, and checks it with a ledger's public key.
//
// Errors: ErrKey, or a *BrokenError.
func ParseCheckpoint(msg []byte, verifierKey string) (Checkpoint, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: verifier key: %w", ErrKey, err)
	}
	return parseCheckpoint(msg, v)
}
