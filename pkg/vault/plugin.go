package vault

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"filippo.io/age/tag"
)

// ErrPlugin means that a key lies with an age plugin, as on a hardware token,
// and that the plugin could not be run, was refused, or failed.
var ErrPlugin = errors.New("age plugin did not do its part")

const (
	pluginRecipient = "age1"        // and a name, "1" and the rest
	pluginIdentity  = "AGE-PLUGIN-" // likewise
)

// parsePluginRecipient reads a public key such as age1yubikey1…. What the
// plugin asks while it wraps is refused: on a gateway nobody answers.
func parsePluginRecipient(k string) (age.Recipient, error) {
	if !strings.HasPrefix(k, pluginRecipient) || strings.ContainsAny(k, "\n\r") {
		return nil, ErrRecipient
	}
	if r, err := tag.ParseRecipient(k); err == nil {
		return r, nil // age1tag1…: of a token as well, but age wraps for it by itself
	}
	r, err := plugin.NewRecipient(k, &plugin.ClientUI{})
	if err != nil {
		return nil, ErrRecipient
	}
	return &pluginWrapper{r}, nil
}

// pluginWrapper tells a plugin's failing from other errors.
type pluginWrapper struct{ *plugin.Recipient }

// Wrap is age's.
func (w *pluginWrapper) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	s, err := w.Recipient.Wrap(fileKey)
	return s, pluginError(w.Name(), err)
}

// WrapWithLabels is age's.
func (w *pluginWrapper) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	s, labels, err := w.Recipient.WrapWithLabels(fileKey)
	return s, labels, pluginError(w.Name(), err)
}

// pluginUnwrapper likewise.
type pluginUnwrapper struct{ *plugin.Identity }

// Unwrap is age's.
func (u *pluginUnwrapper) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	k, err := u.Identity.Unwrap(stanzas)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, err
	}
	return k, pluginError(u.Name(), err)
}

func pluginError(name string, err error) error {
	var none *plugin.NotFoundError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &none):
		return fmt.Errorf("%w: age-plugin-%s is not in PATH; install it", ErrPlugin, name)
	}
	return fmt.Errorf("%w: %w", ErrPlugin, err)
}

// parseIdentityLines is age.ParseIdentities with plugins. ui is how a plugin
// asks, for a PIN or a touch; nil means that there is nobody to ask.
func parseIdentityLines(b []byte, ui *plugin.ClientUI) ([]age.Identity, error) {
	plain := make([]byte, 0, len(b)) // it never grows, so that all of it is cleared
	defer func() { clear(plain) }()
	var list []age.Identity
	for line := range bytes.Lines(b) {
		word := bytes.TrimSpace(line)
		if !bytes.HasPrefix(word, []byte(pluginIdentity)) {
			plain = append(plain, line...)
			continue
		}
		if ui == nil {
			return nil, fmt.Errorf("%w: the key is with a plugin, and there is nobody whom it could ask", ErrPlugin)
		}
		id, err := plugin.NewIdentity(string(word), ui)
		if err != nil {
			return nil, fmt.Errorf("%w: a line AGE-PLUGIN-… is not whole", ErrIdentityFile)
		}
		list = append(list, &pluginUnwrapper{id})
	}
	more, err := age.ParseIdentities(bytes.NewReader(plain))
	if err != nil && (len(list) == 0 || !onlyComments(plain)) {
		return nil, fmt.Errorf("%w: no line in it is a whole AGE-SECRET-KEY-1… or AGE-PLUGIN-…", ErrIdentityFile)
	}
	return append(more, list...), nil // first those that need nobody's hand: a plugin that fails ends the trying
}

func onlyComments(b []byte) bool {
	for line := range bytes.Lines(b) {
		if word := bytes.TrimSpace(line); len(word) > 0 && word[0] != '#' {
			return false
		}
	}
	return true
}
