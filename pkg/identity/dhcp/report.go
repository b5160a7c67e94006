package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Report is what a DHCP server's hook or script was called with.
type Report struct {
	Server string            `json:"server,omitempty"` // of the configuration; "": the only one of its kind
	At     int64             `json:"at"`               // when the hook was called: ns since 1970
	Args   []string          `json:"args"`
	Env    map[string]string `json:"env"`           // only what a server sets, see reported
	Raw    map[string][]byte `json:"raw,omitempty"` // the same, where it is not text
}

// Limits of a report: an exchange of DHCPv6 may be about some dozens of leases.
const (
	maxReport      = 1 << 18
	maxReportVars  = 2048
	reportPatience = 2 * time.Second
)

// reported are the beginnings of the variables that a report carries.
var reported = []string{"LEASE4_", "LEASE6_", "LEASES4_", "LEASES6_", "DELETED_LEASES4_", "DELETED_LEASES6_", "QUERY4_", "QUERY6_", "DNSMASQ_"}

// NewReport makes a report of a process's arguments and environment.
func NewReport(server string, args, environ []string, at time.Time) *Report {
	r := &Report{Server: server, At: at.UnixNano(), Args: args, Env: map[string]string{}, Raw: map[string][]byte{}}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		for _, begin := range reported {
			switch {
			case !strings.HasPrefix(name, begin) || value == "" || len(r.Env)+len(r.Raw) >= maxReportVars:
			case utf8.ValidString(value):
				r.Env[name] = value
			default:
				r.Raw[name] = []byte(value)
			}
		}
	}
	return r
}

// ErrNotTaken is returned by Send for a report that the agent did not take; its
// answer says why.
var ErrNotTaken = errors.New("the agent did not take the report")

// Send hands a report to the agent on the socket and waits, for at most two
// seconds, until it is durable. What is lost here the agent finds by itself
// when it next compares lists.
func (r *Report) Send(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reach the agent on %q: there is no such socket; is it running, and dhcp.listen this path?", socket)
	case err != nil:
		return fmt.Errorf("reach the agent on %q: %w", socket, netCause(err))
	}
	defer conn.Close() //nolint:errcheck // it was answered, or it was not
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return fmt.Errorf("report to the agent on %q: %w", socket, netCause(err))
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1024))
	if err != nil {
		return fmt.Errorf("report to the agent on %q: %w", socket, netCause(err))
	}
	if s := strings.TrimSpace(string(answer)); s != "ok" {
		return fmt.Errorf("report to the agent on %q: %w: %s", socket, ErrNotTaken, s)
	}
	return nil
}

// kind says which program made the report, "" if none that is known.
func (r *Report) kind() Kind {
	if len(r.Args) == 0 {
		return ""
	}
	switch a := r.Args[0]; {
	case strings.HasPrefix(a, "lease4_"), strings.HasPrefix(a, "lease6_"), strings.HasPrefix(a, "leases4_"), strings.HasPrefix(a, "leases6_"):
		return Kea
	case a == "add" || a == "old" || a == "del" || strings.HasPrefix(a, "arp-") || a == "init" || a == "tftp" || strings.HasPrefix(a, "relay-"):
		return Dnsmasq
	}
	return ""
}

// records returns what the report says. ok is false when it is not in the form
// of its program.
func (r *Report) records() (list []Record, ok bool) {
	if r.kind() == Dnsmasq {
		return r.dnsmasq()
	}
	six := strings.HasPrefix(r.Args[0], "lease6") || strings.HasPrefix(r.Args[0], "leases6")
	switch _, what, _ := strings.Cut(r.Args[0], "_"); what {
	case "committed":
		return r.committed(six)
	case "release":
		return r.one(six, Released)
	case "expire":
		return r.one(six, Expired)
	case "decline":
		return r.one(six, Declined)
	}
	return nil, true // renew and rebind: "committed" follows; recover: nobody holds it
}

// committed reads what Kea's leases4_committed and leases6_committed say: leases
// made or renewed, and leases that had to go for them.
func (r *Report) committed(six bool) (list []Record, ok bool) {
	family := map[bool]string{false: "LEASES4", true: "LEASES6"}[six]
	for _, begin := range []string{family, "DELETED_" + family} {
		size := r.Env[begin+"_SIZE"]
		n, err := strconv.Atoi(size)
		if size == "" {
			n, err = 0, nil
		}
		if err != nil || n < 0 || n > maxReportVars/8 {
			return nil, false
		}
		for i := range n {
			x, ok := r.kea(begin+"_AT"+strconv.Itoa(i)+"_", six)
			if !ok {
				return nil, false
			}
			if begin != family {
				x.State, x.Ended = Deleted, 0
			}
			list = append(list, x)
		}
	}
	return list, true
}

