package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/edgelog/edgelog/pkg/session"
)

// Limits of what a configuration may hold.
const (
	maxFileBytes = 1 << 20   // of the configuration file
	maxText      = 255       // bytes of provider and legal_basis
	maxName      = 64        // bytes of the gateway's name
	leastFree    = 256 << 20 // bytes: what the database needs beside what it is given
)

// LeastK is the smallest Statistics.K that may be configured.
const LeastK = 10

// SocketName is the name of the control socket in RunDir.
const SocketName = "edgelog.sock"

// Config is a checked configuration: every value is in range, every path
// absolute.
type Config struct {
	Path string            // the file it came from; "" when parsed from memory
	Hash [sha256.Size]byte // SHA-256 of the text

	Gateway    string // this machine, as it is named on every block
	Provider   string // in whose name is recorded (BEK 988/2006 §§ 7, 8)
	DataDir    string
	RunDir     string // holds the control socket
	BPFDir     string // pinned table and links, in a BPF file system
	Profile    session.Profile
	LegalBasis string // why the profile may be used; "" only with profiles that need none

	Border     Border
	Uplinks    []Uplink // none only with the profile access: access records need no packets
	Table      Table
	Timeouts   Timeouts
	RADIUS     RADIUS
	NAT        NAT
	DHCP       DHCP
	Identity   Identity
	Static     []StaticPrefix
	StaticFile string // CSV; "" for none
	Places     []Place
	Custodians Custodians
	People     People
	Contacts   []Contact
	Disclose   Disclose
	Store      Store
	Agent      Agent
	Metrics    Metrics
	Ledger     Ledger
	Statistics Statistics
}

// Border says what lies inside it.
type Border struct {
	Local  []netip.Prefix // masked; a packet with exactly one end in them belongs to a session
	Exempt []netip.Prefix // masked; never recorded (BEK 988/2006 § 2: broadcasting)
}

// Uplink is a network interface that faces other networks.
type Uplink struct {
	Name   string
	Attach string // auto, xdp, tcx or clsact
}

// Table sizes the session table in the kernel.
type Table struct {
	Slots     uint32 // a power of two, ≥ 65536; 64 bytes each
	RingBytes uint32 // of the ring buffer of news, and of that of samples; a power of two
	// HalfOpenShare is the part of the table that half-open TCP sessions may have.
	HalfOpenShare float64
}

// Timeouts say after which silence a session has ended.
type Timeouts struct {
	UDP, ICMP, TCP, Other time.Duration
	HalfOpen              time.Duration // a SYN that nobody answered
	Linger                time.Duration // how long a closed TCP session waits for stragglers
}

// Custodians are those whose keys open what was recorded.
type Custodians struct {
	Recipients []string // age recipients; public keys; with those of the persons who are custodians
	Minimum    int      // refuse to run with fewer
}

// Store configures the sealed store.
type Store struct {
	MinFree       uint64        // bytes; below it nothing more is written
	Ballast       uint64        // bytes kept aside, given back when the disk is full; 0: none
	BlockSessions int           // most sessions in one block
	Flush         time.Duration // longest time that a finished session waits for its block
	RetentionDays int           // whole UTC days after that of a session's end that it is kept
}

// Agent configures the agent's life.
type Agent struct {
	OnStop      OnStop
	SocketGroup Group // may reach the control socket; none: only the agent's own user and group
}

// Metrics configures what Prometheus may scrape.
type Metrics struct {
	Listen netip.AddrPort // TCP; not valid: nowhere
	Expose bool           // Listen may be reached by other machines
}

// Statistics configures those of traffic.
type Statistics struct {
	K int // an hour in which fewer sessions began is shown without figures
}

// OnStop says what a graceful stop does with sessions that are still open.
type OnStop string

// The ways to stop.
const (
	Keep  OnStop = "keep"  // the kernel goes on recording into the pinned table; the next start adopts it
	Drain OnStop = "drain" // everything is stored, open sessions as ended by shutdown, and the programs are removed
)

// Default returns the values that a configuration has where its file is
// silent. It is not valid by itself: gateway, provider and custodians have no
// default.
func Default() Config {
	return Config{
		DataDir: "/var/lib/edgelog",
		RunDir:  "/run/edgelog",
		BPFDir:  "/sys/fs/bpf/edgelog",
		Profile: session.ProfileAccess,
		Table:   Table{Slots: 1 << 20, RingBytes: 4 << 20, HalfOpenShare: 0.5},
		Timeouts: Timeouts{
			UDP: time.Minute, ICMP: time.Minute, TCP: 5 * time.Minute, Other: time.Minute,
			HalfOpen: 30 * time.Second, Linger: 2 * time.Second,
		},
		NAT:        DefaultNAT(),
		DHCP:       defaultDHCP(),
		Custodians: Custodians{Minimum: 1},
		Disclose:   defaultDisclose(),
		Store:      Store{MinFree: 1 << 30, Ballast: 256 << 20, BlockSessions: 65536, Flush: time.Second, RetentionDays: 365},
		Agent:      Agent{OnStop: Keep},
		Ledger:     defaultLedger(),
		Statistics: Statistics{K: 20},
		RADIUS:     RADIUS{RadSec: RadSec{Connections: 256, Idle: time.Hour}},
	}
}

