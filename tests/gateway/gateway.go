// Package gateway runs the real program, as it is installed, on the gateway of
// a lab: for the black-box tests and for the demo.
//
//  1. Open makes a configuration with "edgelog init" and adapts it.
//  2. Start runs "edgelog agent" in the gateway's namespace until it is ready.
//  3. Traffic crosses the border; accounting arrives.
//  4. Status asks the way an operator does, by the command line; Lookup the way
//     a question goes: filed by an officer, approved by a custodian, read.
//  5. Stop, or Kill, and perhaps Start again. The lab's end removes the rest.
//
// It knows edgelog only by its command line and files.
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/tests/lab"
	"github.com/edgelog/edgelog/tests/office"
)

// Options say how the gateway is configured.
type Options struct {
	Binary  string // path of the program
	Profile string // "" is session
	Slots   int    // of the table; 0 is the smallest that a configuration may have
	// Edit changes the configuration file before the first start; each pair is
	// a line's beginning and what the whole line becomes.
	Edit map[string]string
}

// Gateway is edgelog on the gateway of a Border.
type Gateway struct {
	*lab.Border
	Dir      string // configuration, keys and data
	Config   string
	Identity string // the custodian's private key file
	Office   *office.Office
	Secret   string // of RADIUS
	binary   string
	ready    string
	agent    *lab.Process
	starts   int
}

// Open makes the configuration. dir must exist.
func Open(ctx context.Context, b *lab.Border, dir string, o Options) (*Gateway, error) {
	g := &Gateway{
		Border: b, Dir: dir, binary: o.Binary,
		Config: filepath.Join(dir, "gw", "edgelog.toml"), Identity: filepath.Join(dir, "gw", "custodians", "custodian.key"),
	}
	if o.Profile == "" {
		o.Profile = "session"
	}
	args := []string{"init", "--dir", filepath.Join(dir, "gw"), "--gateway", "lab", "--provider", "Example Internet",
		"--uplink", b.Uplink, "--profile", o.Profile, "--legal-basis", "a test in a laboratory",
		"--radius-listen", "127.0.0.1:1813", "--radius-client", "127.0.0.1"}
	for _, p := range b.Local {
		args = append(args, "--local", p.String())
	}
	if out, err := exec.CommandContext(ctx, o.Binary, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("edgelog init: %w: %s", err, out)
	}
	secret, err := os.ReadFile(filepath.Join(dir, "gw", "radius.secret"))
	if err != nil {
		return nil, fmt.Errorf("read the RADIUS secret: %w", err)
	}
	g.Secret = strings.TrimSpace(string(secret))
	edits := map[string]string{
		"bpf_dir =":  fmt.Sprintf("bpf_dir = %q", b.BPFFS()),
		"min_free =": `min_free = "256MiB"`,
		"ballast =":  `ballast = "0"`,
		"slots =":    fmt.Sprintf("slots = %d", max(o.Slots, 1<<16)),
	}
	for k, v := range o.Edit {
		edits[k] = v
	}
	if err := g.edit(edits); err != nil {
		return nil, err
	}
	return g, g.staff()
}

