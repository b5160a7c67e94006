package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edgelog/edgelog/pkg/session"
)

const good = `gateway = "gw1"
provider = "Example Net"
profile = "session"
legal_basis = "BEK 988/2006"
data_dir = "data"
[border]
local = ["10.0.0.0/8", "2001:db8::/32"]
[[uplink]]
name = "eth1"
[[uplink]]
name = "eth2"
attach = "tcx"
[timeouts]
udp = "45s"
[radius]
listen = ["192.0.2.7:1813"]
[[radius.client]]
address = "192.0.2.1"
secret_file = "nas.secret"
[custodians]
recipients = ["age1qqq"]
[store]
min_free = "2GiB"
`

func TestParseFillsEveryFieldAndKeepsDefaults(t *testing.T) {
	got, err := Parse([]byte(good), "/etc/edgelog/edgelog.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Path, want.Hash = "/etc/edgelog/edgelog.toml", got.Hash
	want.Gateway, want.Provider, want.LegalBasis = "gw1", "Example Net", "BEK 988/2006"
	want.Profile = session.ProfileSession
	want.DataDir = "/etc/edgelog/data"
	want.Border.Local = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	want.Uplinks = []Uplink{{"eth1", "auto"}, {"eth2", "tcx"}}
	want.Timeouts.UDP = 45 * time.Second
	want.RADIUS = RADIUS{
		Listen:  []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:1813")},
		Clients: []RADIUSClient{{Address: netip.MustParsePrefix("192.0.2.1/32"), SecretFile: "/etc/edgelog/nas.secret"}},
		RadSec:  Default().RADIUS.RadSec,
	}
	want.Custodians.Recipients = []string{"age1qqq"}
	want.Store.MinFree = 2 << 30
	if d := cmp.Diff(want, *got, cmpopts.EquateComparable(netip.Prefix{}, netip.AddrPort{})); d != "" {
		t.Errorf("configuration (-want +got):\n%s", d)
	}
	if got.Socket() != "/run/edgelog/edgelog.sock" {
		t.Errorf("socket %q", got.Socket())
	}
}

// Each case changes the good text and names the whole sentence that must come
// out, so that a reader can judge the messages here.
var problemTests = []struct{ name, old, new, want string }{
	{"a misspelt key", `provider =`, "providr =", `line 2: providr is not a known key; did you mean "provider"?`},
	{"a misspelt section", `[store]`, "[stor]", `line 22: stor is not a known key; did you mean "store"?`},
	{"a misspelt key in a section", `min_free`, "minfree", `line 23: store.minfree is not a known key; did you mean "min_free"?`},
	{"a misspelt key in the second uplink", `attach = "tcx"`, `atach = "tcx"`, `line 12: uplink[2].atach is not a known key; did you mean "attach"?`},
	{"an unknown key that is like none", `min_free = "2GiB"`, `colour = "red"`, `line 23: store.colour is not a known key; known here: min_free, ballast, block_sessions, flush, retention_days`},
	{"a key in the wrong case", `gateway =`, `Gateway =`, `line 1: Gateway is not a known key; did you mean "gateway"?`},
	{"metrics that other machines could read", `[store]`, "[metrics]\nlisten = \"192.0.2.7:9477\"\n[store]",
		`line 23: metrics.listen "192.0.2.7:9477" can be reached from other machines; listen on "127.0.0.1:9477", or say expose = true if anybody who reaches it may know how much is recorded and missed`},
	{"a run_dir that is too long for a socket", `data_dir = "data"`, `run_dir = "/run/` + strings.Repeat("x", 91) + `"`,
		`line 5: run_dir is too long: the path of the control socket would have 109 bytes, and the kernel allows 107; choose a shorter one, for example run_dir = "/run/edgelog"`},
	{"metrics without a port", `[store]`, "[metrics]\nlisten = \"127.0.0.1\"\n[store]",
		`line 23: metrics.listen "127.0.0.1" is not an address and port; write for example "127.0.0.1:9477" or "[::1]:9477"`},
	{"a text for a flag", `[store]`, "[metrics]\nexpose = \"yes\"\n[store]", `line 23: metrics.expose must be true or false, not the text "yes"`},
	{"no gateway", `gateway = "gw1"`, ``, `gateway is missing; give this machine a name, for example gateway = "gw1"`},
	{"a gateway with a space", `"gw1"`, `"gw 1"`, `line 1: gateway must be at most 64 bytes without spaces; use a short name, for example "gw1"`},
	{"a number for a text", `"Example Net"`, `7`, `line 2: provider must be a text in quotes, not the number 7`},
	{"an unknown profile", `"session"`, `"all"`, `line 3: profile "all" is not known; use access, source, session or sample500`},
	{"session without legal basis", `legal_basis = "BEK 988/2006"`, ``, `line 3: profile "session" may only be used with a legal basis; name it, for example legal_basis = "BEK 988/2006 § 5 stk. 1", or use profile = "access"`},
	{"sample500", `"session"`, `"sample500"`, `line 3: profile "sample500" is not available in this version; use "access", "source" or "session"`},
	{"a prefix with host bits", `10.0.0.0/8`, `10.1.0.0/8`, `line 7: border.local "10.1.0.0/8" is not a prefix; it has bits set behind its length: write "10.0.0.0/8"`},
	{"an address for a prefix", `10.0.0.0/8`, `10.1.0.1`, `line 7: border.local "10.1.0.1" is not a prefix; write "10.1.0.1/32"`},
	{"all addresses", `10.0.0.0/8`, `0.0.0.0/0`, `line 7: border.local "0.0.0.0/0" is not a prefix; /0 would hold every address: list your own prefixes`},
	{"the same prefix twice", `"2001:db8::/32"`, `"10.0.0.0/8"`, `line 7: border.local names 10.0.0.0/8 twice; leave one of them out`},
	{"no local prefix", `["10.0.0.0/8", "2001:db8::/32"]`, `[]`, `line 7: border.local is empty: without it no session has an end user; list the prefixes of your own subscribers, for example local = ["192.0.2.0/24", "2001:db8::/32"]`},
	{"an uplink twice", `"eth2"`, `"eth1"`, `line 11: uplink[2].name "eth1" is named twice; leave one of them out`},
	{"an impossible interface name", `"eth2"`, `"a/b"`, `line 11: uplink[2].name "a/b" cannot be the name of an interface; name the interface as "ip link" shows it`},
	{"an unknown way to attach", `"tcx"`, `"tc"`, `line 12: uplink[2].attach "tc" is not known; use auto, xdp, tcx, clsact`},
	{"a duration without unit", `"45s"`, `"45"`, `line 14: timeouts.udp must be a time, not the text "45"; write for example "60s" or "5m"`},
	{"a duration of nothing", `"45s"`, `"0s"`, `line 14: timeouts.udp is 0s; it must be from 10ms to 24h0m0s`},
	{"a listener on every address", `192.0.2.7:1813`, `[::]:1813`, `line 16: radius.listen "[::]:1813" is every address: an answer could leave from another one than it was asked on, and be dropped; name the address that the access server sends to, for example "192.0.2.1:1813"; more than one may be listed`},
	{"a listener on every IPv4 address", `192.0.2.7:1813`, `0.0.0.0:1813`, `line 16: radius.listen "0.0.0.0:1813" is every address: an answer could leave from another one than it was asked on, and be dropped; name the address that the access server sends to, for example "192.0.2.1:1813"; more than one may be listed`},
	{"a listener without port", `192.0.2.7:1813`, `192.0.2.7`, `line 16: radius.listen "192.0.2.7" is not an address and port; write for example "192.0.2.1:1813" or "[2001:db8::1]:1813"`},
	{"a client without secret", `secret_file = "nas.secret"`, ``, `line 17: radius.client[1].secret_file is missing; write the shared secret into a file of mode 0600 and name the file`},
	{"a client that is a name", `"192.0.2.1"`, `"nas1"`, `line 18: radius.client[1].address "nas1" is not an address or prefix; write for example "192.0.2.0/24" or "2001:db8::/32"`},
	{"no custodian", `["age1qqq"]`, `[]`, `line 21: custodians.recipients is empty: nobody could ever open what is recorded; list the custodians' public keys, age1…; "edgelog init" makes them`},
	{"a private key", `"age1qqq"`, `"AGE-SECRET-KEY-1ABC"`, `line 21: custodians.recipients holds a private key; only public keys, age1…, may be on the gateway: take it out, and treat that key as exposed`},
	{"a key of another kind", `"age1qqq"`, `"ssh-ed25519 AAAA"`, `line 21: custodians.recipients "ssh-ed25519 AAAA" is not an age public key; it begins with age1; the identity file holds it in its comment`},
	{"a size without sense", `"2GiB"`, `"2 gigs"`, `line 23: store.min_free "2 gigs" is not a size; write for example "1GiB" or "500MB"`},
	{"too little room to be left free", `"2GiB"`, `"1MiB"`, `line 23: store.min_free is 1048576 bytes; it must be at least 256MiB`},
	{"broken TOML", `"eth2"`, `eth2`, `line 11: is not valid TOML: expected value but found "eth" instead; texts stand in "quotes", sections in [brackets]`},
	{"one bracket too few", "[[uplink]]\nname = \"eth1\"\n[[uplink]]\nname = \"eth2\"\nattach = \"tcx\"\n", "[uplink]\nname = \"eth1\"\n", `line 8: uplink must be a list of sections, not a section; write [[uplink]] with two brackets`},
	{"slots that are no power of two", "[timeouts]", "[table]\nslots = 100000\n[timeouts]", `line 14: table.slots must be a power of two; use 65536, 131072, 262144, 524288, 1048576, …`},
	{"too few slots", "[timeouts]", "[table]\nslots = 1024\n[timeouts]", `line 14: table.slots is 1024; it must be from 65536 to 268435456`},
	{"a share of nothing", "[timeouts]", "[table]\nhalf_open_share = 0.0\n[timeouts]", `line 14: table.half_open_share is 0; it must be more than 0 and at most 1`},
	{"more than all", "[timeouts]", "[table]\nhalf_open_share = 2\n[timeouts]", `line 14: table.half_open_share is 2; it must be more than 0 and at most 1`},
	{"a share in words", "[timeouts]", "[table]\nhalf_open_share = \"half\"\n[timeouts]", `line 14: table.half_open_share must be a share such as 0.5, not the text "half"`},
	{"a minimum above the number of keys", "[store]", "minimum = 2\n[store]", `line 22: custodians.minimum is greater than the number of recipients; add recipients or lower it`},
	{"an unknown way to stop", "[store]", "[agent]\non_stop = \"halt\"\n[store]", `line 23: agent.on_stop "halt" is not known; use keep, drain`},
}

func TestProblemsAreOneSentenceWithLineAndRemedy(t *testing.T) {
	for _, tc := range problemTests {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(good, tc.old) {
				t.Fatalf("the good text does not hold %q", tc.old)
			}
			text := strings.Replace(good, tc.old, tc.new, 1)
			_, err := Parse([]byte(text), "/etc/edgelog/edgelog.toml")
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			var got []string
			for _, p := range e.Problems {
				got = append(got, p.String())
			}
			found := false
			for _, g := range got {
				found = found || g == tc.want
			}
			if !found {
				t.Errorf("want %s\n got %s", tc.want, strings.Join(got, "\n     "))
			}
		})
	}
}

