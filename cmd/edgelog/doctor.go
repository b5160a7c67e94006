package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
	"github.com/edgelog/edgelog/pkg/vault"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check this machine and the configuration, and say what to do",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "fix", Usage: "remove what dead agents and versions left in the kernel, if nothing depends on it"},
			&cli.BoolFlag{Name: "measure", Usage: "have the kernel measure for a second what the programs cost a packet"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			d := &doctor{ctx: c.Context, w: c.App.Writer, fix: c.Bool("fix"), measure: c.Bool("measure")}
			d.examine(c.String("config"))
			return d.verdict()
		},
	}
}

// doctor prints what it finds, one line for each check.
type doctor struct {
	ctx          context.Context
	w            io.Writer
	fix          bool
	warned, bad  int
	conf         *config.Config // nil when it is not valid
	agentRunning bool
	measure      bool
}

func (d *doctor) ok(what, detail string) { d.line("ok", what, detail, "") }

func (d *doctor) warn(what, detail, remedy string) {
	d.warned++
	d.line("warn", what, detail, remedy)
}

func (d *doctor) fail(what, detail, remedy string) {
	d.bad++
	d.line("FAIL", what, detail, remedy)
}

func (d *doctor) line(mark, what, detail, remedy string) {
	fmt.Fprintf(d.w, "%-4s  %-28s %s\n", mark, what, detail)
	if remedy != "" {
		fmt.Fprintf(d.w, "      %-28s → %s\n", "", remedy)
	}
}

func (d *doctor) verdict() error {
	switch {
	case d.bad > 0:
		fmt.Fprintf(d.w, "\n%s to be put right before edgelog can record.\n", plural(uint64(d.bad), "fault"))
		return errSilent
	case d.warned > 0:
		fmt.Fprintf(d.w, "\nedgelog can record; %s to look at.\n", plural(uint64(d.warned), "warning"))
	default:
		fmt.Fprintln(d.w, "\nAll is well.")
	}
	return nil
}

// examine goes from the machine to the configuration to the agent.
func (d *doctor) examine(path string) {
	d.found(probe.Features())
	d.checkClock()
	d.checkConfig(path)
	if d.conf == nil {
		return
	}
	d.checkGuards()
	d.checkAgent()
	d.checkUplinks()
	d.checkLeftovers()
	d.checkDisk()
	d.checkKeys()
	d.checkPersons(time.Now())
	d.checkRoster()
	d.checkRADIUS()
	d.checkNAT()
	d.checkDHCP()
	d.checkStatic()
}

// checkClock asks the kernel how well the clock is kept.
func (d *doctor) checkClock() {
	k, err := recorder.KernelClock()
	worst := time.Duration(k.MaxErrorMicro) * time.Microsecond
	switch {
	case err != nil:
		d.warn("clock", "its state cannot be read: "+err.Error(), "run this as root")
	case !k.Synchronised:
		d.warn("clock", fmt.Sprintf("it is not synchronised to within a second (error at most %v)", worst),
			"run chrony or another NTP client, with near servers: times must be within a second of UTC")
	default:
		d.ok("clock", fmt.Sprintf("synchronised, error at most %v", worst))
	}
}

func (d *doctor) checkConfig(path string) {
	conf, err := config.Load(path)
	var e *config.Error
	switch {
	case errors.As(err, &e):
		for _, p := range e.Problems {
			remedy := p.Remedy
			p.Remedy = ""
			d.fail("configuration", p.String(), remedy)
		}
	case err != nil:
		d.fail("configuration", err.Error(), "")
	default:
		d.conf = conf
		text := fmt.Sprintf("%s: profile %s", path, conf.Profile)
		if conf.LegalBasis != "" {
			text += ", legal basis: " + conf.LegalBasis
		}
		d.ok("configuration", text)
	}
}

// checkExpiry finds out whether anything is kept longer than it may be.
func (d *doctor) checkExpiry(x *recorder.ExpiryStatus) {
	switch {
	case x.Text != "" || x.Late:
		d.fail("expiry", fmt.Sprintf("%s not destroyed whose time is over: %s", plural(uint64(max(x.Due, 0)), "day"), x.Text), "\"edgelog expire --dry-run\" shows the days")
	default:
		d.ok("expiry", fmt.Sprintf("nothing is kept longer than %d days", x.RetentionDays))
	}
}

