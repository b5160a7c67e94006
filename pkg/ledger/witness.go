package ledger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// lineMark opens a checkpoint that is written in one line.
const lineMark = "edgelog-checkpoint"

// Line returns the checkpoint in one line, for logs: a word that marks it, origin,
// size, root and signature. FindCheckpoints makes the note of it again.
func (c Checkpoint) Line() string {
	sig := ""
	if at := strings.LastIndexByte(strings.TrimSuffix(string(c.Note), "\n"), ' '); at >= 0 {
		sig = strings.TrimSuffix(string(c.Note[at+1:]), "\n")
	}
	return fmt.Sprintf("%s %s %d %s %s", lineMark, c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), sig)
}

var (
	oneLine  = regexp.MustCompile(lineMark + ` ([^\s+]+) ([0-9]{1,19}) ([A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{91}=)([^A-Za-z0-9+/=]|$)`)
	sizeLine = regexp.MustCompile(`^[0-9]{1,19}$`)
	rootLine = regexp.MustCompile(`^[A-Za-z0-9+/]{43}=$`)
)

// FindCheckpoints returns the notes of all checkpoints of an origin in a text, in
// their order: one behind the other, in mail, quoted, or in the lines of a log
// (Line). Nothing is checked: Consistent and Against do that. others counts what
// looks like a checkpoint of another ledger.
func FindCheckpoints(text []byte, origin string) (notes [][]byte, others int) {
	if notes, others = findCheckpoints(text, origin); quoted.Match(text) {
		// A mail server on the way may have written the dash and the signs = anew
		// (RFC 2045 §6.7); what is not written so is left as it is.
		if plain, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(text))); err == nil {
			more, _ := findCheckpoints(plain, origin)
			for _, n := range more {
				if !slices.ContainsFunc(notes, func(have []byte) bool { return bytes.Equal(have, n) }) {
					notes = append(notes, n)
				}
			}
		}
	}
	return notes, others
}

var quoted = regexp.MustCompile(`(?im)^content-transfer-encoding:[ \t]*quoted-printable`)

func findCheckpoints(text []byte, origin string) (notes [][]byte, others int) {
	var last [4]string // the lines before
	for line := range strings.Lines(string(text)) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n\t "), "> \t")
		if m := oneLine.FindStringSubmatch(line); m != nil {
			if m[1] != origin {
				others++
			} else {
				notes = append(notes, fmt.Appendf(nil, "%s\n%s\n%s\n\n— %s %s\n", m[1], m[2], m[3], m[1], m[4]))
			}
		}
		if strings.HasPrefix(line, "— ") && last[3] == "" && rootLine.MatchString(last[2]) && sizeLine.MatchString(last[1]) {
			if last[0] != origin {
				others++
			} else {
				notes = append(notes, []byte(strings.Join(last[:], "\n")+"\n"+line+"\n"))
			}
		}
		copy(last[:], last[1:])
		last[3] = line
	}
	return notes, others
}

// OriginOf returns the origin of the ledger that a verifier key is of.
func OriginOf(verifierKey string) (string, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return "", fmt.Errorf("%w: verifier key: %w", ErrKey, err)
	}
	return v.Name(), nil
}