func TestAllProblemsAreReportedInTheOrderOfTheirLines(t *testing.T) {
	_, err := Parse([]byte("provider = 1\nprofile = \"x\"\n[store]\nflush = \"1\"\n"), "c.toml")
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	var keys []string
	for _, p := range e.Problems {
		keys = append(keys, p.Key)
	}
	want := []string{"provider", "profile", "store.flush", "gateway", "custodians.recipients"}
	if d := cmp.Diff(want, keys); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
	if n := strings.Count(err.Error(), "\n"); n != len(want)-1 {
		t.Errorf("%d line breaks in %q", n, err)
	}
}

func TestAccessNeedsNeitherUplinkNorPrefix(t *testing.T) {
	c, err := Parse([]byte("gateway=\"g\"\nprovider=\"p\"\n[custodians]\nrecipients=[\"age1x\"]\n"), "/c.toml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Profile != session.ProfileAccess {
		t.Errorf("default profile %v", c.Profile)
	}
}

func TestSampleParsesBackToItsValues(t *testing.T) {
	v := Values{
		Gateway: "gw1", Provider: `Net "Nord" \ Æ`, DataDir: "/d", RunDir: "/r", Profile: "session",
		LegalBasis: "BEK", Local: []string{"10.0.0.0/8"}, Uplinks: []string{"eth0", "eth1"},
		RADIUSListen: []string{"127.0.0.1:1813"}, RADIUSClient: "127.0.0.1", SecretFile: "radius.secret",
		Recipients: []Recipient{{"anna\nx = 1", "age1aaa"}, {"bo", "age1bbb"}},
	}
	text, err := Sample(v)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, "/etc/e/edgelog.toml")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if c.Provider != v.Provider || len(c.Uplinks) != 2 || c.Custodians.Minimum != 2 || c.RADIUS.Clients[0].SecretFile != "/etc/e/radius.secret" {
		t.Errorf("%+v", c)
	}
	d := Default()
	if c.Table != d.Table || c.Timeouts != d.Timeouts || c.Store != d.Store || c.Agent != d.Agent || c.BPFDir != d.BPFDir {
		t.Error("the sample states other values than the defaults")
	}
}

