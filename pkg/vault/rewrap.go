package vault

import "fmt"

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
