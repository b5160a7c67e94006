package recorder

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/store"
	"github.com/edgelog/edgelog/pkg/vault"
)

// refused opens an agent that must not start, and returns why it does not.
func (r *room) refused(edit func(*Options)) error {
	r.t.Helper()
	o := r.options()
	conf := *o.Config
	conf.DataDir, conf.RunDir = filepath.Join(r.dir, "refused"), filepath.Join(r.dir, "refused-run")
	o.Config = &conf
	edit(&o)
	rec, err := Open(r.t.Context(), o)
	if err == nil {
		r.t.Error("it starts")
		_ = rec.Close()
	}
	return err
}

func TestWhatIsKnownToFailIsRefusedBeforeAnythingIsMade(t *testing.T) {
	r := newRoom(t, "")
	for name, c := range map[string]struct {
		edit func(*Options)
		want error
	}{
		"too few custodians":         {func(o *Options) { o.Config.Custodians.Minimum = 2 }, vault.ErrTooFewRecipients},
		"a custodian that is no key": {func(o *Options) { o.Config.Custodians.Recipients = []string{"age1nobody"} }, nil},
		"no right to attach":         {func(o *Options) { o.Permitted = func() error { return probe.ErrPrivilege } }, probe.ErrPrivilege},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.refused(c.edit)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(r.dir, "refused")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the data directory was made: %v", err)
			}
		})
	}
}

func TestAnAgentOfAccessRecordsNeedsNoRightToAttach(t *testing.T) {
	r := newRoom(t, "")
	o := r.options()
	conf := *o.Config
	conf.Uplinks = nil
	r.o.Config, r.o.Permitted = &conf, func() error { return probe.ErrPrivilege }
	if err := r.checkPermission(); err != nil {
		t.Error(err)
	}
}

func TestMoreFreeSpaceThanTheDiskHasIsRefusedWithBothSizes(t *testing.T) {
	r := newRoom(t, "")
	err := r.refused(func(o *Options) { o.Config.Store.MinFree = 1 << 60 })
	if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "1099511627776 MiB are to stay free, and the whole disk has ") ||
		!strings.Contains(err.Error(), "set a smaller store.min_free") {
		t.Error(err)
	}
}

func TestAnAddressOfAnotherMachineIsSaidToBeThat(t *testing.T) {
	_, err := ListenAccounting(netip.MustParseAddrPort("203.0.113.9:1813"))
	if err == nil {
		t.Fatal("it listens")
	}
	said := ListenError(err)
	if !errors.Is(said, unix.EADDRNOTAVAIL) || !strings.HasPrefix(said.Error(), "no such address on this machine") {
		t.Error(said)
	}
	first, err := ListenAccounting(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close() //nolint:errcheck // of a test
	_, err = ListenAccounting(first.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort())
	if said := ListenError(err); !errors.Is(said, unix.EADDRINUSE) || !strings.Contains(said.Error(), "ss -lntup") {
		t.Error(said)
	}
}
