package vault

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// Rewrap returns a wrapped data key as it is wrapped for other recipients: what
// ids open is sealed to them, and to nobody else. The data key is in this
// process meanwhile, and nowhere else. The error wraps ErrWrongIdentity,
// ErrDamaged, ErrNewer or ErrPlugin.
func Rewrap(wrapped []byte, ids *Identities, to *Recipients) (day int32, epoch uint64, out []byte, err error) {
	payload, err := OpenSealed(wrapped, ids)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("open wrapped data key: %w", err)
	}
	defer clear(payload)
	n, _, err := parsePayload(payload)
	if err != nil {
		return 0, 0, nil, err
	}
	if out, err = to.SealTo(payload); err != nil {
		return 0, 0, nil, fmt.Errorf("wrap data key: %w", err)
	}
	return n.day, n.epoch, out, nil
}

// Stanzas returns the types of the recipients that a wrapped key was made for
// ("X25519"), one for each. Which X25519 keys they are stands nowhere: age keeps
// its recipients to itself. The error wraps ErrDamaged.
func Stanzas(wrapped []byte) (types []string, err error) {
	lines := bufio.NewScanner(bytes.NewReader(wrapped))
	for n := 0; lines.Scan(); n++ {
		line := lines.Text()
		rest, stanza := strings.CutPrefix(line, "-> ")
		switch {
		case n == 0 && line != "age-encryption.org/v1":
			return nil, fmt.Errorf("read wrapped key: %w: it does not begin like an age file", ErrDamaged)
		case stanza:
			kind, _, _ := strings.Cut(rest, " ")
			if !strings.HasSuffix(kind, "-grease") { // noise that some implementations add
				types = append(types, kind)
			}
		case strings.HasPrefix(line, "--- ") && len(types) > 0:
			return types, nil
		}
	}
	return nil, fmt.Errorf("read wrapped key: %w: its header is cut short", ErrDamaged)
}
