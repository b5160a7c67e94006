package disclose

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/edgelog/edgelog/pkg/config"
)

const breachHead = `# Notification of a breach of personal data: Annex I of regulation (EU) 611/2013, for the register of BEK 1882/2020 § 6.
# Fill it in and give it to "edgelog breach add --file FILE". It is kept sealed in the ledger: only custodians and auditors
# can read it. A text of several lines stands between three quotes: '''…'''. The form holds personal data: destroy the file.

# 3: "first" within 24 hours of the detection; "second" within 3 days of the first, when that was not complete.
notification = %s
# The number of the breach that a second notification, or a correction, belongs to; 0 for a new one.
number = %d
# The ledger entry that this form corrects and replaces; 0 for none.
corrects = %d
# When it was sent to the authority, with its zone; leave it empty until then, and correct the entry afterwards.
sent = %s
# true when the authority needs no further notification; then fields 9 to 12 must be filled in, too.
complete = %t
`

// BreachForm is the commented form of a breach, to be filled in; b holds what
// stands on it already.
func BreachForm(b *Breach) string {
	var out strings.Builder
	fmt.Fprintf(&out, breachHead, tomlText(cmp.Or(b.Notification, BreachFirst)), b.Number, b.Corrects, tomlText(b.Sent), b.Complete)
	for i := range breachFields {
		f := &breachFields[i]
		switch f.no {
		case 1:
			out.WriteString("\n# Section 1\n")
		case 9:
			out.WriteString("\n# Section 2\n")
		}
		need := ""
		if f.first {
			need = " (needed)"
		}
		fmt.Fprintf(&out, "# %d: %s%s%s\n", f.no, f.label, need, prefix("; ", f.help))
		switch text := f.value(b); {
		case f.count == nil:
			fmt.Fprintf(&out, "%s = %s\n", f.key, tomlText(text))
		case text == "":
			fmt.Fprintf(&out, "# %s = 0\n", f.key)
		default:
			fmt.Fprintf(&out, "%s = %s\n", f.key, text)
		}
	}
	return out.String()
}

func prefix(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// tomlText quotes s as TOML does: in one line, whatever it holds.
func tomlText(s string) string {
	var out bytes.Buffer
	enc := toml.NewEncoder(&out)
	if err := enc.Encode(map[string]string{"x": s}); err != nil { // a text is always encoded
		return strconv.Quote(s)
	}
	return strings.TrimSpace(strings.TrimPrefix(out.String(), "x = "))
}

// ParseBreachForm reads a form that somebody filled in. It is not checked. The
// error wraps ErrBreach and names line and key.
func ParseBreachForm(text []byte) (*Breach, error) {
	b := new(Breach)
	meta, err := toml.Decode(string(text), b)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("%w: line %d of the form: %s; texts stand in quotes", ErrBreach, syntax.Position.Line, syntax.Message)
	case err != nil:
		return nil, fmt.Errorf("%w: the form is not understood: %w; texts and times stand in quotes, numbers do not", ErrBreach, err)
	}
	known := []string{"notification", "number", "corrects", "sent", "complete"}
	for i := range breachFields {
		known = append(known, breachFields[i].key)
	}
	var errs []error
	for _, key := range meta.Undecoded() {
		remedy := "\"edgelog breach form\" shows all keys"
		if near := config.Nearest(key.String(), known); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		errs = append(errs, fmt.Errorf("%w: %s is not a key of the form; %s", ErrBreach, key, remedy))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b, nil
}