// checkAgent finds out whether the agent runs: some checks mean the opposite
// then.
func (d *doctor) checkAgent() {
	socket := d.conf.Socket()
	s, err := fetchStatus(d.ctx, socket)
	if err == nil {
		d.agentRunning = true
		d.ok("agent", fmt.Sprintf("running, version %s, %s", s.Version, s.State))
		if s.LastError != nil {
			d.warn("agent", "last error "+stamp(s.LastError.At)+": "+s.LastError.Text, "\"edgelog status\" shows more")
		}
		if err := s.Balance(); err != nil {
			d.fail("balance", err.Error(), "please report it, with the output of \"edgelog status --json\"")
		} else {
			d.ok("balance", plural(uint64(len(s.Sums)), "sum")+" of counters add up")
		}
		d.checkCost(s)
		d.checkExpiry(&s.Store.Expiry)
		if s.Ledger.Doubt != "" {
			d.fail("ledger", s.Ledger.Doubt, "\"edgelog audit verify\" says where, and \"edgelog audit list\" what is in it")
		}
		d.checkWitness(&s.Ledger)
		return
	}
	if d.checkRefused(err) {
		return
	}
	d.checkWitness(nil)
	dir := filepath.Dir(socket)
	switch st, statErr := os.Stat(dir); {
	case errors.Is(statErr, fs.ErrNotExist):
		d.ok("agent", "not running; "+dir+" will be made")
	case statErr != nil:
		d.fail("agent", statErr.Error(), "check the rights of "+dir)
	case !st.IsDir():
		d.fail("agent", dir+" is not a directory", "move it, or set run_dir")
	case st.Mode().Perm()&0o007 != 0:
		d.warn("agent", fmt.Sprintf("not running; other users may enter %s (mode %04o)", dir, st.Mode().Perm()), "chmod 0750 "+dir)
	case unix.Access(dir, unix.W_OK) != nil:
		d.fail("agent", "not running, and its socket cannot be made in "+dir, "run this as the agent's user, or set the rights of "+dir)
	default:
		d.ok("agent", "not running; its socket will be "+socket)
	}
}

func (d *doctor) checkUplinks() {
	if len(d.conf.Uplinks) == 0 {
		d.ok("uplink", "none configured: access records only")
		return
	}
	for _, u := range d.conf.Uplinks {
		d.found(probe.CheckUplink(probe.Uplink{Name: u.Name, Attach: u.Attach}))
	}
	d.found(probe.CheckPinDir(d.conf.BPFDir))
}

// checkLeftovers lists what dead agents left in the kernel, or removes it.
func (d *doctor) checkLeftovers() {
	left, err := probe.Leftovers(d.conf.BPFDir, d.agentRunning)
	if err != nil {
		d.warn("leftovers", err.Error(), "run this as root")
		return
	}
	for i := range left {
		l := &left[i]
		switch {
		case l.Remedy != "":
			d.warn("leftover "+l.What, l.Text, l.Remedy)
		case !d.fix:
			d.warn("leftover "+l.What, l.Text, "edgelog doctor --config "+d.conf.Path+" --fix")
		default:
			if err := l.Remove(); err != nil {
				d.warn("leftover "+l.What, err.Error(), "")
				continue
			}
			d.ok("leftover "+l.What, "removed: "+l.Text)
		}
	}
}

// found prints what the probe found.
func (d *doctor) found(list []probe.Check) {
	for _, c := range list {
		switch {
		case !c.OK:
			d.fail(c.Name, c.Detail, c.Remedy)
		case c.Warn:
			d.warn(c.Name, c.Detail, c.Remedy)
		default:
			d.ok(c.Name, c.Detail)
		}
	}
}

func (d *doctor) checkDisk() {
	dir := d.conf.DataDir
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir) // the agent will make the rest
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		d.fail("disk", fmt.Sprintf("%s: %v", dir, err), "check data_dir")
		return
	}
	free := st.Bavail * uint64(st.Bsize)
	need := d.conf.Store.MinFree
	if !d.agentRunning {
		need += d.conf.Store.Ballast
	}
	text := fmt.Sprintf("%s free in %s, stops below %s", bytesText(free), dir, bytesText(d.conf.Store.MinFree))
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		d.fail("disk", dir+" is on a read-only file system", "mount it writable, or set data_dir")
	case d.conf.Store.MinFree > st.Blocks*uint64(st.Bsize):
		d.fail("disk", fmt.Sprintf("store.min_free is %s, and the whole disk of %s has %s",
			bytesText(d.conf.Store.MinFree), dir, bytesText(st.Blocks*uint64(st.Bsize))), "set a smaller store.min_free, or use a larger disk")
	case free < need:
		d.fail("disk", text, "make room, or lower store.min_free and store.ballast")
	case free < 2*need:
		d.warn("disk", text, "that is little: make room")
	default:
		d.ok("disk", text)
	}
	if st, err := os.Stat(d.conf.DataDir); err == nil && st.Mode().Perm()&0o077 != 0 {
		d.warn("disk", fmt.Sprintf("others may look into %s (mode %04o)", d.conf.DataDir, st.Mode().Perm()), "chmod 0700 "+d.conf.DataDir)
	}
}

func (d *doctor) checkKeys() {
	to, err := vault.ParseRecipients(d.conf.Custodians.Recipients)
	switch {
	case err != nil:
		d.fail("custodians", err.Error(), "")
	case to.Len() < d.conf.Custodians.Minimum:
		d.fail("custodians", fmt.Sprintf("%s, and minimum = %d", plural(uint64(to.Len()), "different key"), d.conf.Custodians.Minimum), "add public keys")
	default:
		d.ok("custodians", plural(uint64(to.Len()), "public key"))
	}
	if d.conf.Path == "" {
		return
	}
	var left []string
	for _, of := range []string{"custodians", "persons"} {
		some, _ := filepath.Glob(filepath.Join(filepath.Dir(d.conf.Path), of, "*.key"))
		left = append(left, some...)
	}
	if len(left) > 0 {
		d.warn("custodians", plural(uint64(len(left)), "private key")+" on this machine still, in "+filepath.Dir(left[0]),
			"move them to those whose they are, and keep a copy in a safe place")
	}
}
