package vault

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestAWrappedKeySaysForHowManyItIsAndNotForWhom(t *testing.T) {
	var to []string
	for range 3 {
		pair, err := GenerateIdentity()
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, pair.Recipient)
	}
	sealed, err := SealTo(to, []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	types, err := Stanzas(sealed)
	if err != nil || !slices.Equal(types, []string{"X25519", "X25519", "X25519"}) {
		t.Errorf("%q %v", types, err)
	}
	for _, k := range to {
		if strings.Contains(string(sealed), k) {
			t.Error("a public key stands in it")
		}
	}
	head := strings.Index(string(sealed), "\n---")
	for what, bad := range map[string]string{
		"empty": "", "noise": "noise", "no recipient": "age-encryption.org/v1\n--- x\n",
		"cut in its header": string(sealed[:head]), "of another version": strings.Replace(string(sealed), "/v1", "/v2", 1),
	} {
		if types, err := Stanzas([]byte(bad)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %q %v", what, types, err)
		}
	}
	if types, err := Stanzas([]byte("age-encryption.org/v1\n-> X25519 a\nb\n-> joint-grease c\nd\n--- mac\n")); err != nil || len(types) != 1 {
		t.Errorf("with noise: %q %v", types, err)
	}
}