// one reads the lease of a lease4_ or lease6_ hook that ended it.
func (r *Report) one(six bool, as State) ([]Record, bool) {
	x, ok := r.kea(map[bool]string{false: "LEASE4_", true: "LEASE6_"}[six], six)
	if !ok {
		return nil, false
	}
	x.State, x.Ended = as, 0
	if as == Expired {
		x.Ended = x.Until
	}
	return []Record{x}, true
}

// kea reads the lease of the variables that begin like this.
func (r *Report) kea(begin string, six bool) (x Record, ok bool) {
	get := func(name string) string { return r.Env[begin+name] }
	a, err := netip.ParseAddr(get("ADDRESS"))
	bits, _ := strconv.Atoi(get("PREFIX_LEN"))
	if err != nil || a.Is4() == six || !x.setPrefix(a, get("TYPE") == "IA_PD", bits) {
		return x, false
	}
	cltt, err1 := strconv.ParseInt(get("CLTT"), 10, 64)
	valid, err2 := strconv.ParseInt(get("VALID_LIFETIME"), 10, 64)
	if err1 != nil || err2 != nil || cltt <= 0 || cltt > maxSeconds || valid < 0 || valid > forever {
		return x, false
	}
	state := map[string]int64{"": keaDefault, "default": keaDefault, "declined": keaDeclined, "expired-reclaimed": keaReclaimed, "released": keaReleased}
	n, known := state[get("STATE")]
	if !known || !x.keaState(n, cltt, valid) {
		return x, false
	}
	x.setMAC([]byte(get("HWADDR")))
	id := get("CLIENT_ID")
	if six {
		id = get("DUID")
		iaid, _ := strconv.ParseUint(get("IAID"), 10, 32)
		x.IAID = uint32(iaid)
	}
	if len(id) <= 3*maxID {
		x.Client = lowerHex([]byte(id))
	}
	if six {
		x.macOfDUID(fromHex(x.Client))
	}
	if h := get("HOSTNAME"); len(h) <= maxID {
		x.Hostname = h
	}
	if !six && strings.HasPrefix(begin, "LEASES") {
		x.Circuit = words(fromHex(r.Env["QUERY4_OPTION_82_SUB_OPTION_1"]))
		x.Remote = words(fromHex(r.Env["QUERY4_OPTION_82_SUB_OPTION_2"]))
		x.Subscriber = words(fromHex(r.Env["QUERY4_OPTION_82_SUB_OPTION_6"]))
	}
	return x, true
}

// dnsmasq reads a call of --dhcp-script: add, old or del, then MAC address or
// DUID, address, name.
func (r *Report) dnsmasq() ([]Record, bool) {
	action := r.Args[0]
	if action != "add" && action != "old" && action != "del" {
		return nil, true // not about a lease
	}
	if len(r.Args) < 3 {
		return nil, false
	}
	var x Record
	a, err := netip.ParseAddr(r.Args[2])
	if err != nil || !x.setPrefix(a, false, 0) || len(r.Args[1]) > 3*maxID {
		return nil, false
	}
	if a.Is6() {
		x.Client = lowerHex([]byte(r.Args[1]))
		iaid, _ := strconv.ParseUint(strings.TrimPrefix(r.Env["DNSMASQ_IAID"], "T"), 10, 32)
		x.IAID = uint32(iaid)
		x.setMAC(hardware([]byte(r.Env["DNSMASQ_MAC"])))
		x.macOfDUID(fromHex(x.Client))
	} else {
		x.setMAC(hardware([]byte(r.Args[1])))
		if id := r.Env["DNSMASQ_CLIENT_ID"]; len(id) <= 3*maxID {
			x.Client = lowerHex([]byte(id))
		}
	}
	if len(r.Args) > 3 && len(r.Args[3]) <= maxID {
		x.Hostname = r.Args[3]
	}
	if s := r.Env["DNSMASQ_LEASE_EXPIRES"]; s != "" {
		n, ok := number([]byte(s), maxSeconds)
		if !ok {
			return nil, false
		}
		x.Until = int64(n)
	}
	x.Circuit, x.Remote, x.Subscriber = r.agent("DNSMASQ_CIRCUIT_ID"), r.agent("DNSMASQ_REMOTE_ID"), r.agent("DNSMASQ_SUBSCRIBER_ID")
	switch action {
	case "add":
		x.Heard, x.First = r.At/int64(time.Second), true
	case "del":
		x.State, x.Until = Deleted, 0
	}
	return []Record{x}, true
}

// agent returns what a relay said. dnsmasq hands the bytes on as they came, but
// only up to the first zero byte, and two that are cut could be one: what is not
// text is believed only with the length of a MAC address.
func (r *Report) agent(name string) string {
	b, ok := r.Raw[name]
	if !ok {
		b = []byte(r.Env[name])
	}
	if len(b) > maxID {
		return ""
	}
	w := words(b)
	if strings.HasPrefix(w, "0x") && len(b) != 6 {
		return ""
	}
	return w
}
