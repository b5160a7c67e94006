package dhcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// page is how many leases are asked for at once, and maxAnswer bounds an
// answer, in bytes.
const (
	page      = 2000
	maxAnswer = 64 << 20
	maxPages  = maxTable / page
)

// controlPatience bounds one question to a server.
const controlPatience = 30 * time.Second

// keaLease is one lease of an answer.
type keaLease struct {
	Address string          `json:"ip-address"`
	HW      string          `json:"hw-address"`
	Client  string          `json:"client-id"`
	DUID    string          `json:"duid"`
	IAID    uint32          `json:"iaid"`
	CLTT    int64           `json:"cltt"`
	Valid   int64           `json:"valid-lft"`
	State   int64           `json:"state"`
	Type    string          `json:"type"`
	Bits    int             `json:"prefix-len"`
	Host    string          `json:"hostname"`
	Context json.RawMessage `json:"user-context"`
}

type keaAnswer struct {
	Result    int    `json:"result"`
	Text      string `json:"text"`
	Arguments struct {
		Leases []keaLease `json:"leases"`
	} `json:"arguments"`
}

// control asks Kea for its leases.
type control struct {
	at    string // path of a socket, or http://…
	login string
	six   bool
}

// list calls take with the leases page by page. It returns how many entries
// were of no use.
func (c *control) list(ctx context.Context, take func([]Record) error) (faulty uint64, err error) {
	version, from := "4", "start"
	if c.six {
		version = "6"
	}
	for range maxPages {
		a, err := c.ask(ctx, version, from)
		if err != nil {
			return faulty, err
		}
		switch {
		case a.Result == 3: // none
			return faulty, nil
		case a.Result != 0:
			return faulty, fmt.Errorf("ask Kea on %q for its DHCPv%s leases: it answered with result %d; it must have loaded libdhcp_lease_cmds.so", c.at, version, a.Result)
		}
		list := make([]Record, 0, len(a.Arguments.Leases))
		for i := range a.Arguments.Leases {
			l := &a.Arguments.Leases[i]
			if r, ok := l.record(c.six); ok {
				list = append(list, r)
			} else {
				faulty++
			}
		}
		if err := take(list); err != nil {
			return faulty, err
		}
		n := len(a.Arguments.Leases)
		if n < page {
			return faulty, nil
		}
		next := a.Arguments.Leases[n-1].Address
		if next == from {
			break
		}
		from = next
	}
	return faulty, fmt.Errorf("ask Kea on %q for its DHCPv%s leases: the list does not end", c.at, version)
}

// record makes one of an answer's entry.
func (l *keaLease) record(six bool) (r Record, ok bool) {
	a, err := netip.ParseAddr(l.Address)
	if err != nil || a.Is4() == six || !r.setPrefix(a, l.Type == "IA_PD", l.Bits) {
		return r, false
	}
	if l.CLTT <= 0 || l.CLTT > maxSeconds || l.Valid < 0 || l.Valid > forever || !r.keaState(l.State, l.CLTT, l.Valid) {
		return r, false
	}
	r.setMAC([]byte(l.HW))
	id := l.Client
	if six {
		id, r.IAID = l.DUID, l.IAID
	}
	if len(id) <= 3*maxID {
		r.Client = lowerHex([]byte(id))
	}
	if six {
		r.macOfDUID(fromHex(r.Client))
	}
	if len(l.Host) <= maxID {
		r.Hostname = l.Host
	}
	if len(l.Context) > 2 {
		r.keaContext(l.Context)
	}
	return r, true
}

// ask sends one command. The socket takes it as it is; the control agent wants
// to know for whom it is, and answers with a list.
func (c *control) ask(ctx context.Context, version, from string) (*keaAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	q := map[string]any{"command": "lease" + version + "-get-page", "arguments": map[string]any{"from": from, "limit": page}}
	web := strings.HasPrefix(c.at, "http://")
	if web {
		q["service"] = []string{"dhcp" + version}
	}
	text, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask Kea: %w", err)
	}
	var answer []byte
	if web {
		answer, err = c.overHTTP(ctx, text)
	} else {
		answer, err = c.overSocket(ctx, text)
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kea on %q for its DHCPv%s leases: %w", c.at, version, err)
	}
	var one keaAnswer
	if web {
		var list []keaAnswer
		if err := json.Unmarshal(answer, &list); err != nil || len(list) == 0 {
			return nil, fmt.Errorf("ask Kea on %q for its DHCPv%s leases: the answer is not Kea's", c.at, version)
		}
		return &list[0], nil
	}
	if err := json.Unmarshal(answer, &one); err != nil {
		return nil, fmt.Errorf("ask Kea on %q for its DHCPv%s leases: the answer is not Kea's", c.at, version)
	}
	return &one, nil
}

func (c *control) overSocket(ctx context.Context, text []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such socket; is the server running, and its control-socket this one?")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("permission denied; the agent must be allowed to write to the socket, or ask Kea's control agent by http://")
	case err != nil:
		return nil, fmt.Errorf("%w; is the server running?", netCause(err))
	}
	defer conn.Close() //nolint:errcheck // all has been read
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(text); err != nil {
		return nil, netCause(err)
	}
	return readAnswer(conn)
}

func (c *control) overHTTP(ctx context.Context, text []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.at, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if user, password, ok := strings.Cut(c.login, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, netCause(err)
	}
	defer resp.Body.Close() //nolint:errcheck // all has been read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the control agent answered %s", resp.Status)
	}
	return readAnswer(resp.Body)
}

func readAnswer(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	switch {
	case err != nil:
		return nil, netCause(err)
	case len(b) > maxAnswer:
		return nil, errors.New("the answer is longer than any list")
	}
	return b, nil
}

// netCause takes addresses out of a network error that is said in a sentence
// which names them.
func netCause(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Err
	}
	return err
}