func TestLoadNamesTheFileAndTheRemedy(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.toml"): `"edgelog init" makes one`,
		dir:                             "it is a directory",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), dir) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{"0": 0, "4096": 4096, "1GiB": 1 << 30, "512 MiB": 512 << 20, "5MB": 5e6, "1B": 1} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "GiB", "-1GiB", "1.5GiB", "1gib", "99999999999TiB", "18446744073709551616"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q gave %d", in, got)
		}
	}
}

func TestReadSecretRefusesWhatOthersMayTouch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("hush\n", 0o640)
	if b, err := ReadSecret(path); err != nil || string(b) != "hush" {
		t.Errorf("%q, %v", b, err)
	}
	for _, mode := range []os.FileMode{0o644, 0o602, 0o620} {
		write("hush", mode)
		if _, err := ReadSecret(path); !errors.Is(err, ErrExposed) || strings.Contains(err.Error(), "hush") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	write("\n", 0o600)
	if _, err := ReadSecret(path); err == nil {
		t.Error("an empty secret was taken")
	}
	if _, err := ReadSecret(dir); err == nil {
		t.Error("a directory was taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(good + people))
	f.Add([]byte("uplink = [{name = \"a\"}]\n[radius]\nclient = 3"))
	f.Add([]byte("a = [\n[1,\n2]]\nb = \"\"\"\nc = 1\n\"\"\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, "/f.toml")
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 {
				t.Fatalf("not an *Error with problems: %v", err)
			}
			for _, p := range e.Problems {
				if p.Line < 0 || p.Line > strings.Count(string(text), "\n")+1 {
					t.Fatalf("line %d is not in the file", p.Line)
				}
			}
			return
		}
		if c.Gateway == "" || c.Provider == "" || len(c.Custodians.Recipients) < c.Custodians.Minimum ||
			c.Table.Slots&(c.Table.Slots-1) != 0 || c.Profile.NeedsLegalBasis() && c.LegalBasis == "" ||
			c.Disclose.Approvals > max(1, len(c.People.With(Custodian))) || c.Disclose.MaxWindow > MostWindow {
			t.Fatalf("an invalid configuration passed: %+v", c)
		}
		for _, p := range c.People.Persons {
			if p.Roles.Has(Officer) && p.Roles.Has(Custodian) || p.Roles.Has(vetted) && (p.ClearanceUntil.IsZero() || p.UID == 0) || p.Roles.Has(keyed) && p.Key == "" {
				t.Fatalf("a person passed who may not be: %+v", p)
			}
		}
	})
}

func TestTheOrderOfTrustNamesEachSourceOnce(t *testing.T) {
	c, err := Parse([]byte(good+"[identity]\ntrust = [\"static\", \"dhcp\"]\n"), "/etc/edgelog.toml")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Identity.Trust); got != "[static dhcp radius leases nat]" {
		t.Error(got)
	}
	for text, want := range map[string]string{`trust = ["static", "static"]`: "twice", `trust = ["hearsay"]`: "use radius, dhcp", `trust = ["unknown"]`: "not a source"} {
		if _, err := Parse([]byte(good+"[identity]\n"+text+"\n"), "/etc/edgelog.toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