// staff has the configuration say who the persons are.
func (g *Gateway) staff() (err error) {
	if g.Office, err = office.Open(filepath.Join(g.Dir, "office"), g.Identity); err != nil {
		return fmt.Errorf("make the persons' keys: %w", err)
	}
	g.Identity = g.Office.Custodian.Identity
	if err := office.Passable(filepath.Dir(g.Config), filepath.Dir(g.binary)); err != nil {
		return err
	}
	if err := g.Office.Hire(g.Config); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

func (g *Gateway) edit(edits map[string]string) error {
	text, err := os.ReadFile(g.Config)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	for begin, line := range edits {
		found, person := false, false
		for i := range lines {
			if strings.HasPrefix(lines[i], "[") {
				person = lines[i] == "[[person]]" // has a name too, as an uplink has
			}
			if strings.HasPrefix(lines[i], begin) && !person {
				lines[i], found = line, true
			}
		}
		if !found {
			return fmt.Errorf("edit the configuration: no line begins with %q", begin)
		}
	}
	if err := os.WriteFile(g.Config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// Reconfigure changes lines of the configuration, as Options.Edit does, and
// has a running agent read it again.
func (g *Gateway) Reconfigure(edits map[string]string) error {
	if err := g.edit(edits); err != nil || g.agent == nil {
		return err
	}
	select {
	case <-g.agent.Done():
		return nil
	default:
		return g.agent.Signal(syscall.SIGHUP)
	}
}

// Start runs the agent and waits until it is ready.
func (g *Gateway) Start(ctx context.Context) error {
	p, err := g.Launch()
	if err != nil {
		return err
	}
	if err := p.WaitFile(ctx, g.ready); err != nil {
		return fmt.Errorf("start the agent: %w: %s", err, p.Output())
	}
	return nil
}

// Launch runs the agent without waiting for it.
func (g *Gateway) Launch() (*lab.Process, error) {
	g.starts++
	g.ready = filepath.Join(g.Dir, fmt.Sprintf("ready-%d", g.starts))
	p, err := g.Gateway().Start(lab.Command{Path: g.binary, Args: []string{"agent", "--config", g.Config, "--ready-file", g.ready}})
	if err != nil {
		return nil, err
	}
	g.agent = p
	return p, nil
}

// Use has the next start run another program, as an upgrade does.
func (g *Gateway) Use(binary string) { g.binary = binary }

// DataDir is where the agent keeps what it stores, unless it was configured
// otherwise.
func (g *Gateway) DataDir() string { return filepath.Join(g.Dir, "gw", "data") }

// Gateway is the namespace that the agent runs in.
func (g *Gateway) Gateway() *lab.Namespace { return g.Border.Gateway }

// Agent is the running agent.
func (g *Gateway) Agent() *lab.Process { return g.agent }

// Stop stops the agent in good order, after a look whether its counters add up
// while traffic goes on.
func (g *Gateway) Stop(ctx context.Context) error {
	if s, err := g.fullStatus(ctx); err == nil {
		if err := s.Balance(); err != nil {
			return err
		}
	}
	if err := g.agent.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := g.agent.Wait(ctx); err != nil {
		return fmt.Errorf("stop the agent: %w: %s", err, g.agent.Output())
	}
	return nil
}

// Kill ends the agent without a word (kill -9).
func (g *Gateway) Kill() { g.agent.Kill() }

// Run runs a subcommand with the gateway's configuration and returns its
// standard output; the error holds its standard error.
func (g *Gateway) Run(ctx context.Context, command string, args ...string) (string, error) {
	return g.Bare(ctx, command, append([]string{"--config", g.Config}, args...)...)
}

// Bare is Run without the configuration.
func (g *Gateway) Bare(ctx context.Context, command string, args ...string) (string, error) {
	return g.run(ctx, office.Person{}, command, args...)
}

// Socket is where the agent listens.
func (g *Gateway) Socket() string { return filepath.Join(g.Dir, "gw", "run", "edgelog.sock") }

// RunAs is Run as one of the persons, who may not read the configuration.
func (g *Gateway) RunAs(ctx context.Context, p office.Person, args ...string) (string, error) {
	return g.run(ctx, p, args[0], append([]string{"--socket", g.Socket()}, args[1:]...)...)
}

func (g *Gateway) run(ctx context.Context, p office.Person, command string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, g.binary, append([]string{command}, args...)...)
	cmd.SysProcAttr = p.Credential()
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("edgelog %s: %w: %s", command, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Lookup asks for the sessions of one identifier since the lab began.
func (g *Gateway) Lookup(ctx context.Context, args ...string) (string, error) {
	return g.Ask(ctx, "lookup", append([]string{"--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "--to", "now"}, args...)...)
}

// Ask is the way of a question through the office: lookup, who or access.
func (g *Gateway) Ask(ctx context.Context, kind string, args ...string) (string, error) {
	return g.Office.Answer(ctx, g.RunAs, kind, append([]string{"--identity", g.Identity}, args...)...)
}

// Session is one line of an answer in JSON.
type Session struct {
	Proto         uint8     `json:"proto"`
	Initiator     string    `json:"initiator"`
	InitiatorPort uint16    `json:"initiator_port"`
	Responder     string    `json:"responder"`
	ResponderPort uint16    `json:"responder_port"`
	Start         time.Time `json:"start"`
	End           time.Time `json:"end"`
	EndReason     string    `json:"end_reason"`
	Subscriber    string    `json:"subscriber"`
	Inside        string    `json:"inside"`
	InsidePort    uint16    `json:"inside_port"`
}

// Sessions asks, and returns the answer's lines and sessions.
func (g *Gateway) Sessions(ctx context.Context, args ...string) (lines []string, sessions []Session, err error) {
	out, err := g.Lookup(ctx, append(args, "--format", "json")...)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, `{"summary"`) {
			continue
		}
		var s Session
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, nil, fmt.Errorf("read the answer %q: %w", line, err)
		}
		lines, sessions = append(lines, strings.TrimSpace(line)), append(sessions, s)
	}
	return lines, sessions, nil
}

// Status is what tests look at of "edgelog status --json".
type Status struct {
	State string `json:"state"`
	Probe struct {
		Adopted bool   `json:"adopted"`
		Waiting uint64 `json:"waiting"`
		Uplinks []struct {
			Name    string  `json:"name"`
			Ifindex int     `json:"ifindex"`
			Error   string  `json:"error"`
			Ingress Hook    `json:"ingress"`
			Egress  Hook    `json:"egress"`
			In      Counter `json:"in"`
			Out     Counter `json:"out"`
		} `json:"uplinks"`
		Table struct {
			Open, Closed, Lingers, Started, Reopened, Carried, Stored uint64
			RingSent                                                  uint64 `json:"ring_sent"`
			RingFull                                                  uint64 `json:"ring_full"`
			HalfOpen                                                  uint64 `json:"half_open"`
			Balanced                                                  bool
		} `json:"table"`
	} `json:"probe"`
	Sessions struct {
		Stored, Named, Inside, Returned uint64
	} `json:"sessions"`
	NAT   *recorder.NATStatus `json:"nat"`
	Store struct {
		OK    bool   `json:"ok"`
		State string `json:"state"`
		Text  string `json:"text"`
	} `json:"store"`
	LastError *struct {
		Text string `json:"text"`
	} `json:"last_error"`
}

// Hook is one direction of an uplink.
type Hook struct {
	Mode    string `json:"mode"`
	Program uint32 `json:"program_id"`
	Note    string `json:"note"`
	Kept    bool   `json:"kept"`
}

// Counter counts the packets of one direction.
type Counter struct {
	Seen     uint64            `json:"seen"`
	Segments uint64            `json:"segments"`
	Outcomes map[string]uint64 `json:"outcomes"`
}

// Status asks the agent how it is.
func (g *Gateway) Status(ctx context.Context) (*Status, error) {
	out, err := g.Run(ctx, "status", "--json")
	if err != nil {
		return nil, err
	}
	s := new(Status)
	if err := json.Unmarshal([]byte(out), s); err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}

// Until asks for the status again and again until ok, or until ctx ends. The
// agent's own progress is what it waits for, so there is nothing to subscribe
// to; between two questions lies one run of the program.
func (g *Gateway) Until(ctx context.Context, what string, ok func(*Status) bool) (*Status, error) {
	for {
		s, err := g.Status(ctx)
		if err == nil && ok(s) {
			return s, nil
		}
		if ctx.Err() != nil {
			return s, errors.Join(fmt.Errorf("wait until %s: %w", what, ctx.Err()), err)
		}
	}
}