const whoReads = "run it as root, or as the user who owns the file"

// Load reads and checks the configuration file at path. The error is an
// *Error when the file could be read but says something wrong.
func Load(path string) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration %q: %w", path, err)
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read configuration %q: %w; %s", path, pathless(err), whoReads)
	case err != nil:
		return nil, fmt.Errorf("read configuration %q: %w; \"edgelog init\" makes one", path, pathless(err))
	case st.IsDir():
		return nil, fmt.Errorf("read configuration %q: it is a directory; name the file in it", path)
	case st.Size() > maxFileBytes:
		return nil, fmt.Errorf("read configuration %q: %d bytes are more than a configuration can need; check the path", path, st.Size())
	}
	text, err := os.ReadFile(abs)
	if err != nil {
		return nil, fmt.Errorf("read configuration %q: %w; %s", path, pathless(err), whoReads)
	}
	return Parse(text, abs)
}

// Parse checks a configuration text. The path is used in messages, and
// relative paths in the text count from its folder; it is not opened. The
// error is an *Error.
func Parse(text []byte, path string) (*Config, error) {
	var root map[string]any
	r := &reader{path: path, where: locate(text)}
	if _, err := toml.Decode(string(text), &root); err != nil {
		r.syntax(err)
		return nil, r.err()
	}
	c := Default()
	c.Path = path
	c.Hash = sha256.Sum256(text)
	c.read(r.table("", root))
	r.readingDone()
	c.check(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Socket returns the path of the control socket.
func (c *Config) Socket() string { return filepath.Join(c.RunDir, SocketName) }

// read takes every known key from t.
func (c *Config) read(t *table) {
	t.str("gateway", &c.Gateway)
	t.str("provider", &c.Provider)
	t.path("data_dir", &c.DataDir)
	t.path("run_dir", &c.RunDir)
	t.path("bpf_dir", &c.BPFDir)
	t.profile("profile", &c.Profile)
	t.str("legal_basis", &c.LegalBasis)

	b := t.sub("border")
	b.prefixes("local", &c.Border.Local)
	b.prefixes("exempt", &c.Border.Exempt)
	b.done()

	for _, u := range t.subs("uplink") {
		up := Uplink{Attach: "auto"}
		u.str("name", &up.Name)
		u.word("attach", &up.Attach, "auto", "xdp", "tcx", "clsact")
		u.done()
		c.Uplinks = append(c.Uplinks, up)
	}

	s := t.sub("table")
	s.number("slots", &c.Table.Slots, 1<<16, 1<<28)
	s.number("ring_bytes", &c.Table.RingBytes, 1<<12, 1<<30)
	s.share("half_open_share", &c.Table.HalfOpenShare)
	s.done()

	o := t.sub("timeouts")
	for _, d := range c.Timeouts.named() {
		o.duration(d.key, d.value, 10*time.Millisecond, 24*time.Hour)
	}
	o.done()
	c.readRest(t)
	t.done()
}

func (c *Config) readRest(t *table) {
	id := t.sub("identity")
	c.Identity.read(id)
	id.done()
	c.readStatic(t)
	c.readRADIUS(t)
	c.NAT.read(t.sub("nat"))
	c.DHCP.read(t.sub("dhcp"))

	cu := t.sub("custodians")
	cu.strs("recipients", &c.Custodians.Recipients)
	cu.integer("minimum", &c.Custodians.Minimum, 1, 100)
	cu.done()
	c.readPersons(t)
	c.readContacts(t)
	c.Disclose.read(t.sub("disclose"))

	st := t.sub("store")
	st.size("min_free", &c.Store.MinFree, leastFree)
	st.size("ballast", &c.Store.Ballast, 0)
	st.integer("block_sessions", &c.Store.BlockSessions, 64, 1<<17)
	st.duration("flush", &c.Store.Flush, 10*time.Millisecond, time.Hour)
	st.integer("retention_days", &c.Store.RetentionDays, 1, 3660)
	st.done()

	ag := t.sub("agent")
	stop := string(c.Agent.OnStop)
	ag.word("on_stop", &stop, string(Keep), string(Drain))
	c.Agent.OnStop = OnStop(stop)
	ag.group("socket_group", &c.Agent.SocketGroup)
	ag.done()

	c.Ledger.read(t.sub("ledger"))

	me := t.sub("metrics")
	me.address("listen", &c.Metrics.Listen)
	me.flag("expose", &c.Metrics.Expose)
	me.done()

	sta := t.sub("statistics")
	sta.integer("k", &c.Statistics.K, LeastK, 1e9)
	sta.done()
}

type namedDuration struct {
	key   string
	value *time.Duration
}

func (t *Timeouts) named() []namedDuration {
	return []namedDuration{
		{"udp", &t.UDP}, {"icmp", &t.ICMP}, {"tcp", &t.TCP}, {"other", &t.Other},
		{"half_open", &t.HalfOpen}, {"linger", &t.Linger},
	}
}
